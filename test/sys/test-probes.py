#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The probes in the binary, their semaphores, and the scripts of bpf/.

test-probes.py list|silent|scripts SYNAPSED SYNAPSECTL LOAD TRACE_H BPF_DIR

list     the notes of the binary are the list of trace.h, each with a semaphore
silent   nobody listens: every semaphore of the worker is 0
scripts  each script raises the semaphores of its probes, under load prints what
         the daemon's own counters say, and lowers them when it ends; needs root
         and a kernel with uprobes
"""

import collections
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

from ctl_daemon import SKIP, Daemon, Load, check, wait_for, watchdog

ENTRY = re.compile(r'^\s*X\((\w+)\)\s*/\*\s*(.*?)\s*\*/', re.M)
NOTE = re.compile(r'Provider: synapse\n\s*Name: (\w+)\n\s*Location: \S+, '
                  r'Base: (\S+), Semaphore: (\S+)\n\s*Arguments: (.*)')
SCRIPTS = {
    'fault-latency.bt': {'fault_begin', 'fault_end'},
    'tier-flow.bt': {'load_begin', 'load_end', 'demote_begin', 'demote_end'},
    'lease-life.bt': {'lease', 'release', 'detach'},
}

Note = collections.namedtuple('Note', 'name base semaphore arguments')


def skip(why):
    print(f'skipped: {why}')
    sys.exit(SKIP)


def notes_of(binary):
    if not shutil.which('readelf'):
        skip('no readelf')
    text = subprocess.run(['readelf', '-nW', binary], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    notes = [Note(name, int(base, 16), int(semaphore, 16), arguments.split())
             for name, base, semaphore, arguments in NOTE.findall(text)]
    if not notes:
        skip('built without probes')
    return notes


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
        check(f'semaphores of {name}',
              len({n.semaphore for n in mine} - {0}), 1)
    check('semaphores', len({n.semaphore for n in notes}), len(listed))


def load_bias(pid, binary):
    """What the loader added to the binary's addresses: it is a PIE."""
    with open(f'/proc/{pid}/maps', encoding='utf-8') as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            if (len(fields) == 6 and int(fields[2], 16) == 0
                    and fields[5].strip() == os.path.realpath(binary)):
                return int(fields[0].split('-')[0], 16)
    sys.exit(f'FAIL: {binary} is not mapped in {pid}')


def semaphores_of(pid, binary, notes):
    """Name: value, read from the process's memory."""
    bias = load_bias(pid, binary)
    values = {}
    try:
        mem = open(f'/proc/{pid}/mem', 'rb')
    except PermissionError:
        skip('no access to the memory of another process')
    with mem:
        for note in notes:
            mem.seek(bias + note.semaphore)
            values[note.name] = struct.unpack('<H', mem.read(2))[0]
    return values


def raised(pid, binary, notes):
    return {name for name, value in semaphores_of(pid, binary, notes).items()
            if value}


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
    if not os.path.exists('/sys/kernel/tracing/uprobe_events'):
        subprocess.run(['mount', '-t', 'tracefs', 'nodev',
                        '/sys/kernel/tracing'], check=False,
                       stderr=subprocess.DEVNULL)
    if not os.path.exists('/sys/kernel/tracing/uprobe_events'):
        skip('no uprobes')
    probe = subprocess.run(['bpftrace', '-e', 'BEGIN { exit(); }'],
                           check=False, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    if probe.returncode != 0:
        skip('bpftrace cannot attach here')


def output_of(tracer):
    """Maps by name, and what was printed, of bpftrace -f json."""
    tracer.send_signal(signal.SIGINT)
    text, errors = tracer.communicate()
    if tracer.returncode != 0:
        sys.exit(f'FAIL: bpftrace: {errors}')
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


CHECKS = {
    'fault-latency.bt': check_fault_latency,
    'tier-flow.bt': check_tier_flow,
    'lease-life.bt': check_lease_life,
}


def settled(daemon):
    """Counters once nothing moves in the background any more."""
    before, after = None, daemon.ask('status')
    while before is None or any(before[k] != after[k] for k in after
                                if k != 'uptime_ns'):
        time.sleep(0.1)
        before, after = after, daemon.ask('status')
    return after


def test_script(daemon, binary, load, path):
    notes = notes_of(binary)
    name = os.path.basename(path)
    before = settled(daemon)
    worker = before['worker_pid']
    env = dict(os.environ, BPFTRACE_MAP_KEYS_MAX='65536')
    tracer = subprocess.Popen(['bpftrace', '-f', 'json', '-p', str(worker),
                               path], env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(f'{name} listening',
             lambda: tracer.poll() is not None
             or raised(worker, binary, notes) == SCRIPTS[name])
    client = Load(load, daemon)
    if name == 'tier-flow.bt':  # let its clock tick once more
        time.sleep(1.5)
    after = settled(daemon)
    maps, printed = output_of(tracer)
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


def main():
    what, synapsed, synapsectl, load, trace_h, bpf = sys.argv[1:]
    watchdog()
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
            for script in SCRIPTS:
                test_script(daemon, synapsed, load,
                            os.path.join(bpf, script))


main()
