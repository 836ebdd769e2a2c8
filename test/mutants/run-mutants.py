#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the code on purpose, one rule at a time, and expects a test to fail.

Each *.patch here has a line "Caught-by: TEST..." above its diff, with names
as `meson test --list` prints them; at least one of the named tests must fail.
The tree is copied and built once for each worker; a mutant rebuilds what it
touches.
run-mutants.py [NAME...]: only those.  --list: their names and tests.
--part I/N: every Nth, from the Ith on, which is counted from 0.
"""

import concurrent.futures
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'style'))

import tree  # noqa: E402

TEST_TIMEOUT_S = 90
WORKERS = min(2, os.cpu_count() or 1)


class Mutant:
    """One patch, and the names of the tests that should see it."""

    def __init__(self, name):
        self.name = name
        self.path = os.path.join(HERE, name + '.patch')
        with open(self.path, encoding='utf-8') as f:
            caught = re.search(r'^Caught-by: (.+)$', f.read(), re.M)
        if not caught:
            sys.exit(f'{name}: no line "Caught-by: TEST"')
        self.tests = caught.group(1).split()


def load_mutants(wanted):
    names = sorted(n[:-6] for n in os.listdir(HERE) if n.endswith('.patch'))
    for name in wanted:
        if name not in names:
            sys.exit(f'no mutant {name}')
    return [Mutant(name) for name in wanted or names]


def quiet(command, **kwargs):
    return subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False,
                          **kwargs)


def run_or_raise(command):
    made = quiet(command)
    if made.returncode:
        raise RuntimeError(made.stdout[-4000:])


class Workshop:
    """A copy of the tree and its build."""

    def __init__(self, folder, mutants):
        self.source = os.path.join(folder, 'source')
        self.build = os.path.join(folder, 'build')
        self.env = dict(os.environ, SYN_TEST_WATCHDOG_S=str(TEST_TIMEOUT_S))
        self.copy_tree()
        # -O0 compiles in half the time, and asserts stay on.  Nothing of CUDA
        # is broken here, as tests that need a GPU would have to see it.
        run_or_raise(['meson', 'setup', '-Doptimization=0', '-Dcuda=disabled',
                      self.build, self.source])
        self.needs = self.introspect_needs()
        for mutant in mutants:
            for test in mutant.tests:
                if test not in self.needs:
                    raise RuntimeError(f'{mutant.name}: no test {test}')
        run_or_raise(['ninja', '-C', self.build,
                      *{f for m in mutants for f in self.targets_of(m)}])

    def copy_tree(self):
        for name in tree.files():
            target = os.path.join(self.source, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(os.path.join(tree.ROOT, name), target)

    def introspect_needs(self):
        """What ninja has to build for each test."""
        def introspect(what):
            return json.loads(subprocess.run(
                ['meson', 'introspect', what, self.build], check=True,
                stdout=subprocess.PIPE).stdout)

        files = {t['id']: [os.path.relpath(f, self.build)
                           for f in t['filename']]
                 for t in introspect('--targets')}
        return {t['name']: sorted({f for d in t['depends'] for f in files[d]})
                for t in introspect('--tests')}

    def targets_of(self, mutant):
        return [f for test in mutant.tests for f in self.needs[test]]

    def fails(self, test):
        """True when the test ran and failed, False when it did not fail."""
        try:
            run = quiet(['meson', 'test', '-C', self.build, '--no-rebuild',
                         test], env=self.env, timeout=4 * TEST_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return True
        if re.search(r'^(Fail|Timeout): +[1-9]', run.stdout, re.M):
            return True
        if not re.search(r'^(Ok|Skipped): +[1-9]', run.stdout, re.M):
            raise RuntimeError(f'{test}: no such test?\n{run.stdout}')
        return False

    def patch(self, mutant, *options):
        return quiet(['patch', '-p1', '-f', '--no-backup-if-mismatch',
                      *options, '-i', mutant.path], cwd=self.source)

    def judge(self, mutant):
        """What becomes of the mutant; the tree is clean again afterwards."""
        if self.patch(mutant, '--dry-run').returncode:
            return 'does not apply'
        self.patch(mutant)
        try:
            if quiet(['ninja', '-C', self.build,
                      *self.targets_of(mutant)]).returncode:
                return 'does not build'
            if any(self.fails(test) for test in mutant.tests):
                return 'caught'
            return 'SURVIVES'
        finally:
            self.patch(mutant, '-R')


def judge_all(mutants, folder):
    """Returns how many were caught."""
    free = queue.Queue()

    def passes(test):
        """Without a mutant."""
        shop = free.get()
        failed = shop.fails(test)
        free.put(shop)
        if failed:
            raise RuntimeError(f'{test} fails without any mutant')

    def judge(mutant):
        shop = free.get()
        start = time.monotonic()
        outcome = shop.judge(mutant)
        free.put(shop)
        print(f'{mutant.name:32} {outcome:15} {" ".join(mutant.tests):24} '
              f'{time.monotonic() - start:5.1f} s', flush=True)
        return outcome == 'caught'

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        shops = list(pool.map(
            lambda i: Workshop(os.path.join(folder, str(i)), mutants),
            range(WORKERS)))
        for shop in shops:
            free.put(shop)
        # Else a failure says nothing.
        list(pool.map(passes, sorted({t for m in mutants for t in m.tests})))
        return sum(pool.map(judge, mutants))


def main():
    if sys.argv[1:] == ['--list']:
        for mutant in load_mutants([]):
            print(f'{mutant.name:32} {" ".join(mutant.tests)}')
        return 0
    part = re.fullmatch(r'(\d+)/([1-9]\d*)', sys.argv[-1])
    if part and sys.argv[1:-1] == ['--part']:
        mutants = load_mutants([])[int(part[1])::int(part[2])]
    else:
        mutants = load_mutants(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix='syn-mutants-') as folder:
        try:
            caught = judge_all(mutants, folder)
        except RuntimeError as error:
            sys.exit(str(error))
    print(f'{len(mutants)} mutants, {caught} caught')
    return 0 if caught == len(mutants) else 1


if __name__ == '__main__':
    sys.exit(main())
