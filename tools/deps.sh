#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing from the distribution: deps.sh [build] [check] [vm].
#
# build	what ./tools/demo.sh needs; the default
# check	what ./tools/check.sh needs besides
# vm	what ./tools/check.sh --full needs besides
#
# The one list of packages; Documentation/dependencies.rst says why each is
# here.  Works on Debian 12 and Ubuntu 24.04.
set -euo pipefail

build=(
	gcc
	libcmocka-dev
	libinih-dev
	libisal-dev
	libjson-c-dev
	libnuma-dev
	libsystemd-dev
	liburing-dev
	libxxhash-dev
	meson
	ninja-build
	pkg-config
	python3
	systemtap-sdt-dev
)
check=(
	bpftrace
	clang
	clang-format-14
	codespell
	fio
	g++
	git
	libbpf-dev
	mandoc
	pahole
	patch
	python3-docutils
	shellcheck
	spin
	universal-ctags
	valgrind
)
vm=(
	busybox-static
	e2fsprogs
	qemu-system-x86
)

have() {
	[[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == *" installed" ]]
}

# The sanitizers' runtime has the number of the compiler that `clang` means.
clang_runtime() {
	local number

	number=$(apt-cache depends clang |
		sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
	[[ -z $number ]] || echo "libclang-rt-$number-dev"
}

# Not a package of its own everywhere; without it synapse-lat is not built.
bpf_tool() {
	apt-cache policy bpftool | sed -n 's/^ *Candidate: [^(].*/bpftool/p'
}

missing_of() {
	local name

	for name in "$@"; do
		[[ -z $name ]] || have "$name" || echo "$name"
	done
}

as_root=()
[[ $(id -u) == 0 ]] || as_root=(sudo)

update_done=
install() {
	if [[ -z $update_done ]]; then
		"${as_root[@]}" apt-get -q update
		update_done=1
	fi
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get -q -y --no-install-recommends install "$@"
}

groups=("$@")
[[ $# -gt 0 ]] || groups=(build)
wanted=()
for group in "${groups[@]}"; do
	case $group in
	build) wanted+=("${build[@]}") ;;
	check) wanted+=("${check[@]}") ;;
	vm) wanted+=("${vm[@]}") ;;
	*)
		echo "deps.sh: no group $group; use build, check or vm" >&2
		exit 2
		;;
	esac
done

if ! command -v dpkg-query apt-get >/dev/null; then
	echo "deps.sh: not a Debian system; needed: ${wanted[*]}" >&2
	exit 0
fi
mapfile -t missing < <(missing_of "${wanted[@]}")
[[ ${#missing[@]} -eq 0 ]] || install "${missing[@]}"
if [[ " ${groups[*]} " == *" check "* ]]; then
	mapfile -t missing < <(missing_of "$(clang_runtime)" "$(bpf_tool)")
	[[ -z ${missing[*]} ]] || install "${missing[@]}"
fi
