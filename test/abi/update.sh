#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes the golden file anew, after a change of the wire that was meant.
set -eu
cd "$(dirname "$0")"
python3 dump-abi.py >abi.golden.new
mv abi.golden.new abi.golden
