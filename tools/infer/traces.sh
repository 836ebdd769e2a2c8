#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Records how the demo model's attention is spread over long prompts:
#
#	traces.sh BUILD OUT [COUNT [JOBS [SEED]]]
#
# BUILD is a build directory; OUT is made and gets COUNT.trace files and
# manifest.json, which says what each is of and how to make its prompt again.
# The defaults are 20 prompts, as many engines as processors, and seed 1.
#
# Prompts have 8192, 10240, 12288, 14336 and 16384 tokens in turn; the first
# five hide one key, the next five 4, then 8, then 16, and so on from the start.
# Every page stays resident.
#
# The last line is "traces: N of N whole"; exits 1 if one is not, or if in one a
# head's shares do not add up to its queries within 0.3 %.
set -euo pipefail

usage() {
	sed -n 's/^#\t//p' "$0" | head -n 1 >&2
	exit 2
}

[[ $# -ge 2 && $# -le 5 ]] || usage
build=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
count=${3-20}
jobs=${4-$(nproc)}
seed=${5-1}
cd "$(dirname "$0")/../.."

lengths=(8192 10240 12288 14336 16384)
hidden=(1 4 8 16)
answer=16
# Pages of the longest prompt and its answer in six layers of 128 KiB, and as
# much again, so that nothing has to move.  The daemon has room for one engine
# more, as what has ended gives its memory back a moment later.
slots=$((2 * 6 * (16384 / 128 + 2)))

# shellcheck source=tools/infer/daemon.sh
. tools/infer/daemon.sh

daemon_start --host 1024M --hbm "$(((jobs + 1) * slots / 6))M"

# One engine for each prompt, so that a recording is of one prompt.
record() {
	local n=$1
	local tokens=${lengths[n % 5]}
	local needles=${hidden[n / 5 % 4]}
	local name
	name=$(printf '%03d' "$n")
	python3 tools/model/make_prompts.py --count 1 --tokens "$tokens" \
		--needles "$needles" --seed "$((seed + n))" \
		--out "$dir/$name.prompt"
	printf '{"tokens": %d, "needles": %d, "seed": %d}\n' "$tokens" \
		"$needles" "$((seed + n))" >"$dir/$name.made"
	"${engine[@]}" --sequences 1 --prompts "$dir/$name.prompt" \
		--slots "$slots" --max-tokens "$answer" --name "trace-$name" \
		--output "$dir/$name.out" --record "$out/$name.trace"
}

work() {
	for ((n = $1; n < count; n += jobs)); do
		record "$n" || return 1
	done
}

for ((job = 0; job < jobs; job++)); do
	work "$job" &
	pids+=($!)
done
wait_all

python3 - "$dir" "$out" "$count" "$SECONDS" <<'END'
import hashlib
import json
import lzma
import pathlib
import sys

sys.path.insert(0, "tools/trace")
import share_trace

work, out, count, seconds = map(str, sys.argv[1:])
work, out = pathlib.Path(work), pathlib.Path(out)
traces, whole, packed = [], 0, 0
for n in range(int(count)):
    path = out / f"{n:03d}.trace"
    data = path.read_bytes()
    packed += len(lzma.compress(data))
    prompt = json.loads((work / f"{n:03d}.prompt").read_text())
    answer = json.loads((work / f"{n:03d}.out").read_text())
    trace = {"file": path.name, "bytes": len(data),
             "sha256": hashlib.sha256(data).hexdigest(),
             "make_prompts": json.loads((work / f"{n:03d}.made").read_text()),
             "needles": prompt["needles"], "asked": prompt["asked"],
             "correct": answer["correct"]}
    try:
        trace["figures"] = share_trace.summary(share_trace.read(path)[1])
        whole += (trace["figures"]["sum_least"] > 0.997 and trace["figures"]["sum_most"] < 1.003 and
                  trace["figures"]["pages_unknown"] == 0)
    except share_trace.TraceError as error:
        print(f"{path}: {error}", file=sys.stderr)
    traces.append(trace)
(out / "manifest.json").write_text(json.dumps({"traces": traces}, indent=1) + "\n")
total = {k: sum(t["figures"][k] for t in traces if "figures" in t)
         for k in ("batches", "decode_batches", "values", "tokens")}
print(f"{seconds} s, {total['tokens']} tokens, {total['batches']} batches of shares, "
      f"{total['decode_batches']} of one query, {total['values']} values")
print(f"{sum(t['bytes'] for t in traces)} bytes, {packed} after xz; "
      f"{sum(t['correct'] for t in traces)} of {len(traces)} answers right")
print(f"traces: {whole} of {len(traces)} whole")
sys.exit(whole < len(traces))
END
