"""Kernels that attack the machine: attack/guest.S with parameters, and random code behind it."""
import os
import random
import struct
import subprocess

from tiny import ENTRY, LOAD_ADDRESS, kernel

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "attack",
                      "guest.S")
PARAMETERS = struct.Struct("<QIIIIII")  # after the first jump of guest.S
PARAMETERS_AT = 8
PAYLOAD = 65536

RING0, RING3 = 0, 4  # may ring 3 use the pages?

# name: job (their order in guest.S), bits, selectors of code and data, pages
KINDS = {
    "triple-fault": (0, 64, 0, 0, RING0),
    "nowhere": (1, 64, 0, 0, RING0),
    "no-memory": (2, 64, 0, 0, RING0),
    "code64-ring0": (3, 64, 0x08, 0x10, RING0),
    "code64-ring3": (3, 64, 0x3b, 0x33, RING3),
    "code32-ring0": (3, 32, 0x18, 0x10, RING0),
    "code32-ring3": (3, 32, 0x43, 0x33, RING3),
    "code16-ring3": (3, 16, 0x5b, 0x33, RING3),
    "legacy32": (4, 32, 0, 0, RING0),
    "real16": (5, 16, 0, 0, RING0),
    "ports": (6, 64, 0, 0, RING0),
    "tame-ports": (7, 64, 0, 0, RING0),
    "mmio": (8, 64, 0, 0, RING0),
    "tables": (9, 64, 0, 0, RING0),
    "registers": (10, 64, 0, 0, RING0),
    "fill64-ring0": (11, 64, 0x08, 0x10, RING0),
    "fill64-ring3": (11, 64, 0x3b, 0x33, RING3),
    "fill32-ring3": (11, 32, 0x43, 0x33, RING3),
    "reset": (12, 64, 0, 0, RING0),
}
PREFIXES = b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65"


def random_instruction(rng, bits):
    """Bytes that often begin an instruction: prefixes, an opcode of some map, ModRM and more."""
    code = bytes(rng.choice(PREFIXES) for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 5))))
    if bits == 64 and rng.random() < 0.5:
        code += bytes([0x40 + rng.randrange(16)])
    form = rng.randrange(10)
    if form < 3:
        code += rng.randbytes(1)
    elif form < 6:
        code += b"\x0f" + rng.randbytes(1)
    elif form == 6:
        code += rng.choice((b"\x0f\x38", b"\x0f\x3a", b"\x0f\x01", b"\x0f\xae", b"\x0f\xc7")) + \
            rng.randbytes(1)
    elif form == 7:
        code += b"\xc5" + bytes([rng.randrange(256) | 0x80]) + rng.randbytes(1)
    elif form == 8:
        code += b"\xc4" + bytes([0xe0 | rng.randrange(1, 4), rng.randrange(256)]) + rng.randbytes(1)
    else:
        code += bytes([0x62]) + rng.randbytes(4)
    return code + rng.randbytes(rng.choice((1, 2, 2, 5, 6)))


def random_code(rng, bits):
    """Half of it plain noise, half of it like instructions."""
    code = bytearray(rng.randbytes(PAYLOAD // 2))
    while len(code) < PAYLOAD:
        code += random_instruction(rng, bits)
    return bytes(code[:PAYLOAD])


def assemble(folder):
    """guest.S as a flat binary for its place in memory."""
    base = hex(LOAD_ADDRESS + ENTRY)
    path = os.path.join(folder, "guest")
    subprocess.run(["gcc", "-c", "-o", path + ".o", SOURCE], check=True)
    subprocess.run(["ld", "-N", "-Ttext", base, "-e", base, "--oformat", "binary", "-o", path,
                    path + ".o"], check=True)
    with open(path, "rb") as f:
        return f.read()


def make_kernel(guest, kind, seed):
    job, bits, code, data, pages = KINDS[kind]
    rng = random.Random(f"{kind} {seed}")
    flags = 2 | rng.choice((0, 0, 0, 0x100, 0x400, 0x40000, 0x240000))  # TF, DF, AC, ID
    image = bytearray(guest + random_code(rng, bits))
    PARAMETERS.pack_into(image, PARAMETERS_AT, rng.getrandbits(64), job, code, data, PAYLOAD,
                         pages, flags)
    return kernel(bytes(image))
