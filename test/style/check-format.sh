#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tools that others wrote, over the whole tree: check-format.sh WHAT, where
# WHAT is format, shell, spelling or docs.  Exit 77: the tool is not here.
set -eu
cd "$(dirname "$0")/../.."

list() {
	python3 test/style/tree.py "$@"
}

need() {
	command -v "$1" >/dev/null || exit 77
}

check_format() {
	tool=clang-format-14
	command -v $tool >/dev/null || tool=clang-format
	need $tool
	# Another version lays out some corners differently.
	$tool --version | grep -q 'version 14\.' || exit 77
	list .c .h .cc .cu .cuh | xargs $tool --dry-run -Werror
}

check_shell() {
	need shellcheck
	list .sh .ci/run | xargs shellcheck
}

check_spelling() {
	need codespell
	list .c .h .cu .cuh .py .sh .md .rst .pml .bt .build |
		xargs codespell --ignore-words test/style/words.txt
}

check_docs() {
	need rst2html
	list .rst | while read -r page; do
		rst2html --halt=2 "$page" >/dev/null
	done
}

"check_$1"
