#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attach to $SYNAPSE_SOCKET, lease a page, write it, seal it, find it."""
import ctypes as c
import os
import struct

lib = c.CDLL('libsynapse-client.so.0')
client, window, addr = c.c_void_p(), c.c_void_p(), c.c_void_p()
page, found = c.c_uint64(), c.c_uint64()
space = c.create_string_buffer(24)  # struct syn_space
key = (c.c_uint64 * 2)(0x6b65, 0x79)
second = c.c_uint64(10**9)


def call(name, *args):
    result = getattr(lib, name)(*args)
    assert result >= 0, f'{name}: {os.strerror(-result)}'
    return result


# One component: keys in fp16, 2 heads of 64; pages of 128 tokens, 1 layer.
part = c.create_string_buffer(struct.pack('HHIIHH', 1, 1, 2, 64, 1, 0))
opts = struct.pack('NQQIIIP', 48, 1, 2, 128, 1, 1, c.addressof(part))
call('syn_attach', None, c.byref(client), None)
call('syn_space_define', client, opts, space)
call('syn_window_open', client, space, struct.pack('NII', 16, 4, 0),
     c.byref(window))
call('syn_lease', window, 1, second, c.byref(page))
call('syn_pin', client, c.byref(page), 1, c.byref(addr))
c.memmove(addr, b'found by its key\0', 17)
lib.syn_unpin(client, 0, c.byref(page), 1)
call('syn_commit', client, c.byref(page), c.byref(c.c_uint32(128)), 1)
call('syn_seal', client, page, key, 0, c.c_uint64(0))
assert call('syn_lookup', window, key, 1, c.byref(found), None) == 1
call('syn_load', client, c.byref(found), 1, second, c.byref(addr))
print(c.string_at(addr).decode())
lib.syn_detach(client)
