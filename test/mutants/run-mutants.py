#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the code on purpose, one rule at a time, and expects a test to fail.

Each *.patch here has a line "Caught-by: TEST..." above its diff, with names
as `meson test --list` prints them; at least one of the named tests must fail.
The tree is copied and built once; a mutant rebuilds what it touches.
run-mutants.py [NAME...]: only those.  --list: their names and tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'style'))

import tree  # noqa: E402

TEST_TIMEOUT_S = 60


def patches(wanted):
    names = sorted(n[:-6] for n in os.listdir(HERE) if n.endswith('.patch'))
    for name in wanted:
        if name not in names:
            sys.exit(f'no mutant {name}')
    for name in wanted or names:
        path = os.path.join(HERE, name + '.patch')
        with open(path, encoding='utf-8') as f:
            caught = re.search(r'^Caught-by: (.+)$', f.read(), re.M)
        if not caught:
            sys.exit(f'{name}: no line "Caught-by: TEST"')
        yield name, path, caught.group(1).split()


def copy_tree(to):
    for name in tree.files():
        if name.startswith('test/mutants/'):
            continue
        target = os.path.join(to, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(os.path.join(tree.ROOT, name), target)


def quiet(command, **kwargs):
    return subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False,
                          **kwargs)


def patch(source, path, *options):
    return quiet(['patch', '-p1', '--no-backup-if-mismatch', *options, '-i',
                  path], cwd=source)


def targets_of(build):
    """What ninja has to build for each test: its program and what it needs."""
    def introspect(what):
        return json.loads(subprocess.run(
            ['meson', 'introspect', what, build], check=True,
            stdout=subprocess.PIPE).stdout)

    files = {t['id']: [os.path.relpath(f, build) for f in t['filename']]
             for t in introspect('--targets')}
    return {t['name']: sorted({f for d in t['depends'] for f in files[d]})
            for t in introspect('--tests')}


def fails(build, test, env):
    """True when the test ran and failed, False when it passed or skipped."""
    try:
        run = quiet(['meson', 'test', '-C', build, '--no-rebuild', test],
                    env=env, timeout=4 * TEST_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return True
    if re.search(r'^(Fail|Timeout): +[1-9]', run.stdout, re.M):
        return True
    if not re.search(r'^(Ok|Skipped): +[1-9]', run.stdout, re.M):
        raise RuntimeError(f'{test}: no such test?\n{run.stdout}')
    return False


def try_mutant(source, build, path, tests, env, targets):
    """Returns what became of it; the tree is clean again afterwards."""
    if patch(source, path, '--dry-run', '-f').returncode:
        return 'does not apply'
    patch(source, path)
    try:
        built = quiet(['ninja', '-C', build, *targets])
        if built.returncode:
            print(built.stdout[-2000:])
            return 'does not build'
        if any(fails(build, test, env) for test in tests):
            return 'caught'
        return 'SURVIVES'
    finally:
        patch(source, path, '-R')


def run_or_exit(command):
    made = quiet(command)
    if made.returncode:
        sys.exit(made.stdout[-4000:])


def check_clean(build, mutants, env):
    """The tests pass without mutants: else a failure says nothing."""
    names = sorted({test for _, _, tests in mutants for test in tests})
    for test in names:
        if fails(build, test, env):
            sys.exit(f'{test} fails without any mutant')


def main():
    wanted = sys.argv[1:]
    if wanted == ['--list']:
        for name, _, tests in patches([]):
            print(f'{name:32} {" ".join(tests)}')
        return 0
    mutants = list(patches(wanted))
    caught = 0
    env = dict(os.environ, SYN_TEST_WATCHDOG_S=str(TEST_TIMEOUT_S))
    with tempfile.TemporaryDirectory(prefix='syn-mutants-') as folder:
        source = os.path.join(folder, 'source')
        build = os.path.join(folder, 'build')
        copy_tree(source)
        # -O0 compiles in half the time, and asserts stay on.
        run_or_exit(['meson', 'setup', '-Doptimization=0', build, source])
        needs = targets_of(build)
        for name, _, tests in mutants:
            for test in tests:
                if test not in needs:
                    sys.exit(f'{name}: no test {test}')
        run_or_exit(['ninja', '-C', build,
                     *{f for _, _, ts in mutants for t in ts
                       for f in needs[t]}])
        check_clean(build, mutants, env)
        for name, path, tests in mutants:
            start = time.monotonic()
            targets = [f for test in tests for f in needs[test]]
            outcome = try_mutant(source, build, path, tests, env, targets)
            caught += outcome == 'caught'
            print(f'{name:32} {outcome:16} {" ".join(tests):24} '
                  f'{time.monotonic() - start:5.1f} s', flush=True)
    print(f'{len(mutants)} mutants, {caught} caught')
    return 0 if caught == len(mutants) else 1


if __name__ == '__main__':
    sys.exit(main())
