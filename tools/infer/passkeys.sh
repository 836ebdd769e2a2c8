#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Asks the demo model for many pass keys through synapsed:
#
#	passkeys.sh [--codec h4] BUILD
#		[COUNT [TOKENS [JOBS [NEEDLES [SEED]]]]]
#
# BUILD is a build directory.  The defaults are 500 prompts of 8192 tokens with
# one key each, as many engines as processors, and seed 1.
#
# Every page of a prompt stays resident.  With --codec h4 an eighth does: the
# others are h4 below HBM, where host memory has room for half of them, so that
# the rest is read from a swap file in BUILD.
#
# The last line is "passkeys: R of N right"; exits 1 below 99 %, with h4 below
# 98 % or when less than 75 % of the needle pages had four bits at the question.
set -euo pipefail

usage() {
	sed -n 's/^#\t//p' "$0" | head -n 2 >&2
	exit 2
}

codec=raw16
if [[ ${1-} == --codec ]]; then
	codec=${2-}
	[[ $codec == h4 ]] || usage
	shift 2
fi
[[ $# -ge 1 && $# -le 6 ]] || usage
build=$(realpath "$1")
count=${2-500}
tokens=${3-8192}
jobs=${4-$(nproc)}
needles=${5-1}
seed=${6-1}
cd "$(dirname "$0")/../.."

# shellcheck source=tools/infer/daemon.sh
. tools/infer/daemon.sh
swap=$build/passkeys-$$.swap
leftovers=("$swap")

# An engine answers one prompt at a time: six layers of pages of 128 tokens,
# 128 KiB each; in h4 with what goes with them, 40 KiB.
pages=$((6 * (tokens / 128 + 2)))
if [[ $codec == h4 ]]; then
	slots=$((pages / 8 + 12))
	host=$((jobs * pages * 40 / 2 / 1024 + 8))
	# A prompt's pages stay until others need the room.
	ctl swap init "$swap" "$((jobs * pages * 40 * 4 / 1024 + 256))M" \
		>/dev/null
	printf '[nvme]\nfile = %s\n[ladder]\nhost = h4\n' "$swap" >"$dir/conf"
else
	# As much again, so that nothing has to move.
	slots=$((2 * pages))
	host=1024
	: >"$dir/conf"
fi

python3 tools/model/make_prompts.py --count "$count" --tokens "$tokens" \
	--needles "$needles" --seed "$seed" --out "$dir/prompts"
split --number="l/$jobs" --numeric-suffixes --suffix-length=4 \
	"$dir/prompts" "$dir/part-"

daemon_start --config "$dir/conf" --host "${host}M" \
	--hbm "$((jobs * slots / 6 + 4))M"

for part in "$dir"/part-*; do
	"${engine[@]}" --audit --codec "$codec" --name "${part##*/}" \
		--prompts "$part" --sequences 1 --slots "$slots" \
		--output "$part.out" --stats "$part.json" &
	pids+=($!)
done
wait_all
ctl --json status >"$dir/status"
ctl tiers

python3 - "$dir" "$SECONDS" "$codec" <<'END'
import json
import pathlib
import sys

directory, seconds, codec = pathlib.Path(sys.argv[1]), *sys.argv[2:]
stats = [json.loads(p.read_text()) for p in directory.glob("*.json")]
status = json.loads((directory / "status").read_text())
total = {k: sum(s[k] for s in stats)
         for k in ("answers", "right", "prefill_tokens", "batches", "batches_faulted",
                   "needle_pages", "needle_pages_lossy", "needle_pages_from_nvme")}
io = pathlib.Path(f"/proc/{status['worker_pid']}/io").read_text()
read = int(dict(line.split(": ") for line in io.splitlines())["read_bytes"])
print(f"{len(stats)} engines ({stats[0]['simd']}), {codec}, {seconds} s, "
      f"{total['prefill_tokens']} prompt tokens, "
      f"{total['batches_faulted']} of {total['batches']} batches not resident")
print(f"{read >> 20} MiB read from disk as the kernel counts, "
      f"{status['encoded']} pages encoded, {status['sum_failures']} failed their sums")
print(f"needle pages: {total['needle_pages']}, at the question {total['needle_pages_lossy']} of "
      f"them had four bits, {total['needle_pages_from_nvme']} were on disk alone and read from there")
print(f"passkeys: {total['right']} of {total['answers']} right")
right = 0.98 if codec == "h4" else 0.99
lossy = 0.75 if codec == "h4" else 0
sys.exit(total["right"] < right * total["answers"] or status["sum_failures"] > 0 or
         total["needle_pages_lossy"] < lossy * total["needle_pages"])
END
