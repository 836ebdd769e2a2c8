#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots a machine of two NUMA nodes and an NVMe disk, and runs a case in it.

run-vm.py BUILD CASE.sh [--disk MIB] [--cut WORD] PROGRAM...

QEMU emulates everything, so no /dev/kvm is needed.  The kernel is Debian's
cloud kernel, downloaded once into BUILD/vm and not installed; the file system
is busybox, the programs and their libraries, all in memory.  Each program is
at its path in the build and at /t/NAME.  CASE.sh runs as the only script; its
exit code is this program's, 77 included.  With systemd among the programs that
is the first process, and CASE.sh a service of it.

--disk MIB   the NVMe disk has an ext4 file system of that size, /dev/nvme0n1
--cut WORD   power is cut when the guest has said WORD and 30 lines more; then
             it boots again from the same disk.  What it had said until then
             is in /said of the second boot.  QEMU dies, but not the
             system under it: what it had written to the image stays.
"""

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
KERNEL = 'linux-image-cloud-amd64'
EXIT = re.compile(r'^synapse-vm: exit (\d+)$')
SECONDS = 240
LINES_AFTER = 30
SKIP = 77

# Two nodes as far apart as two sockets; 384 MiB and two CPUs each.
MACHINE = '''
-accel tcg,thread=multi -machine q35 -cpu max -smp 4 -m 768M
-object memory-backend-ram,size=384M,id=m0
-object memory-backend-ram,size=384M,id=m1
-numa node,nodeid=0,memdev=m0,cpus=0-1 -numa node,nodeid=1,memdev=m1,cpus=2-3
-numa dist,src=0,dst=1,val=21
-nodefaults -no-user-config -no-reboot -display none -serial stdio
'''.split()


class Skip(Exception):
    """The machine cannot be had here."""


def need(name):
    path = shutil.which(name, path=os.environ['PATH'] + ':/sbin:/usr/sbin')
    if not path:
        raise Skip(f'no {name}')
    return path


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def kernel_fetch(cache):
    """Downloads and unpacks; the package is not installed."""
    need('apt-get')
    depends = subprocess.run(['apt-cache', 'depends', KERNEL], text=True,
                             capture_output=True, check=False).stdout
    found = re.search(r'Depends: (linux-image-\S+)', depends)
    if not found:
        raise Skip(f'no package {KERNEL}')
    with tempfile.TemporaryDirectory(dir=cache) as work:
        done = subprocess.run(['apt-get', '-q', 'download', found.group(1)],
                              cwd=work, check=False, capture_output=True,
                              text=True)
        packages = [n for n in os.listdir(work) if n.endswith('.deb')]
        if done.returncode or len(packages) != 1:
            raise Skip(f'{found.group(1)} cannot be downloaded: '
                       + done.stderr.strip())
        run('dpkg-deb', '-x', packages[0], 'tree', cwd=work)
        boot = os.path.join(work, 'tree', 'boot')
        image = [n for n in os.listdir(boot) if n.startswith('vmlinuz')]
        os.rename(os.path.join(boot, image[0]), os.path.join(cache, 'vmlinuz'))


def kernel(build):
    """Path of the kernel; tests that run side by side fetch it once."""
    cache = os.path.join(build, 'vm')
    os.makedirs(cache, exist_ok=True)
    path = os.path.join(cache, 'vmlinuz')
    with open(os.path.join(cache, 'lock'), 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            kernel_fetch(cache)
    return path


def libraries(program):
    out = subprocess.run(['ldd', program], text=True, capture_output=True,
                         check=False).stdout
    return re.findall(r'(/\S+) \(0x', out)


def static_busybox():
    path = need('busybox')
    if libraries(path):
        raise Skip('busybox is not static')
    return path


def put(tree, source, target=None):
    path = tree + (target or source)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.exists(path):
        shutil.copy(source, path)


def file_system(work, case, programs, said):
    """An archive of everything the guest has, as the kernel wants it."""
    tree = os.path.join(work, 'tree')
    shutil.rmtree(tree, ignore_errors=True)
    for name in ('proc', 'sys', 'dev', 'tmp', 'run', 't', 'mnt'):
        os.makedirs(os.path.join(tree, name))
    busybox = static_busybox()
    put(tree, busybox, '/bin/busybox')
    put(tree, os.path.join(HERE, 'init.sh'), '/init')
    put(tree, case, '/case.sh')
    os.chmod(os.path.join(tree, 'init'), 0o755)
    for program in map(os.path.abspath, programs):
        put(tree, program)
        os.symlink(program, os.path.join(tree, 't', os.path.basename(program)))
        for library in libraries(program):
            put(tree, library)
    if said is not None:
        with open(os.path.join(tree, 'said'), 'w', encoding='utf-8') as file:
            file.write('\n'.join(said) + '\n')
    names = subprocess.run(['find', '.'], cwd=tree, check=True,
                           capture_output=True).stdout
    archive = os.path.join(work, 'initrd')
    with open(archive, 'wb') as file:
        run(busybox, 'cpio', '-o', '-H', 'newc', cwd=tree, input=names,
            stdout=file, stderr=subprocess.DEVNULL)
    return archive


def disk_make(work, mib):
    path = os.path.join(work, 'disk')
    run(need('mke2fs'), '-q', '-t', 'ext4', path, f'{mib}M')
    return ['-drive', f'file={path},if=none,id=d,format=raw',
            '-device', 'nvme,drive=d,serial=synapse']


def boot(command, cut):
    """Runs until the end, or until the cut; the lines the guest said."""
    said = []
    left = None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                          errors='replace', stdout=subprocess.PIPE) as qemu:
        timer = threading.Timer(SECONDS, qemu.kill)
        timer.start()
        for line in qemu.stdout:
            line = line.rstrip()
            print('|', line, flush=True)
            said.append(line)
            if cut and left is None and cut in line:
                left = LINES_AFTER
            elif left is not None:
                left -= 1
            if left == 0:
                qemu.kill()
                break
        timer.cancel()
    return said


def verdict(said):
    codes = [m.group(1) for m in map(EXIT.match, said) if m]
    if not codes:
        print('the guest ended without an exit code')
        return 1
    return int(codes[-1])


def play(args, work):
    command = [need('qemu-system-x86_64'), *MACHINE, '-kernel',
               kernel(args.build), '-append',
               'console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off']
    if args.disk:
        command += disk_make(work, args.disk)
    said = None
    for cut in [args.cut, None] if args.cut else [None]:
        archive = file_system(work, args.case, args.program, said)
        said = boot([*command, '-initrd', archive], cut)
        if cut and any(map(EXIT.match, said)):
            break  # it ended before there was anything to cut
    return verdict(said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('build')
    parser.add_argument('case')
    parser.add_argument('program', nargs='*')
    parser.add_argument('--disk', type=int)
    parser.add_argument('--cut')
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix='synapse-vm-') as work:
            return play(args, work)
    except Skip as reason:
        print('skipped:', reason)
        return SKIP


sys.exit(main())
