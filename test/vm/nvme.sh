#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pages overflow HBM and host memory, and come back from the disk.
# shellcheck source=test/vm/disk.sh
. /t/disk.sh
disk_mount
/t/synapsectl swap init /mnt/swap 64M
daemon_start
/t/vm-nvme overflow /run/synapse/s nvme0n1
daemon_stop
/t/synapsectl swap check /mnt/swap
