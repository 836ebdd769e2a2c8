#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's attention does with contiguous keys and values: torch_attend.py [RUNS].

Prints figures as synapse-bench does: one query a sequence over 2 Mi tokens in
all, fp16, 8 KV heads of 128 channels, by scaled_dot_product_attention with
grouped queries and by what it makes of queries that lie beside each other, as
if they were a sequence.
"""

import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit(print('torch_attend.py: no PyTorch') or 77)

HEADS, DIM = 8, 128
SCENES = ((8, 131072, 4), (8, 131072, 8), (64, 32768, 4), (64, 32768, 8))


def seconds(work, calls=4):
    work()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / calls


def line(name, unit, values):
    def text(value):
        return f'{value:10.{0 if value >= 100 else 1 if value >= 10 else 2}f}'
    print(f'{"torch/" + name:<44} {unit:<6}'
          f' {text(statistics.median(values))} {text(min(values))}'
          f' {text(max(values))} {"-":>10} {"-":>8}  -', flush=True)


def measure(name, work, copy, size, runs):
    try:
        times = [seconds(work) for _ in range(runs)]
    except (RuntimeError, TypeError) as e:
        print(f'{name}: {e}'.splitlines()[0], file=sys.stderr)
        return
    line(name, 'us', [t * 1e6 for t in times])
    line(name + ' / copy', 'x', [size / t / copy() for t in times])


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if not torch.cuda.is_available():
        print('torch_attend.py: no GPU')
        return 77
    torch.manual_seed(1)
    print(f'  {torch.cuda.get_device_name()}, PyTorch {torch.__version__}',
          file=sys.stderr)
    a = torch.empty(1 << 30, dtype=torch.uint8, device='cuda').fill_(1)
    b = torch.empty_like(a)

    def copy():
        return 2 * a.numel() / seconds(lambda: b.copy_(a), 20)

    print(f'{"figure":<44} {"unit":<6} {"median":>10} {"min":>10} {"max":>10}'
          f' {"target":>10} {"ratio":>8}')
    for nr, tokens, group in SCENES:
        what = f'{nr} x {tokens // 1024} Ki, {group}'
        k, v = (torch.randn(nr, HEADS, tokens, DIM, dtype=torch.float16,
                            device='cuda') for _ in range(2))
        q = torch.randn(nr, HEADS * group, 1, DIM, dtype=torch.float16,
                        device='cuda')
        beside = q.view(nr, HEADS, group, DIM)
        size = 2 * k.numel() * 2
        measure(f'grouped, {what}',
                lambda: F.scaled_dot_product_attention(q, k, v,
                                                       enable_gqa=True),
                copy, size, runs)
        measure(f'beside, {what}',
                lambda: F.scaled_dot_product_attention(beside, k, v),
                copy, size, runs)
        del k, v
        torch.cuda.empty_cache()
    return 0


sys.exit(main())
