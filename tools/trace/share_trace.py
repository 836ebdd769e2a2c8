#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Read recorded attention shares (Documentation/share-trace.rst).

As a command: validates each FILE and prints what it holds, or with --json its records, one JSON
object a line.  Exits 1 if a file is damaged, is cut short, or has no end, as after a crash; --torn
takes what is whole before that.  As a module: read(path).  Python's standard library is all it
needs.
"""

import argparse
import collections
import json
import struct
import sys
import time

MAGIC = b"Syntrace"
VERSION = 1
HEAD = struct.Struct("<8sIIQIIII")
BLOCK = struct.Struct("<IIII")
RECORD = struct.Struct("<IHHQ")
SPACE = struct.Struct("<QQQQIIII")
COMPONENT = struct.Struct("<HHIIHH")
PAGES = struct.Struct("<IIII")
SEAL = struct.Struct("<QQQII")
SHARES = struct.Struct("<QQIIHHIII")
REPORT = struct.Struct("<II")
SHARE = struct.Struct("<QII")
TYPES = {1: "space", 2: "lease", 3: "lookup", 4: "commit", 5: "seal", 6: "release", 7: "shares",
         8: "report", 9: "end"}


class TraceError(Exception):
    """The file is not a whole recording."""


class TornError(TraceError):
    """It is one up to some place, and has no end."""


# ---- blocks ---------------------------------------------------------------------------------

MASK = 0xFFFFFFFF
P1, P2, P3, P4, P5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393


def rotate(x, by):
    return ((x << by) | (x >> (32 - by))) & MASK


def xxh32(data, seed=0):
    """XXH32, as the recorder's library computes it."""
    at, end = 0, len(data)
    if end >= 16:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        for words in struct.iter_unpack("<4I", data[:end - end % 16]):
            lanes = [rotate((lane + word * P2) & MASK, 13) * P1 & MASK
                     for lane, word in zip(lanes, words)]
        at = end - end % 16
        h = sum(rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18)))
    else:
        h = seed + P5
    h = (h + end) & MASK
    while at + 4 <= end:
        h = rotate((h + int.from_bytes(data[at:at + 4], "little") * P3) & MASK, 17) * P4 & MASK
        at += 4
    for byte in data[at:]:
        h = rotate((h + byte * P5) & MASK, 11) * P1 & MASK
    h = (h ^ h >> 15) * P2 & MASK
    h = (h ^ h >> 13) * P3 & MASK
    return h ^ h >> 16


def read_head(data):
    if len(data) < HEAD.size or data[:8] != MAGIC:
        raise TraceError("not a recording of shares")
    _, version, size, began, session, _, _, check = HEAD.unpack_from(data)
    if version != VERSION:
        raise TraceError(f"version {version}, this reads {VERSION}")
    if size != HEAD.size or xxh32(data[:size - 4]) != check:
        raise TraceError("the head is damaged")
    return {"began_ns": began, "session": session, "version": version}


def read_blocks(data):
    """Returns the stream of records, and why it stops before the file does."""
    stream, at, number = [], HEAD.size, 0
    while at < len(data):
        if at + BLOCK.size > len(data):
            return b"".join(stream), f"block {number} at {at} is cut short"
        named, size, check, _ = BLOCK.unpack_from(data, at)
        end = at + BLOCK.size + size
        if named != number:
            raise TraceError(f"block {number} at {at} is damaged: it says that it is {named}")
        if end > len(data):
            return b"".join(stream), f"block {number} at {at} is cut short"
        body = data[at + BLOCK.size:end]
        if xxh32(body, number) != check:
            if end == len(data):
                return b"".join(stream), f"block {number} at {at}, the last one, is damaged"
            raise TraceError(f"block {number} at {at} is damaged")
        stream.append(body)
        at, number = end, number + 1
    return b"".join(stream), None


# ---- records --------------------------------------------------------------------------------

