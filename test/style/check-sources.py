#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each source names its licence and its purpose, and stays small.

Limits: 80 lines a function, 800 lines a file.  The median is reported, so
that a drift is seen before it is a problem.
"""

import re
import shutil
import statistics
import subprocess
import sys

import tree

MAX_FUNCTION = 80
MAX_FILE = 800
ABI = 'ipc/include/synapse/abi.h'  # the wire is one file, comments and all
CODE = ('.c', '.h', '.py', '.sh', '.pml', '.bt', '.rst', '.map', '.cu',
        'meson.build', 'meson_options.txt')
LICENCES = {'Apache-2.0'}
BPF_LICENCES = {'Apache-2.0', 'GPL-2.0 OR Apache-2.0'}
FUNCTION = re.compile(r'^(\S+) (\d+) (\d+) (.*)$')


def is_code(name, text):
    return name.endswith(CODE) or text.startswith('#!')


def check_head(name, text):
    lines = text.split('\n')
    first = 1 if lines[0].startswith('#!') else 0
    if len(lines) <= first:
        yield f'{name}: empty'
        return
    found = re.search(r'SPDX-License-Identifier: (.*?)\s*(\*/|-->)?$',
                      lines[first])
    if not found:
        yield f'{name}: no SPDX-License-Identifier in line {first + 1}'
        return
    allowed = BPF_LICENCES if name.startswith('bpf/') else LICENCES
    if found.group(1) not in allowed:
        yield f'{name}: licence {found.group(1)}'
    if name.endswith(('.c', '.h')) and not lines[first + 1].startswith('/*'):
        yield f'{name}: no purpose in line {first + 2}'


def functions(names):
    tags = subprocess.run(
        ['ctags', '-x', '--_xformat=%N %n %e %F', '--languages=C',
         '--langmap=C:.c.h', '--kinds-C=f', *names],
        cwd=tree.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for line in tags.stdout.splitlines():
        found = FUNCTION.match(line)
        if found:
            name, first, last, path = found.groups()
            yield path, name, int(last) - int(first) + 1


def main():
    complaints = []
    for name in tree.files():
        try:
            text = tree.read(name)
        except UnicodeDecodeError:
            continue
        if is_code(name, text):
            complaints += check_head(name, text)
        if (name.endswith(('.c', '.h')) and name != ABI
                and text.count('\n') > MAX_FILE):
            complaints.append(f'{name}: {text.count(chr(10))} lines')
    if shutil.which('ctags'):
        found = list(functions(tree.c_files()))
        complaints += [f'{path}: {name}() has {nr} lines'
                       for path, name, nr in found if nr > MAX_FUNCTION]
        sizes = sorted(nr for path, _, nr in found
                       if not path.startswith('test/'))
        if sizes:
            print(f'{len(sizes)} functions outside test/: median '
                  f'{statistics.median(sizes):g}, p90 '
                  f'{sizes[len(sizes) * 9 // 10]}, longest {sizes[-1]} lines')
    print('\n'.join(complaints))
    print(f'{len(complaints)} complaints')
    return 1 if complaints else 0


sys.exit(main())
