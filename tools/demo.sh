#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two engines share KV pages through synapsed; ends with "demo: ok".
#
# Installs missing packages, builds, then runs the same prompts:
#
# ref	each engine alone with all its pages resident
# raw	both at once; HBM and host memory together hold less than two thirds
#	of their pages, so that the others are on disk
# again	the daemon stopped and started anew on the same swap file: one engine
#	gets what it had computed
# h4	both at once with room for less still; pages lose precision below HBM
#
# Checks that not a byte of the answers of raw and again differs from ref, that
# the pages with the pass keys really went away and came back, that a prompt's
# beginning which one engine has computed is not computed by the other, that
# the kernel too says that bytes were read from disk, and that h4 keeps the
# pass keys.
#
# --kill: while both engines work, the daemon's worker is killed every second,
# and nothing of this may change.
# --gpu: on an NVIDIA GPU, with more and longer prompts; builds as
# tools/gpu-suite.sh does, and installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

killing=
gpu=
for option; do
	case $option in
	--kill) killing=yes ;;
	--gpu) gpu=yes ;;
	*)
		echo "usage: $0 [--kill] [--gpu]" >&2
		exit 2
		;;
	esac
done

build=build/demo
device=host
model=tools/model/synapse-demo.safetensors

# Pages are 128 KiB: 128 tokens of one of six layers.
tokens=3072     # of a prompt
plain=3         # prompts of an engine with a text of their own
sequences=4     # of them at once
shared=1024     # tokens with which one prompt of either engine begins
needles=4       # pass keys in each prompt
slots_all=960   # an engine's share of HBM in its reference run: 120 MiB ...
hbm_all=160M    # ... of this
slots=128       # and in the others: 16 MiB ...
hbm=40M         # ... of this
host_raw=48M    # below HBM, for pages of 128 KiB ...
host_h4=16M     # ... and of 34 KiB
swap_size=256M

if [[ -n $gpu ]]; then
	build=build/gpu
	device=cuda
	tokens=8192
	plain=31
	sequences=16
	shared=2048
	slots_all=13312
	hbm_all=1920M
	slots=1344
	hbm=384M
	host_raw=608M
	host_h4=192M
	swap_size=5G
fi

say() {
	printf '\n=== %s (%d s)\n' "$1" "$SECONDS"
}

# Swap files bypass the page cache, which not every /tmp allows.
mkdir -p build
swaps=$(mktemp -d build/demo-swap-XXXXXX)
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
	rm -rf "$dir" "$swaps"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# start_daemon NAME OPTION...: $daemon is its pid, $socket where it listens.
start_daemon() {
	local name=$1

	shift
	socket=$dir/$name.sock
	"$build/tools/synapsed/synapsed" --socket "$socket" \
		--device "$device" "$@" >"$dir/$name.log" 2>&1 &
	daemon=$!
	running[$daemon]=1
	for _ in {1..100}; do
		ctl status >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.1
	done
	cat "$dir/$name.log" >&2
	return 1
}

stop_daemon() {
	stop "$daemon"
	unset "running[$daemon]"
}

ctl() {
	"$build/tools/ctl/synapsectl" --socket "$socket" "$@"
}

