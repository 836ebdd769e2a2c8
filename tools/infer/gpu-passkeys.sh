#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Many pass keys through two engines on one GPU:
#	gpu-passkeys.sh BUILD [COUNT [TOKENS [SEQUENCES [ANSWER]]]]
#
# COUNT prompts (default 500) of TOKENS bytes (8192) are shared out; an engine
# has SEQUENCES of them at once (4) and answers with ANSWER bytes (32).  The same
# prompts go through four daemons, one after the other:
#
# resident	all pages of all sequences fit in the engines' shares of HBM
# raw16		a share is a quarter of an engine's pages
# h4		the same, and pages that have left have four bits, in HBM, too
# serial	a share holds one sequence, and nothing is below: one at a time
#
# Exits 1 unless raw16 answers with the bytes of resident, and each of them has
# 98 % of the keys right.
set -euo pipefail

if [[ $# -lt 1 || $# -gt 5 ]]; then
	sed -n 's/^#\t//p' "$0" | head -n 1 >&2
	exit 2
fi
build=$(realpath "$1")
count=${2-500}
tokens=${3-8192}
sequences=${4-4}
answer=${5-32}
engines=2
cd "$(dirname "$0")/../.."

# shellcheck source=tools/infer/daemon.sh
. tools/infer/daemon.sh

# Six layers of pages of 128 tokens, 128 KiB each.
pages=$((6 * ((tokens + answer + 127) / 128)))
python3 tools/model/make_prompts.py --count "$count" --tokens "$tokens" \
	--out "$dir/prompts"
split --number="l/$engines" --numeric-suffixes --suffix-length=2 \
	"$dir/prompts" "$dir/part-"

# run NAME CODEC SEQUENCES SLOTS
run() {
	local part begin

	mkdir "$dir/$1"
	printf '[ladder]\nhost = %s\n' "$2" >"$dir/conf"
	daemon_start --device cuda --config "$dir/conf" --host 4G \
		--hbm "$((engines * $4 / 6 + 8))M"
	begin=$(date +%s%N)
	for part in "$dir"/part-*; do
		"${engine[@]}" --prompts "$part" --codec "$2" --sequences "$3" \
			--slots "$4" --max-tokens "$answer" \
			--output "$dir/$1/${part##*/}.out" \
			--stats "$dir/$1/${part##*/}.json" &
		pids+=($!)
	done
	wait_all
	echo $(($(date +%s%N) - begin)) >"$dir/$1/ns"
	ctl --json status >"$dir/$1/status"
	kill "$daemon"
	tail --pid="$daemon" -f /dev/null
	daemon=
	rm -f "$dir/sock"
}

quarter=$((sequences * pages / 4))
run resident raw16 "$sequences" $(((sequences + 1) * pages))
run raw16 raw16 "$sequences" "$quarter"
run h4 h4 "$sequences" "$quarter"
run serial raw16 1 "$pages"

python3 - "$dir" <<'END'
import json
import pathlib
import sys

directory = pathlib.Path(sys.argv[1])
COLUMNS = ("run", "right", "KV/HBM", "seconds", "prefill/s", "decode/s", "ttft ms", "max ms",
           "faulted", "as stored", "sum failures")
answers, good = {}, True
print(" | ".join(COLUMNS))
for name in ("resident", "raw16", "h4", "serial"):
    run = directory / name
    stats = [json.loads(p.read_text()) for p in sorted(run.glob("*.json"))]
    lines = [json.loads(x) for p in sorted(run.glob("*.out")) for x in p.read_text().splitlines()]
    status = json.loads((run / "status").read_text())
    answers[name] = {x["id"]: x["tokens"] for x in lines}
    total = {k: sum(s[k] for s in stats)
             for k in ("answers", "right", "batches", "batches_faulted", "kv_peak_bytes",
                       "hbm_share_bytes", "pages_attended", "pages_coded")}
    good &= total["right"] >= 0.98 * total["answers"] and not status["sum_failures"]
    print(" | ".join((
        name, f"{total['right']} of {total['answers']}",
        f"{total['kv_peak_bytes'] / total['hbm_share_bytes']:.2f}",
        f"{int((run / 'ns').read_text()) / 1e9:.1f}",
        f"{sum(s['prefill_tokens_per_s'] for s in stats):.0f}",
        f"{sum(s['decode_tokens_per_s'] for s in stats):.0f}",
        f"{max(s['ttft_median_ns'] for s in stats) / 1e6:.1f}",
        f"{max(s['ttft_max_ns'] for s in stats) / 1e6:.1f}",
        f"{total['batches_faulted']} of {total['batches']}",
        f"{total['pages_coded']} of {total['pages_attended']}", f"{status['sum_failures']}")))
same = answers["resident"] == answers["raw16"] == answers["serial"]
print(f"{len(answers['raw16'])} answers on {stats[0]['device']}: raw16 and serial "
      f"{'are' if same else 'ARE NOT'} those of resident")
sys.exit(not (good and same))
END
