#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The probes in the binary, their semaphores, and the scripts of bpf/.

test-probes.py list|silent|scripts SYNAPSED SYNAPSECTL LOAD TRACE_H BPF_DIR
test-probes.py played PLAYER BPF_DIR

list     the notes of the binary are the list of trace.h, each with a semaphore
silent   nobody listens: every semaphore of the worker is 0
scripts  each script raises the semaphores of its probes, under load prints what
         the daemon's own counters say, and lowers them when it ends; needs root
         and a kernel with uprobes
played   a program fires probes by order: the scripts say what it did, also what
         a daemon under load does not do
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from ctl_daemon import Daemon, Load, check, wait_for, watchdog
from probes import Player, mount_tracefs, notes_of, raised, settled, skip

ENTRY = re.compile(r'^\s*X\((\w+)\)\s*/\*\s*(.*?)\s*\*/', re.M)
OPERAND = re.compile(r'-?[1248]@(%\w+|-?\d*\(%\w+\)|\$-?\d+)'
                     r'|-?[1248]@(w|x)\d+|-?[1248]@\[(x\d+|sp)(, -?\d+)?\]'
                     r'|-?[1248]@-?\d+')
INTERRUPT_S = 3
SCRIPTS = {
    'fault-latency.bt': {'fault_begin', 'fault_end'},
    'tier-flow.bt': {'load_begin', 'load_end', 'demote_begin', 'demote_end'},
    'lease-life.bt': {'lease', 'release', 'detach'},
    'pressure.bt': {'reclaim_begin', 'reclaim_end', 'evict', 'backpressure'},
    'swap-io.bt': {'swap_out_begin', 'swap_out_end', 'swap_in_begin',
                   'swap_in_end', 'slot_retire'},
    'codec.bt': {'encode_begin', 'encode_end'},
}
# What is played: the probes, what is printed, and each map but the times.
PLAYS = {
    'fault-latency.bt': (
        ['fault_begin 1 2 2 1', 'fault_begin 1 3 3 1', 'fault_end 1 2 4',
         'fault_end 1 2 0', 'fault_end 1 3 -5', 'fault_end 1 4 0'],
        '', {'@ends_by_result': {'0': 1, '-5': 1}},
        {'@fault_us': {'host,1': 1, 'nvme,1': 1}}),
    'swap-io.bt': (
        ['swap_out_begin 1 65536 4096', 'swap_out_begin 2 65537 8192',
         'swap_out_begin 3 65538 8192', 'swap_out_end 2 65537 0',
         'swap_out_end 1 65536 0', 'swap_out_end 3 65538 -5',
         'slot_retire 65538 -5', 'swap_in_begin 7 1 65536 4096',
         'swap_in_begin 8 2 65537 8192', 'swap_in_end 7 1 65536 0',
         'swap_in_end 8 2 65537 -84', 'swap_in_end 9 9 9 0'],
        'total out: 2 pages, 12288 bytes\ntotal in: 1 pages, 4096 bytes\n',
        {'@failed': {'-5,out': 1, '-84,in': 1}, '@retired': {'-5': 1}},
        {'@out_us': 2, '@in_us': 1}),
    'codec.bt': (
        ['encode_begin 3 131072', 'encode_begin 4 65536', 'encode_end 4 0 900',
         'encode_end 3 0 901', 'encode_begin 5 131072', 'encode_end 5 -33 0',
         'encode_end 6 0 1'],
        '', {'@encoded_bytes': 196608, '@kept_raw': {'-33': 1}},
        {'@encode_us': {'131072': 1, '65536': 1}, '@worst_error': 2}),
    'pressure.bt': (
        ['reclaim_begin 5 4 1', 'reclaim_begin -1 7 2', 'reclaim_end -1 6 2',
         'reclaim_end 5 4 1', 'evict 5 4 7', 'evict 6 4 7', 'evict 7 5 -1',
         'backpressure 3 5 1000000', 'backpressure 3 1 2000000',
         'backpressure 4 8 2000000'],
        '', {'@wanted': {'1': 4, '2': 7}, '@taken': {'1': 4, '2': 6},
             '@dropped': {'7,room': 2, '-1,ordered': 1},
             '@refused': {'3,fault': 1, '3,lease': 1, '4,other': 1}},
        {'@reclaim_us': {'1': 1, '2': 1}, '@hint_us': {'3': 2, '4': 1}}),
}


