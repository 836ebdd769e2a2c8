#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The first process of the guest: file systems, the case, its exit code.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control

# Then the case is a service of it; units lie beside the programs.
if [ -x /t/systemd ]; then
	SYSTEMD_UNIT_PATH=/t exec /t/systemd --unit=case.service
fi
sh /case.sh
echo "synapse-vm: exit $?"
sync
poweroff -f
