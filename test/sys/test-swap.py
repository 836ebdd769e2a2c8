#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Swap files as people meet them: synapsectl swap, and synapsed with one.

test-swap.py SYNAPSED SYNAPSECTL
"""

import json
import os
import signal
import subprocess
import sys
import tempfile

from ctl_daemon import SKIP, Daemon, check, wait_for, watchdog

MIB = 1 << 20


def ctl(synapsectl, *args):
    return subprocess.run([synapsectl, *args], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


def refused(synapsectl, what, *args):
    run = ctl(synapsectl, *args)
    check(f'exit of {args[:2]}', (run.returncode, run.stdout), (1, ''))
    check(f'{what!r} is said', what in run.stderr, True)
    check('in one line', run.stderr.count('\n'), 1)


def test_usage(synapsectl):
    for args in (['swap'], ['swap', 'nonsense'], ['swap', 'check'],
                 ['swap', 'check', 'a', 'b'], ['swap', 'init', 'a'],
                 ['swap', 'init', 'a', 'x'], ['swap', 'init', 'a', '1G', 'b'],
                 ['swap', 'check', 'a', '--force'], ['--force', 'status'],
                 ['--watch', 'swap', 'check', 'a'], ['status', 'a', 'b', 'c']):
        run = ctl(synapsectl, *args)
        check(f'exit of {args}', (run.returncode, run.stdout), (2, ''))


def test_init_and_check(synapsectl, path):
    run = ctl(synapsectl, 'swap', 'init', path, '8M')
    if 'no direct I/O' in run.stderr or 'no swap store' in run.stderr:
        print(run.stderr)
        sys.exit(SKIP)
    check('exit of init', (run.returncode, run.stderr), (0, ''))
    small = path + '.small'
    refused(synapsectl, 'expected a size', 'swap', 'init', small, '1M')
    check('nothing is left', os.path.exists(small), False)
    check('size', os.stat(path).st_size, 4096 + 3 * 2 * MIB)
    refused(synapsectl, 'a swap file already', 'swap', 'init', path, '8M')
    run = ctl(synapsectl, 'swap', 'init', path, '8M', '--force')
    check('exit with --force', run.returncode, 0)
    run = ctl(synapsectl, '--json', 'swap', 'check', path)
    check('exit of check', run.returncode, 0)
    stats = json.loads(run.stdout)
    check('bytes', stats['bytes'], 4096 + 3 * 2 * MIB)
    check('segments', (stats['nr_segments'], stats['nr_cut']), (3, 0))
    check('corrupt', stats['nr_corrupt'], 0)
    run = ctl(synapsectl, 'swap', 'check', path)
    check('check for people', '0 good slots, 0 bad' in run.stdout, True)


def test_daemon(synapsed, synapsectl, path):
    """It has the file for itself, over the death of a worker, too."""
    with Daemon(synapsed, synapsectl) as daemon:
        refused(synapsectl, 'in use', 'swap', 'check', path)
        refused(synapsectl, 'in use', 'swap', 'init', path, '4M', '--force')
        status = daemon.ask('status')
        os.kill(status['worker_pid'], signal.SIGKILL)

        def again():
            run = daemon.ctl('--json', 'status')
            return (run.returncode == 0 and
                    json.loads(run.stdout)['epoch'] > status['epoch'])
        wait_for('another worker', again)
        refused(synapsectl, 'in use', 'swap', 'check', path)
        expect_no_start(synapsed, path, 'in use')
    check('exit of check', ctl(synapsectl, 'swap', 'check', path).returncode,
          0)


def expect_no_start(synapsed, path, what):
    with tempfile.TemporaryDirectory(prefix='syn-swap-') as other:
        run = subprocess.run(
            [synapsed, '--socket', os.path.join(other, 'sock'), '--hbm',
             '16M', '--host', '16M', '--nvme-file', path],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False)
    check(f'exit: {what}', run.returncode, 1)
    lines = [line for line in run.stdout.splitlines() if path in line]
    check('one line names the file', len(lines), 1)
    check(f'it says {what!r}', what in lines[0], True)


def test_bad_files(synapsed, path):
    expect_no_start(synapsed, path + '.none', 'synapsectl swap init')
    with open(path, 'r+b') as f:
        good = f.read(4096)
        f.seek(0)
        f.write(b'my thesis')
    expect_no_start(synapsed, path, 'not a swap file')
    with open(path, 'r+b') as f:
        f.write(good[:8] + b'\2' + good[9:])
    expect_no_start(synapsed, path, 'format 2')
    with open(path, 'r+b') as f:
        f.write(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    expect_no_start(synapsed, path, 'damaged')
    with open(path, 'r+b') as f:
        f.write(good)
        f.truncate(4 * MIB)
    expect_no_start(synapsed, path, 'should have')
    with open(path, 'rb') as f:
        check('the file is as it was', f.read(4096) == good, True)


def main():
    synapsed, synapsectl = sys.argv[1:]
    watchdog()
    test_usage(synapsectl)
    with tempfile.TemporaryDirectory(prefix='syn-swap-') as name:
        path = os.path.join(name, 'swap')
        test_init_and_check(synapsectl, path)
        os.environ['SYNAPSE_NVME_FILE'] = path
        test_daemon(synapsed, synapsectl, path)
        del os.environ['SYNAPSE_NVME_FILE']
        test_bad_files(synapsed, path)


main()
