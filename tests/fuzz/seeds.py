#!/usr/bin/env python3
"""tests/fuzz/seeds.py DIR - make the fuzzers' first inputs: DIR/NAME/*.

Small and plain: what a well-behaved guest, file or client would send. The layouts are described at
the top of each fuzz_NAME.c.
"""

import pathlib
import random
import struct
import sys
import zlib

MODES = 12


def cpu():
    """Each mode and privilege with pieces of code that reach its machinery."""
    pieces = {
        "arithmetic": "01d8 11c8 29c3 f7e3 f7f3 6bc907 0fafc1 d1e0 c1e803 0fbcc3 0fa3d8",
        "strings": "fc b90400 f3a5 f3ab f3a6 fd aa ac a4 6c 6e",
        "stack": "50 53 9c 9d 5b 58 60 61 c8100001 c9 1e 1f 06 07 16 17",
        "system": "0f0117 0f011f 0f0107 0f010f 0f20c0 0f22c0 0f20d8 0f22d8 0f20e0 0f22e0 0f06 0fa2",
        "msr": "b9800000c0 0f32 0f30 b91b000000 0f32 0f31 0f01f9",
        "far": "9a00801800 ea00801800 cb cf cd80 cc ce 0f05 0f34 0f07 0f35",
        "segments": "b81000 8ed8 8ec0 8ee0 8ee8 8cd8 0f02c0 0f03c0 0f00e0 0f00e8 c407 c507 0fb207",
        "fpu": "dbe3 d9e8 d9eb d8c1 dd06 dd1e d936 d926 9bd9e0 0fae06 0fae0e",
        "sse": "0f28c1 0f58c1 660f6f06 660f7f06 f30f6f06 0f1006 0f1106 0fae16 0fae1e f20f5ac1",
        "avx": "c5fc28c1 c5fc58c1 c5fe6f06 c5fe7f06 c5f877 c4e27d1806 0f01d0 0f01d1 0fae26 0fae2e",
        "ports": "e460 e640 ec ee ed ef 6c 6e e421 e6a0",
        "debug": "0f23c0 0f23f8 0f21c0 0f21f0 f1 9d 90 90",
        "loop": "ebfe",
        "halt": "fb f4 fa 90",
        "self": "c60590 88060080 90 90 90 c7060080 9090",
        "wide": "48b8ffff800000000000 48f7e0 0fc8 480fc7 0e 0fc7f0 0fc7f8 0f01f8 0f38f0 06",
        "paging": "0f013e 660f3882 08 0f22d8 0f20e0 0f22e0 0f09 0f08",
        "tasks": "ea00006800 9a00008800 0f00d8 0f00d0 cf",
    }
    for mode in range(MODES):
        for name, text in pieces.items():
            for cpl in (0, 3):
                head = struct.pack("<BBHHHQBBB", mode, cpl, 0x122, 0x0626 if cpl else 0xf600, 0x202,
                                   mode * 77 + cpl, 0x84 if cpl else 0, 3 + 4 * mode, 0)
                yield f"{name}-{mode}-{cpl}", head + bytes.fromhex(text)


def engines():
    """The same layout."""
    return cpu()


def devices():
    """Operations of every kind, with a copy of the board made in the middle."""
    chance = random.Random(1)
    for n in range(40):
        kinds = [0x00, 0x40, 0x80, 0xa0, 0xc0, 0xe0]
        out = bytes([chance.randrange(40)])
        for _ in range(60):
            kind = chance.choice(kinds) | chance.randrange(32)
            place = chance.randrange(64)
            out += bytes([kind, place])
            if 0x80 <= kind < 0xc0:
                out += bytes([chance.randrange(64)])
            if 0x40 <= kind < 0x80:
                out += chance.randbytes(min(1 << (kind >> 3 & 3), 4))
            elif kind >= 0xa0:
                count = chance.choice([1, 1, 2, 4, 8])
                out += bytes([count]) + chance.randbytes(count)
        yield f"{n}", out

    for name, operations in chips().items():
        for save_at in (*range(0, len(operations), 2), 255):
            yield f"{name}-{save_at}", bytes([save_at & 0xFF]) + b"".join(operations)


