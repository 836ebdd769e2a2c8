#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""synapse-lat against what is known otherwise.

test-lat.py daemon LAT SYNAPSED SYNAPSECTL LOAD
test-lat.py played LAT PLAYER
test-lat.py refused LAT SYNAPSED SYNAPSECTL

daemon   under load it counts what the daemon itself counts, over the death of a
         worker too, and a signal ends it with its last interval
played   a program that fires probes by order: each kind of fault, the part of
         the swap file, failures, ends without a begin, workers that die
refused  mistakes, no daemon, no right: explained, with an exit status

Exit 77 where the kernel does not let us trace.
"""

import collections
import json
import os
import signal
import subprocess
import sys
import time

from ctl_daemon import Daemon, Load, check, wait_for, watchdog
from probes import Player, mount_tracefs, notes_of, raised, settled, skip

NO_TRACE = 3
PROBES = {'fault_begin', 'fault_end', 'swap_in_begin', 'swap_in_end'}


class Lat:
    """synapse-lat --json; it listens when the semaphores are up."""

    def __init__(self, program, binary, worker, *args):
        self.binary = binary
        self.notes = notes_of(binary)
        self.run = subprocess.Popen([program, '--json', *args], text=True,
                                    stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)
        mine = PROBES & {n.name for n in self.notes}
        wait_for('synapse-lat listening',
                 lambda: self.run.poll() is not None
                 or self.listens_to(worker) == mine)
        if self.run.poll() == NO_TRACE:
            skip(self.run.stderr.read())

    def listens_to(self, worker):
        return raised(worker, self.binary, self.notes)

    def next(self):
        return json.loads(self.run.stdout.readline())

    def end(self, how=signal.SIGINT):
        """All intervals, those that next() has not seen."""
        self.run.send_signal(how)
        text, errors = self.run.communicate()
        check('exit of synapse-lat', (self.run.returncode, errors), (0, ''))
        return [json.loads(line) for line in text.splitlines()]


def total(intervals, member):
    return sum(i[member] for i in intervals)


def check_times(times):
    count = sum(b['count'] for b in times['histogram'])
    if count != times['count']:
        sys.exit(f'FAIL: {count} in the buckets of {times}')
    low = sum(b['from_ns'] * b['count'] for b in times['histogram'])
    high = sum((b['to_ns'] or sys.maxsize) * b['count']
               for b in times['histogram'])
    if not low <= times['sum_ns'] <= high:
        sys.exit(f'FAIL: the sum is not that of the buckets: {times}')
    if not times['p50_ns'] <= times['p90_ns'] <= times['p99_ns']:
        sys.exit(f'FAIL: quantiles: {times}')


def check_intervals(intervals):
    """What is so in each; returns the entries of all."""
    entries = [e for i in intervals for e in i['faults']]
    for entry in entries:
        check_times(entry)
        if entry['swap_in']:
            check_times(entry['swap_in'])
    check('faults in histograms or failed',
          sum(e['count'] + e['failed'] for e in entries),
          total(intervals, 'ended'))
    return entries


def delta_of(before, after):
    return {k: after[k] - before[k] for k in ('faults', 'loads')}


def test_load(daemon, lat_program, synapsed, load):
    before = settled(daemon)
    lat = Lat(lat_program, synapsed, before['worker_pid'],
              '--socket', daemon.socket, '0.1')
    client = Load(load, daemon)
    intervals = [lat.next() for _ in range(3)]
    delta = delta_of(before, settled(daemon))
    intervals += lat.end()
    check('there was load', delta['faults'] > 100, True)
    check('begun', total(intervals, 'begun'), delta['faults'])
    check('ended', total(intervals, 'ended'), delta['loads'])
    check('not seen', (total(intervals, 'lost'), total(intervals, 'missed'),
                       intervals[-1]['unfinished']), (0, 0, 0))
    entries = check_intervals(intervals)
    whose = {(e['session'], e['pid'], e['name'], e['worker_pid'], e['cause'],
              e['tier']) for e in entries}
    check('whose', whose, {(client.did['session'], client.run.pid, 'load',
                            before['worker_pid'], 'reclaim', 'host')})
    check('failed', sum(e['failed'] for e in entries), 0)
    check('semaphores afterwards', lat.listens_to(before['worker_pid']), set())
    client.end()


def test_worker_death(daemon, lat_program, synapsed, load):
    """The next worker is heard from its first request."""
    before = settled(daemon)
    lat = Lat(lat_program, synapsed, before['worker_pid'],
              '--socket', daemon.socket, '--by', 'cause', '60')
    first = Load(load, daemon)
    one = delta_of(before, settled(daemon))
    os.kill(before['worker_pid'], signal.SIGKILL)
    wait_for('another worker',
             lambda: daemon.ctl('status').returncode == 0
             and daemon.ask('status')['worker_pid'] != before['worker_pid'])
    worker = daemon.ask('status')['worker_pid']
    check('the new worker is listened to', lat.listens_to(worker) != set(),
          True)
    second = Load(load, daemon)
    two = settled(daemon)
    intervals = lat.end(signal.SIGTERM)
    check('one interval, the last', len(intervals), 1)
    check('begun', intervals[0]['begun'], one['faults'] + two['faults'])
    check('ended', intervals[0]['ended'], one['loads'] + two['loads'])
    entries = check_intervals(intervals)
    check('members without a client',
          sorted(set(entries[0]) & {'session', 'tier', 'cause'}), ['cause'])
    check('entries', len(entries), 1)
    check('semaphores afterwards', lat.listens_to(worker), set())
    second.end()
    first.run.kill()
    first.run.communicate()


def test_restart(daemon, lat_program, synapsed, load):
    """A daemon that was stopped is waited for."""
    worker = settled(daemon)['worker_pid']
    lat = Lat(lat_program, synapsed, worker, '--socket', daemon.socket, '0.1')
    daemon.stop()
    check('why', lat.run.stderr.readline().startswith(
        'synapse-lat: no synapsed answers'), True)
    daemon.start(synapsed)
    worker = settled(daemon)['worker_pid']
    now_ns = time.time_ns()
    intervals = [lat.next()]
    # It looks for a daemon at the end of each, and this one was there then.
    while intervals[-1]['time_ns'] - intervals[-1]['interval_ns'] < now_ns:
        intervals.append(lat.next())
    client = Load(load, daemon)
    after = settled(daemon)
    intervals += lat.end()
    check('faults of the new daemon',
          (total(intervals, 'begun'), total(intervals, 'ended')),
          (after['faults'], after['loads']))
    check('of its worker', {e['worker_pid'] for e in check_intervals(intervals)},
          {worker})
    client.end()


def test_daemon(lat_program, synapsed, synapsectl, load):
    with Daemon(synapsed, synapsectl) as daemon:
        test_load(daemon, lat_program, synapsed, load)
        test_worker_death(daemon, lat_program, synapsed, load)
        test_restart(daemon, lat_program, synapsed, load)


def by_key(intervals):
    """(session, cause, tier): [count, failed, swapped]"""
    sums = collections.defaultdict(lambda: [0, 0, 0])
    for entry in check_intervals(intervals):
        row = sums[entry['session'], entry['cause'], entry['tier']]
        row[0] += entry['count']
        row[1] += entry['failed']
        row[2] += entry['swap_in']['count'] if entry['swap_in'] else 0
    return dict(sums)


def test_kinds(lat_program, player_program):
    player = Player(player_program)
    lat = Lat(lat_program, player_program, player.pid, '--pid',
              str(player.pid), '60')
    player.play(
        'fault_begin 1 10 2 1', 'fault_begin 1 11 3 2', 'fault_begin 2 10 3 3',
        'swap_in_begin 1 11 65537 4096', 'swap_in_begin 2 10 65538 4096',
        'swap_in_begin 1 99 65539 4096',  # nobody waits for this page
        'fault_end 1 10 0', 'sleep 20', 'swap_in_end 1 11 65537 0',
        'swap_in_end 2 10 65538 -5', 'fault_end 2 10 -5', 'sleep 20',
        'fault_end 1 11 4',  # busy: said to somebody else
        'fault_end 1 11 0', 'fault_end 1 11 0',
        'fault_end 7 7 0',  # needed no fault
        'fault_begin 1 12 9 8', 'fault_end 1 12 0',  # unheard of
        'fault_begin 3 13 2 1')
    intervals = lat.end()
    check('counts', [intervals[0][k] for k in (
        'begun', 'ended', 'unfinished', 'lost', 'missed')], [5, 4, 1, 0, 0])
    check('by key', by_key(intervals), {
        (1, 'reclaim', 'host'): [1, 0, 0], (1, 'found', 'nvme'): [1, 0, 1],
        (2, 'restart', 'nvme'): [0, 1, 0], (1, '8', '9'): [1, 0, 0]})
    slow = [e for e in intervals[0]['faults'] if e['swap_in']][0]
    swap = slow['swap_in']
    check('at least as long as slept',
          (slow['sum_ns'] >= 40e6, swap['sum_ns'] >= 20e6,
           slow['sum_ns'] - swap['sum_ns'] >= 20e6), (True, True, True))
    check('names', (slow['name'], slow['pid']), (None, None))
    player.end()


def test_deaths(lat_program, player_program):
    player = Player(player_program)
    lat = Lat(lat_program, player_program, player.pid, '--pid',
              str(player.pid), '60')
    player.play('fault_begin 1 1 2 1', 'fault_begin 1 2 2 1',
                'fault_end 1 1 0')
    player.die()
    # The same numbers mean another fault in another worker.
    player.play('fault_end 1 2 0', 'fault_begin 1 3 2 1')
    intervals = lat.end()
    check('counts', [intervals[0][k] for k in (
        'begun', 'ended', 'unfinished', 'lost')], [3, 1, 1, 1])
    player.end()


def test_strangers(lat_program, player_program):
    """Another daemon's faults are not ours."""
    player, stranger = Player(player_program), Player(player_program)
    lat = Lat(lat_program, player_program, player.pid, '--pid',
              str(player.pid), '60')
    stranger.play('fault_begin 1 1 2 1', 'fault_end 1 1 0')
    player.play('fault_begin 1 2 2 1', 'fault_end 1 2 0')
    intervals = lat.end()
    check('counts', [intervals[0][k] for k in ('begun', 'ended')], [1, 1])
    stranger.end()
    player.end()


