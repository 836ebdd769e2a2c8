#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the tests that need a GPU, on a machine where only compiler,
# meson, ninja, pkg-config and the CUDA Toolkit are installed:
# gpu-suite.sh [--unit] [--sanitizer] [--no-tests] [--bench ARGUMENT...].
#
# --unit	the unit tests, too
# --sanitizer	suite gpu once more under compute-sanitizer's memcheck, but for
#		the test that loses its GPU; calls that fail are not reported,
#		as tests make some fail
# --no-tests	builds only
# --bench	then synapse-bench with what follows, by default its gpu
#		benchmarks
#
# Uses .bundle/ (tools/bundle.sh; BUNDLE says another place) if it is there, else
# what is installed.  The build is in build/gpu.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=(gpu)
sanitizer=
bench=
while [[ $# -gt 0 ]]; do
	case $1 in
	--unit) suites+=(unit) ;;
	--sanitizer) sanitizer=1 ;;
	--no-tests) suites=() ;;
	--bench)
		bench=1
		shift
		break
		;;
	*)
		echo "usage: gpu-suite.sh [--unit] [--sanitizer]" \
			"[--no-tests] [--bench ARGUMENT...]" >&2
		exit 2
		;;
	esac
	shift
done
arguments=("$@")
[[ $# -gt 0 ]] || arguments=(gpu-{mem,copy,move,fault,load,codec,attend,slow})

command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
options=(
	-Dbpf=disabled
	-Dcuda=enabled
	-Dswap=enabled
	-Dsystemd=disabled
	-Dtests=enabled
)
bundle=$(realpath -m "${BUNDLE:-.bundle}")
if [[ -d $bundle ]]; then
	export PKG_CONFIG_PATH=$bundle/lib/pkgconfig
	export LD_LIBRARY_PATH=$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	# <sys/sdt.h> has no pkg-config file.
	options+=("-Dc_args=-isystem$bundle/include")
fi

build=build/gpu
[[ -f $build/build.ninja ]] || meson setup "$build" "${options[@]}" >/dev/null
ninja -C "$build"
status=0
for suite in ${suites[@]+"${suites[@]}"}; do
	setup=default
	[[ $suite != gpu ]] || setup=gpu
	meson test -C "$build" --no-rebuild --print-errorlogs \
		--setup "$setup" --suite "$suite" || status=1
done
if [[ -n $sanitizer ]]; then
	memcheck=(compute-sanitizer --target-processes all
		--report-api-errors no --error-exitcode 9)
	SYN_TEST_WATCHDOG_S=600 SYN_TEST_MEMCHECK=1 meson test -C "$build" --no-rebuild \
		--print-errorlogs --setup gpu --suite gpu \
		--timeout-multiplier 2 --wrapper "${memcheck[*]}" || status=1
fi
if [[ -n $bench ]]; then
	"$build/tools/bench/synapse-bench" "${arguments[@]}" || status=1
fi
exit "$status"
