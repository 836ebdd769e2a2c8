#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Verifies a spin model, then requires that each of its mutants fails.

run-model.py MODEL NR_MUTANTS.  Exit 77: no spin here.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

MEMORY_MIB = 1800
SAFETY = ['-DSAFETY', '-DNOCLAIM', '-DCOLLAPSE']
LIVENESS = ['-DNFAIR=3', '-DCOLLAPSE']


def verify(model, mutant, flags, arguments, folder):
    """Returns (errors, states); raises when the search was not complete."""
    # A model may choose smaller bounds where fairness multiplies the states.
    bounds = ['-DLIVENESS'] if flags is LIVENESS else []
    subprocess.run(['spin', f'-DMUTANT={mutant}', *bounds, '-a', model],
                   cwd=folder, check=True, stdout=subprocess.PIPE)
    # A mutant's search is short; the compiler's time is what counts.
    subprocess.run(['cc', '-O1' if mutant else '-O2', '-w', f'-DMEMLIM={MEMORY_MIB}', *flags,
                    '-o', 'pan', 'pan.c'], cwd=folder, check=True)
    said = subprocess.run(['./pan', '-m200000', *arguments], cwd=folder,
                          check=False, stdout=subprocess.PIPE, text=True)
    errors = re.search(r'errors: (\d+)', said.stdout)
    states = re.search(r'(\d+) states, stored', said.stdout)
    cut = re.search(r'max search depth too small|out of memory'
                    r'|Search not completed', said.stdout)
    if not errors or not states:
        raise RuntimeError(said.stdout)
    if not int(errors.group(1)) and cut:
        raise RuntimeError('the search is incomplete:\n' + said.stdout)
    return int(errors.group(1)), int(states.group(1))


def main():
    model = os.path.realpath(sys.argv[1])
    nr_mutants = int(sys.argv[2])
    if not shutil.which('spin') or not shutil.which('cc'):
        return 77
    bad = 0
    for mutant in range(nr_mutants + 1):
        with tempfile.TemporaryDirectory() as folder:
            name = f'mutant {mutant}' if mutant else 'the model'
            errors, states = verify(model, mutant, SAFETY,
                                    [], folder)
            kind = 'safety'
            if not errors:
                print(f'{name}: safety: 0 errors, {states} states')
                errors, states = verify(model, mutant, LIVENESS,
                                        ['-a', '-f'], folder)
                kind = 'liveness'
            print(f'{name}: {kind}: {errors} errors, {states} states',
                  flush=True)
            if bool(errors) != bool(mutant):
                print(f'{name}: ' + ('survives' if mutant else 'is wrong'))
                bad += 1
    print(f'{nr_mutants} mutants, {bad} surprises')
    return 1 if bad else 0


sys.exit(main())
