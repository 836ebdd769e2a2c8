#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes records grow as a later program's may.

grow.py HEADER OUTPUT writes HEADER with a member more at the end of each struct
that is kept, or handed over, with the next revision, and with larger bounds on
what they cost.
"""

import os
import re
import sys

GROWN = 8

RECORDS = {
    'record.h': ['syn_rec_head', 'syn_rec_redo', 'syn_rec_domain',
                 'syn_rec_extent', 'syn_rec_space', 'syn_rec_session',
                 'syn_rec_move', 'syn_rec_swap', 'syn_rec_quarantine',
                 'syn_rec_lessee', 'syn_rec_page'],
    'kept.h': ['syn_rec_server', 'syn_rec_peer'],
    'config.h': ['syn_config'],
    'mm-internal.h': [],
}


def replace_once(pattern, by, text):
    text, nr = re.subn(pattern, by, text, flags=re.S | re.M)
    if nr != 1:
        sys.exit(f'grow.py: {nr} times {pattern}')
    return text


def grow(text, name):
    text = replace_once(rf'^(struct {name} {{\n.*?)^}};$',
                        rf'\1\tuint32_t grown[{GROWN // 4}];\n}};', text)
    if name.startswith('syn_rec_'):
        text = replace_once(rf'^(SYN_ABI_SIZE\(struct {name}, )(\d+)',
                            lambda m: m[1] + str(int(m[2]) + GROWN), text)
    return text


def main():
    source, output = sys.argv[1:]
    with open(source, encoding='utf-8') as f:
        text = f.read()
    for name in RECORDS[os.path.basename(source)]:
        text = grow(text, name)
    text = re.sub(r'^(#define SYN_\w+_REVISION +)(\d+)u$',
                  lambda m: f'{m[1]}{int(m[2]) + 1}u', text, flags=re.M)
    text = re.sub(r'(<=\s+)(\d+)(,\s+"a \w+ costs more)',
                  lambda m: f'{m[1]}{int(m[2]) + GROWN}{m[3]}', text)
    with open(output, 'w', encoding='utf-8') as f:
        f.write(text)


main()
