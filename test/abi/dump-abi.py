#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the wire in a form that does not depend on a tool's version.

Each struct of abi.h with the offset, size, type and name of its members, as
the compiler laid them out (debug information, read by pahole); each SYN_
constant with its value; each SYN_ macro with parameters with its text.
dump-abi.py [GOLDEN]: compares with a file instead, and shows the difference.
Exit 77: no pahole here.
"""

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
HEADER = '#include <synapse/abi.h>\n'
CC = ['cc', '-std=gnu17', '-I' + os.path.join(ROOT, 'ipc/include')]
MEMBER = re.compile(r'^\t(\S.*?)\s+(\w+)((?:\[\d+\])*);\s*'
                    r'/\*\s*(\d+)\s+(\d+)\s*\*/')
NOT_WIRE = {'SYN_ABI_ASSERT', 'SYN_ABI_AT', 'SYN_ABI_SIZE'}


def run(command, **kwargs):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE,
                          text=True, **kwargs).stdout


def structs(folder):
    obj = os.path.join(folder, 'abi.o')
    run([*CC, '-g', '-fno-eliminate-unused-debug-types', '-c', '-x', 'c', '-o',
         obj, '-'], input=HEADER)
    name = None
    for line in run(['pahole', '--sort', obj]).splitlines():
        opened = re.match(r'struct (syn_\w+) \{', line)
        size = re.match(r'\t/\* size: (\d+)', line)
        member = MEMBER.match(line)
        if opened:
            name = opened.group(1)
            yield f'struct {name}'
        elif name and member:
            kind, field, dims, at, nr_bytes = member.groups()
            kind = re.sub(r'\s+', ' ', kind)
            yield f'  {at:>6} {nr_bytes:>5} {kind} {field}{dims}'
        elif name and size:
            yield f'  size {size.group(1)}'
            name = None


def macros(folder):
    values = {}
    texts = {}
    for line in run([*CC, '-E', '-dM', '-x', 'c', '-'],
                    input=HEADER).splitlines():
        found = re.match(r'#define (SYN_\w+)(\([^)]*\))?(?: (.*))?$', line)
        if not found or found.group(1) in NOT_WIRE:
            continue
        if found.group(2):
            texts[found.group(1)] = found.group(2) + ' ' + found.group(3)
        elif found.group(3):
            values[found.group(1)] = None
    program = HEADER + '#include <stdio.h>\nint main(void)\n{\n'
    for name in values:
        program += f'printf("{name} %lld\\n", (long long)({name}));\n'
    exe = os.path.join(folder, 'values')
    run([*CC, '-x', 'c', '-o', exe, '-'], input=program + 'return 0;\n}\n')
    yield from sorted(run([exe]).splitlines())
    yield from (f'{n}{texts[n]}' for n in sorted(texts))


def main():
    if not shutil.which('pahole'):
        return 77
    with tempfile.TemporaryDirectory() as folder:
        now = [*structs(folder), '', *macros(folder)]
    if not any(line.startswith('struct') for line in now):
        print('pahole shows no struct')
        return 1
    if len(sys.argv) < 2:
        print('\n'.join(now))
        return 0
    with open(sys.argv[1], encoding='utf-8') as f:
        golden = f.read().splitlines()
    diff = list(difflib.unified_diff(golden, now, 'golden', 'now',
                                     lineterm=''))
    print('\n'.join(diff))
    if diff:
        print('The wire changed.  If that is meant, raise '
              'SYN_ABI_VERSION_MAX and run test/abi/update.sh.')
    return 1 if diff else 0


sys.exit(main())