# start_engine NAME PROMPTS OPTION...: $engine is its pid.  One that hangs
# fails.
start_engine() {
	local name=$1 prompts=$2

	shift 2
	timeout 150 "$build/tools/infer/synapse-infer" --model "$model" \
		--socket "$socket" --name "$name" --prompts "$dir/$prompts.jsonl" \
		--output "$dir/$name.out" --stats "$dir/$name.json" --audit \
		--sequences "$sequences" "$@" &
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

# status NAME: one of the daemon's figures.
status() {
	ctl --json status | sed "s/.*\"$1\":\([0-9]*\).*/\1/"
}

# sealed_at_least NR PID: waits until so many pages are sealed, while PID runs.
sealed_at_least() {
	local seals=0

	while ((seals < $1)); do
		kill -0 "$2" 2>/dev/null || return 1
		sleep 0.1
		seals=$(status seals)
	done
}

# watch NAME PID...: the last tables in which all engines were there.
watch() {
	local name=$1 pid

	shift
	while sleep 0.5; do
		for pid; do
			kill -0 "$pid" 2>/dev/null || return 0
		done
		{ ctl tiers && ctl clients; } >"$dir/watch" || continue
		mv "$dir/watch" "$dir/$name.tables"
	done
}

# kill_workers NAME PID...: every second, while all engines are there.
kill_workers() {
	local name=$1 nr=0 pid worker

	shift
	until [[ $(status nr_sessions) == "$#" ]]; do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	while sleep 1; do
		for pid; do
			kill -0 "$pid" 2>/dev/null || break 2
		done
		worker=$(status worker_pid) || continue
		kill -KILL "$worker" && nr=$((nr + 1))
	done
	echo "$nr" >"$dir/$name.kills"
}

# swap_config NAME CODEC: a swap file, and what pages become below HBM.
swap_config() {
	"$build/tools/ctl/synapsectl" swap init "$swaps/$1" "$swap_size" \
		>"$dir/$1.init" || { cat "$dir/$1.init" >&2; return 1; }
	printf '[nvme]\nfile = %s\n[ladder]\nhost = %s\n' \
		"$(realpath "$swaps/$1")" "$2" >"$dir/$1.conf"
}

# keep_figures NAME: Synapse's and the kernel's, while the daemon lives.
keep_figures() {
	ctl --json status >"$dir/$1.status"
	ctl --json tiers >"$dir/$1.tiers"
	cat "/proc/$(status worker_pid)/io" >"$dir/$1.io"
}

# run_both NAME HOST OPTION...: two engines at once; the daemon lives on.
run_both() {
	local name=$1 host=$2 engines=() pid killer=

	shift 2
	start_daemon "$name" --config "$dir/$name.conf" \
		--hbm "$hbm" --host "$host"
	start_engine "$name-a" a --slots "$slots" "$@"
	engines+=("$engine")
	# Engines take turns over their prompts: then all are past the shared
	# part.
	sealed_at_least "$((shared * 6 * (plain + 1) / 128))" "$engine"
	start_engine "$name-b" b --slots "$slots" "$@"
	engines+=("$engine")
	if [[ -n $killing ]]; then
		kill_workers "$name" "${engines[@]}" &
		killer=$!
	fi
	watch "$name" "${engines[@]}"
	for pid in "${engines[@]}"; do
		wait_engine "$pid"
	done
	[[ -z $killer ]] || wait "$killer"
	keep_figures "$name"
}

# On the emulated device: CUDA would only take its time to compile.
build_host() {
	say "packages"
	tools/deps.sh build
	say "build"
	if [[ ! -f $build/build.ninja ]]; then
		rm -rf "$build"
		meson setup "$build" -Dtests=disabled -Dcuda=disabled \
			>"$dir/setup.log" ||
			{ cat "$dir/setup.log" >&2; return 1; }
	fi
	ninja --quiet -C "$build" tools/synapsed/synapsed tools/ctl/synapsectl \
		tools/infer/synapse-infer
}

build_gpu() {
	say "build"
	tools/gpu-suite.sh --no-tests >"$dir/build.log" ||
		{ cat "$dir/build.log" >&2; return 1; }
}

if [[ -n $gpu ]]; then
	build_gpu
else
	build_host
fi

say "prompts"
prompts a 1
prompts b 2
printf '2 x %d prompts of %d tokens with %d pass keys each\n' \
	"$((plain + 1))" "$tokens" "$needles"

say "reference: each engine alone, all pages resident"
engines=()
daemons=()
for name in a b; do
	start_daemon "ref-$name" --hbm "$hbm_all" --host "$host_raw"
	daemons+=("$daemon")
	start_engine "ref-$name" "$name" --slots "$slots_all"
	engines+=("$engine")
done
for engine in "${engines[@]}"; do
	wait_engine "$engine"
done
for daemon in "${daemons[@]}"; do
	stop_daemon
done

say "raw: two engines at once, HBM and host too small for their pages"
swap_config raw raw16
run_both raw "$host_raw" --persist
stop_daemon

say "again: the daemon started anew on the same swap file"
start_daemon again --config "$dir/raw.conf" --hbm "$hbm" --host "$host_raw"
start_engine again-a a --slots "$slots"
wait_engine "$engine"
keep_figures again
stop_daemon

say "h4: two engines at once, four bits below HBM"
swap_config h4 h4
run_both h4 "$host_h4" --codec h4
stop_daemon

say "results"
python3 tools/infer/verdict.py "$dir" "$shared"
if [[ -f $dir/raw.tables ]]; then
	printf '\nraw, while both ran:\n'
	cat "$dir/raw.tables"
fi
printf '\n%d s in all\n' "$SECONDS"
echo "demo: ok"
