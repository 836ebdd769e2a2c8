#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Asks the demo model for many pass keys through synapsed, every page of a
# prompt resident: passkeys.sh BUILD [COUNT [TOKENS [JOBS [NEEDLES [SEED]]]]].
#
# BUILD is a build directory.  The defaults are 500 prompts of 8192 tokens with
# one key each, as many engines as processors, and seed 1.  The last line is
# "passkeys: R of N right"; exits 1 below 99 %.
set -euo pipefail

if [[ $# -lt 1 || $# -gt 6 ]]; then
	echo "usage: passkeys.sh BUILD [COUNT [TOKENS [JOBS [NEEDLES [SEED]]]]]" >&2
	exit 2
fi
build=$(realpath "$1")
count=${2-500}
tokens=${3-8192}
jobs=${4-$(nproc)}
needles=${5-1}
seed=${6-1}
cd "$(dirname "$0")/../.."

# An engine answers one prompt at a time: six layers of 128-token pages, and
# as much again, so that nothing has to move while it does.
slots=$((12 * (tokens / 128 + 2)))

dir=$(mktemp -d "${TMPDIR:-/tmp}/synapse-passkeys-XXXXXX")
pids=()
daemon=
clean_up() {
	[[ ${#pids[@]} -eq 0 ]] || kill "${pids[@]}" 2>/dev/null || true
	[[ -z $daemon ]] || kill -KILL "$daemon" 2>/dev/null || true
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

python3 tools/model/make_prompts.py --count "$count" --tokens "$tokens" \
	--needles "$needles" --seed "$seed" --out "$dir/prompts"
split --number="l/$jobs" --numeric-suffixes --suffix-length=4 \
	"$dir/prompts" "$dir/part-"

"$build/tools/synapsed/synapsed" --socket "$dir/sock" --host 1G \
	--hbm "$((jobs * slots / 6))M" 2>"$dir/daemon.log" &
daemon=$!
disown "$daemon"
for _ in {1..100}; do
	"$build/tools/ctl/synapsectl" --socket "$dir/sock" status \
		>/dev/null 2>&1 && break
	sleep 0.1
done

for part in "$dir"/part-*; do
	"$build/tools/infer/synapse-infer" --socket "$dir/sock" \
		--model tools/model/synapse-demo.safetensors \
		--name "${part##*/}" --prompts "$part" --sequences 1 \
		--slots "$slots" --output "$part.out" --stats "$part.json" &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid"
done
pids=()

python3 - "$dir" "$SECONDS" <<'END'
import json
import pathlib
import sys

stats = [json.loads(p.read_text()) for p in pathlib.Path(sys.argv[1]).glob("*.json")]
total = {k: sum(s[k] for s in stats)
         for k in ("answers", "right", "prefill_tokens", "batches", "batches_faulted")}
print(f"{len(stats)} engines ({stats[0]['simd']}), {sys.argv[2]} s, "
      f"{total['prefill_tokens']} prompt tokens, "
      f"{total['batches_faulted']} of {total['batches']} batches not resident")
print(f"passkeys: {total['right']} of {total['answers']} right")
sys.exit(total["right"] < 0.99 * total["answers"])
END