def test_flood(lat_program, player_program):
    """More begins than the map has room for: the oldest are lost, counted."""
    player = Player(player_program)
    lat = Lat(lat_program, player_program, player.pid, '--pid',
              str(player.pid), '60')
    player.play('flood 70000')
    counts = lat.end()[0]
    check('begun', counts['begun'], 70000)
    check('lost', counts['lost'] >= 70000 - 65536, True)
    check('all accounted for', counts['lost'] + counts['unfinished'], 70000)
    player.end()


def test_intervals(lat_program, player_program):
    """COUNT ends it; for people there is text."""
    player = Player(player_program)
    run = subprocess.run([lat_program, '--json', '--pid', str(player.pid),
                          '0.01', '3'], check=True, text=True,
                         stdout=subprocess.PIPE)
    check('intervals', len(run.stdout.splitlines()), 3)
    text = subprocess.Popen([lat_program, '--pid', str(player.pid), '60'],
                            text=True, stdout=subprocess.PIPE)
    notes = notes_of(player_program)
    wait_for('listening', lambda: raised(player.pid, player_program, notes)
             == PROBES)
    player.play('fault_begin 1 10 3 2', 'swap_in_begin 1 10 1 4096',
                'sleep 5', 'swap_in_end 1 10 1 0', 'fault_end 1 10 0')
    text.send_signal(signal.SIGINT)
    shown = text.communicate()[0]
    for want in ('session 1, found, from nvme', 'faults 1, mean', 'swap-in 1',
                 '0 unfinished, 0 lost, 0 missed', '@@@@'):
        check(f'{want!r} is shown', want in shown, True)
    player.end()


