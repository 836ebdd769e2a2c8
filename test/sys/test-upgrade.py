#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""synapsectl upgrade: another program takes the worker's place, under load.

test-upgrade.py SYNAPSED SYNAPSECTL LOAD
"""

import os
import signal
import sys

from ctl_daemon import Daemon, Program, check, wait_for, watchdog
from ctl_daemon import load_end, load_start

UPGRADES = 8


def test_upgrade(daemon, program, synapsed, load_program):
    load = load_start(load_program, daemon)
    for i in range(UPGRADES):
        program.install(synapsed)
        before = daemon.ask('status')
        check('the program is another', program.runs_as(before['worker_pid']),
              False)
        answer = daemon.ask('upgrade')
        after = daemon.ask('status')
        check('epoch', (answer['epoch'], after['epoch']),
              (before['epoch'] + 1, before['epoch'] + 1))
        check('worker', answer['worker_pid'], after['worker_pid'])
        check('it runs the program on disk',
              program.runs_as(after['worker_pid']), True)
        check('keeper', after['keeper_pid'], before['keeper_pid'])
        check('sessions', after['nr_sessions'], 1)
    load_end(load)


def test_death_afterwards(daemon, program, synapsed):
    """What is installed and not ordered does not run, whoever dies."""
    before = daemon.ask('status')
    running = os.stat(f'/proc/{before["worker_pid"]}/exe').st_ino
    program.install(synapsed)
    os.kill(before['worker_pid'], signal.SIGKILL)
    wait_for('another worker',
             lambda: daemon.ctl('status').returncode == 0 and
             daemon.ask('status')['worker_pid'] != before['worker_pid'])
    after = daemon.ask('status')
    check('the same program', os.stat(f'/proc/{after["worker_pid"]}/exe').st_ino,
          running)


def test_not_a_worker(daemon, program, load_program):
    """The program on disk cannot take over: the one before it goes on."""
    load = load_start(load_program, daemon)
    before = daemon.ask('status')
    running = os.stat(f'/proc/{before["worker_pid"]}/exe').st_ino
    program.install('/bin/false')
    run = daemon.ctl('upgrade')
    check('exit', run.returncode, 1)
    check('it is said', 'could not take over' in run.stderr, True)
    after = daemon.ask('status')
    check('epoch', after['epoch'], before['epoch'] + 2)
    check('the same program', os.stat(f'/proc/{after["worker_pid"]}/exe').st_ino,
          running)
    check('sessions', after['nr_sessions'], 1)
    os.unlink(program.path)
    run = daemon.ctl('upgrade')
    check('exit without a program', run.returncode, 1)
    check('nothing has happened', daemon.ask('status')['epoch'],
          after['epoch'])
    load_end(load)


def main():
    synapsed, synapsectl, load_program = sys.argv[1:]
    watchdog(120)
    with Daemon(synapsed, synapsectl) as daemon:
        daemon.stop()
        program = Program(daemon.dir, synapsed)
        daemon.start(program.path)
        test_upgrade(daemon, program, synapsed, load_program)
        test_death_afterwards(daemon, program, synapsed)
        test_not_a_worker(daemon, program, load_program)
        check('fsck', daemon.ctl('fsck').returncode, 0)


main()
