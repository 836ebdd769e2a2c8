#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The client library exports what its header declares, and nothing else.

check-exports.py LIBRARY
"""

import os
import re
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
HEADER = os.path.join(ROOT, 'ipc/include/synapse/client.h')


def main():
    with open(HEADER, encoding='utf-8') as f:
        text = re.sub(r'/\*.*?\*/', '', f.read(), flags=re.S)
    declared = set(re.findall(r'^SYN_API\s[^;(]*?(\w+)\(', text, re.M))
    symbols = subprocess.run(['nm', '-D', '--defined-only', sys.argv[1]],
                             check=True, stdout=subprocess.PIPE, text=True)
    exported = set()
    for line in symbols.stdout.splitlines():
        _, kind, name = line.split()
        name, _, version = name.partition('@@')
        if kind == 'A':  # the name of a version
            continue
        exported.add(name)
        if not version:
            print(f'{name} has no version')
            return 1
    for name in sorted(declared - exported):
        print(f'{name} is declared, not exported')
    for name in sorted(exported - declared):
        print(f'{name} is exported, not declared')
    print(f'{len(declared)} declared, {len(exported)} exported')
    return 0 if declared and declared == exported else 1


sys.exit(main())
