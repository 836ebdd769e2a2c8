#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judge a run of tools/demo.sh from the files it left; exit 1 if a check fails.

The directory holds, for the engines "a" and "b", what synapse-infer wrote in the reference run
(ref-X.out, ref-X.json) and in the real one (run-X.out, run-X.json), and the daemon's status.json
and tiers.json after the real run.
"""

import json
import pathlib
import sys

MIB = 1 << 20
KV_BYTES = 64 * MIB  # an engine holds at least this ...
KV_SHARES = 4        # ... and this many times its HBM share
RETURNED = 0.75      # needle pages that went away and came back
RIGHT = 0.95         # answers


class Verdict:
    def __init__(self):
        self.good = True

    def check(self, what, holds):
        print(f"  {'ok  ' if holds else 'FAIL'}  {what}")
        self.good = self.good and holds


def read_answers(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["id"]: line for line in lines}


def read_run(directory, kind):
    names = ("a", "b")
    answers = [read_answers(directory / f"{kind}-{n}.out") for n in names]
    stats = [json.loads((directory / f"{kind}-{n}.json").read_text()) for n in names]
    return answers, stats


def check_reference(verdict, stats):
    verdict.check("reference: no page was ever away",
                  all(s["page_faults"] == 0 and s["page_demotions"] == 0 for s in stats))
    verdict.check("reference: nothing was computed by others",
                  all(s["prefix_hit_tokens"] == 0 for s in stats))


def check_engine(verdict, name, reference, answers, stats):
    kv, share = stats["kv_peak_bytes"], stats["hbm_share_bytes"]
    verdict.check(f"{name}: {kv / MIB:.1f} MiB of KV, {kv / share:.1f} times its HBM share",
                  kv >= KV_BYTES and kv >= KV_SHARES * share)
    same = sum(reference[i]["tokens"] == a["tokens"] for i, a in answers.items())
    verdict.check(f"{name}: {same} of {len(reference)} answers byte for byte as in the reference",
                  same == len(answers) == len(reference) > 0)
    pages, returned = stats["needle_pages"], stats["needle_pages_returned"]
    verdict.check(f"{name}: {returned} of {pages} needle pages demoted and brought back "
                  "before the question", pages > 0 and returned >= RETURNED * pages)
    verdict.check(f"{name}: {stats['right']} of {stats['answers']} pass keys right",
                  stats["answers"] > 0 and stats["right"] >= RIGHT * stats["answers"])


def table(title, names, rows):
    print(f"\n{title:34}" + "".join(f"{n:>14}" for n in names))
    for label, values in rows:
        print(f"  {label:32}" + "".join(f"{v:>14}" for v in values))


def show_engines(reference, run):
    both = reference + run

    def row(label, form, value):
        return label, [format(value(s), form) for s in both]

    table("engines", ("ref a", "ref b", "a", "b"), [
        row("HBM share, MiB", ".1f", lambda s: s["hbm_share_bytes"] / MIB),
        row("KV held, MiB", ".1f", lambda s: s["kv_peak_bytes"] / MIB),
        row("prompt tokens computed", ",", lambda s: s["prefill_tokens"]),
        row("prompt tokens found", ",", lambda s: s["prefix_hit_tokens"]),
        row("prompt tokens per second", ",.0f", lambda s: s["prefill_tokens_per_s"]),
        row("answer tokens per second", ",.1f", lambda s: s["decode_tokens_per_s"]),
        row("pages attended", ",", lambda s: s["pages_attended"]),
        row("page faults", ",", lambda s: s["page_faults"]),
        row("resident when wanted, %", ".1f",
            lambda s: 100 * (1 - s["page_faults"] / s["pages_attended"])),
        row("pages demoted", ",", lambda s: s["page_demotions"]),
    ])


def show_daemon(status, tiers):
    counters = ("faults", "loads", "demotions", "free_demotions", "seals", "dups", "lookup_hits",
                "lookup_misses", "evictions", "backpressure", "sum_failures")
    table("daemon", ("",), [(c.replace("_", " "), [format(status[c], ",")]) for c in counters])
    table("tiers, MiB", [t["tier"] for t in tiers], [
        (label, [f"{t[key] / MIB:,.1f}" for t in tiers])
        for label, key in (("budget", "budget_bytes"), ("used at the end", "used_bytes"),
                           ("moved in", "in_bytes"), ("moved out", "out_bytes"))])


def main():
    directory, shared = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    ref_answers, ref_stats = read_run(directory, "ref")
    answers, stats = read_run(directory, "run")
    status = json.loads((directory / "status.json").read_text())
    tiers = json.loads((directory / "tiers.json").read_text())["tiers"]

    verdict = Verdict()
    check_reference(verdict, ref_stats)
    for i, name in enumerate("ab"):
        check_engine(verdict, name, ref_answers[i], answers[i], stats[i])
    verdict.check(f"b found {stats[1]['prefix_hit_tokens']} prompt tokens that a had computed",
                  stats[1]["prefix_hit_tokens"] >= shared and status["lookup_hits"] > 0)
    verdict.check("no page failed its sums", status["sum_failures"] == 0)
    show_engines(ref_stats, stats)
    show_daemon(status, tiers)
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
