# SPDX-License-Identifier: Apache-2.0
"""What libsynapse-client records against the module that reads it.

test-trace.py TEST-CLIENT-TRACE TOOLS-TRACE
"""

import json
import os
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, sys.argv[2])
import share_trace  # noqa: E402

PAGES = [1 << 32 | i for i in range(5)]
BATCHES = 3000
HEAD = 40
BLOCK = 16


def check(what, got, want):
    if got != want:
        sys.exit(f'FAIL: {what}: {got!r}, expected {want!r}')
    print(f'ok: {what}')


def fails(what, path, data, kind, words):
    """Both ways to read say what is wrong."""
    with open(path, 'wb') as f:
        f.write(data)
    try:
        share_trace.read(path)
        sys.exit(f'FAIL: {what} was read')
    except share_trace.TraceError as error:
        if type(error) is not kind or words not in str(error):
            sys.exit(f'FAIL: {what}: {error!r}, expected {words!r}')


def command(*args):
    return subprocess.run(
        [sys.executable, os.path.join(sys.argv[2], 'share_trace.py'), *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def check_pages(records):
    key = ['{:016x}{:016x}'.format(n + 1, n) for n in (1, 3, 5)]
    space = records[0]
    check('space', (space['type'], space['space'], space['model'][16:],
                    space['tokens'], space['layers_per_page'],
                    space['page_bytes'], space['identity']),
          ('space', 5, '1122334455667788', 128, 1, 8192, 99))
    check('component', space['components'],
          [{'role': 1, 'dtype': space['components'][0]['dtype'], 'heads': 1,
            'dim': 32, 'codec': space['components'][0]['codec']}])
    bare = [{k: v for k, v in r.items() if k != 'time_ns'}
            for r in records[1:7]]
    check('life of pages', bare, [
        {'type': 'lease', 'space': 5, 'pages': PAGES[:4]},
        {'type': 'commit', 'pages': PAGES[:2], 'tokens': [128, 128]},
        {'type': 'seal', 'page': PAGES[0], 'key': key[0], 'dup': False},
        {'type': 'seal', 'page': PAGES[1], 'key': key[1], 'dup': True},
        {'type': 'lookup', 'space': 5, 'asked': 3, 'pages': PAGES[4:],
         'keys': key[:2]},
        {'type': 'release', 'pages': PAGES[4:]}])


def row(pages, queries, shift):
    return [[2.0 * (i + 1) * queries * (1 << h) / (1 << shift)
             for h in range(2)] for i in range(len(pages))]


def check_shares(records):
    some = [r for r in records if r['type'] == 'shares']
    check('batches', len(some), 6 + BATCHES)
    check('where they stand',
          [(r['sequence'], r['first'], r['layer'], r['queries'], r['kv_heads'],
            r['group']) for r in some[:7]],
          [(7, 0, 0, 128, 2, 2), (7, 0, 1, 128, 2, 2), (7, 256, 0, 1, 2, 2),
           (7, 257, 0, 1, 2, 2), (7, 258, 1, 1, 2, 2), (7, 259, 2, 1027, 2, 2),
           (7, 300, 3, 1, 2, 2)])
    check('pages of batches', [r['pages'] for r in some[:7]],
          [PAGES[:2], PAGES[:2], PAGES[:3], PAGES[1:3], [PAGES[0], PAGES[2]],
           PAGES[:1], PAGES[:4]])
    wants = [row(PAGES[:2], 128, 4), row(PAGES[:2], 128, 4),
             row(PAGES[:3], 1, 5), row(PAGES[:2], 1, 6)]
    check('shares', [r['shares'] for r in some[:4]], wants)
    whole = row(PAGES[:3], 1, 3)
    check('parts of a page', some[4]['shares'],
          [[a + b for a, b in zip(whole[0], whole[1])], whole[2]])
    for got, want in zip(some[5]['shares'][0], row(PAGES[:1], 1027, 20)[0]):
        if abs(got / want - 1) > 2 ** -9:
            sys.exit(f'FAIL: {got} is not {want}')
    check('all others', all(r['shares'] == row(PAGES[:4], 1, 8)
                            and r['pages'] == PAGES[:4] for r in some[6:]),
          True)


def check_report(records):
    told = [r for r in records if r['type'] == 'report']
    check('direct report',
          [(r['pages'], r['shares'], r['queries']) for r in told],
          [(PAGES[3:4], [1.5], [2])])
    check('order', [r['time_ns'] for r in records],
          sorted(r['time_ns'] for r in records))
    check('the end', [r['type'] for r in records[-2:]], ['release', 'end'])


def blocks(data):
    at = HEAD
    while at < len(data):
        yield at
        at += BLOCK + struct.unpack_from('<I', data, at + 4)[0]


def check_cuts(path, data, records):
    """Wherever it is cut off, what was whole before is there."""
    starts = list(blocks(data))
    check('several blocks', len(starts) > 2, True)
    for end in range(HEAD):
        fails(f'{end} bytes', path, data[:end], share_trace.TraceError, '')
    fails('no block', path, data[:HEAD], share_trace.TornError, 'no end')
    cuts = starts[1:] + [s + n for s in starts for n in (1, 15, 16, 17, 5000)]
    seen = 0
    for end in sorted(c for c in cuts if c < len(data)):
        fails(f'{end} bytes', path, data[:end], share_trace.TornError, '')
        _, some = share_trace.read(path, torn=True)
        check(f'{end} bytes: a beginning', some, records[:len(some)])
        check('no less than before', len(some) >= seen, True)
        seen = len(some)
    check('most of it', seen > len(records) / 2, True)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]


def check_damage(path, data):
    starts = list(blocks(data))
    for at in range(HEAD):
        fails(f'head, byte {at}', path, flipped(data, at),
              share_trace.TraceError, '')
    fails('version', path, data[:8] + b'\2' + data[9:],
          share_trace.TraceError, 'version 2')
    for at in (starts[0], starts[0] + 8, starts[0] + BLOCK + 100,
               starts[1] + BLOCK + 70):
        fails(f'byte {at}', path, flipped(data, at), share_trace.TraceError,
              'damaged')
    fails('last byte', path, flipped(data, len(data) - 1),
          share_trace.TornError, 'the last one, is damaged')
    first, second = data[starts[0]:starts[1]], data[starts[1]:starts[2]]
    fails('blocks that changed places', path,
          data[:HEAD] + second + first + data[starts[2]:],
          share_trace.TraceError, 'damaged')


def remade(data, change):
    """One block with other bytes and a right hash."""
    start = HEAD
    size = struct.unpack_from('<I', data, start + 4)[0]
    body = bytearray(data[start + BLOCK:start + BLOCK + size])
    change(body)
    return data[:HEAD] + struct.pack('<IIII', 0, size, share_trace.xxh32(
        bytes(body), 0), 0) + bytes(body)


def check_lies(path, data):
    """A recording with right hashes that no recorder writes."""
    def record_of(body, kind):
        at = 0
        while struct.unpack_from('<H', body, at + 4)[0] != kind:
            at += struct.unpack_from('<I', body, at)[0]
        return at

    def put(kind, offset, value):
        return lambda body: struct.pack_into(
            '<I', body, record_of(body, kind) + offset, value)

    for what, change, words in (
            ('no bytes', put(2, 0, 0), 'says that it has 0'),
            ('odd bytes', put(2, 0, 33), 'says that it has 33'),
            ('too many pages', put(2, 20, 1 << 20), 'too short'),
            ('too many values', put(7, 44, 1 << 20), 'too short'),
            ('pages of before', put(7, 48, 1), 'those of before')):
        fails(what, path, remade(data, change), share_trace.TraceError, words)

    def unknown(body):
        struct.pack_into('<H', body, record_of(body, 2) + 4, 1000)
    with open(path, 'wb') as f:
        f.write(remade(data, unknown))
    kinds = [r['type'] for r in share_trace.read(path, torn=True)[1]]
    check('unknown records', kinds[:2], ['space', 'commit'])


def check_command(path, data, records):
    with open(path, 'wb') as f:
        f.write(data)
    run = command('--json', path)
    check('dump', (run.returncode, [json.loads(s) for s in
                                    run.stdout.splitlines()]), (0, records))
    run = command(path)
    check('summary', (run.returncode, '3006 batches of shares, 3003 of one '
                      'query' in run.stdout, run.stderr), (0, True, ''))
    with open(path, 'wb') as f:
        f.write(data[:-1])
    run = command(path)
    check('cut', (run.returncode, run.stdout, 'cut short' in run.stderr),
          (1, '', True))
    run = command('--torn', path)
    check('cut, accepted', (run.returncode, 'torn: block' in run.stdout),
          (0, True))


def main():
    check('XXH32', [share_trace.xxh32(b''), share_trace.xxh32(b'abc')],
          [0x02cc5d05, 0x32d153ff])
    with tempfile.TemporaryDirectory(prefix='syn-trace-') as folder:
        path = os.path.join(folder, 't')
        subprocess.run([sys.argv[1], path], check=True)
        with open(path, 'rb') as f:
            data = f.read()
        head, records = share_trace.read(path)
        check('head', (head['session'], head['version'], head['torn']),
              (42, 1, None))
        check_pages(records)
        check_shares(records)
        check_report(records)
        check_cuts(path, data, records)
        check_damage(path, data)
        check_lies(path, data)
        check_command(path, data, records)


if __name__ == '__main__':
    main()
