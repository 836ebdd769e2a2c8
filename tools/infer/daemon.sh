# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by scripts that let engines work with a daemon of their own; $build is
# where the programs are.  What is made here is gone when the script ends.
#
# dir		a folder, with the daemon's socket and log
# daemon	the daemon, or nothing
# pids		engines that are waited for
# leftovers	files elsewhere, to be removed as well
# engine	the command of one, with the demo model

dir=$(mktemp -d "${TMPDIR:-/tmp}/synapse-infer-XXXXXX")
daemon=
pids=()
leftovers=()
# shellcheck disable=SC2034 # for who sources this
engine=("${build:?}/tools/infer/synapse-infer" --socket "$dir/sock"
	--model tools/model/synapse-demo.safetensors)
clean_up() {
	[[ ${#pids[@]} -eq 0 ]] || kill "${pids[@]}" 2>/dev/null || true
	[[ -z $daemon ]] || kill -KILL "$daemon" 2>/dev/null || true
	rm -rf "$dir" ${leftovers[@]+"${leftovers[@]}"}
}
trap clean_up EXIT
trap 'exit 1' INT TERM

ctl() {
	"$build/tools/ctl/synapsectl" --socket "$dir/sock" "$@"
}

# daemon_start OPTION...: returns once it answers.
daemon_start() {
	"$build/tools/synapsed/synapsed" --socket "$dir/sock" "$@" \
		2>"$dir/daemon.log" &
	daemon=$!
	disown "$daemon"
	for _ in {1..200}; do
		ctl status >/dev/null 2>&1 && break
		sleep 0.1
	done
}

# For all of $pids; one that failed ends the script.
wait_all() {
	for pid in "${pids[@]}"; do
		wait "$pid" || { cat "$dir/daemon.log" >&2; exit 1; }
	done
	pids=()
}
