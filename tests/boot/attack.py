#!/usr/bin/env python3
"""Attacks by guests (attack/guest.S): random code in every mode, random values for every port and
register. Whatever happens, the monitor ends as its manual page says, and no sanitizer complains.

    attack.py                      a few of each kind, always the same
    attack.py --seconds N [SEED]   as many as there is time for; the seed (default: the time) is
                                   printed, and each failure with the arguments that repeat it
    attack.py --one KIND SEED      one of them; --keep FILE as well keeps its kernel
"""
import argparse
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from doble import DOBLE
from tiny import ENTRY, LOAD_ADDRESS, kernel

POWERED_OFF, CRASHED, LIMIT, SIGINT = 0, 4, 5, 128 + signal.SIGINT
INSTRUCTIONS = 300000
FILLING = 7000000  # instructions that it takes guest.S to fill 4 MiB with random code
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
MUST_CRASH = ("triple-fault", "nowhere")
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
    subprocess.run(["gcc", "-c", "-o", path + ".o", os.path.join(HERE, "attack", "guest.S")],
                   check=True)
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


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_end(process, seconds):
    """A guest can halt for ever (INIT, NMIs off); the monitor then sleeps until a signal ends it.
    Returns what is wrong, or nothing."""
    before = -1
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            process.wait(1)
            return ""
        except subprocess.TimeoutExpired:
            used = processor_seconds(process.pid)
        if used == before:
            process.send_signal(signal.SIGINT)
        before = used
    process.kill()
    process.wait()
    return f"it has not ended after {seconds} s"


def attack(path, kind, instructions):
    """Returns the exit status, and what was wrong with how it ended, or nothing."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [DOBLE, "run", "-k", path, "-m", "32M", "--time", "virtual", "--max-instructions",
             str(instructions)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        wrong = wait_for_end(process, 120)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    status = process.returncode
    allowed = (CRASHED,) if kind in MUST_CRASH else (POWERED_OFF, CRASHED, LIMIT, SIGINT)
    if not wrong and status not in allowed:
        wrong = f"status {status}, not one of {allowed}"
    if not wrong and status != POWERED_OFF and not said.startswith("doble: "):
        wrong = f"status {status}, but no sentence"
    if not wrong and status == CRASHED and "triple fault" not in said.splitlines()[0]:
        wrong = "the sentence does not speak of a triple fault"
    return status, f"{wrong}\n{said[-4000:]}" if wrong else ""


class Campaign:
    def __init__(self, folder, keep=None):
        self.guest = assemble(folder)
        self.path = keep or os.path.join(folder, "kernel")
        self.endings = {}
        self.failed = 0

    def run(self, kind, seed, instructions=INSTRUCTIONS):
        if kind.startswith("fill"):
            instructions += FILLING
        with open(self.path, "wb") as f:
            f.write(make_kernel(self.guest, kind, seed))
        status, wrong = attack(self.path, kind, instructions)
        count = self.endings.setdefault(kind, {})
        count[status] = count.get(status, 0) + 1
        if wrong:
            self.failed += 1
            print(f"not ok --one {kind} {seed}: {wrong}", flush=True)

    def report(self):
        for kind, count in self.endings.items():
            print(f"{kind:14}", ", ".join(f"{n} with status {s}" for s, n in sorted(count.items())))
        print(f"{self.failed} failed")


def short(campaign):
    for kind in KINDS:
        for seed in range(1 if kind in MUST_CRASH + ("no-memory", "reset") else 5):
            campaign.run(kind, seed)


def long(campaign, seconds, first):
    print("first seed", first, flush=True)
    end = time.monotonic() + seconds
    kinds = [k for k in KINDS if k not in MUST_CRASH]
    for seed in range(first, 1 << 62):
        for kind in kinds:
            if time.monotonic() > end:
                return
            campaign.run(kind, seed, INSTRUCTIONS * 10)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--one", choices=KINDS)
    parser.add_argument("--keep")
    parser.add_argument("seed", type=int, nargs="?", default=int(time.time()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(folder, args.keep)
        if args.one:
            campaign.run(args.one, args.seed, INSTRUCTIONS * 10)
        elif args.seconds:
            long(campaign, args.seconds, args.seed)
        else:
            short(campaign)
        campaign.report()
    sys.exit(campaign.failed > 0)


main()
