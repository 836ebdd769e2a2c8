#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two engines share KV pages through synapsed; ends with "demo: ok".
#
# Installs missing packages, builds, then runs the same prompts twice: first
# each engine alone with all its pages resident, then both at once with a
# quarter of the room.  Checks that not a byte of the answers differs, that the
# pages with the pass keys really went away and came back, and that a prompt's
# beginning which one engine has computed is not computed by the other.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/demo
model=tools/model/synapse-demo.safetensors

# Pages are 128 KiB: 128 tokens of one of six layers.
tokens=3072     # of a prompt
plain=3         # prompts of an engine with a text of their own
shared=1024     # tokens with which one prompt of either engine begins
needles=4       # pass keys in each prompt
slots=128       # an engine's HBM share in the real run: 16 MiB ...
hbm=40M         # ... of this
slots_all=960   # its share in the reference run: 120 MiB ...
hbm_all=160M    # ... of this

say() {
	printf '\n=== %s (%d s)\n' "$1" "$SECONDS"
}

dir=$(mktemp -d "${TMPDIR:-/tmp}/synapse-demo-XXXXXX")
declare -A running=()

# stop PID: a daemon that does not stop is ended.
stop() {
	kill "$1" 2>/dev/null || return 0
	for _ in {1..50}; do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

clean_up() {
	local pid

	for pid in "${!running[@]}"; do
		stop "$pid"
	done
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# start_daemon NAME HBM: $daemon is its pid, $socket where it listens.
start_daemon() {
	socket=$dir/$1.sock
	"$build/tools/synapsed/synapsed" --socket "$socket" --hbm "$2" \
		--host 512M >"$dir/$1.log" 2>&1 &
	daemon=$!
	running[$daemon]=1
	for _ in {1..100}; do
		ctl status >/dev/null 2>&1 && return
		sleep 0.1
	done
	cat "$dir/$1.log" >&2
	return 1
}

stop_daemon() {
	stop "$daemon"
	unset "running[$daemon]"
}

ctl() {
	"$build/tools/ctl/synapsectl" --socket "$socket" "$@"
}

# start_engine NAME PROMPTS SLOTS: $engine is its pid.  One that hangs fails.
start_engine() {
	timeout 150 "$build/tools/infer/synapse-infer" --model "$model" --socket "$socket" \
		--name "$1" --prompts "$dir/$2.jsonl" --slots "$3" --audit \
		--output "$dir/$1.out" --stats "$dir/$1.json" &
	engine=$!
	running[$engine]=1
}

wait_engine() {
	local status=0

	wait "$1" || status=$?
	unset "running[$1]"
	return "$status"
}

# prompts NAME SEED: one that begins like the other engine's, then others; each
# with an id of its own.
prompts() {
	local part

	python3 tools/model/make_prompts.py --count 1 --tokens "$tokens" \
		--needles "$needles" --seed "$2" --shared-prefix "$shared" \
		--out "$dir/$1.first"
	python3 tools/model/make_prompts.py --count "$plain" \
		--tokens "$tokens" --needles "$needles" --seed "$2$2" \
		--out "$dir/$1.rest"
	for part in first rest; do
		sed "s/^{\"id\": */&\"$part-/; s/\(\"$part-[0-9]*\)/\1\"/" \
			"$dir/$1.$part"
	done >"$dir/$1.jsonl"
}

# sealed_at_least NR PID: waits until so many pages are sealed, while PID runs.
sealed_at_least() {
	local seals=0

	while ((seals < $1)); do
		kill -0 "$2" 2>/dev/null || return 1
		sleep 0.1
		seals=$(ctl --json status | sed 's/.*"seals":\([0-9]*\).*/\1/')
	done
}

# watch PID...: the last tables in which all engines were there.
watch() {
	local pid

	while sleep 0.5; do
		for pid; do
			kill -0 "$pid" 2>/dev/null || return 0
		done
		ctl tiers >"$dir/tiers.new" && ctl clients >"$dir/clients.new" ||
			return 0
		mv "$dir/tiers.new" "$dir/tiers"
		mv "$dir/clients.new" "$dir/clients"
	done
}

say "packages"
tools/deps.sh build

say "build"
if [[ ! -f $build/build.ninja ]]; then
	rm -rf "$build"
	meson setup "$build" -Dtests=disabled >"$dir/setup.log" ||
		{ cat "$dir/setup.log" >&2; exit 1; }
fi
ninja --quiet -C "$build" tools/synapsed/synapsed tools/ctl/synapsectl \
	tools/infer/synapse-infer

say "prompts"
prompts a 1
prompts b 2
printf '2 x %d prompts of %d tokens with %d pass keys each\n' \
	"$((plain + 1))" "$tokens" "$needles"

say "reference: each engine alone, all pages resident"
engines=()
daemons=()
for name in a b; do
	start_daemon "ref-$name" "$hbm_all"
	daemons+=("$daemon")
	start_engine "ref-$name" "$name" "$slots_all"
	engines+=("$engine")
done
for engine in "${engines[@]}"; do
	wait_engine "$engine"
done
for daemon in "${daemons[@]}"; do
	stop_daemon
done

say "two engines at once, a quarter of the room"
start_daemon run "$hbm"
start_engine run-a a "$slots"
engines=("$engine")
# Engines take turns over their prompts: then all are past the shared part.
sealed_at_least "$((shared * 6 * (plain + 1) / 128))" "$engine"
start_engine run-b b "$slots"
engines+=("$engine")
watch "${engines[@]}"
for engine in "${engines[@]}"; do
	wait_engine "$engine"
done
ctl --json status >"$dir/status.json"
ctl --json tiers >"$dir/tiers.json"
stop_daemon

say "results"
python3 tools/infer/verdict.py "$dir" "$shared"
if [[ -f $dir/clients ]]; then
	printf '\nwhile both ran:\n'
	cat "$dir/tiers" "$dir/clients"
fi
printf '\n%d s in all\n' "$SECONDS"
echo "demo: ok"
