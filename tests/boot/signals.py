#!/usr/bin/env python3
"""Signals at random moments, from the first millisecond on: the terminal is as it was, the status
is the documented one. And standard input that is closed.

    signals.py [SEED]     the seed (default: the time) is printed"""
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import BOOT_TIME, DOBLE, PROMPT, Session, check, main

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())
RNG = random.Random(SEED)


def ended_by(s, number, what):
    """Before there is a machine the signal kills, as it does any program."""
    status = s.end()
    check(status in (128 + number, -number), f"{what}: status {status}: {s.errors()}")
    check(s.restored(), f"{what}: the terminal was not restored")
    if status > 0:
        check(s.errors().startswith(f"doble: the machine was ended by {signal.Signals(number).name}"),
              f"{what}: no sentence: {s.errors()}")


def one_signal():
    for _ in range(16):
        number = RNG.choice((signal.SIGINT, signal.SIGHUP, signal.SIGQUIT))
        moment = RNG.choice((0.02, 0.2, 2)) * RNG.random()
        with Session() as s:
            s.read(moment)
            s.signal(number)
            ended_by(s, number, f"{number} after {moment:.3f} s")


def two_sigterms():
    """Mostly the first comes before the guest has somebody who listens to its power button."""
    for _ in range(8):
        first, second = RNG.choice((0.05, 1)) * RNG.random(), 0.3 * RNG.random()
        with Session() as s:
            s.read(first)
            s.signal(signal.SIGTERM)
            s.read(second)
            if s.process.poll() is None:
                s.signal(signal.SIGTERM)
            if s.end() != 0 or b"power button was pressed" not in s.output:
                ended_by(s, signal.SIGTERM, f"SIGTERM after {first:.3f} s and {second:.3f} s more")


def storm():
    """Several kinds at once, while the machine boots."""
    numbers = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH, signal.SIGUSR1, signal.SIGPIPE)
    with Session() as s:
        s.expect(b"doble: init")
        for _ in range(40):
            s.signal(RNG.choice(numbers))
            s.read(0.03 * RNG.random())
        came = len(s.output)
        end = time.monotonic() + BOOT_TIME
        while PROMPT not in s.output[came:]:  # a stop may be late
            check(time.monotonic() < end, "no prompt after the storm")
            s.signal(signal.SIGCONT)
            s.read(0.1)
        s.read(1)
        s.send(b"exit\r")
        check(s.end() == 0 and s.restored(), f"status {s.process.returncode}: {s.errors()}")


def closed_input():
    done = subprocess.run(["sh", "-c", '"$1" run <&-', "sh", DOBLE], capture_output=True,
                          timeout=BOOT_TIME)
    check(done.returncode == 0 and b"the guest works" in done.stdout, f"{done}")


print("seed", SEED)
main(one_signal, two_sigterms, storm, closed_input)
