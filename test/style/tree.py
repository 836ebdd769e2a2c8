# SPDX-License-Identifier: Apache-2.0
"""The files of the tree, tracked and not yet tracked, without the ignored."""

import os
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))


def files():
    """Paths relative to the root, sorted."""
    git = subprocess.run(
        ['git', '-C', ROOT, 'ls-files', '-z', '--cached', '--others',
         '--exclude-standard'], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, check=False)
    if git.returncode == 0:
        names = git.stdout.decode().split('\0')
    else:  # an exported tree without its history
        names = []
        for top, dirs, leaves in os.walk(ROOT):
            dirs[:] = [d for d in dirs
                       if d not in ('.git', '.cache', 'build', '__pycache__')]
            names += [os.path.relpath(os.path.join(top, leaf), ROOT)
                      for leaf in leaves]
    return sorted(n for n in set(names)
                  if n and os.path.isfile(os.path.join(ROOT, n)))


def c_files():
    return [n for n in files() if n.endswith(('.c', '.h'))]


def read(name):
    with open(os.path.join(ROOT, name), encoding='utf-8') as f:
        return f.read()


if __name__ == '__main__':  # tree.py SUFFIX...: for scripts
    print('\n'.join(n for n in files() if n.endswith(tuple(sys.argv[1:]))))
