#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Gathers in .bundle/ the libraries that a build needs, for a GPU machine where
# nothing can be installed: bundle.sh [DIR].
#
# Headers and libraries come from the packages that tools/deps.sh installs:
# static libraries where the package has one, else the shared one under its own
# and its -l name.  Their pkg-config files find them wherever the folder is
# put.  There, tools/gpu-suite.sh builds with them.
#
# libsystemd and what synapse-lat needs stay here: a build does without.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-.bundle}

# pkg-config name and Debian package.
libraries=(
	cmocka:libcmocka-dev
	inih:libinih-dev
	json-c:libjson-c-dev
	libisal:libisal-dev
	liburing:liburing-dev
	libxxhash:libxxhash-dev
	numa:libnuma-dev
)
# Headers only.
headers=(
	systemtap-sdt-dev
)

# As a pkg-config file says it.
prefix="\${prefix}"
multiarch=$(gcc -print-multiarch)

headers_copy() {
	local file to

	dpkg -L "$1" | grep '^/usr/include/.*\.h$' | while read -r file; do
		to=${file#/usr/include/}
		to=$out/include/${to#"$multiarch"/}
		mkdir -p "$(dirname "$to")"
		cp -L "$file" "$to"
	done
}

# library_copy DIR NAME: what -lNAME means.
library_copy() {
	local soname

	if [[ -f $1/lib$2.a ]]; then
		cp -L "$1/lib$2.a" "$out/lib/"
		return
	fi
	soname=$(objdump -p "$1/lib$2.so" | sed -n 's/^ *SONAME *//p')
	cp -L "$1/lib$2.so" "$out/lib/lib$2.so"
	cp -L "$1/lib$2.so" "$out/lib/$soname"
}

# Where the library is asked for in json-c/ as well, Debian says so.
includes_of() {
	local flag

	printf -- '-I%s/include' "$prefix"
	for flag in $(pkg-config --cflags-only-I "$1"); do
		flag=${flag#-I/usr/include}
		[[ -z ${flag#/} ]] || printf ' -I%s/include%s' "$prefix" "$flag"
	done
}

rm -rf "$out"
mkdir -p "$out/lib/pkgconfig" "$out/include"
for entry in "${libraries[@]}"; do
	module=${entry%%:*}
	dir=$(pkg-config --variable=libdir "$module")
	flags=$(pkg-config --libs-only-l "$module")
	for flag in $flags; do
		library_copy "${dir:-/usr/lib/$multiarch}" "${flag#-l}"
	done
	headers_copy "${entry#*:}"
	cat >"$out/lib/pkgconfig/$module.pc" <<-END
		prefix=\${pcfiledir}/../..

		Name: $module
		Description: of ${entry#*:}, bundled
		Version: $(pkg-config --modversion "$module")
		Cflags: $(includes_of "$module")
		Libs: -L$prefix/lib ${flags% }
	END
done
for package in "${headers[@]}"; do
	headers_copy "$package"
done
du -sh "$out"