def to_floats(codes):
    """Shares from their codes: fp32 without its sign and its lowest fifteen bits."""
    return struct.unpack(f"<{len(codes)}f", struct.pack(f"<{len(codes)}I",
                                                        *(c << 15 for c in codes)))


class Body:
    """The bytes of a record, taken from the front."""

    def __init__(self, data, at, end):
        self.data, self.at, self.end = data, at, end

    def take(self, layout):
        if self.at + layout.size > self.end:
            raise TraceError(f"the record at {self.at} of the stream is too short")
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values

    def array(self, kind, nr):
        return list(self.take(struct.Struct(f"<{nr}{kind}")))

    def keys(self, nr):
        words = self.array("Q", 2 * nr)
        return [f"{high:016x}{low:016x}" for low, high in zip(words[::2], words[1::2])]


def space_of(body, _):
    low, high, identity, page_bytes, space, tokens, layers, nr = body.take(SPACE)
    components = []
    for _ in range(nr):
        role, dtype, heads, dim, codec, _ = body.take(COMPONENT)
        components.append({"role": role, "dtype": dtype, "heads": heads, "dim": dim,
                           "codec": codec})
    return {"space": space, "model": f"{high:016x}{low:016x}", "identity": identity,
            "page_bytes": page_bytes, "tokens": tokens, "layers_per_page": layers,
            "components": components}


def lease_of(body, _):
    space, nr, _, _ = body.take(PAGES)
    return {"space": space, "pages": body.array("Q", nr)}


def lookup_of(body, _):
    space, nr, asked, nr_keys = body.take(PAGES)
    return {"space": space, "asked": asked, "pages": body.array("Q", nr),
            "keys": body.keys(nr_keys)}


def commit_of(body, _):
    _, nr, _, _ = body.take(PAGES)
    return {"pages": body.array("Q", nr), "tokens": body.array("I", nr)}


def release_of(body, _):
    _, nr, _, _ = body.take(PAGES)
    return {"pages": body.array("Q", nr)}


def seal_of(body, _):
    page, low, high, dup, _ = body.take(SEAL)
    return {"page": page, "key": f"{high:016x}{low:016x}", "dup": bool(dup)}


def shares_of(body, rows):
    sequence, first, layer, queries, heads, group, nr, same, _ = body.take(SHARES)
    row = rows.get((sequence, layer), [])
    if same not in (0, len(row)) or same > nr:
        raise TraceError(f"shares of sequence {sequence}, layer {layer}: {same} pages are said "
                         f"to be those of before, which were {len(row)}")
    pages = row[:same] + body.array("Q", nr - same)
    rows[sequence, layer] = pages
    flat = to_floats(body.array("H", nr * heads))
    return {"sequence": sequence, "first": first, "layer": layer, "queries": queries,
            "kv_heads": heads, "group": group, "pages": pages,
            "shares": [list(flat[i:i + heads]) for i in range(0, nr * heads, heads)]}


def report_of(body, _):
    nr, _ = body.take(REPORT)
    rows = [body.take(SHARE) for _ in range(nr)]
    return {"pages": [r[0] for r in rows], "shares": [r[1] / 65536 for r in rows],
            "queries": [r[2] for r in rows]}


READERS = {"space": space_of, "lease": lease_of, "lookup": lookup_of, "commit": commit_of,
           "seal": seal_of, "release": release_of, "shares": shares_of, "report": report_of,
           "end": lambda body, _: {}}


def read_records(stream):
    """Yields the whole records; types that are not known are passed over."""
    rows, at = {}, 0
    while at + RECORD.size <= len(stream):
        size, kind, _, time_ns = RECORD.unpack_from(stream, at)
        if size < RECORD.size or size % 8:
            raise TraceError(f"the record at {at} of the stream says that it has {size} bytes")
        if at + size > len(stream):
            return
        name = TYPES.get(kind)
        if name:
            body = Body(stream, at + RECORD.size, at + size)
            yield {"type": name, "time_ns": time_ns, **READERS[name](body, rows)}
        at += size


