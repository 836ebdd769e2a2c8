#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""synapse-bench runs, its JSON says what its table says; no figure is judged.

test-ctl-bench.py SYNAPSED SYNAPSE_BENCH
"""

import json
import os
import subprocess
import sys
import tempfile

from ctl_daemon import check, watchdog


def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, check=False)


def main():
    synapsed, bench = sys.argv[1:]
    watchdog()
    for args in (['nonsense'], ['--runs', '0'], ['--runs', '26'],
                 ['--runs', '3x'], ['--no-such']):
        check(f'exit of {args}', run(bench, *args).returncode, 2)
    check('exit of --help', run(bench, '--help').returncode, 0)
    check('exit without a daemon',
          run(bench, '-d', '/nonexistent', 'attach').returncode, 1)
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, 'out.json')
        did = run(bench, '-d', synapsed, '-r', '3', '-j', out, 'attach',
                  'lease', 'record')
        check('exit', did.returncode, 0)
        with open(out, encoding='utf-8') as f:
            figures = json.load(f)['figures']
        check('exit when the JSON cannot be written',
              run(bench, '-d', synapsed, '-r', '1', '-j', tmp,
                  'record').returncode, 1)
    lines = did.stdout.splitlines()
    check('lines of the table', len(lines), len(figures) + 1)
    for line, figure in zip(lines[1:], figures):
        name = f'{figure["group"]}/{figure["name"]}'
        check('name', line[:len(name)], name)
        check(f'order of {name}',
              figure['min'] <= figure['median'] <= figure['max'], True)
        check(f'runs of {name}', len(figure['runs']),
              1 if figure['group'] == 'record' else 3)
        # A sanitizer's heap tells no sizes.
        check(f'a figure for {name}',
              figure['median'] > 0 or name.endswith('derived'), True)
    check('groups', sorted({f['group'] for f in figures}),
          ['attach', 'lease', 'record'])


main()
