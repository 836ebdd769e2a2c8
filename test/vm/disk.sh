#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# For the cases with a disk; read by them, which find the daemon at $socket.
set -e
socket=/run/synapse/s

if ! /t/synapsectl --help | grep -q 'swap'; then
	echo "this synapsectl has no swap: no third tier yet"
	exit 77
fi

# The kernel finds the disk while we start.
disk_mount() {
	tries=0
	while [ ! -b /dev/nvme0n1 ] && [ $tries -lt 100 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	mount -t ext4 /dev/nvme0n1 /mnt
}

daemon_start() {
	mkdir -p /run/synapse
	/t/synapsed --socket "$socket" --hbm 4M --host 4M \
		--nvme-file /mnt/swap &
	daemon=$!
	until /t/synapsectl --socket "$socket" status >/dev/null 2>&1; do
		kill -0 "$daemon"
		sleep 0.1
	done
}

daemon_stop() {
	/t/synapsectl --socket "$socket" fsck
	kill "$daemon"
	wait "$daemon"
}
