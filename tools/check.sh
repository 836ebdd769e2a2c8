#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs every test this machine can run: check.sh [--full].
#
#	build/gcc	gcc, warnings are errors: all suites
#	build/asan	clang, AddressSanitizer and UBSan, CUDA with --full only:
#			unit, sys, bugs
#	build/tsan	clang, ThreadSanitizer, no CUDA: unit and tsan
#
# Then the demo and an eighth of the seeded mutants, which one the commit says.
# --full adds the others, the demo with workers that are killed, valgrind, the
# emulated machine, the repeated stress run with its long campaigns.  A build
# that fails counts as one failed test.  The last line is the sum: N passed, N
# failed, N skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

full=
case ${1-} in
--full) full=1 ;;
"") ;;
*)
	echo "usage: check.sh [--full]" >&2
	exit 2
	;;
esac

passed=0
failed=0
skipped=0
failures=()

say() {
	printf '\n=== %s (%d s)\n' "$1" "$SECONDS"
}

count() {
	passed=$((passed + $1))
	failed=$((failed + $2))
	skipped=$((skipped + $3))
}

fail() {
	failures+=("$1")
	count 0 1 0
}

# configure NAME OPTION...: a build that exists is kept and configured anew.
configure() {
	local dir=build/$1

	shift
	if [[ -f $dir/build.ninja ]]; then
		meson configure "$dir" "$@"
	else
		rm -rf "$dir"
		meson setup "$dir" "$@" >/dev/null
	fi
}

# build NAME OPTION...
build() {
	say "build $1"
	if configure "$@" && ninja -C "build/$1"; then
		return 0
	fi
	fail "$1: build"
	return 1
}

# A sanitizer of an old compiler cannot live with a large mmap_rnd_bits.
unshuffled=()
if setarch -R true 2>/dev/null; then
	unshuffled=(setarch -R)
fi

# run_tests NAME LABEL OPTION...: adds what meson's log says.
run_tests() {
	local dir=build/$1
	local label=$1-$2
	local log=$dir/meson-logs/$label
	local sum

	shift 2
	say "test $label"
	rm -f "$log"*.json
	"${unshuffled[@]}" meson test -C "$dir" --no-rebuild --logbase "$label" \
		--print-errorlogs "$@" || true
	sum=$(python3 - "$label" "$log"*.json <<'END'
import json
import sys

passed = failed = skipped = 0
for path in sys.argv[2:]:
    try:
        lines = open(path, encoding='utf-8').read().splitlines()
    except FileNotFoundError:
        print('no log', file=sys.stderr)
        failed += 1
        continue
    for line in lines:
        test = json.loads(line)
        if test['result'] in ('OK', 'EXPECTEDFAIL'):
            passed += 1
        elif test['result'] == 'SKIP':
            skipped += 1
        else:
            failed += 1
            print(sys.argv[1], test['name'], test['result'], file=sys.stderr)
print(passed, failed, skipped)
END
	)
	# shellcheck disable=SC2086 # three numbers
	count $sum
	[[ $sum == *" 0 "* ]] || failures+=("$label: see $log.txt")
}

# demo [OPTION]
demo() {
	say "demo $*"
	if ./tools/demo.sh "$@"; then
		count 1 0 0
	else
		fail "demo $*"
	fi
}

mutants() {
	local last commit part=()

	say "mutants"
	if [[ ! $full ]]; then
		commit=$(git rev-parse --short=6 HEAD 2>/dev/null) || commit=0
		part=(--part "$((0x${commit:0:6} % 8))/8")
	fi
	python3 test/mutants/run-mutants.py "${part[@]}" |
		tee build/mutants.txt || true
	last=$(tail -n 1 build/mutants.txt)
	if [[ $last =~ ^([0-9]+)\ mutants,\ ([0-9]+)\ caught$ ]]; then
		count "${BASH_REMATCH[2]}" \
			$((BASH_REMATCH[1] - BASH_REMATCH[2])) 0
		[[ ${BASH_REMATCH[1]} == "${BASH_REMATCH[2]}" ]] ||
			failures+=("mutants: see build/mutants.txt")
	else
		fail "mutants: did not finish"
	fi
}

# 20 ms a kill; the sanitizer builds and the default run do 100 each.
campaign() {
	say "campaign"
	if build/gcc/test/sys/campaign-kill --kills 5000; then
		count 1 0 0
	else
		fail "campaign"
	fi
	rm -f build/tsunami.swap
	if build/gcc/tools/ctl/synapsectl swap init build/tsunami.swap 64M &&
		build/gcc/test/sys/campaign-tsunami --seconds 60 \
			--nvme build/tsunami.swap; then
		count 1 0 0
	else
		fail "tsunami"
	fi
	rm -f build/tsunami.swap
}

./tools/deps.sh build check ${full:+vm}
mkdir -p build

sanitize=(-Dwerror=true -Doptimization=1 -Ddebug=true -Db_lundef=false)
if CC=gcc build gcc -Dwerror=true -Dtests=enabled; then
	run_tests gcc all
fi
# Kernels take a minute to compile, and are nothing for a sanitizer.
cuda=disabled
[[ ! $full ]] || cuda=auto
if CC=clang build asan "${sanitize[@]}" -Db_sanitize=address,undefined \
	-Dc_args=-fno-sanitize-recover=all -Dcuda="$cuda"; then
	run_tests asan all --suite unit --suite sys --suite bugs
fi
if CC=clang build tsan "${sanitize[@]}" -Db_sanitize=thread \
	-Dcuda=disabled; then
	run_tests tsan all --suite unit --suite tsan --no-suite no-tsan
fi
demo
mutants

if [[ $full ]]; then
	demo --kill
	# Its setup says what it leaves out; --suite would override that.
	run_tests gcc valgrind --setup valgrind
	run_tests gcc vm --setup vm --suite vm
	campaign
	run_tests gcc stress --setup stress --repeat 5
	run_tests tsan stress --setup stress --suite tsan --repeat 5
fi

say "done"
for failure in "${failures[@]}"; do
	echo "failed: $failure"
done
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 && $passed != 0 ]]
