#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What one node cannot show: nothing may be skipped here.
set -e
echo 4 >/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
for test in test-numa test-limit test-dev; do
	"/t/$test" >"/tmp/$test" 2>&1 || {
		cat "/tmp/$test"
		exit 1
	}
	cat "/tmp/$test"
done
if grep SKIPPED /tmp/test-numa; then
	exit 1
fi
grep 'node 1: huge pages' /tmp/test-numa
