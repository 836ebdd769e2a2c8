#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An upgrade to a program whose records have grown, and none back.

test-upgrade-grown.py [--all] SYNAPSED GROWN SYNAPSECTL LOAD

--all: a worker dies at each failpoint that there is, not only at the copy's.
"""

import mmap
import os
import signal
import struct
import sys

from ctl_daemon import Daemon, Load, Program, check, wait_for, watchdog
from ctl_daemon import load_end, load_start

# As core/base/records.h has them.
HEAD = struct.Struct('<QIIII')
ARRAY = struct.Struct('<QQ')
# As test/sys/crash.h: where @armed, @nr_deaths and @nr_points are in the table.
TABLE = struct.Struct('<14Q8x9Q9Q')
POINT = struct.Struct('<56s3Q')
POINTS_MAX = 1024
ARMED, DEATHS, NR_POINTS = 0, 12, 13
CRASH_OFF, CRASH_AT = 0, 3

GROWN = 8
PATTERN = b'grownup!'
ROUNDS = 3000

# Revisions of the two kept parts, as the program has them and as the grown one.
IS = []
GROWN_IS = []


def align(x, to):
    return (x + to - 1) // to * to


class Kept:
    """The kept memory that the keeper holds, by what it says of itself."""

    def __init__(self, daemon):
        fds = f'/proc/{daemon.keeper.pid}/fd'
        held = [f'{fds}/{fd}' for fd in os.listdir(fds)
                if 'synapse-kept' in os.readlink(f'{fds}/{fd}')]
        check('kept memories', len(held), 1)
        with open(held[0], 'r+b') as f:
            self.map = mmap.mmap(f.fileno(), 0)
        self.revisions = []
        self.arrays = []
        at = 0
        for _ in range(2):
            at = align(self.part_read(at), 4096)

    def part_read(self, at):
        _, _, revision, nr_arrays, _ = HEAD.unpack_from(self.map, at)
        self.revisions.append(revision)
        for i in range(nr_arrays):
            nr, size = ARRAY.unpack_from(self.map,
                                         at + HEAD.size + i * ARRAY.size)
            if i == 0:
                begin = at
            self.arrays.append((begin, nr, size))
            begin += align(nr * size, 64)
        return begin

    def tails(self, before):
        """Where the new members of each record are that has them."""
        for (begin, nr, size), (_, nr_before, was) in zip(self.arrays,
                                                          before.arrays):
            if (nr, size) != (nr_before, was):
                check('growth', (nr, size), (nr_before, was + GROWN))
                yield from (begin + i * size + was for i in range(nr))


class Crash:
    """What chooses the failpoint where the next grown worker dies."""

    def __init__(self, path):
        with open(path, 'w+b') as f:
            f.truncate(TABLE.size + POINTS_MAX * POINT.size)
            self.map = mmap.mmap(f.fileno(), 0)

    def word(self, i):
        return TABLE.unpack_from(self.map)[i]

    def points(self):
        """Each failpoint, and where it is."""
        names = [POINT.unpack_from(self.map, TABLE.size + i * POINT.size)[0]
                 for i in range(self.word(NR_POINTS))]
        return [(i, name.rstrip(b'\0').decode())
                for i, name in enumerate(names)]

    def points_of(self, function):
        """Those of a function, the first line first."""
        return sorted((p for p in self.points()
                       if p[1].split()[-1] == function), key=lambda p: p[1])

    def choose(self, point, signo=signal.SIGKILL):
        """The next worker dies there when it comes by; None: it lives."""
        # @armed, @every, @at, @nth, @signo
        struct.pack_into('<5Q', self.map, 8 * ARMED,
                         CRASH_OFF if point is None else CRASH_AT, 0,
                         point or 0, 1, signo)


def log_of(daemon):
    with open(os.path.join(daemon.dir, 'log'), encoding='utf-8') as f:
        return f.read()


def start(daemon, program, source):
    daemon.stop()
    program.install(source)
    daemon.start(program.path)


def worker_kill(daemon):
    before = daemon.ask('status')
    os.kill(before['worker_pid'], signal.SIGKILL)
    wait_for('another worker',
             lambda: daemon.ctl('status').returncode == 0 and
             daemon.ask('status')['worker_pid'] != before['worker_pid'])


def test_upgrade(daemon, program, grown, load_program):
    """Under load: nothing is lost, and what is new is zero."""
    load = load_start(load_program, daemon, ROUNDS)
    before = Kept(daemon)
    IS.extend(before.revisions)
    GROWN_IS.extend(revision + 1 for revision in IS)
    program.install(grown)
    daemon.ask('upgrade')
    after = daemon.ask('status')
    check('it runs the program on disk', program.runs_as(after['worker_pid']),
          True)
    check('sessions', after['nr_sessions'], 1)
    kept = Kept(daemon)
    check('revisions', kept.revisions, GROWN_IS)
    tails = list(kept.tails(before))
    check('grown records', len(tails) > 15000, True)
    check('what is new and not zero',
          [at for at in tails if any(kept.map[at:at + GROWN])], [])
    load_end(load)
    check('fsck', daemon.ctl('fsck').returncode, 0)
    return tails


def test_death_afterwards(daemon, tails, load_program):
    """The next one of that program finds what is new, too."""
    load = Load(load_program, daemon)
    kept = Kept(daemon)
    for at in tails:
        kept.map[at:at + GROWN] = PATTERN
    worker_kill(daemon)
    kept = Kept(daemon)
    check('what was new and is lost',
          len([at for at in tails if kept.map[at:at + GROWN] != PATTERN]), 0)
    check('sessions', daemon.ask('status')['nr_sessions'], 1)
    load.end()
    check('fsck', daemon.ctl('fsck').returncode, 0)


def test_back(daemon, program, synapsed, load_program):
    """An older program refuses, and the one before it goes on."""
    load = load_start(load_program, daemon, ROUNDS)
    before = daemon.ask('status')
    program.install(synapsed)
    run = daemon.ctl('upgrade')
    check('exit', run.returncode, 1)
    check('it is said', 'could not take over' in run.stderr, True)
    check('it is said why',
          f'revision of a newer program (was {GROWN_IS[0]}, is {IS[0]})'
          in log_of(daemon), True)
    after = daemon.ask('status')
    check('epoch', after['epoch'], before['epoch'] + 2)
    check('the older one runs', program.runs_as(after['worker_pid']), False)
    check('sessions', after['nr_sessions'], 1)
    check('revisions', Kept(daemon).revisions, GROWN_IS)
    load_end(load)


def test_newer_keeper(daemon, program, synapsed, grown):
    start(daemon, program, grown)
    program.install(synapsed)
    check('exit', daemon.ctl('upgrade').returncode, 1)
    check('it is said why',
          "the keeper is a newer program's" in log_of(daemon), True)


def test_dies_before(daemon, program, crash, grown, load_program):
    """Whoever dies over the copy has done nothing."""
    load = load_start(load_program, daemon, ROUNDS)
    points = crash.points_of('memory_copy') + \
        crash.points_of('worker_take_over')
    check('failpoints', len(points), 2)
    for i, name in points:
        deaths = crash.word(DEATHS)
        crash.choose(i)
        program.install(grown)
        check(f'exit, died at {name}', daemon.ctl('upgrade').returncode, 1)
        check('deaths', crash.word(DEATHS), deaths + 1)
        after = daemon.ask('status')
        check('the new one runs', program.runs_as(after['worker_pid']), False)
        check('sessions', after['nr_sessions'], 1)
        check('revisions', Kept(daemon).revisions, IS)
    load_end(load)


def test_dies_after(daemon, program, crash, point, synapsed, grown,
                    load_program):
    """It is followed by itself, since nobody else can read its records."""
    start(daemon, program, synapsed)
    load = load_start(load_program, daemon, ROUNDS)
    deaths = crash.word(DEATHS)
    crash.choose(point)
    program.install(grown)
    daemon.ctl('upgrade')
    check('deaths', crash.word(DEATHS), deaths + 1)
    after = daemon.ask('status')
    check('the new one runs', program.runs_as(after['worker_pid']), True)
    check('sessions', after['nr_sessions'], 1)
    check('revisions', Kept(daemon).revisions, GROWN_IS)
    load_end(load)
    check('fsck', daemon.ctl('fsck').returncode, 0)


def test_fails_after(daemon, program, crash, synapsed, grown, load_program):
    """If it fails by itself, nobody can go on: the program before begins."""
    start(daemon, program, synapsed)
    load = load_start(load_program, daemon)
    crash.choose(crash.points_of('syn_server_adopt')[0][0], signal.SIGTERM)
    program.install(grown)
    daemon.ctl('upgrade')
    after = daemon.ask('status')
    check('the new one runs', program.runs_as(after['worker_pid']), False)
    check('sessions', after['nr_sessions'], 0)
    check('revisions', Kept(daemon).revisions, IS)
    check('exit of the load', load.wait(), 1)
    load.communicate()
    # From then on everything is as ever.
    crash.choose(crash.points_of('worker_take_over')[0][0])
    check('exit', daemon.ctl('upgrade').returncode, 1)
    check('revisions', Kept(daemon).revisions, IS)
    daemon.ask('upgrade')
    check('revisions', Kept(daemon).revisions, GROWN_IS)


def test_dies_anywhere(daemon, program, crash, synapsed, grown, load_program):
    """One of the two goes on, with records of its own."""
    goes_on = {False: 0, True: 0}
    deaths = crash.word(DEATHS)
    for i, name in crash.points():
        print(f'-- dies at {name}')
        watchdog(120)
        start(daemon, program, synapsed)
        load = load_start(load_program, daemon, ROUNDS)
        crash.choose(i)
        program.install(grown)
        daemon.ctl('upgrade')
        crash.choose(None)
        load_end(load)
        # It may die only now, while it is asked.
        wait_for('a clean fsck', lambda: daemon.ctl('fsck').returncode == 0)
        worker = daemon.ask('status')['worker_pid']
        newer = program.runs_as(worker)
        check('revisions', Kept(daemon).revisions, GROWN_IS if newer else IS)
        goes_on[newer] += 1
    print(f'{crash.word(DEATHS) - deaths} deaths; the older program went on '
          f'{goes_on[False]} times, the newer one {goes_on[True]} times')


def main():
    args = sys.argv[1:]
    everywhere = args[0] == '--all'
    synapsed, grown, synapsectl, load_program = args[everywhere:]
    watchdog(120)
    with Daemon(synapsed, synapsectl) as daemon:
        os.environ['SYN_TEST_CRASH'] = os.path.join(daemon.dir, 'crash')
        crash = Crash(os.environ['SYN_TEST_CRASH'])
        program = Program(daemon.dir, synapsed)
        start(daemon, program, synapsed)
        tails = test_upgrade(daemon, program, grown, load_program)
        test_death_afterwards(daemon, tails, load_program)
        test_back(daemon, program, synapsed, load_program)
        test_newer_keeper(daemon, program, synapsed, grown)
        start(daemon, program, synapsed)
        test_dies_before(daemon, program, crash, grown, load_program)
        after = crash.points_of('syn_memory_hand_over') + \
            crash.points_of('syn_server_adopt') + \
            crash.points_of('peer_go_on')[-1:]
        check('failpoints', len(after), 3)
        for point, name in after:
            print(f'-- dies at {name}')
            test_dies_after(daemon, program, crash, point, synapsed, grown,
                            load_program)
        test_fails_after(daemon, program, crash, synapsed, grown,
                         load_program)
        if everywhere:
            test_dies_anywhere(daemon, program, crash, synapsed, grown,
                               load_program)


main()
