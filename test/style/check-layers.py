#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes go downwards only.

The table below is the rule: for each layer, the layers that it may include.
A file belongs to the layer with the longest matching prefix.  --self-test
proves that each kind of violation is refused.
"""

import os
import re
import sys

import tree

ABI = 'ipc/include/synapse/abi.h'
CODEC = 'ipc/include/synapse/codec.h'
DEV = 'core/dev.h'
DISK = 'core/disk.h'

# prefix: what its files may include besides their own layer
LAYERS = {
    ABI: [],
    CODEC: [ABI],
    'ipc/include/': [ABI, CODEC],
    'core/base/': [ABI],
    'kernels/codec/': [ABI, CODEC, 'core/base/'],
    'kernels/attend/': [ABI, CODEC, 'core/base/', 'kernels/codec/',
                        'kernels/cuda/'],
    'numa/': [ABI, 'core/base/'],
    'ipc/': [ABI, 'core/base/'],
    DEV: [ABI, CODEC],
    DISK: [ABI],
    'core/': [ABI, CODEC, DEV, DISK, 'core/base/'],
    'core/io/': [ABI, DEV, DISK, 'core/base/'],
    'kernels/cuda/': [ABI, CODEC, 'core/base/', 'kernels/codec/'],
    'kernels/': [ABI, CODEC, DEV, 'core/base/', 'kernels/codec/',
                 'kernels/cuda/', 'numa/'],
    'ipc/server/': [ABI, CODEC, 'core/base/', 'core/', DEV, DISK, 'ipc/'],
    'ipc/client/': [ABI, CODEC, 'core/base/', 'ipc/include/', 'ipc/',
                    'kernels/codec/', 'kernels/cuda/'],
    'tools/': None,  # everything is wired here
    'test/': None,
    'bpf/': [ABI],
}

# core decides: no socket, no clock, no file, no device call of its own.
CORE_SYSTEM = {
    'aio.h', 'cuda.h', 'dlfcn.h', 'fcntl.h', 'liburing.h', 'netinet/in.h',
    'numa.h', 'poll.h', 'pthread.h', 'stdio.h', 'sys/epoll.h',
    'sys/eventfd.h', 'sys/mman.h', 'sys/socket.h', 'sys/stat.h', 'sys/un.h',
    'time.h',
}
CORE_CALLS = re.compile(r'\b(syn_now_ns|clock_gettime|time|open|close|read'
                        r'|write|mmap|usleep|nanosleep|sleep)\s*\(')

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def layer_of(path):
    fits = [p for p in LAYERS
            if path == p or p.endswith('/') and path.startswith(p)]
    return max(fits, key=len) if fits else None


def may_include(layer, target):
    allowed = LAYERS[layer]
    return allowed is None or target == layer or target in allowed


def check_includes(name, text, exists):
    layer = layer_of(name)
    if layer is None:
        yield f'{name}: belongs to no layer'
        return
    for kind, path in INCLUDE.findall(text):
        if kind == '<' and not path.startswith('synapse/'):
            if layer in ('core/', DEV) and path in CORE_SYSTEM:
                yield f'{name}: core may not include <{path}>'
            continue
        target = 'ipc/include/' + path if kind == '<' else path
        if not exists(target):
            yield (f'{name}: "{path}" is not written from the root, '
                   'or does not exist')
            continue
        if not may_include(layer, layer_of(target)):
            yield f'{name}: {layer} may not include {target}'


def check_calls(name, text):
    if layer_of(name) != 'core/':
        return
    bare = COMMENT.sub(lambda m: '\n' * m.group().count('\n'), text)
    for nr, line in enumerate(bare.split('\n'), 1):
        for call in CORE_CALLS.findall(line):
            if not re.search(r'(->|\.)\s*' + call, line):
                yield f'{name}:{nr}: core may not call {call}()'


def check_blocks(name, text):
    """Own header, system, project: three blocks with a blank line between."""
    if not name.endswith('.c'):
        return
    own = name[:-2] + '.h'
    blocks = [[]]
    for line in COMMENT.sub(lambda m: m.group() if m.group()[0] == '"'
                            else '', text).split('\n'):
        found = INCLUDE.match(line)
        if found:
            blocks[-1].append(found.groups())
        elif line.strip():
            break
        elif blocks[-1]:
            blocks.append([])
    order = 0
    first = True
    for block in filter(None, blocks):
        # <synapse/...> may stand with either.
        ranks = {2 if k == '"' else 1 for k, p in block
                 if not p.startswith('synapse/')}
        if not ranks:
            continue
        if len(ranks) > 1:
            yield f'{name}: system and project includes share a block'
            return
        rank = ranks.pop()
        if first and rank == 2 and len(block) == 1:
            rank = 0
        if rank < order:
            yield f'{name}: a system include follows a project include'
            return
        order = rank
        first = False
    includes = [p for b in blocks for _, p in b]
    if own in includes and includes[0] != own:
        yield f'{name}: its own header is not the first include'


def check(name, text, exists):
    yield from check_includes(name, text, exists)
    yield from check_calls(name, text)
    yield from check_blocks(name, text)


# file, text, a part of the complaint (None: must pass)
CASES = [
    ('core/mm.c', '#include "core/base/list.h"', None),
    ('core/mm.c', '#include <synapse/abi.h>', None),
    ('core/mm.c', '#include "ipc/ring.h"', 'may not include ipc/ring.h'),
    ('core/mm.c', '#include "kernels/dev-host.h"', 'may not include kernels/'),
    ('core/mm.c', '#include "numa/node.h"', 'may not include numa/'),
    ('core/mm.c', '#include <synapse/client.h>', 'may not include ipc/incl'),
    ('core/mm.c', '#include <sys/socket.h>', 'core may not include'),
    ('core/mm.c', 'now = syn_now_ns();', 'core may not call syn_now_ns'),
    ('core/mm.c', '/* syn_now_ns() */ dev->ops->close(dev);', None),
    ('core/base/log.c', '#include "core/mm.h"', 'may not include core/mm.h'),
    ('core/base/log.c', '#include "base.h"', 'not written from the root'),
    ('kernels/codec/sum.c', '#include "core/dev.h"', 'may not include'),
    ('kernels/dev-host.c', '#include "core/dev.h"', None),
    ('kernels/dev-host.c', '#include "core/mm.h"', 'may not include core/mm'),
    ('ipc/ring.h', '#include "core/mm.h"', 'may not include core/mm.h'),
    ('ipc/ring.h', '#include "ipc/server/server.h"', 'may not include'),
    ('ipc/server/server.c', '#include "core/mm.h"', None),
    ('ipc/server/server.c', '#include "kernels/dev-host.h"', 'may not'),
    ('ipc/client/pin.c', '#include "kernels/codec/sum.h"', None),
    ('ipc/client/pin.c', '#include "core/mm.h"', 'may not include core/mm.h'),
    ('ipc/client/pin.c', '#include "numa/node.h"', 'may not include numa/'),
    ('ipc/include/synapse/abi.h', '#include "core/base/base.h"', 'may not'),
    ('ipc/include/synapse/page.cuh', '#include "kernels/codec/h4-form.h"',
     'may not'),
    ('bpf/x.c', '#include "core/base/list.h"', 'may not include core/base'),
    ('tools/synapsed/main.c', '#include "core/mm.h"', None),
    ('extra/x.c', '', 'belongs to no layer'),
    ('numa/x.c', '#include "core/base/log.h"\n\n#include <stdio.h>\n', None),
    ('numa/x.c', '#include <stdio.h>\n#include "core/base/log.h"\n',
     'share a block'),
    ('numa/x.c', '#include "numa/x.h"\n\n#include "core/base/log.h"\n'
     '#include "core/base/list.h"\n\n#include <stdio.h>\n', 'follows'),
    ('numa/x.c', '#include <stdio.h>\n\n#include "numa/x.h"\n',
     'own header is not the first'),
]


def self_test():
    failed = 0
    for name, text, expect in CASES:
        said = list(check(name, text, lambda path: '/' in path))
        good = not said if expect is None else any(expect in s for s in said)
        if not good:
            failed += 1
            print(f'{name}: {text!r}: expected {expect!r}, got {said}')
    print(f'{len(CASES)} cases, {failed} failed')
    return 1 if failed else 0


def main():
    if sys.argv[1:] == ['--self-test']:
        return self_test()
    nr = 0
    complaints = []
    for name in tree.files():
        if not name.endswith(('.c', '.h', '.cu', '.cuh')):
            continue
        nr += 1
        complaints += check(
            name, tree.read(name),
            lambda path: os.path.isfile(os.path.join(tree.ROOT, path)))
    print('\n'.join(complaints))
    print(f'{nr} files, {len(complaints)} complaints')
    return 1 if complaints or not nr else 0


sys.exit(main())
