#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# systemd is the first process, and its store the daemon's keeper.
set -e
socket=/run/synapse/synapse.sock

epoch() {
	synapsectl --socket "$socket" --json status |
		sed 's/.*"epoch":\([0-9]*\).*/\1/'
}

sessions() {
	synapsectl --socket "$socket" --json status |
		sed 's/.*"nr_sessions":\([0-9]*\).*/\1/'
}

# What is ordered brings another worker, and the session stays.
another() {
	before=$(epoch)
	"$@"
	until [ "$(epoch)" -gt "$before" ]; do
		sleep 0.1
	done
	[ "$(epoch)" = $((before + 1)) ]
	[ "$(sessions)" = 1 ]
	synapsectl --socket "$socket" fsck
	echo "$*: a session goes on, epoch $(epoch)"
}

stored() {
	systemctl show -P NFileDescriptorStore synapsed
}

systemctl start synapsed
[ "$(stored)" = 3 ]
mkfifo /tmp/load
test-probes-load "$socket" 2000 5 </tmp/load >/tmp/loaded &
load=$!
exec 3>/tmp/load
until [ "$(sessions)" = 1 ]; do
	sleep 0.1
done
another systemctl kill -s KILL synapsed
another systemctl restart synapsed
another synapsectl --socket "$socket" upgrade
systemctl daemon-reload
another systemctl kill -s KILL synapsed
systemctl daemon-reexec
another systemctl kill -s KILL synapsed
until [ -s /tmp/loaded ]; do
	kill -0 "$load"
	sleep 0.1
done
exec 3>&-
wait "$load"
systemctl stop synapsed
[ "$(stored)" = 0 ]
[ ! -e /run/synapse ]
