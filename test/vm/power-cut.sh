#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What was said to be durable is there after the machine was killed.  /said is
# what the first boot said until then.
# shellcheck source=test/vm/disk.sh
. /t/disk.sh
disk_mount
if [ ! -e /said ]; then
	/t/synapsectl swap init /mnt/swap 64M
	daemon_start
	/t/vm-nvme write /run/synapse/s
	exit 1
fi
# A write that nobody was told of may have been cut in two.
/t/synapsectl swap check /mnt/swap || echo "a write was interrupted"
daemon_start
/t/vm-nvme read /run/synapse/s </said
daemon_stop