def read(path, torn=False):
    """Returns the head and a list of records, each a dict; raises TraceError.

    A recording that a crash cut off raises TornError, or with @torn ends where it is whole.
    """
    with open(path, "rb") as file:
        data = file.read()
    head = read_head(data)
    stream, why = read_blocks(data)
    records = list(read_records(stream))
    if not why and (not records or records[-1]["type"] != "end"):
        why = "it has no end"
    if why and not torn:
        raise TornError(why)
    return {**head, "torn": why}, records


# ---- what it holds --------------------------------------------------------------------------

def sums(record):
    """What all pages of a batch got of each KV head, 1 being all that its queries could give."""
    most = record["queries"] * record["group"]
    return [sum(page[h] for page in record["shares"]) / most for h in range(record["kv_heads"])]


def summary(records):
    """Figures of a recording, as a dict."""
    pages, kinds = collections.Counter(), collections.Counter()
    shares = [r for r in records if r["type"] == "shares"]
    known, unknown = set(), 0
    for r in records:
        kinds[r["type"]] += 1
        if r["type"] in ("lease", "lookup", "release"):
            pages[r["type"]] += len(r["pages"])
        if r["type"] in ("lease", "lookup"):
            known.update(r["pages"])
        if r["type"] == "shares":
            unknown += sum(page not in known for page in r["pages"])
        if r["type"] == "seal":
            pages["dup" if r["dup"] else "seal"] += 1
    every = [s for r in shares for s in sums(r)]
    return {
        "records": sum(kinds.values()), "batches": len(shares),
        "decode_batches": sum(r["queries"] == 1 for r in shares),
        "values": sum(len(r["pages"]) * r["kv_heads"] for r in shares),
        "sequences": len({r["sequence"] for r in shares}),
        "layers": len({r["layer"] for r in shares}),
        "tokens": max((r["first"] + r["queries"] for r in shares), default=0),
        "pages_leased": pages["lease"], "pages_found": pages["lookup"],
        "pages_sealed": pages["seal"], "pages_dup": pages["dup"],
        "pages_released": pages["release"], "pages_unknown": unknown,
        "sum_least": min(every, default=None), "sum_most": max(every, default=None),
    }


def show(path, head, records):
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(head["began_ns"] // 10**9))
    figures = summary(records)
    print(f"{path}: version {head['version']}, session {head['session']}, begun {began} UTC")
    if head["torn"]:
        print(f"  torn: {head['torn']}")
    for r in records:
        if r["type"] == "space":
            print(f"  space {r['space']}: pages of {r['tokens']} tokens, {r['layers_per_page']} "
                  f"layers, {r['page_bytes']} bytes, {len(r['components'])} components")
    print(f"  {figures['records']} records; pages: {figures['pages_leased']} leased, "
          f"{figures['pages_found']} found, {figures['pages_sealed']} sealed, "
          f"{figures['pages_dup']} sealed before, {figures['pages_released']} released")
    print(f"  {figures['batches']} batches of shares, {figures['decode_batches']} of one query, "
          f"{figures['values']} values; {figures['sequences']} sequences, {figures['layers']} "
          f"layers, {figures['tokens']} tokens")
    if figures["sum_least"] is not None:
        print(f"  a head's shares sum up to {figures['sum_least']:.5f} to "
              f"{figures['sum_most']:.5f} of its queries; pages never seen before: "
              f"{figures['pages_unknown']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="+")
    parser.add_argument("--json", action="store_true", help="the records, one object a line")
    parser.add_argument("--torn", action="store_true", help="accept what a crash left")
    args = parser.parse_args()
    bad = False
    for path in args.file:
        try:
            head, records = read(path, args.torn)
        except (TraceError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            bad = True
            continue
        if args.json:
            for record in records:
                print(json.dumps(record))
        else:
            show(path, head, records)
    return bad


if __name__ == "__main__":
    sys.exit(main())
