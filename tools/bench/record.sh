#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs synapse-bench and keeps what it printed, with the machine and the day:
# record.sh BUILD-DIR NAME [OPTION]... writes Documentation/benchmarks/
# <date>-NAME.txt; options go to synapse-bench.
set -eu

if [ $# -lt 2 ]; then
	echo "usage: $0 BUILD-DIR NAME [OPTION]..." >&2
	exit 2
fi
build=$1
name=$2
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)
bench=tools/bench/synapse-bench
synapsed=tools/synapsed/synapsed
out=$root/Documentation/benchmarks/$(date +%F)-$name.txt
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT

cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
gpu=
if command -v nvidia-smi >/dev/null; then
	gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader |
		head -n 1)
fi
commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo none)
{
	echo "date:    $(date -u '+%F %H:%M UTC')"
	echo "cpu:     ${cpu:-unknown}"
	echo "cores:   $(nproc)"
	echo "memory:  $(awk '/MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' \
		/proc/meminfo)"
	echo "kernel:  $(uname -sr)"
	[ -z "$gpu" ] || echo "gpu:     $gpu (its driver)"
	echo "load:    $(cut -d ' ' -f 1-3 /proc/loadavg) before the run"
	echo "commit:  $commit, on top of which the tree may have changed"
	echo "command: $bench --synapsed $synapsed${*:+ $*}"
	echo
} >"$tmp"
cd "$build"
timeout 900 "./$bench" --synapsed "$synapsed" "$@" >>"$tmp"
mkdir -p "${out%/*}"
cp "$tmp" "$out"
chmod 644 "$out"
cat "$out"
