#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each header compiles alone, with gcc and clang; public ones as C++ too."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

import tree

NVCC = shutil.which('nvcc')
CUDA = [] if not NVCC else [
    '-isystem', os.path.join(os.path.dirname(os.path.dirname(NVCC)),
                             'include')]
HEADERS = [n for n in tree.c_files() if n.endswith('.h')]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.M)

COMMON = ['-fsyntax-only', '-I.', '-Iipc/include', '-Wall', '-Wextra',
          '-Werror', '-Wno-unused-function', '-Wno-unused-parameter']
C = ['-x', 'c', '-std=gnu17', '-D_GNU_SOURCE', '-DSYN_HAVE_SDT=1',
     '-DSYN_HAVE_NUMA=1', '-DSYN_HAVE_SYSTEMD=1', '-DSYN_VERSION="0"',
     '-Wundef', '-Wshadow']
# An engine includes these with its own compiler and its own warnings.
PUBLIC = [['-x', 'c++', '-std=c++17', '-pedantic', '-Wshadow'],
          ['-x', 'c', '-std=c11', '-pedantic', '-Wshadow', '-Wundef']]


def needs_cuda(header):
    """Whether it includes cuda.h, by itself or by others."""
    return any(path == 'cuda.h' or path in HEADERS and needs_cuda(path)
               for path in INCLUDE.findall(tree.read(header)))


def compile_one(job):
    compiler, flags, header = job
    run = subprocess.run(
        [compiler, *COMMON, *CUDA, *flags, '-'], cwd=tree.ROOT, check=False,
        input=f'#include "{header}"\nextern int syn_not_empty;\n',
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode == 0:
        return None
    return f'{header}: {compiler} {flags[1]} {flags[2]}\n{run.stdout}'


def main():
    # Those that need the toolkit are left out where there is none.
    headers = [n for n in HEADERS if CUDA or not needs_cuda(n)]
    compilers = [c for c in ('gcc', 'clang') if shutil.which(c)]
    jobs = [(c, C, h) for c in compilers for h in headers]
    public = [h for h in headers if h.startswith('ipc/include/')]
    jobs += [(c, flags, h) for c in compilers for flags in PUBLIC
             for h in public]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        complaints = [c for c in pool.map(compile_one, jobs) if c]
    print('\n'.join(complaints))
    print(f'{len(headers)} headers ({len(public)} public), {len(jobs)} '
          f'compilations, {len(complaints)} failed')
    return 1 if complaints or not public or not compilers else 0


sys.exit(main())
