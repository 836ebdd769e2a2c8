#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kernel-doc comments say what is there.

A comment that begins with two asterisks describes the struct, enum, macro or
function that follows: its name must match, each @name: must be a member or a
parameter, and in public headers no member may be missing.
--self-test proves that each kind of mistake is found.
"""

import re
import sys

import tree

DOC = re.compile(r'/\*\*\n(.*?)\*/\n(.*?)(?=\n\n|\n/\*|\Z)', re.S)
HEAD = re.compile(r'^ \* (?:(struct|union|enum|define) )?(\w+)(?:\(\))?'
                  r'(?: - |:)', re.M)
# Strangers read these: there every member is described ...
PUBLIC = 'ipc/include/'
# ... but for the headers of messages and padding.
IMPLIED = re.compile(r'void|msg|pad\d*')
MEMBER = re.compile(r'^ \* @(\w+)(?:\.\.\.)?:', re.M)


def members_of(body):
    """All names declared in the outermost braces, those of nested ones too."""
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
    start = body.find('{')
    if start < 0:
        return None
    depth = 0
    inner = ''
    for ch in body[start:]:
        depth += ch == '{'
        depth -= ch == '}'
        if depth == 0:
            break
        inner += ';' if ch in '{}' else ch
    names = set()
    for decl in inner.split(';'):
        decl = re.sub(r'__attribute__\s*\(\(.*?\)\)', '', decl, flags=re.S)
        function = re.search(r'\(\s*\*\s*(\w+)\s*\)', decl)
        if function:
            names.add(function.group(1))
            continue
        decl = re.sub(r'\[[^]]*\]', '', decl)
        decl = re.sub(r':\s*\w+', '', decl)
        for part in decl.split(','):
            words = re.findall(r'\w+', part)
            if words and words[-1] not in ('struct', 'union'):
                names.add(words[-1])
    return names


def enumerators_of(body):
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
    inner = body[body.find('{') + 1:body.rfind('}')]
    return {m.group(1) for p in inner.split(',')
            if (m := re.match(r'\s*(\w+)', p))}


def parameters_of(body, name):
    call = re.search(re.escape(name) + r'\s*\((.*)\)', body, re.S)
    if not call:
        return None
    names = set()
    for part in re.sub(r'\[[^]]*\]', '', call.group(1)).split(','):
        words = re.findall(r'\w+|\.\.\.', part)
        if words:
            names.add(words[-1])
    return names


def check(path, text):
    for found in DOC.finditer(text):
        doc, body = found.groups()
        line = text.count('\n', 0, found.start()) + 1
        where = f'{path}:{line}'
        head = HEAD.match(doc)
        if not head:
            yield f'{where}: no "name - purpose" in the first line'
            continue
        kind, name = head.groups()
        before = f'{kind} ' if kind else r'\b'
        if not re.search(before + name + r'\b', body):
            yield f'{where}: describes {name}, which does not follow'
            continue
        documented = MEMBER.findall(doc)
        if kind in ('struct', 'union'):
            there = members_of(text[found.start(2):])
        elif kind == 'enum':
            there = enumerators_of(body)
        else:
            there = parameters_of(body, name)
        if there is None:
            yield f'{where}: cannot find what {name} is made of'
            continue
        for member in documented:
            if member not in there:
                yield f'{where}: {name} has no {member}'
        if len(documented) != len(set(documented)):
            yield f'{where}: {name} documents a name twice'
        missing = {m for m in there - set(documented)
                   if not IMPLIED.fullmatch(m)}
        if path.startswith(PUBLIC) and kind == 'struct' and missing:
            yield f'{where}: {name} does not say {", ".join(sorted(missing))}'


GOOD = '''/**
 * struct a - purpose.
 * @b:	text.
 * @c:	text.
 * @fn:	text.
 * @d:	text.
 * @e:	text.
 */
struct a {
	int b[3]; /* why */
	struct x *c;
	int (*fn)(int unused);
	union {
		int d;
		int e;
	};
};

/**
 * f() - purpose.
 * @x:	text.
 */
int f(int x, char *y);
'''

CASES = [
    (GOOD, None),
    (GOOD.replace('@b:', '@bb:'), 'a has no bb'),
    (GOOD.replace(' * @c:	text.\n', ''), 'does not say c'),
    (GOOD.replace('struct a -', 'struct d -'), 'describes d'),
    (GOOD.replace('@x:', '@z:'), 'f has no z'),
    (GOOD.replace('@c:', '@b:'), 'twice'),
    (GOOD.replace(' - purpose', ''), 'no "name - purpose"'),
]


def self_test():
    failed = 0
    for text, expect in CASES:
        said = list(check(PUBLIC + 'case.h', text))
        good = not said if expect is None else any(expect in s for s in said)
        if not good:
            failed += 1
            print(f'expected {expect!r}, got {said} for:\n{text}')
    print(f'{len(CASES)} cases, {failed} failed')
    return 1 if failed else 0


def main():
    if sys.argv[1:] == ['--self-test']:
        return self_test()
    complaints = []
    nr = 0
    for name in tree.c_files():
        text = tree.read(name)
        nr += len(DOC.findall(text))
        complaints += check(name, text)
    print('\n'.join(complaints))
    print(f'{nr} comments, {len(complaints)} complaints')
    return 1 if complaints else 0


sys.exit(main())
