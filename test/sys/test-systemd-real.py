#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""synapsed --systemd under systemd itself, with a client that works meanwhile.

test-systemd-real.py SYNAPSED SYNAPSECTL LOAD

A user manager in namespaces of its own, with nothing to run but our unit, which
is the one of the admin guide.  Needs root, systemd and cgroup2.
"""

import os
import subprocess
import sys
import tempfile

from ctl_daemon import CONF, SKIP, Daemon, check, wait_for, watchdog

MANAGER = '/lib/systemd/systemd'
INSIDE = 'SYN_TEST_INSIDE'
ALONE = 3  # listening socket, record, kept memory
ROUNDS = 5000

UNIT = '''[Unit]
DefaultDependencies=no
StartLimitIntervalSec=10
StartLimitBurst={burst}
[Service]
Type=notify
NotifyAccess=main
ExecStart={program} --systemd --config {conf}
Restart=always
RestartSec=0
RestartKillSignal=SIGKILL
FileDescriptorStoreMax={room}
RuntimeDirectory=%p
RuntimeDirectoryPreserve=restart
StandardError=append:/run/log
'''


def skip(why):
    print('skipped:', why)
    sys.exit(SKIP)


def go_inside():
    """Everything that is started ends with us."""
    if os.geteuid() != 0 or not os.access(MANAGER, os.X_OK):
        skip('not root, or no systemd')
    unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child',
               '--mount-proc', '--propagation', 'private']
    if subprocess.run([*unshare, 'true'], check=False).returncode != 0:
        skip('no namespaces')
    cgroup = tempfile.mkdtemp(prefix='syn-test-')
    mounted = subprocess.run(['mount', '-t', 'cgroup2', 'cgroup2', cgroup],
                             check=False).returncode == 0
    if not mounted:
        os.rmdir(cgroup)
        skip('no cgroup2')
    own = os.path.join(cgroup, f'syn-test-{os.getpid()}')
    os.mkdir(own)
    code = subprocess.run([*unshare, sys.executable, *sys.argv], check=False,
                          env={**os.environ, INSIDE: own}).returncode
    for at, _, _ in os.walk(own, topdown=False):
        os.rmdir(at)
    subprocess.run(['umount', cgroup], check=True)
    os.rmdir(cgroup)
    sys.exit(code)


class Service(Daemon):
    """A daemon that systemd runs; /run is ours."""

    def __init__(self, synapsed, synapsectl):
        self.synapsectl = synapsectl
        self.synapsed = os.path.abspath(synapsed)
        self.move(os.environ[INSIDE])
        subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', '/run'], check=True)
        for name in ('systemd/system', 'user/0', 'units'):
            os.makedirs(f'/run/{name}', 0o700)
        self.socket = '/run/user/0/synapsed/s'
        self.conf = '/run/conf'
        with open(self.conf, 'w', encoding='utf-8') as f:
            f.write(CONF.format(socket=self.socket))
        self.env = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/run',
                    'XDG_RUNTIME_DIR': '/run/user/0',
                    'SYSTEMD_UNIT_PATH': '/run/units',
                    'SYSTEMD_LOG_TARGET': 'console'}
        self.unit('synapsed', 1000, 30)
        self.unit('narrow', 0, 2)
        self.log = open('/run/log', 'w+', encoding='utf-8')
        # Where a manager logs that is told to log to the console.
        subprocess.run(['mount', '--bind', '/run/log', '/dev/console'],
                       check=True)
        self.manager = subprocess.Popen(
            [MANAGER, '--user', '--unit=synapsed.service'], env=self.env,
            stdin=subprocess.DEVNULL)
        wait_for('an answer of synapsed', self.answers)

    @staticmethod
    def move(cgroup):
        """The manager takes our group for its own."""
        subprocess.run(['mount', '-t', 'cgroup2', 'cgroup2', '/sys/fs/cgroup'],
                       check=True)
        with open(os.path.join('/sys/fs/cgroup', os.path.basename(cgroup),
                               'cgroup.procs'), 'w', encoding='ascii') as f:
            f.write('0')

    def unit(self, name, room, burst):
        with open(f'/run/units/{name}.service', 'w', encoding='utf-8') as f:
            f.write(UNIT.format(program=self.synapsed, conf=self.conf,
                                room=room, burst=burst))

    def answers(self):
        if self.manager.poll() is not None:
            sys.exit(f'FAIL: systemd ended: {self.manager.poll()} {self.said()}')
        return self.ctl('status').returncode == 0

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def __exit__(self, *_):
        if sys.exc_info()[0]:
            print(self.said())
        self.manager.kill()
        self.manager.wait()
        self.log.close()

    def systemctl(self, *args):
        return subprocess.run(['systemctl', '--user', *args], env=self.env,
                              check=False, text=True, capture_output=True)

    def show(self, what, unit='synapsed'):
        return self.systemctl('show', '-P', what, unit).stdout.strip()

    def stored(self):
        return int(self.show('NFileDescriptorStore'))

    def another(self, what, do):
        """Something starts another worker; the session goes on."""
        before = self.ask('status')
        run = do()
        check(what, (run.returncode, run.stderr), (0, ''))
        wait_for('another worker', lambda: self.answers() and self.ask(
            'status')['epoch'] > before['epoch'])
        after = self.ask('status')
        check('epoch, sessions', (after['epoch'], after['nr_sessions']),
              (before['epoch'] + 1, 1))
        check('main process', self.show('MainPID'), str(after['worker_pid']))
        check('fsck', self.ctl('fsck').returncode, 0)


def load_start(program, service):
    load = subprocess.Popen([program, service.socket, str(ROUNDS), '5'],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for('a session', lambda: service.ask('status')['nr_sessions'] == 1)
    return load


def test_goes_on(service, load):
    for _ in range(2):
        service.another('kill', lambda: service.systemctl(
            'kill', '-s', 'KILL', 'synapsed'))
    service.another('restart', lambda: service.systemctl(
        'restart', 'synapsed'))
    service.another('upgrade', lambda: service.ctl('upgrade'))
    for order in ('daemon-reload', 'daemon-reexec'):
        check(order, service.systemctl(order).returncode, 0)
        service.another('kill', lambda: service.systemctl(
            'kill', '-s', 'KILL', 'synapsed'))
    load.communicate()
    check('exit of the load', load.returncode, 0)


def extents(service):
    return sum(tier['nr_extents'] for tier in service.ask('tiers')['tiers'])


def test_nothing_left(service, program):
    """Of a client that was killed, and of receipts, nothing is in the store."""
    load = load_start(program, service)
    load.stdout.readline()
    wait_for('its descriptors in the store', lambda: service.stored()
             == ALONE + 1 + extents(service))
    load.kill()
    load.wait()
    wait_for('an empty store', lambda: service.stored()
             == ALONE + extents(service))


def test_no_room(service):
    service.systemctl('start', 'narrow')
    wait_for('the end of it', lambda: service.show('ActiveState', 'narrow')
             == 'failed')
    check('it is said', 'FileDescriptorStoreMax=' in service.said(), True)


def test_stop(service, program):
    load = load_start(program, service)
    check('stop', service.systemctl('stop', 'synapsed').returncode, 0)
    check('result', service.show('Result'), 'success')
    check('stored', service.stored(), 0)
    check('directory', os.path.exists(os.path.dirname(service.socket)), False)
    check('the load ends', load.wait() != 0, True)


def main():
    synapsed, synapsectl, program = sys.argv[1:]
    if INSIDE not in os.environ:
        go_inside()
    watchdog()
    with Service(synapsed, synapsectl) as service:
        check('alone', service.stored(), ALONE)
        load = load_start(program, service)
        test_goes_on(service, load)
        test_nothing_left(service, program)
        test_no_room(service)
        test_stop(service, program)


main()
