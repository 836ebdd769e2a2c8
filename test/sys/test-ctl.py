#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""synapsectl against a daemon: answers, orders, mistakes, exit codes.

test-ctl.py SYNAPSED SYNAPSECTL LOAD ABI_H
"""

import json
import os
import re
import signal
import subprocess
import sys

from ctl_daemon import Daemon, Load, check, wait_for, watchdog

NOBODY = 65534


def members(abi_h, struct):
    """Names of the members of a struct of the wire, without padding."""
    with open(abi_h, encoding='utf-8') as f:
        body = re.search(r'struct %s {(.*?)\n};' % struct, f.read(),
                         re.S).group(1)
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
    names = re.findall(r'\b(\w+)(?:\[\w+\])?;', body)
    return {n for n in names if not n.startswith('pad')}


def test_usage(synapsectl):
    for args in ([], ['nonsense'], ['status', 'more'], ['evict', '-1'],
                 ['evict', '1', '2'], ['drain', 'maybe'], ['--no-such'],
                 ['status', '--limit', '3'], ['pages', '--key', 'xyz'],
                 ['pages', '--key', '0' * 33], ['pages', '--limit', '1x'],
                 ['pages', '--session', '99999999999'],
                 ['--watch=0', 'status'], ['--watch', 'evict'],
                 ['quota'], ['quota', '0', 'hbm', '0', 'none'],
                 ['quota', '0', 'ram', '0', 'none', 'none'],
                 ['quota', '0', 'hbm', '-1', 'none', 'none'],
                 ['quota', '0', 'hbm', '0', '1X', 'none'],
                 ['quota', '0', 'hbm', '0', '1', '99999999T'],
                 ['quota', '0', 'hbm', '0', '1', '2', '3'],
                 ['fsck', 'x'], ['evict', '--at-once'],
                 ['--watch', 'fsck'], ['fsck', '--limit', '1'],
                 ['domains', 'x'], ['--watch', 'quota', '0', 'hbm', '0', '0',
                                    '0']):
        run = subprocess.run([synapsectl, '--socket', '/nonexistent/s', *args],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, check=False)
        check(f'exit of {args}', (run.returncode, run.stdout), (2, ''))
        check(f'explained {args}', bool(run.stderr.strip()), True)
    for args in (['--help'], ['--version']):
        run = subprocess.run([synapsectl, *args], stdout=subprocess.PIPE,
                             text=True, check=False)
        check(f'exit of {args}', (run.returncode, bool(run.stdout)),
              (0, True))


def test_unreachable(synapsectl):
    run = subprocess.run([synapsectl, '--socket', '/nonexistent/s', 'status'],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, check=False)
    check('exit without a daemon', (run.returncode, run.stdout), (1, ''))
    check('the path is named', '/nonexistent/s' in run.stderr, True)


def test_environment(daemon):
    env = dict(os.environ, SYNAPSE_SOCKET=daemon.socket)
    run = subprocess.run([daemon.synapsectl, 'status'], env=env, check=False,
                         stdout=subprocess.PIPE)
    check('exit with $SYNAPSE_SOCKET', run.returncode, 0)


def test_members(daemon, abi_h):
    check('members of status', set(daemon.ask('status')),
          members(abi_h, 'syn_ctl_status'))
    for name, struct in (('tiers', 'syn_ctl_tier'),
                         ('clients', 'syn_ctl_client'),
                         ('pages', 'syn_ctl_page')):
        check(f'members of {name}', set(daemon.ask(name)[name][0]),
              members(abi_h, struct))
    check('members of why', set(daemon.ask('why', '1' * 32)['why'][0]),
          members(abi_h, 'syn_ctl_why'))
    # A domain has its quotas tier by tier.
    quota = {f'{tier}_{member}' for tier in ('hbm', 'host', 'nvme')
             for member in members(abi_h, 'syn_ctl_quota')}
    check('members of domains', set(daemon.ask('domains')['domains'][0]),
          members(abi_h, 'syn_ctl_domain') - {'tier'} | quota)


def test_answers(daemon, did):
    status = daemon.ask('status')
    check('keeper', status['keeper_pid'], daemon.keeper.pid)
    check('draining', status['draining'], False)
    check('pages', status['nr_pages'], did['sealed'] + did['leak'])
    check('tiers', [t['tier'] for t in daemon.ask('tiers')['tiers']],
          ['hbm', 'host'])
    clients = daemon.ask('clients')['clients']
    check('clients', [(c['session'], c['name'], c['state'], c['nr_leases'])
                      for c in clients],
          [(did['session'], 'load', 'live', did['leak'])])


def test_tables(daemon, did):
    for command, heading in (('tiers', 'TIER '), ('clients', 'SESSION '),
                             ('pages', 'PAGE '), ('domains', 'DOMAIN ')):
        lines = daemon.ctl(command).stdout.splitlines()
        rows = len(daemon.ask(command)[command])
        check(f'lines of {command}', len(lines), rows + 2)
        check(f'heading of {command}', lines[1].lstrip()[:len(heading)],
              heading)
    text = daemon.ctl('status').stdout
    check('status has a leases line',
          bool(re.search(r'^leases +\d+$', text, re.M)), True)
    check('name in the table', 'load' in daemon.ctl('clients').stdout, True)
    check('sealed key in the table', f'{0xfeed:016x}{did["sealed"]:016x}'
          in daemon.ctl('pages').stdout, True)


def test_domains(daemon, abi_h):
    domains = daemon.ask('domains')['domains']
    # A domain has its quotas tier by tier.
    quota = {f'{tier}_{member}' for tier in ('hbm', 'host', 'nvme')
             for member in members(abi_h, 'syn_ctl_quota')}
    check('members of domains', set(domains[0]),
          members(abi_h, 'syn_ctl_domain') - {'tier'} | quota)
    check('one domain', len(domains), 1)
    one = domains[0]
    check('name', one['name'].startswith(f'{daemon.dir}:{os.getuid()}:'), True)
    check('uid', (one['uid'], one['nr_sessions']), (os.getuid(), 1))
    check('no limit', (one['host_min'], one['host_high'], one['host_max']),
          (0, None, None))
    return one


def test_quota(daemon, abi_h):
    one = test_domains(daemon, abi_h)
    number = str(one['domain'])

    def limits():
        now = daemon.ask('domains')['domains'][0]
        return [now[f'host_{which}'] for which in ('min', 'high', 'max')]

    check('quota', daemon.ask('quota', number, 'host', '2M', '4096K', 'none'),
          {'domain': one['domain']})
    check('as set', limits(), [2 << 20, 4 << 20, None])
    check('by name', daemon.ask('quota', one['name'], 'host', 'none', 'none',
                                '8M'), {'domain': one['domain']})
    check('as set by name', limits(), [0, None, 8 << 20])
    for args, why in ((('99', 'host', '0', '0', '0'), 'no such domain'),
                      ((number, 'host', '2M', '1M', '3M'), 'MIN <= HIGH'),
                      ((number, 'host', '1T', 'none', 'none'), 'minimums'),
                      ((number, 'hbm', '0', 'none', '0'), 'windows hold')):
        run = daemon.ctl('quota', *args)
        check(f'quota {args}', (run.returncode, run.stdout), (1, ''))
        check(f'{args} explained', why in run.stderr, True)
    check('nothing changed', limits(), [0, None, 8 << 20])
    check('quota for people', daemon.ctl('quota', number, 'host', '0', 'none',
                                         'none').stdout,
          f'quota of domain {number} set\n')


def test_filters(daemon, did):
    def keys(*args):
        return [p['key'] for p in daemon.ask('pages', *args)['pages']]

    every = keys()
    check('all pages', len(every), did['sealed'] + did['leak'])
    check('--limit', len(keys('--limit', '3')), 3)
    check('--limit 0', keys('--limit', '0'), [])
    one = f'{0xfeed:016x}{2:016x}'
    check('--key, whole', keys('--key', one.upper()), [one])
    check('--key, prefix', len(keys('--key', one[:20])), did['sealed'])
    check('--key, none', keys('--key', 'abcdef'), [])
    pages = daemon.ask('pages')['pages']
    check('--resident', len(keys('--resident')),
          sum('hbm' in p['flags'] for p in pages))
    check('--session', len(keys('--session', str(did['session']))),
          sum(p['session'] == did['session'] for p in pages))
    check('--session of nobody', keys('--session', '999999'), [])


def test_fsck(daemon):
    """Nothing is found while an engine holds pages, nor with none."""
    check('fsck', daemon.ask('fsck'), {'fsck': [], 'found': 0,
                                       'moved': False})
    check('fsck --at-once', daemon.ask('fsck', '--at-once'),
          {'fsck': [], 'found': 0, 'moved': False})
    run = daemon.ctl('fsck')
    check('fsck for people', (run.returncode, run.stdout),
          (0, '0 things found\n'))


def test_evict(daemon, did):
    check('evict 3', daemon.ask('evict', '3'), {'evicted': 3})
    check('evict all', daemon.ask('evict', 'all'),
          {'evicted': did['sealed'] - 3})
    check('evict', daemon.ask('evict'), {'evicted': 0})
    check('leased pages stay', daemon.ask('status')['nr_pages'], did['leak'])


def test_drain(daemon, load):
    check('drain', daemon.ask('drain')['draining'], True)
    check('status while draining', daemon.ask('status')['draining'], True)
    run = subprocess.run([load, daemon.socket, '1', '0'], check=False,
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    check('a session while draining', run.returncode, 1)
    check('drain off', daemon.ask('drain', 'off')['draining'], False)
    Load(load, daemon, rounds=1, leak=0).end()


def test_watch(daemon):
    run = subprocess.Popen([daemon.synapsectl, '--socket', daemon.socket,
                            '--json', '--watch', '0.05', 'status'],
                           stdout=subprocess.PIPE, text=True)
    lines = [json.loads(run.stdout.readline()) for _ in range(3)]
    run.send_signal(signal.SIGINT)
    rest = run.communicate()[0]
    check('exit of --watch', run.returncode, 0)
    check('lines are whole', rest == '' or rest.endswith('\n'), True)
    check('time passes', lines[0]['uptime_ns'] < lines[2]['uptime_ns'], True)
    run = subprocess.Popen([daemon.synapsectl, '--socket', daemon.socket,
                            'tiers', '--watch'], stdout=subprocess.PIPE,
                           text=True)
    check('the screen is cleared', run.stdout.read(3), '\033[H')
    run.send_signal(signal.SIGINT)
    run.communicate()
    check('exit of --watch', run.returncode, 0)


def test_stranger(daemon):
    """Another user may ask for status, if he gets to the socket; no more."""
    if os.geteuid() != 0:
        return
    os.chmod(daemon.socket, 0o666)

    def as_nobody(*args):
        return daemon.ctl(*args, user=NOBODY, group=NOBODY, extra_groups=[])

    check('status for a stranger', as_nobody('status').returncode, 0)
    for args in (['tiers'], ['clients'], ['pages'], ['evict'], ['drain'],
                 ['domains'], ['quota', '0', 'host', '0', 'none', 'none'],
                 ['why', '1' * 32], ['fsck']):
        run = as_nobody(*args)
        check(f'{args} for a stranger', (run.returncode, run.stdout), (1, ''))
        check('explained', 'ermission denied' in run.stderr, True)


def test_gone(daemon):
    """The daemon ends under a watcher: it says so."""
    run = subprocess.Popen([daemon.synapsectl, '--socket', daemon.socket,
                            '--json', '--watch', '0.05', 'status'],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
    run.stdout.readline()
    os.kill(daemon.keeper.pid, signal.SIGTERM)
    errors = run.communicate()[1]
    check('exit when the daemon ends', run.returncode, 1)
    check('explained', 'synapsectl: ' in errors, True)


def main():
    synapsed, synapsectl, load, abi_h = sys.argv[1:]
    watchdog()
    test_usage(synapsectl)
    test_unreachable(synapsectl)
    with Daemon(synapsed, synapsectl) as daemon:
        client = Load(load, daemon)
        test_environment(daemon)
        test_members(daemon, abi_h)
        test_answers(daemon, client.did)
        test_tables(daemon, client.did)
        test_quota(daemon, abi_h)
        test_filters(daemon, client.did)
        test_fsck(daemon)
        test_watch(daemon)
        test_stranger(daemon)
        test_evict(daemon, client.did)
        client.end()
        test_fsck(daemon)
        test_drain(daemon, load)
        wait_for('the end of all sessions',
                 lambda: not daemon.ask('clients')['clients'])
        test_gone(daemon)


main()
