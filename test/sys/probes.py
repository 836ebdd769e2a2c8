# SPDX-License-Identifier: Apache-2.0
"""The probes of a binary, and which of a process somebody listens to."""

import collections
import os
import re
import shutil
import struct
import subprocess
import sys
import time

from ctl_daemon import SKIP, check

NOTE = re.compile(r'Provider: synapse\n\s*Name: (\w+)\n\s*Location: \S+, '
                  r'Base: (\S+), Semaphore: (\S+)\n\s*Arguments: (.*)')
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


def mount_tracefs():
    """What attaches to probes wants to find it."""
    if not os.path.exists('/sys/kernel/tracing/uprobe_events'):
        subprocess.run(['mount', '-t', 'tracefs', 'nodev',
                        '/sys/kernel/tracing'], check=False,
                       stderr=subprocess.DEVNULL)
    if not os.path.exists('/sys/kernel/tracing/uprobe_events'):
        skip('no uprobes')


def settled(daemon):
    """Counters once nothing moves in the background any more."""
    before, after = None, daemon.ask('status')
    while before is None or any(before[k] != after[k] for k in after
                                if k != 'uptime_ns'):
        time.sleep(0.1)
        before, after = after, daemon.ask('status')
    return after


class Player:
    """A program that fires probes by order: play-probes.c."""

    def __init__(self, program):
        self.run = subprocess.Popen([program], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True)
        self.pid = self.answer('ready')

    def answer(self, what):
        pid, name = self.run.stdout.readline().split()
        if name != what:
            sys.exit(f'FAIL: the player said {name}, not {what}')
        return int(pid)

    def play(self, *lines):
        for line in lines:
            self.run.stdin.write(line + '\n')
            self.run.stdin.flush()
            self.answer(line.split()[0])

    def die(self):
        self.run.stdin.write('die\n')
        self.run.stdin.flush()
        self.pid = self.answer('ready')

    def end(self):
        self.run.communicate()
        check('exit of the player', self.run.returncode, 0)
