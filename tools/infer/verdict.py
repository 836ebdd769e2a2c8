#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judge a run of tools/demo.sh from the files it left; exit 1 if a check fails.

The directory holds what synapse-infer wrote for the engines "a" and "b" in the runs "ref", "raw",
"again" (a only) and "h4" (RUN-X.out, RUN-X.json), and of all but "ref" what the daemon said at the
end (RUN.status, RUN.tiers) and the kernel of its worker (RUN.io).  RUN.kills says how often the
worker was killed in the run; what daemon and kernel count is then of the last worker alone.
"""

import json
import pathlib
import sys

MIB = 1 << 20
BLOCK = 128           # tokens of a page
LAYERS = 6
KV_SHARES = 4         # an engine holds this many times its HBM share ...
KV_BUDGETS = 1.5      # ... and both together this many times HBM and host memory
RETURNED = 0.75       # needle pages that went away and came back
LOSSY = 0.75          # needle pages that had lost precision, in h4
RIGHT = 0.95          # answers
KILLS = 5             # of the worker in a run, at least, if any


class Verdict:
    def __init__(self):
        self.good = True

    def check(self, what, holds):
        print(f"  {'ok  ' if holds else 'FAIL'}  {what}")
        self.good = self.good and holds


class Engine:
    def __init__(self, directory, name):
        self.name = name
        lines = (directory / f"{name}.out").read_text().splitlines()
        self.answers = {line["id"]: line for line in map(json.loads, lines)}
        self.stats = json.loads((directory / f"{name}.json").read_text())


class Daemon:
    def __init__(self, directory, name):
        self.name = name
        self.status = json.loads((directory / f"{name}.status").read_text())
        tiers = json.loads((directory / f"{name}.tiers").read_text())["tiers"]
        self.tiers = {t["tier"]: t for t in tiers}
        io = dict(line.split(": ") for line in (directory / f"{name}.io").read_text().splitlines())
        self.kernel_read, self.kernel_written = int(io["read_bytes"]), int(io["write_bytes"])
        kills = directory / f"{name}.kills"
        self.kills = int(kills.read_text()) if kills.exists() else 0


def check_reference(verdict, engines):
    verdict.check("ref: no page was ever away",
                  all(e.stats["page_faults"] == 0 and e.stats["page_demotions"] == 0
                      for e in engines))
    verdict.check("ref: nothing was computed by others",
                  all(e.stats["prefix_hit_tokens"] == 0 for e in engines))


def check_room(verdict, daemon, engines):
    kv = sum(e.stats["kv_peak_bytes"] for e in engines)
    room = daemon.tiers["hbm"]["budget_bytes"] + daemon.tiers["host"]["budget_bytes"]
    verdict.check(f"{daemon.name}: {kv / MIB:.1f} MiB of KV, {kv / room:.2f} times "
                  "HBM and host memory together", kv >= KV_BUDGETS * room)


def check_same(verdict, engine, reference):
    same = sum(reference.answers[i]["tokens"] == a["tokens"] for i, a in engine.answers.items())
    verdict.check(f"{engine.name}: {same} of {len(reference.answers)} answers byte for byte as "
                  "in the reference", same == len(engine.answers) == len(reference.answers) > 0)


def check_engine(verdict, engine):
    stats = engine.stats
    kv, share = stats["kv_peak_bytes"], stats["hbm_share_bytes"]
    verdict.check(f"{engine.name}: {kv / MIB:.1f} MiB of KV, {kv / share:.1f} times its HBM share",
                  kv >= KV_SHARES * share)
    pages, returned = stats["needle_pages"], stats["needle_pages_returned"]
    verdict.check(f"{engine.name}: {returned} of {pages} needle pages demoted and brought back "
                  "before the question", pages > 0 and returned >= RETURNED * pages)
    verdict.check(f"{engine.name}: {stats['right']} of {stats['answers']} pass keys right",
                  stats["answers"] > 0 and stats["right"] >= RIGHT * stats["answers"])


def check_shared(verdict, daemon, engine, shared):
    found = engine.stats["prefix_hit_tokens"]
    verdict.check(f"{engine.name} found {found} prompt tokens that a had computed",
                  found >= shared and (daemon.kills or daemon.status["lookup_hits"] > 0))


def check_kills(verdict, daemon):
    """The epoch counts workers."""
    epoch = daemon.status["epoch"]
    verdict.check(f"{daemon.name}: the worker was killed {daemon.kills} times, and worker "
                  f"{epoch} served in the end", daemon.kills >= KILLS and epoch == daemon.kills + 1)


def check_sums(verdict, daemon):
    verdict.check(f"{daemon.name}: no page failed its sums", daemon.status["sum_failures"] == 0)


def check_disk(verdict, daemon, engines):
    own = daemon.tiers["nvme"]["out_bytes"]
    if not daemon.kills:
        verdict.check(f"{daemon.name}: {daemon.kernel_read / MIB:.1f} MiB read from disk as the "
                      f"kernel counts, {own / MIB:.1f} as Synapse does",
                      daemon.kernel_read >= own > 0)
    pages = sum(e.stats["needle_pages"] for e in engines)
    reads = sum(e.stats["needle_pages_from_nvme"] for e in engines)
    verdict.check(f"{daemon.name}: {reads} of {pages} needle pages were on disk alone at the "
                  "question, and read from there for the answer", reads > 0)


def check_again(verdict, engine, before, daemon):
    """All full blocks but the one with the last token, which must be computed."""
    lengths = [a["prompt_tokens"] for a in engine.answers.values()]
    blocks = sum((n - 1) // BLOCK for n in lengths)
    found, computed = engine.stats["pages_found"], engine.stats["prefill_tokens"]
    persisted = before.stats["pages_persisted"]
    verdict.check(f"{engine.name}: {found} pages found again of {persisted} that it had persisted",
                  found == blocks * LAYERS > 0)
    verdict.check(f"{engine.name}: {computed} of {sum(lengths)} prompt tokens computed",
                  computed == sum(lengths) - blocks * BLOCK)
    verdict.check(f"{daemon.name}: {daemon.kernel_read / MIB:.1f} MiB read from disk as the "
                  "kernel counts", daemon.kernel_read >= found * engine.stats["page_bytes"])


def check_lossy(verdict, daemon, engines):
    pages = sum(e.stats["needle_pages"] for e in engines)
    lossy = sum(e.stats["needle_pages_lossy"] for e in engines)
    verdict.check(f"{daemon.name}: {lossy} of {pages} needle pages had four bits when the "
                  "question was asked", lossy >= LOSSY * pages > 0)


def table(title, names, rows):
    print(f"\n{title:28}" + "".join(f"{n:>11}" for n in names))
    for label, values in rows:
        print(f"  {label:26}" + "".join(f"{v:>11}" for v in values))


def show_engines(engines):
    def row(label, form, value):
        return label, [format(value(e.stats), form) for e in engines]

    table("engines", [e.name for e in engines], [
        row("HBM share, MiB", ".1f", lambda s: s["hbm_share_bytes"] / MIB),
        row("KV held, MiB", ".1f", lambda s: s["kv_peak_bytes"] / MIB),
        row("prompt tokens computed", ",", lambda s: s["prefill_tokens"]),
        row("prompt tokens found", ",", lambda s: s["prefix_hit_tokens"]),
        row("prompt tokens per second", ",.0f", lambda s: s["prefill_tokens_per_s"]),
        row("answer tokens per second", ",.1f", lambda s: s["decode_tokens_per_s"]),
        row("seconds to persist", ".1f", lambda s: s["persist_ns"] / 1e9),
        row("pages attended", ",", lambda s: s["pages_attended"]),
        row("page faults", ",", lambda s: s["page_faults"]),
        row("resident when wanted, %", ".1f",
            lambda s: 100 * (1 - s["page_faults"] / s["pages_attended"])),
        row("pages demoted", ",", lambda s: s["page_demotions"]),
        row("needle pages", ",", lambda s: s["needle_pages"]),
        row("  away and back", ",", lambda s: s["needle_pages_returned"]),
        row("  of four bits", ",", lambda s: s["needle_pages_lossy"]),
        row("  read from disk", ",", lambda s: s["needle_pages_from_nvme"]),
        row("pass keys right", ",", lambda s: s["right"]),
    ])


def show_daemons(daemons):
    counters = ("faults", "loads", "demotions", "free_demotions", "encoded", "raw_fallbacks",
                "seals", "dups", "lookup_hits", "lookup_misses", "evictions", "backpressure",
                "sum_failures")
    table("daemons", [d.name for d in daemons],
          [(c.replace("_", " "), [format(d.status[c], ",") for d in daemons]) for c in counters])
    labels = (("budget", "budget_bytes"), ("used at the end", "used_bytes"),
              ("moved in", "in_bytes"), ("moved out", "out_bytes"))
    table("tiers, MiB", [d.name for d in daemons], [
        (f"{tier}: {label}", [f"{d.tiers[tier][key] / MIB:,.1f}" for d in daemons])
        for tier in daemons[0].tiers for label, key in labels])
    table("disk, MiB, by the kernel", [d.name for d in daemons], [
        ("read", [f"{d.kernel_read / MIB:,.1f}" for d in daemons]),
        ("written", [f"{d.kernel_written / MIB:,.1f}" for d in daemons])])


def main():
    directory, shared = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    ref = [Engine(directory, f"ref-{n}") for n in "ab"]
    raw = [Engine(directory, f"raw-{n}") for n in "ab"]
    h4 = [Engine(directory, f"h4-{n}") for n in "ab"]
    again = Engine(directory, "again-a")
    daemons = raw_daemon, again_daemon, h4_daemon = [
        Daemon(directory, n) for n in ("raw", "again", "h4")]

    verdict = Verdict()
    check_reference(verdict, ref)
    check_room(verdict, raw_daemon, raw)
    for engine, reference in zip(raw, ref):
        check_engine(verdict, engine)
        check_same(verdict, engine, reference)
    check_shared(verdict, raw_daemon, raw[1], shared)
    check_disk(verdict, raw_daemon, raw)
    check_again(verdict, again, raw[0], again_daemon)
    check_same(verdict, again, ref[0])
    check_room(verdict, h4_daemon, h4)
    for engine in h4:
        check_engine(verdict, engine)
    check_lossy(verdict, h4_daemon, h4)
    for daemon in daemons:
        check_sums(verdict, daemon)
        if daemon.kills:
            check_kills(verdict, daemon)
    show_engines(ref + raw + [again] + h4)
    show_daemons(daemons)
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
