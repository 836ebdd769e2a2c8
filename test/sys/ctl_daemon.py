# SPDX-License-Identifier: Apache-2.0
"""A synapsed in a temporary directory, for the tests that ask it things."""

import faulthandler
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

SKIP = 77
WAIT_S = 30

CONF = '''[daemon]
socket = {socket}
max_pages = 4096
max_sessions = 16
[hbm]
device = host
budget = 16M
[host]
budget = 16M
'''


def watchdog(seconds=60):
    """Ends a test that hangs, and says where."""
    faulthandler.dump_traceback_later(
        int(os.environ.get('SYN_TEST_WATCHDOG_S', seconds)), exit=True)


def wait_for(what, condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            sys.exit(f'FAIL: {what} did not happen in {WAIT_S} s')
        time.sleep(0.02)


def check(what, got, want):
    if got != want:
        sys.exit(f'FAIL: {what}: {got!r}, expected {want!r}')
    print(f'ok: {what}: {got!r}')


class Daemon:
    """Context manager; ctl() runs synapsectl against it."""

    def __init__(self, synapsed, synapsectl):
        self.synapsectl = synapsectl
        self.dir = tempfile.mkdtemp(prefix='syn-ctl-')
        os.chmod(self.dir, 0o755)
        self.socket = os.path.join(self.dir, 'sock')
        self.conf = os.path.join(self.dir, 'conf')
        with open(self.conf, 'w', encoding='utf-8') as f:
            f.write(CONF.format(socket=self.socket))
        self.log = open(os.path.join(self.dir, 'log'), 'w+',
                        encoding='utf-8')
        self.start(synapsed)

    def start(self, synapsed):
        # Who runs it as a service, as for harness.h: play-systemd.
        manager = os.environ.get('SYN_TEST_MANAGER', synapsed)
        self.keeper = subprocess.Popen(
            [manager, '--config', self.conf], stdout=self.log, stderr=self.log,
            env={**os.environ,
                 'SYN_TEST_PLAY_PROGRAM': os.path.abspath(synapsed)})
        wait_for('an answer of synapsed',
                 lambda: self.keeper.poll() is not None
                 or self.ctl('status').returncode == 0)
        if self.keeper.poll() is not None:
            self.log.seek(0)
            sys.exit(f'FAIL: synapsed ended: {self.log.read()}')

    def stop(self):
        self.keeper.terminate()
        try:
            self.keeper.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.keeper.kill()
            self.keeper.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.log.close()
        shutil.rmtree(self.dir)

    def ctl(self, *args, **more):
        return subprocess.run([self.synapsectl, '--socket', self.socket,
                               *args], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False,
                              **more)

    def ask(self, *args):
        """The JSON answer of a command that must succeed."""
        run = self.ctl('--json', *args)
        if run.returncode != 0:
            sys.exit(f'FAIL: synapsectl {args}: {run.stderr}')
        return json.loads(run.stdout)


class Load:
    """The generator: it works, says what it left, and waits to be ended."""

    def __init__(self, program, daemon, rounds=400, leak=5):
        self.run = subprocess.Popen(
            [program, daemon.socket, str(rounds), str(leak)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.run.stdout.readline()
        if not line:
            sys.exit(f'FAIL: the load ended with {self.run.wait()}')
        self.did = json.loads(line)

    def end(self):
        self.run.communicate()
        check('exit of the load', self.run.returncode, 0)


class Program:
    """A synapsed that is installed, and installed again."""

    def __init__(self, directory, source):
        self.path = os.path.join(directory, 'synapsed')
        self.install(source)

    def install(self, source):
        new = self.path + '.new'
        shutil.copy(source, new)
        os.rename(new, self.path)

    def runs_as(self, pid):
        """Whether that process was started from what is there now."""
        return os.path.samefile(f'/proc/{pid}/exe', self.path)


def load_start(program, daemon, rounds=40000):
    """One that goes on while other things happen; ends with load_end()."""
    load = subprocess.Popen([program, daemon.socket, str(rounds), '5'],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)
    wait_for('a session', lambda: daemon.ask('status')['nr_sessions'] == 1)
    return load


def load_end(load):
    line = load.stdout.readline()
    load.communicate()
    check('exit of the load', load.returncode, 0)
    return json.loads(line)