PORTS = [0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71, 0x72,
         0x73, 0x80, 0x92, 0xCF9, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x510, 0x511,
         0x514, 0x518, 0x600, 0x602, 0x604, 0x608, 0x620, 0xE9, 0xF4]  # as in fuzz_devices.c


def chips():
    """What a driver of each chip does."""
    def out(port, *values):
        return [bytes([0x40, PORTS.index(port), v]) for v in values]

    def get(port, times=1):
        return [bytes([0, PORTS.index(port)])] * times

    def wait(ns):
        return [bytes([0xE2, 0, 4]) + struct.pack("<I", ns)]

    def mmio(page, offset, value):
        return [bytes([0xB0, page, offset // 4, 4]) + struct.pack("<I", value)]

    def mmio_get(page, offset):
        return [bytes([0x90, page, offset // 4])]

    def lapic(offset, value):
        return [bytes([0xC1, offset & 0xFF, 4]) + struct.pack("<I", value)]

    def mouse(*commands):
        return sum((out(0x64, 0xD4) + out(0x60, c) + wait(2000000) + get(0x60, 2) for c in commands), [])

    def keyboard(*commands):
        return sum((out(0x60, c) + wait(2000000) + get(0x64) + get(0x60, 2) for c in commands), [])

    pic = out(0x20, 0x11) + out(0x21, 0x20, 4, 1, 0) + out(0xA0, 0x11) + out(0xA1, 0x28, 2, 1, 0)
    return {
        "pic": pic + out(0x20, 0x0A, 0x0B, 0x20, 0x60, 0xA0, 0xC2, 0x68) + get(0x20, 2) + get(0x21),
        "pit": pic + out(0x43, 0x34) + out(0x40, 0, 16) + wait(5000000) + get(0x40, 2) +
        out(0x43, 0x00, 0xE2) + get(0x40, 3) + out(0x43, 0xB6) + out(0x42, 9, 1) + out(0x61, 3) +
        wait(400000) + get(0x61) + out(0x43, 0x80) + get(0x42, 2) + [b"\xc5\0\0"],
        "pit-modes": sum((out(0x43, 0x30 | m << 1 | b) + out(0x40, 0x99, 1) + wait(100000) + get(0x40, 2)
                          for m in range(6) for b in (0, 1)), []),
        "rtc": out(0x70, 0x0B) + out(0x71, 0x72) + wait(7000000) + out(0x70, 0x0A) + out(0x71, 0x66, 0x26) +
        wait(2000000000) +
        out(0x70, 0x0C) + get(0x71, 2) + sum((out(0x70, r) + get(0x71) for r in range(10)), []) +
        out(0x70, 1) + out(0x71, 0xC0) + out(0x70, 0x0B) + out(0x71, 0x22) + wait(1500000000) +
        out(0x70, 0x0C) + get(0x71),
        "uart": out(0x3FB, 0x83) + out(0x3F8, 1) + out(0x3F9, 0) + out(0x3FB, 3) + out(0x3FA, 0xC7) +
        out(0x3F9, 15) + out(0x3FC, 0x0B) + out(0x3F8, 65, 66) + get(0x3FA, 2) + get(0x3FD) +
        [bytes([0xF8, 0, 8]) + b"received"] + wait(3000000) + get(0x3F8, 4) + get(0x3FE) +
        out(0x3FC, 0x1B) + out(0x3F8, 67) + wait(1000000) + get(0x3F8),
        "mouse": out(0x64, 0xA8, 0x20) + get(0x60) + mouse(0xFF, 0xF2, 0xE8, 3, 0xF3, 80, 0xF4, 0xE6,
                                                            0xE7, 0xE9, 0xEB, 0xEA, 0xF0, 0xEE, 0x12) +
        mouse(0xEC) + mouse(0xE9) + out(0x64, 0xD4) + out(0x60, 0xE8),
        "keyboard": out(0x64, 0xAA) + get(0x60) + keyboard(0xFF, 0xF2, 0xED, 7, 0xF3, 0x20, 0xF0, 0, 0xF0,
                                                         2, 0xF5, 0xF4, 0xEE, 0xFE, 0xF6) +
        out(0x64, 0xD0) + get(0x60) + out(0x64, 0xD1) + out(0x60, 0xDD) + out(0x64, 0x60) +
        out(0x60, 0x47) + out(0x64, 0xD2) + out(0x60, 0x1C) + wait(1000000) + get(0x60),
        "keys": keyboard(0xF4) + out(0x64, 0x60) + out(0x60, 0x47) + [bytes([0xF4, 0, 4]) + b"\x1c\xf0\x1c\x5a"] +
        wait(400000) + get(0x60) + wait(200000) * 6 + get(0x60, 2) + keyboard(0xF0, 1, 0xF5, 0xF4) +
        out(0x64, 0x63) + out(0x60, 0x99) + out(0x60, 0xEE) + wait(1000000) + out(0x64, 0x20, 0xA9) +
        get(0x60, 3) + out(0x64, 0x20, 0xD3) + out(0x60, 0x77) + get(0x60, 2) + out(0x64, 0x23) + get(0x60),
        "hpet": mmio_get(1, 0) + mmio_get(1, 4) + mmio(1, 0x10, 3) + mmio(1, 0xF0, 5) + mmio_get(1, 0x10) +
        mmio(1, 0x100, 0x4C) + mmio(1, 0x108, 0x100000) + wait(20000000) + mmio_get(1, 0x20) +
        mmio_get(1, 0xF0) + mmio(1, 0x20, 1) + mmio(1, 0x10, 0),
        "hpet-levels": sum((mmio(1, 0x100 + 0x20 * n, 0x2906 | n << 9) + mmio(1, 0x108 + 0x20 * n, 1000)
                            for n in range(3)), []) + mmio(1, 0x10, 1) + wait(100000) +
        mmio_get(1, 0x20) + mmio(1, 0x20, 1) + mmio(1, 0x20, 6) + mmio(1, 0x10, 0) + mmio(1, 0xF0, 77),
        "ioapic": mmio(0, 0, 1) + mmio_get(0, 0x10) +
        sum((mmio(0, 0, 0x10 + 2 * n) + mmio(0, 0x10, 0x8030 + n) + mmio(0, 0, 0x11 + 2 * n) +
             mmio(0, 0x10, 0) for n in (1, 2, 4, 9)), []) + keyboard(0xEE),
        "lapic": lapic(0xF0, 0x1FF) + [bytes([0xC1, 0xE0, 1, 0xFF])] + [bytes([0xC9, 0x20, 2, 0x20, 0])] +
        lapic(0x80, 0x20) + [b"\xc5\0\0", b"\xc0\xb0", b"\xc7\0\0", b"\xc2\x30\0"] +
        wait(5000000) + [bytes([0xC4, 0, 4]) + struct.pack("<I", 9000000)] + wait(5000000),
        "acpi": out(0x602, 0x20, 1) + out(0x604, 1) + get(0x604) + [b"\xe1\0\0"] + get(0x600, 2) +
        out(0x600, 0xFF, 0xFF) + get(0x608, 4) + out(0x604, 0x01, 0x34),
        "fw-cfg": [bytes([0x48, PORTS.index(0x510)]) + struct.pack("<H", key) + b for key in
                   (0, 1, 3, 5, 8, 0x0F, 0x11, 0x14, 0x15, 0x17, 0x18, 0x19, 0x20, 0x8000)
                   for b in [b""]] + get(0x511, 9) +
        [bytes([0x50, PORTS.index(0x514)]) + b"\0\0\0\0",
         bytes([0x50, PORTS.index(0x518)]) + b"\0\0\x10\0"],
        "reset": out(0x92, 2) + get(0x92) + out(0x92, 0) + out(0xCF9, 2, 6) + get(0xCF9) + out(0x92, 1) +
        out(0x64, 0xFE) + out(0x80, 7) + out(0xE9, 72) + out(0xF4, 3),
    }


def elf(bits, note, segments):
    """An ELF kernel at 1 MiB."""
    code = bytes.fromhex("b878563412f4ebfd")
    if bits == 64:
        ehdr, phdr = 64, 56
        head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x100000, ehdr, 0, 0,
                           ehdr, phdr, segments + bool(note), 0, 0, 0)
    else:
        ehdr, phdr = 52, 32
        head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, 0x100000, ehdr, 0, 0,
                           ehdr, phdr, segments + bool(note), 0, 0, 0)
    at = ehdr + phdr * (segments + bool(note))
    table = b""
    for i in range(segments):
        gpa = 0x100000 + i * 0x1000
        if bits == 64:
            table += struct.pack("<IIQQQQQQ", 1, 7, at, gpa, gpa, len(code), 0x800, 4096)
        else:
            table += struct.pack("<IIIIIIII", 1, at, gpa, gpa, len(code), 0x800, 7, 4096)
    if note:
        offset = at + len(code)
        if bits == 64:
            table += struct.pack("<IIQQQQQQ", 4, 4, offset, 0, 0, len(note), len(note), 4)
        else:
            table += struct.pack("<IIIIIIII", 4, offset, 0, 0, len(note), len(note), 4, 4)
    return head + table + code + note


def multiboot1(flags, body=b""):
    magic = 0x1BADB002
    head = struct.pack("<III", magic, flags, -(magic + flags) & 0xFFFFFFFF)
    if flags & 0x10000:
        head += struct.pack("<IIIII", 0x100000, 0x100000, 0x100100, 0x101000, 0x100020)
    return head + body.ljust(0x100, b"\xf4")


def multiboot2(tags):
    body = b"".join(tags) + struct.pack("<HHI", 0, 0, 8)
    length = 16 + len(body)
    head = struct.pack("<IIII", 0xE85250D6, 0, length, -(0xE85250D6 + length) & 0xFFFFFFFF)
    return (head + body).ljust(0x200, b"\xf4")


def mb2_tag(kind, data, flags=0):
    tag = struct.pack("<HHI", kind, flags, 8 + len(data)) + data
    return tag.ljust((len(tag) + 7) & ~7, b"\0")


def bzimage(version, xloadflags, relocatable):
    """Four sectors of setup and a little code."""
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    struct.pack_into("<I", setup, 0x1F4, 0x40)
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    struct.pack_into("<H4sH", setup, 0x200, 0x66EB, b"HdrS", version)
    setup[0x211] = 1
    struct.pack_into("<I", setup, 0x214, 0x100000)
    struct.pack_into("<I", setup, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<IB", setup, 0x230, 0x200000, relocatable)
    setup[0x235] = 21
    struct.pack_into("<H", setup, 0x236, xloadflags)
    struct.pack_into("<I", setup, 0x238, 2047)
    struct.pack_into("<Q", setup, 0x258, 0x200000)
    struct.pack_into("<I", setup, 0x260, 0x10000)
    return bytes(setup) + b"\xf4" * 0x400


def loaders():
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100000)
    images = {
        "elf64": elf(64, b"", 1), "elf32": elf(32, b"", 2), "pvh64": elf(64, note, 2),
        "pvh32": elf(32, note, 1), "mb1-flat": multiboot1(0x10003), "mb1-elf": elf(32, b"", 1) +
        multiboot1(3), "mb1-video": multiboot1(0x10007),
        "mb2-flat": multiboot2([mb2_tag(2, struct.pack("<IIII", 0x100000, 0x100000, 0x100100,
                                                       0x101000)),
                                mb2_tag(3, struct.pack("<I", 0x100020))]),
        "mb2-tags": elf(64, b"", 1).ljust(512, b"\0") +
        multiboot2([mb2_tag(1, struct.pack("<IIII", 1, 3, 4, 6)), mb2_tag(6, b""),
                    mb2_tag(10, struct.pack("<IIII", 0x100000, 0x800000, 4096, 1), 1),
                    mb2_tag(5, struct.pack("<III", 80, 25, 0), 1)]),
        "bz-64": bzimage(0x20F, 3, 1), "bz-32": bzimage(0x20A, 0, 0), "bz-old": bzimage(0x204, 0, 0),
        "nothing": b"\0" * 64, "text": b"#!/bin/sh\necho no\n",
    }
    for name, image in images.items():
        yield name, b"\0" + image
        yield f"{name}-initrd", b"\x28" + struct.pack("<H", 7) + b"quiet x" + \
            struct.pack("<H", 5) + b"01234" + image
        yield f"{name}-modules", b"\x18" + struct.pack("<H", 5) + b"01234" + image
    for protocol in range(1, 5):
        for name, image in images.items():
            yield f"{name}-{protocol}", bytes([protocol]) + image


def gdb():
    sessions = {
        "greeting": ["qSupported:multiprocess+;swbreak+;hwbreak+;qRelocInsn+", "QStartNoAckMode",
                     "qXfer:features:read:target.xml:0,ffb", "?", "Hg0", "qC", "qAttached",
                     "qfThreadInfo", "qsThreadInfo", "vCont?", "qOffsets", "g", "D"],
        "registers": ["g", "p0", "p10", "P0=1122334455667788", "P10=0080000000000000", "p18", "P18=0",
                      "G" + "00" * 40],
        "memory": ["m8000,40", "M6000,4:01020304", "X6000,2:ab", "mffffffff,10", "m0,4000",
                   "M7fff,2:0102", "x8000,10"],
        "breaks": ["Z0,8004,1", "Z1,8005,1", "c", "", "", "z0,8004,1", "Z2,6000,4", "Z3,6000,4",
                   "Z4,6000,8", "c", "", "\x03", "z4,6000,8", "s", "", "vCont;s:1;c", "", "\x03"],
        "steps": ["s", "", "s8000", "", "c8000", "", "\x03", "vCont;s", "", "vCont;c", "", "\x03"],
        "monitor": ["qRcmd," + text.encode().hex() for text in
                    ("help", "translate 0x8000", "pt 0x6000", "gdt", "idt", "ldt", "tss", "apic",
                     "ioapic", "devices", "device i8254", "registers", "pages", "cpu")],
        "end": ["k"], "other": ["vMustReplyEmpty", "vKill;1", "H c0", "T1", "qXfer:memory-map:read::0,8",
                                "R00", "!", "i", "qCRC:8000,10", "qSearch:memory:0;100;ab", "bc", "bs"],
    }
    for mode in range(MODES):
        for name, lines in sessions.items():
            data = "\n".join(lines).encode()
            yield f"{name}-{mode}", bytes([0, mode]) + data
    for name, lines in sessions.items():
        data = b"+".join(b"$%s#%02x" % (line.encode(), sum(line.encode()) & 255) for line in lines)
        yield f"{name}-raw", bytes([1, 8]) + data


def monitor():
    lines = ["help", "help memory", "status", "pause", "resume", "registers", "x 0x8000 64",
             "memory 0 4096 phys", "translate 0x8000", "devices", "devices i8*", "devices *", "stats",
             "trace", "trace i8* on", "trace * off", "save 'f'", "save \"a b\"", "restore f", "power",
             "reset", "quit", "leave", "stop", "cont", "nonsense", "x 1 2 3 4"]
    objects = ['{"command": "%s"}' % c for c in
               ("help", "status", "pause", "resume", "registers", "devices", "stats", "trace", "power",
                "quit", "leave", "reset")]
    objects += ['{"id": 1, "command": "memory", "arguments": {"address": "0x8000", "length": 16}}',
                '{"id": "x", "command": "translate", "arguments": {"address": 32768}}',
                '{"command": "save", "arguments": {"file": "f"}}',
                '{"command": "restore", "arguments": {"file": "f"}}',
                '{"command": "devices", "arguments": {"pattern": "*"}}',
                '{"command": "trace", "arguments": {"pattern": "lapic*", "on": true}}',
                '{"id": [1, {"a": null}], "command": 7}', "[]", '"x"', "{}", "{", "null"]
    for i, line in enumerate(lines):
        for choice in (2, 0, 6):
            yield f"text-{i}-{choice}", bytes([choice | (i % 12) << 4 & 0xF0]) + \
                (b"\x04" if not choice & 2 else b"") + line.encode() + b"\n"
    for i, line in enumerate(objects):
        for choice in (3, 1, 5):
            yield f"json-{i}-{choice}", bytes([choice | (i % 12) << 4 & 0xF0]) + \
                (b"\x04" if not choice & 2 else b"") + line.encode() + b"\n"
    yield "all-text", b"\x02" + "\n".join(lines).encode()
    yield "all-json", b"\x03" + "\n".join(objects).encode()


def state():
    chance = random.Random(2)
    for mode in range(16):
        yield f"good-{mode}", bytes([mode])
        yield f"fresh-{mode}", bytes([mode | 0x40])
    for n in range(80):
        out = bytes([n % 16 | (0x40 if n % 5 == 0 else 0)])
        for _ in range(chance.randrange(1, 5)):
            count = chance.choice([1, 2, 4, 8])
            out += struct.pack("<HB", chance.randrange(320, 5000), count) + \
                chance.choice([b"\xff" * count, chance.randbytes(count), b"\0" * count])
        yield f"changed-{n}", out
    for field in range(700):
        yield f"field-{field}", bytes([0x80 | field % 12 | (0x40 if field % 7 == 0 else 0)]) + \
            struct.pack("<HB", field, chance.randrange(64)) + \
            chance.choice([b"\x08" + b"\xff" * 8, b"\x00", b"\x01" + chance.randbytes(1),
                           b"\x04" + chance.randbytes(4), b"\x08" + chance.randbytes(8)])
    yield "empty", b"\x30"
    yield "magic", b"\x10DobleVM\n" + bytes(400)


def virtio():
    """Drivers that do what they should, and then the unexpected."""
    def set_up(device, features=0xffffffff, size=4):
        return struct.pack("<BBBI", 0, device, size, features)

    def offer(device, queue, index, *descs, doorbell=True):
        """Descriptors are (number of the buffer, flags, length)."""
        kind = queue | (len(descs) - 1) << 4 | (0x80 if doorbell else 0)
        return struct.pack("<BBBB", 1, device, kind, index) + \
            b"".join(struct.pack("<HBH", 2 * buffer + 1, flags, length) for buffer, flags, length in descs)

    def ram(buffer, data):
        return struct.pack("<BIH", 7, 0x80000 + (2 * buffer + 1) * 16, len(data)) + data

    def packet(length, kind=0):
        return struct.pack("<BHH", 11, kind, 6) + b"\x52\x54\0\x12\x34\x56" + struct.pack("<H", length)

    pump, save = b"\4", b"\x0e"
    entropy = set_up(0) + b"".join(offer(0, 0, i, (8 * i, 2, 100 * i + 1)) for i in range(5))
    output = set_up(1) + ram(0, b"hello") + offer(1, 1, 0, (0, 0, 5)) + offer(1, 1, 1, (0, 0x80, 20))
    keys = offer(1, 0, 0, (9, 2, 4)) + offer(1, 0, 1, (10, 2, 4)) + struct.pack("<BH", 12, 6) + b"abcdef"
    card = set_up(2)
    send = ram(0, bytes(12) + bytes(range(60))) + offer(2, 1, 0, (0, 1, 12), (1, 0, 60)) + pump
    header = ram(0, struct.pack("<BBHHHHH", 1, 1, 54, 1000, 34, 16, 0) + bytes(100))
    large = header + offer(2, 1, 2, (0, 1, 12), (9, 1, 3000), (300, 0, 3000)) + pump
    room = b"".join(offer(2, 0, i, (100 + 40 * i, 2, 500)) for i in range(6))
    control = ram(50, b"\0\0\0") + offer(2, 2, 0, (50, 1, 3), (60, 2, 1)) + \
        ram(50, b"\1\0\1\0\0\0\x52\x54\0\x12\x34\x56\0\0\0\0") + offer(2, 2, 2, (50, 1, 16), (60, 2, 1))
    yield "entropy", entropy + save + entropy
    yield "console", output + keys + save + output + b"\x0d\0\0\0\x10"
    yield "send", card + send + large + save + send
    yield "receive", card + room + packet(100) + packet(1500) + packet(2400, 0x0101) + save + packet(60)
    yield "control", card + control + room + packet(100)
    yield "reset-while-sending", card + send[:-1] + pump + set_up(2) + room + send
    yield "single-buffers", set_up(2, 0xffff7fff) + room + packet(100) + packet(1500) + packet(400)
    yield "paused", card + room + b"\x0f" + packet(100) + send + b"\x0f" + pump + packet(100)
    for device in range(3):
        yield f"loop-{device}", set_up(device) + offer(device, 1, 0, (0, 1, 5), (1, 1, 5), (2, 1, 5), (3, 1, 5))
        yield f"indirect-{device}", set_up(device) + ram(0, struct.pack("<QIHH", 0x90000, 64, 2, 0)) + \
            offer(device, 0, 0, (0, 4, 16)) + packet(30)
        yield f"window-{device}", b"".join(
            struct.pack("<BBBBI", 10, device, 5, reg, 4) for reg in range(0x40, 0xa8, 4))


def qcow2():
    """Small images of either version, with a compressed cluster, zeros, a snapshot; and requests."""
    copied, packed = 1 << 63, 1 << 62

    def image(version, bits, order, entries, incompatible=0, snapshot=False, size=60 * 512):
        """Clusters: header, refcount table, its block, L1, L2, then what `entries` need."""
        cluster = 1 << bits
        l2 = b"".join(struct.pack(">Q", e) for e in entries)
        data = bytes(range(256)) * (cluster // 256)
        pack = zlib.compressobj(wbits=-12)
        packed_data = (pack.compress(data) + pack.flush()).ljust(cluster, b"\0")
        clusters = [struct.pack(">Q", 2 * cluster), b"", struct.pack(">Q", 4 * cluster | copied), l2,
                    packed_data if entries[0] & packed else data, data, struct.pack(">QIHHIIQII", 3 * cluster, 1, 1, 1, 0, 0, 0, 0, 0) + b"1a"]
        used = 8 if snapshot else 7
        counts = sum(1 << (i << order) for i in range(used)) if order >= 3 else (1 << used) - 1
        width = max(1, (used << order) // 8)
        clusters[1] = counts.to_bytes(max(width, 8), "big" if order == 3 else "little") \
            if order < 4 else b"".join((1).to_bytes((1 << order) // 8, "big") for _ in range(used))
        head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, 0, 0, bits, size, 0, 1, 3 * cluster,
                           cluster, 1, 1 if snapshot else 0, 7 * cluster if snapshot else 0)
        if version == 3:
            head += struct.pack(">QQQII", incompatible, 0, 0, order, 112) + bytes(8)
            head += struct.pack(">II", 0xe2792aca, 3) + b"raw".ljust(8, b"\0")
        return b"".join(c.ljust(cluster, b"\0") for c in [head] + clusters[:used - 1])

    def requests(*words):
        return bytes([len(words)]) + b"".join(struct.pack("<BHB", *w) for w in words)

    mixed = requests((0, 0, 7), (1, 0, 3), (1, 40, 20), (2, 0, 0), (3, 0, 8), (4, 8, 9), (12, 40, 4),
                     (2, 0, 0), (1, 2, 1), (5, 300, 0), (1, 900, 9), (0, 0, 127))
    plain = [5 * 512 | copied, 6 * 512 | copied, 0]
    yield "plain", mixed + image(3, 9, 4, plain)
    yield "version-2", mixed + image(2, 9, 4, plain)
    yield "nothing-to-do", b"\0" + image(3, 9, 4, plain)
    yield "dirty", mixed + image(3, 9, 4, plain, incompatible=1)
    yield "corrupt", mixed + image(3, 9, 4, plain, incompatible=2)
    yield "zeros", mixed + image(3, 9, 4, [5 * 512 | copied | 1, 1, 1, 6 * 512 | copied])
    yield "packed", mixed + image(3, 9, 4, [packed | 5 * 512, 6 * 512 | copied])
    yield "snapshot", mixed + image(3, 9, 4, [5 * 512, 6 * 512], snapshot=True)
    yield "shared", mixed + image(3, 9, 4, [5 * 512, 5 * 512 | copied])
    yield "metadata", mixed + image(3, 9, 4, [0x200 | copied, 2 * 512 | copied, 4 * 512 | copied])
    yield "clusters-4k", mixed + image(3, 12, 4, [5 * 4096 | copied, 6 * 4096 | copied])
    for order in range(7):
        yield f"refcount-order-{order}", mixed + image(3, 9, order, plain)


def main():
    root = pathlib.Path(sys.argv[1])
    for make in (cpu, engines, devices, loaders, gdb, monitor, state, virtio, qcow2):
        folder = root / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in make():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