def test_list(binary, trace_h):
    with open(trace_h, encoding='utf-8') as f:
        listed = {name: doc.count(',') + 1
                  for name, doc in ENTRY.findall(f.read())}
    notes = notes_of(binary)
    check('probes in the binary', sorted({n.name for n in notes}),
          sorted(listed))
    for name, nr_args in listed.items():
        mine = [n for n in notes if n.name == name]
        check(f'arguments of {name}', {len(n.arguments) for n in mine},
              {nr_args})
        # What every tracer can decode: a register, it dereferenced, a constant.
        check(f'operands of {name}',
              [a for n in mine for a in n.arguments
               if not OPERAND.fullmatch(a)], [])
        check(f'semaphores of {name}',
              len({n.semaphore for n in mine} - {0}), 1)
    check('semaphores', len({n.semaphore for n in notes}), len(listed))


def test_silent(daemon, binary, load):
    notes = notes_of(binary)
    worker = daemon.ask('status')['worker_pid']
    client = Load(load, daemon)
    check('probes that somebody listens to', raised(worker, binary, notes),
          set())
    client.end()


def tracing_or_skip():
    if os.geteuid() != 0:
        skip('not root')
    if not shutil.which('bpftrace'):
        skip('no bpftrace')
    mount_tracefs()
    probe = subprocess.run(['bpftrace', '-e', 'BEGIN { exit(); }'],
                           check=False, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    if probe.returncode != 0:
        skip('bpftrace cannot attach here')


class Tracer:
    """bpftrace with a script, once all of its probes are attached."""

    def __init__(self, path, pid, binary, probes):
        self.traced = pid, binary, notes_of(binary)
        self.probes = probes
        self.run = subprocess.Popen(
            ['bpftrace', '-f', 'json', '-p', str(pid), path],
            env=dict(os.environ, BPFTRACE_MAP_KEYS_MAX='65536'), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(f'{os.path.basename(path)} listening',
                 lambda: self.run.poll() is not None or self.listens())

    def listens(self):
        return self.run.poll() is None \
            and raised(*self.traced) == self.probes

    def interrupt(self):
        """Until it detaches: it does not notice one outside its wait."""
        while self.listens():
            self.run.send_signal(signal.SIGINT)
            end = time.monotonic() + INTERRUPT_S
            while self.listens() and time.monotonic() < end:
                time.sleep(0.02)

    def output(self):
        """Maps by name, and what was printed."""
        self.interrupt()
        text, errors = self.run.communicate()
        if self.run.returncode != 0:
            sys.exit(f'FAIL: bpftrace: {errors}')
        return output_read(text)


def output_read(text):
    """Of -f json."""
    maps, printed = {}, ''
    for line in filter(None, text.splitlines()):
        item = json.loads(line)
        if item['type'] in ('map', 'hist'):
            maps.update(item['data'])
        elif item['type'] == 'printf':
            printed += item['data']
    return maps, printed


def nr_in(hist):
    """Entries of a histogram, all keys together."""
    return sum(b['count'] for buckets in (hist or {}).values()
               for b in buckets)


def check_fault_latency(maps, _, delta, did):
    hist = maps.get('@fault_us')
    session = str(did['session'])
    check('faults timed', nr_in(hist), delta['faults'])
    check('faults by tier and session', set(hist), {f'host,{session}'})
    check('fault results', maps['@ends_by_result'], {'0': delta['faults']})


def check_tier_flow(_, printed, delta, did):
    totals = {way: (int(pages), int(size)) for way, pages, size in re.findall(
        r'total (\w+): (\d+) pages, (\d+) bytes', printed)}
    size = did['page_bytes']
    check('up', totals['up'], (delta['loads'], delta['loads'] * size))
    check('down', totals['down'],
          (delta['demotions'], delta['demotions'] * size))
    rows = re.findall(r'^ +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$', printed, re.M)
    check('seconds printed', len(rows) > 0, True)
    check('pages up by second', sum(int(r[0]) for r in rows) > 0, True)


def check_lease_life(maps, _, delta, did):
    session = str(did['session'])
    hist = maps.get('@life_us')
    check('leases timed', nr_in(hist), delta['releases'])
    check('leases never released', maps.get('@out'), {session: did['leak']})
    check('leases in all', nr_in(hist) + did['leak'], delta['leases'])


def check_pressure(maps, _, delta, __):
    check('reclaim', maps['@wanted']['1'] > 0 and nr_in(maps['@reclaim_us']) > 0,
          True)
    check('dropped', sum(maps.get('@dropped', {}).values()),
          delta['evictions'])
    check('refused', sum(maps.get('@refused', {}).values()),
          delta['backpressure'])


def check_swap_io(maps, printed, delta, _):
    check('totals', len(re.findall(r'^total (?:in|out): \d+ pages, \d+ bytes$',
                                   printed, re.M)), 2)
    check('retired', sum(maps.get('@retired', {}).values()),
          delta['swap_retired'])


def check_codec(maps, _, delta, __):
    check('encoded', nr_in(maps.get('@encode_us')), delta['encoded'])
    check('kept raw', sum(maps.get('@kept_raw', {}).values()),
          delta['raw_fallbacks'])


CHECKS = {
    'pressure.bt': check_pressure,
    'swap-io.bt': check_swap_io,
    'codec.bt': check_codec,
    'fault-latency.bt': check_fault_latency,
    'tier-flow.bt': check_tier_flow,
    'lease-life.bt': check_lease_life,
}


def test_script(daemon, binary, load, path):
    name = os.path.basename(path)
    notes = notes_of(binary)
    before = settled(daemon)
    worker = before['worker_pid']
    tracer = Tracer(path, worker, binary, SCRIPTS[name])
    client = Load(load, daemon)
    if name == 'tier-flow.bt':  # let its clock tick once more
        time.sleep(1.5)
    after = settled(daemon)
    maps, printed = tracer.output()
    delta = {k: after[k] - before[k] for k in after
             if isinstance(after[k], int)}
    print(f'{name}: faults {delta["faults"]}, loads {delta["loads"]}, '
          f'demotions {delta["demotions"]}, leases {delta["leases"]}')
    for counter in ('faults', 'loads', 'demotions', 'leases', 'releases'):
        check(f'{counter} under load', delta[counter] > 0, True)
    CHECKS[name](maps, printed, delta, client.did)
    client.end()
    wait_for(f'{name} lowering its semaphores',
             lambda: not raised(worker, binary, notes))


def test_scripts(daemon, binary, load, bpf):
    there = {note.name for note in notes_of(binary)}
    for script, probes in SCRIPTS.items():
        if probes <= there:
            test_script(daemon, binary, load, os.path.join(bpf, script))
        else:
            print(f'{script}: the daemon has no {probes - there}')


def counts_of(hist):
    """Entries by key; without keys there is one list of buckets."""
    if isinstance(hist, list):
        return sum(b['count'] for b in hist)
    return {key: counts_of(buckets) for key, buckets in hist.items()}


def test_played(binary, bpf):
    for script, (lines, text, values, hists) in PLAYS.items():
        player = Player(binary)
        tracer = Tracer(os.path.join(bpf, script), player.pid, binary,
                        SCRIPTS[script])
        player.play(*lines)
        maps, printed = tracer.output()
        maps = {name: value for name, value in maps.items() if value}
        check(f'{script} prints', printed, text)
        check(f'maps of {script}', set(maps), set(values) | set(hists))
        for name, value in values.items():
            check(f'{script}: {name}', maps[name], value)
        for name, value in hists.items():
            check(f'{script}: entries of {name}', counts_of(maps[name]), value)
        player.end()


def main():
    watchdog(200)  # to attach and detach takes long on a busy machine
    if sys.argv[1] == 'played':
        player, bpf = sys.argv[2:]
        notes_of(player)
        tracing_or_skip()
        test_played(player, bpf)
        return
    what, synapsed, synapsectl, load, trace_h, bpf = sys.argv[1:]
    if what == 'list':
        test_list(synapsed, trace_h)
        return
    notes_of(synapsed)
    if what == 'scripts':
        tracing_or_skip()
    with Daemon(synapsed, synapsectl) as daemon:
        if what == 'silent':
            test_silent(daemon, synapsed, load)
        else:
            test_scripts(daemon, synapsed, load, bpf)


main()