def test_played(lat_program, player_program):
    test_kinds(lat_program, player_program)
    test_deaths(lat_program, player_program)
    test_strangers(lat_program, player_program)
    test_flood(lat_program, player_program)
    test_intervals(lat_program, player_program)


def refusal(*command, **more):
    run = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, check=False, **more)
    return run.returncode, run.stderr


def test_refused(lat_program, synapsed, synapsectl):
    for args, want in (
            (['0'], 'an interval'), (['x'], 'an interval'),
            (['nan'], 'an interval'), (['1', '0'], 'COUNT'),
            (['1', '2', '3'], 'too many'), (['--by', 'page'], '--by'),
            (['--by', ''], '--by'), (['--by', 'cause,'], '--by'),
            (['--pid', '0'], '--pid'), (['--pid', '1', '-s', 'x'], 'exclude'),
            (['--what'], 'unrecognized')):
        code, text = refusal(lat_program, *args)
        check(f'{args} is refused', (code, want in text), (2, True))
    code, text = refusal(lat_program, '--socket', '/nonexistent')
    check('no daemon', (code, '/nonexistent' in text), (1, True))
    code, text = refusal(lat_program, '--pid', str(2**31 - 1))
    check('no process', (code, 'process' in text), (1, True))
    if os.geteuid() != 0:
        skip('not root')
    with Daemon(synapsed, synapsectl) as daemon:
        # Without its capabilities root may ask, and may not trace.
        code, text = refusal('setpriv', '--bounding-set=-all',
                             '--inh-caps=-all', lat_program, '--socket',
                             daemon.socket)
        check('no right', (code, 'cannot load the BPF program' in text),
              (NO_TRACE, True))
    code, text = refusal(lat_program, '--pid', str(os.getpid()))
    check('a program without probes', code, NO_TRACE)


def main():
    what, *args = sys.argv[1:]
    watchdog(200)  # to attach and detach takes long on a busy machine
    if what == 'refused':
        test_refused(*args)
        return
    if os.geteuid() != 0:
        skip('not root')
    mount_tracefs()
    if what == 'daemon':
        test_daemon(*args)
    else:
        test_played(*args)


main()
