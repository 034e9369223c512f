#!/usr/bin/env python3
"""Kernels that are no bzImage: our own small kernel by every protocol, and Debian's vmlinux."""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from doble import GUEST, check, main, run
from unpack import unpack_vmlinux

KERNEL = os.path.join(HERE, "kernel")
FOLDER = tempfile.TemporaryDirectory()
DONE = 0x21 << 1 | 1  # what the kernel writes to the debug exit
MAP = ["memory: 00000000 0009fc00 00000001", "memory: 00100000 03eef000 00000001"]


def path(name):
    return os.path.join(FOLDER.name, name)


def build(name, *flags):
    if os.path.exists(path(name)):
        return path(name)
    subprocess.run(["gcc", "-m32", "-O1", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-pic",
                    "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-mno-sse",
                    "-fcf-protection=none", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none",
                    "-Wl,-T," + os.path.join(KERNEL, "link.ld"), *flags, "-o", path(name),
                    os.path.join(KERNEL, "entry.S"), os.path.join(KERNEL, "main.c")],
                   check=True, capture_output=True)
    return path(name)


def convert(source, name, form):
    subprocess.run(["objcopy", "-O", form, source, path(name)], check=True)
    return path(name)


def elf64(*flags):
    return convert(build("elf32" + "".join(flags), *flags), "elf64", "elf64-x86-64")


def start(kernel, protocol, *args):
    status, output, errors = run("-k", kernel, "--protocol", protocol, "-m", "64M", "--debug-exit",
                                 "0xf4", *args)
    check(status == DONE, f"{protocol}: status {status}: {output}{errors}")
    return output.splitlines()


def write(name, text):
    with open(path(name), "w") as f:
        f.write(text)
    return path(name)


def told(kernel, protocol, first, cmdline):
    """The kernel is told everything that the user gave."""
    modules = f"{write('one', 'first')} with arguments,{write('two,x', 'second')}".replace("o,x",
                                                                                          "o,,x")
    lines = start(kernel, protocol, "-i", modules, "-a", "hello=1 there")
    check(lines[0].startswith(first), lines)
    wanted = ["cmdline: " + cmdline, "module: one with arguments", "  holds: first",
              "module: two,x", "  holds: second", "fw_cfg signature: 554d4551",
              "fw_cfg cpus: 00000001", "fw_cfg memory: 04000000", *MAP]
    if protocol != "multiboot1":
        wanted.append("rsdp: RSD PTR ")
    for line in wanted:
        check(line in lines, f"{protocol}: no line '{line}' in {lines}")


def multiboot_elf32():
    kernel = build("elf32")
    for protocol in ("multiboot1", "multiboot2"):
        told(kernel, protocol, protocol, "elf32 hello=1 there")


def multiboot_elf64():
    kernel = elf64()
    for protocol in ("multiboot1", "multiboot2"):
        told(kernel, protocol, protocol, "elf64 hello=1 there")


def multiboot_flat():
    kernel = convert(build("elfflat", "-DFLAT"), "flat", "binary")
    for protocol in ("multiboot1", "multiboot2"):
        told(kernel, protocol, protocol, "flat hello=1 there")


def pvh():
    told(build("elf32"), "pvh", "pvh", "hello=1 there")
    told(elf64(), "pvh", "pvh", "hello=1 there")


def linux_64bit_entry():
    lines = start(elf64("-Wl,-e,entry64"), "linux", "-a", "hello=1 there")
    check("hello=1 there" in "".join(lines), lines)


def multiboot2_is_preferred():
    check(start(build("elf32"), "auto")[0] == "multiboot2", "another protocol was chosen")


def bad_modules():
    for modules, words in ((",", "a module without a file"), ("/nowhere/x", "cannot open the module"),
                           (",".join([build("elf32")] * 65), "more than 64 modules")):
        status, _, errors = run("-k", build("elf32"), "-i", modules)
        check(status == 3 and words in errors, errors)


def unknown_kinds():
    status, _, errors = run("-k", write("script", "#!/bin/sh\n" + " " * 4096))
    check(status == 3 and "looks like a script" in errors and "vmlinux" in errors, errors)
    status, _, errors = run("-k", build("elf32"), "--protocol", "linux")
    check(status == 3 and "--protocol linux" in errors, errors)
    status, _, errors = run("-k", build("elf32"), "--protocol", "nonsense")
    check(status == 2 and "multiboot2" in errors, errors)


def vmlinux():
    """Debian's kernel without its bzImage wrapping, by both of its entries."""
    unpack_vmlinux(os.path.join(GUEST, "vmlinuz"), path("vmlinux"))
    for protocol in ("pvh", "linux"):
        status, output, errors = run("-k", path("vmlinux"), "--protocol", protocol, "-i",
                                     os.path.join(GUEST, "initrd.img"), "-a",
                                     "console=ttyS0 quiet doble.batch")
        check(status == 0 and "doble: the guest works" in output, output[-500:] + errors)


if __name__ == "__main__":
    main(multiboot_elf32, multiboot_elf64, multiboot_flat, pvh, linux_64bit_entry,
         multiboot2_is_preferred, bad_modules, unknown_kinds, vmlinux)
