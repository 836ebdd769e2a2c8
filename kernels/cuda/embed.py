#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py FILE NAME OUTPUT: a file as an array of 64-bit words in C."""

import sys


def main():
    path, name, output = sys.argv[1:]
    with open(path, 'rb') as f:
        data = f.read()
    data += bytes(-len(data) % 8)
    words = [f'0x{int.from_bytes(data[i:i + 8], "little"):x},'
             for i in range(0, len(data), 8)]
    lines = [' '.join(words[i:i + 4]) for i in range(0, len(words), 4)]
    with open(output, 'w', encoding='ascii') as f:
        f.write('/* SPDX-License-Identifier: Apache-2.0 */\n'
                '#include <stdint.h>\n\n'
                f'extern const uint64_t {name}[];\n'
                f'const uint64_t {name}[] = {{\n')
        f.write('\n'.join(lines) + '\n};\n')


main()
