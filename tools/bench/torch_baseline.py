#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch does with scattered pages in pinned memory: torch_baseline.py [RUNS].

Prints figures as synapse-bench does.  Pages come in random order out of 4 GiB
of pinned host memory and go into slots on the GPU:

gather, copy    index_select into a pinned buffer by the CPU, then one copy_
loop of copies  a copy_ for each page, not blocking
one copy        1 GiB of pinned memory, copy_, not blocking
"""

import statistics
import sys
import time

try:
    import torch
except ImportError:
    sys.exit(print('torch_baseline.py: no PyTorch') or 77)

POOL = 4 << 30
PASS = 1 << 30
SIZES = {'64 KiB': 64 << 10, '256 KiB': 256 << 10, '2 MiB': 2 << 20}


def rate(work):
    """GB/s of a pass."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return PASS / (time.perf_counter() - begin) / 1e9


class Pages:
    """A pool seen as pages, an order to take them in, slots on the GPU."""

    def __init__(self, pool, page_bytes):
        self.pages = pool.view(-1, page_bytes)
        self.nr = PASS // page_bytes
        self.staging = torch.empty(self.nr, page_bytes, dtype=torch.uint8,
                                   pin_memory=True)
        self.slots = torch.empty(self.nr, page_bytes, dtype=torch.uint8,
                                 device='cuda')
        self.reorder()

    def reorder(self):
        self.order = torch.randperm(len(self.pages))[:self.nr]

    def gather_copy(self):
        torch.index_select(self.pages, 0, self.order, out=self.staging)
        self.slots.copy_(self.staging, non_blocking=True)

    def loop(self):
        for slot, page in enumerate(self.order.tolist()):
            self.slots[slot].copy_(self.pages[page], non_blocking=True)

    def check(self, what):
        torch.cuda.synchronize()
        for slot in range(0, self.nr, self.nr // 16):
            if not torch.equal(self.slots[slot].cpu(),
                               self.pages[self.order[slot]]):
                sys.exit(f'{what}: wrong bytes')


def line(name, unit, values):
    def text(value):
        return f'{value:10.{0 if value >= 100 else 1 if value >= 10 else 2}f}'
    print(f'{"torch/" + name:<44} {unit:<6}'
          f' {text(statistics.median(values))} {text(min(values))}'
          f' {text(max(values))} {"-":>10} {"-":>8}  -')


def measure(name, pages, work, one_copy, runs):
    rates, ratios = [], []
    work()
    pages.check(name)
    for _ in range(runs):
        pages.reorder()
        large = rate(one_copy)
        rates.append(rate(work))
        ratios.append(rates[-1] / large)
    line(name, 'GB/s', rates)
    line(name + ' / copy', 'x', ratios)


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if not torch.cuda.is_available():
        print('torch_baseline.py: no GPU')
        return 77
    torch.manual_seed(1)
    print(f'  {torch.cuda.get_device_name()}, PyTorch {torch.__version__}, '
          f'{torch.get_num_threads()} threads', file=sys.stderr)
    pool = torch.empty(POOL, dtype=torch.uint8, pin_memory=True)
    pool.view(torch.int64).copy_(torch.randint(
        -2 ** 63, 2 ** 63 - 1, (POOL // 8,), device='cuda'))
    target = torch.empty(PASS, dtype=torch.uint8, device='cuda')

    def one_copy():
        target.copy_(pool[:PASS], non_blocking=True)

    print(f'{"figure":<44} {"unit":<6} {"median":>10} {"min":>10} {"max":>10}'
          f' {"target":>10} {"ratio":>8}')
    one_copy()
    line('one copy to the GPU', 'GB/s', [rate(one_copy) for _ in range(runs)])
    for size, page_bytes in SIZES.items():
        pages = Pages(pool, page_bytes)
        measure(f'gather, copy, {size}', pages, pages.gather_copy, one_copy,
                runs)
        measure(f'loop of copies, {size}', pages, pages.loop, one_copy, runs)
    return 0


sys.exit(main())
