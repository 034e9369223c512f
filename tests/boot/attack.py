#!/usr/bin/env python3
"""Attacks by guests (attack/guest.S): random code in every mode, random values for every port and
register. Whatever happens, the monitor ends as its manual page says, the same way with each engine
that counts instructions, and no sanitizer complains.

    attack.py                      a few of each kind, always the same
    attack.py --seconds N [SEED]   as many as there is time for; the seed (default: the time) is
                                   printed, and each failure with the arguments that repeat it
    attack.py --one KIND SEED      one of them; --keep FILE as well keeps its kernel
"""
import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from attacker import KINDS, assemble, make_kernel
from doble import BOOT_TIME, DOBLE, end_of

POWERED_OFF, CRASHED, LIMIT, SIGINT = 0, 4, 5, 128 + signal.SIGINT
INSTRUCTIONS = 300000
ENGINES = ("interpret", "translate")  # with instructions counted, they must end alike
FILLING = 7000000  # instructions that it takes guest.S to fill 4 MiB with random code
MUST_CRASH = ("triple-fault", "nowhere")


def attack(path, kind, instructions, engine):
    """Returns the exit status, and what was wrong with how it ended, or nothing."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [DOBLE, "run", "-e", engine, "-k", path, "-m", "32M", "--time", "virtual", "--max-instructions",
             str(instructions)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        status = end_of(process)  # a guest can halt for ever (INIT, NMIs off)
        wrong = f"it has not ended after {BOOT_TIME} s" if status is None else ""
        errors.seek(0)
        said = errors.read().decode(errors="replace")
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
        endings = {}
        for engine in ENGINES:
            endings[engine], wrong = attack(self.path, kind, instructions, engine)
            if wrong:
                wrong = f"{engine}: {wrong}"
                break
        status = endings[ENGINES[0]]
        if not wrong and len(set(endings.values())) > 1:
            wrong = f"the engines end with different statuses: {endings}"
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
        for seed in range(1 if kind in MUST_CRASH + ("no-memory", "reset") else 3):
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
