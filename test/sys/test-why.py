#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""synapsectl why: causes that were injected, named by a daemon.

test-why.py SYNAPSED SYNAPSECTL CLIENT ENCODED
"""

import json
import os
import re
import subprocess
import sys

from ctl_daemon import Daemon, check, wait_for, watchdog

NOBODY = 65534


def key_of(n, high=0xfeed):
    return f'{high:016x}{n:016x}'


class Client:
    """test-why-client: does as it is told."""

    def __init__(self, daemon, program, name, model=1, tokens=128, dim=512,
                 **more):
        self.run = subprocess.Popen(
            [program, daemon.socket, name, str(model), str(tokens), str(dim)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more)
        self.name = name
        self.__dict__.update(json.loads(self.run.stdout.readline()))

    def do(self, word, n=0):
        self.run.stdin.write(f'{word} {n}\n')
        self.run.stdin.flush()
        return int(self.run.stdout.readline())

    def must(self, word, n=0, want=0):
        check(f'{self.name}: {word} {n}', self.do(word, n), want)

    def end(self):
        self.run.communicate()
        check(f'exit of {self.name}', self.run.returncode, 0)


class Why:
    """The questions of one daemon."""

    def __init__(self, daemon):
        self.daemon = daemon

    def ask(self, n, *args):
        return self.daemon.ask('why', key_of(n), *args)['why']

    def check(self, what, n, *args, **want):
        """The first answer has these members; returns it."""
        first = self.ask(n, *args)[0]
        check(what, {m: first[m] for m in want}, want)
        return first

    def check_who(self, what, record, client):
        check(what, (record['session'], record['pid'], record['name']),
              (client.session, client.run.pid, client.name))

    def text(self, n, *args):
        return self.daemon.ctl('why', key_of(n), *args).stdout


def test_usage(synapsectl):
    for args in (['why'], ['why', 'x' * 32], ['why', key_of(1)[1:]],
                 ['why', key_of(1), 'more'], ['why', '0' * 32],
                 ['why', 'page:'], ['why', 'page:x'],
                 ['why', 'page:1', '--space', '1'], ['status', '--error'],
                 ['why', key_of(1), '--space', 'x'],
                 ['why', key_of(1), '--domain', '4294967295'],
                 ['pages', '--domain', '1'], ['why', key_of(1), '--watch'],
                 ['why', key_of(1), '--resident']):
        run = subprocess.run([synapsectl, '--socket', '/nonexistent/s', *args],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, check=False)
        check(f'exit of {args}', (run.returncode, run.stdout), (2, ''))
        check(f'explained {args}', bool(run.stderr.strip()), True)


def test_refused(daemon):
    for args in (['why', key_of(1), '--space', '200'],
                 ['why', key_of(1), '--domain', '200'],
                 ['why', 'page:4000']):
        run = daemon.ctl(*args)
        check(f'exit of {args}', (run.returncode, run.stdout), (1, ''))
        check(f'explained {args}', 'no such' in run.stderr, True)


def test_never(why):
    why.check('never sealed', 1, cause='never', page=None, space=None,
              domain=None, tier=None, field=None, session=None)
    check('in words', why.text(1).startswith('never sealed'), True)


def test_present(why, a):
    a.must('seal', 2)
    first = why.check('present', 2, cause='present', space=a.space,
                      tier='hbm', fidelity=16)
    check('in words', why.text(2).startswith('present in HBM'), True)
    whole = why.daemon.ask('why', f'page:{first["page"]}')
    check('the page', (whole['page']['key'], whole['page']['state']),
          (key_of(2), 'sealed'))
    check('its key', whole['why'], [first])
    text = why.daemon.ctl('why', f'page:{first["page"]}').stdout
    for line in (f'page {first["page"]} is sealed, with 1 leases',
                 'in HBM', 'raw: nothing is lost', 'present in HBM'):
        check(f'"{line}" of the page',
              bool(re.search(f'^{line}', text, re.M)), True)
    a.must('drop', 2)


def test_not_ready(why, a, b):
    a.must('unready', 3)
    b.must('lookup', 3, 2)
    why.check_who('for whom it waits',
                  why.check('not ready', 3, cause='not-ready'), a)
    a.must('finish', 1)
    why.check('ready', 3, cause='present')
    a.must('drop', 3)


def test_evicted(why, a, b):
    """By pressure: B wants more than there is room for."""
    a.must('seal', 4)
    a.must('fill', 16, 16)
    a.must('drop', 4)
    a.must('unfill')
    check('no room for all', b.do('fill', 500) < 500, True)
    b.must('lookup', 4, 1)
    first = why.check('evicted', 4, cause='evicted', page=None, tier='host',
                      space=a.space)
    why.check_who('for whom', first, b)
    check('in words', bool(re.match(
        r'evicted [0-9.]+s ago from host memory to make room for session '
        rf'{b.session} \({b.name}, pid {b.run.pid}\) \(space', why.text(4))),
        True)
    b.must('unfill')


def test_ordered(why, a):
    a.must('seal', 5)
    a.must('drop', 5)
    check('evict', why.daemon.ask('evict')['evicted'] > 0, True)
    why.check('ordered', 5, cause='ordered', session=None)
    why.check('older causes stay', 4, cause='evicted')


def test_identity(why, client, a):
    """The same key, asked for with one thing changed."""
    a.must('seal', 6)
    for field, change in (('model', {'model': 2}), ('tokens', {'tokens': 64}),
                          ('components', {'dim': 256})):
        other = Client(why.daemon, client, field, **change)
        other.must('lookup', 6, 1)
        why.check(f'other {field}', 6, '--space', str(other.space),
                  cause='identity', field=field, space=a.space)
        other.end()
    why.check('the same space', 6, '--space', str(a.space), cause='present')
    a.must('drop', 6)


def test_domain(why, client, a):
    if os.geteuid() != 0:
        return
    os.chmod(why.daemon.socket, 0o666)
    a.must('seal', 7)
    other = Client(why.daemon, client, 'stranger', user=NOBODY, group=NOBODY,
                   extra_groups=[])
    other.must('lookup', 7, 1)
    domains = {c['session']: c['domain']
               for c in why.daemon.ask('clients')['clients']}
    check('two domains', domains[a.session] != domains[other.session], True)
    why.check('other domain', 7, '--domain', str(domains[other.session]),
              cause='domain', domain=domains[a.session])
    why.check('own domain', 7, '--domain', str(domains[a.session]),
              cause='present')
    other.end()
    a.must('drop', 7)


def test_checksum_and_replaced(why, a, b):
    a.must('seal', 8)
    a.must('spoil', 8)
    a.must('fill', 16, 16)
    wait_for('the loss', lambda: b.do('lookup', 8) == 3)
    why.check('checksum', 8, cause='checksum', tier='hbm')
    b.must('seal', 8)
    records = why.ask(8)
    check('replaced', [r['cause'] for r in records],
          ['present', 'replaced', 'checksum'])
    why.check_who('by whom', records[1], b)
    a.must('unfill')


def test_writer(why, client):
    writer = Client(why.daemon, client, 'writer')
    writer.must('unready', 9)
    writer.run.kill()
    writer.run.communicate()
    wait_for('the end of the writer',
             lambda: why.ask(9)[0]['cause'] != 'not-ready')
    why.check_who('whose', why.check('its writer ended', 9, cause='writer'),
                  writer)


def test_encoded(synapsectl, program):
    """Pages that have lost precision: a lookup misses, and how much it is."""
    run = subprocess.Popen([program], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True)
    did = json.loads(run.stdout.readline())

    def ctl(*args):
        return subprocess.run([synapsectl, '--socket', did['socket'], *args],
                              stdout=subprocess.PIPE, text=True,
                              check=True).stdout

    def errors(*args):
        pages = json.loads(ctl('--json', 'pages', '--error', *args))['pages']
        return [(p['error'], p['error_mean']) for p in pages]

    why = json.loads(ctl('--json', 'why', key_of(1, 0xc0de)))['why'][0]
    check('fidelity', (why['cause'], why['fidelity'], why['tier']),
          ('fidelity', 4, 'host'))
    check('in words', 'with 4 bits only' in ctl('why', key_of(1, 0xc0de)),
          True)
    check('of a page', 'encoded with 4 bits: error ' in
          ctl('why', f'page:{why["page"]}'), True)
    every = errors()
    check('encoded pages', len(every) >= did['sealed'], True)
    check('something is lost', every[-1][1] > 0, True)
    check('they differ', len(set(every)) > 4, True)
    check('the worst first', every, sorted(every, reverse=True))
    check('the worst three', errors('--limit', '3'), every[:3])
    lines = ctl('pages', '--error', '--limit', '2').splitlines()
    check('columns', lines[1].split()[-3:], ['ERROR', 'MEAN', 'SHARE'])
    check('percents', re.search(r'([0-9.]+ %) +([0-9.]+ %)',
                                lines[2]).groups(),
          tuple(f'{e * 100 / 65536:.2f} %' for e in every[0]))
    run.communicate()
    check('exit of the other daemon', run.returncode, 0)


def main():
    synapsed, synapsectl, client, encoded = sys.argv[1:]
    watchdog()
    test_usage(synapsectl)
    test_encoded(synapsectl, encoded)
    with Daemon(synapsed, synapsectl) as daemon:
        why = Why(daemon)
        a = Client(daemon, client, 'engine-a')
        b = Client(daemon, client, 'engine-b')
        test_refused(daemon)
        test_never(why)
        test_present(why, a)
        test_not_ready(why, a, b)
        test_evicted(why, a, b)
        test_ordered(why, a)
        test_identity(why, client, a)
        test_domain(why, client, a)
        test_checksum_and_replaced(why, a, b)
        test_writer(why, client)
        a.end()
        b.end()


main()
