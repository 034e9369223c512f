#!/usr/bin/env python3
"""Machines saved at any instruction and restored in a new process go on as if nothing had happened;
damaged and forged files are refused with a sentence, or make a machine that ends as any other.

    saving.py [SEED]      the seed (default: the time) is printed"""
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from attacker import assemble, make_kernel
from doble import (BOOT_TIME, DOBLE, Failure, check, end_of, main, one_sentence, run, save_after,
                   save_by_signal)

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())
RNG = random.Random(SEED)
POWERED_OFF, HOST_ERROR, CRASHED, LIMIT = 0, 3, 4, 5

HEADER = 64 + 256      # bytes of the file's header
STATE_SIZE_AT = 56     # in it
CHECKSUM = 8           # bytes at the end of the file
MASK = (1 << 64) - 1


def counts(errors):
    """Instructions, and hash of the memory."""
    return (int(re.search(r"^instructions +(\d+)", errors, re.M).group(1)),
            re.search(r"^hash of guest memory +(\w+)", errors, re.M).group(1))


def same_with_saves(start, last, points, folder, timeout=BOOT_TIME):
    """Runs the machine whole, and saved at each of the points; both end with --max-instructions
    `last`, or by themselves. `start` is what makes the machine."""
    saved = os.path.join(folder, "saved")
    limit = ["--max-instructions", str(last)] if last else []
    whole = run(*start, *limit, "--stats", timeout=timeout)
    args, output = start, ""
    for point in points:
        status, part, errors = run(*args, "--max-instructions", str(point), "--save", saved)
        output += part
        if status != LIMIT:
            check((status, errors) != (HOST_ERROR, ""), errors)
            break  # it ended before
        args = ["--restore", saved]
    else:
        status, part, errors = run(*args, *limit, "--stats")
        output += part
        check(counts(errors) == counts(whole[2]),
              f"{counts(errors)} instead of {counts(whole[2])}")
    check(status == whole[0], f"status {status} instead of {whole[0]}: {errors}")
    check(output == whole[1], "the output differs")
    return whole


VIRTUAL = ["--time", "virtual", "--append", "console=ttyS0 doble.batch"]


def boot_repeats_whatever_the_host_does():
    """With the least of priorities, stopped again and again, beside another that does as it likes."""
    with subprocess.Popen([DOBLE, "run", *VIRTUAL, "--stats"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          preexec_fn=lambda: os.nice(19)) as process:
        whole = run(*VIRTUAL, "--stats")
        for _ in range(10):
            process.send_signal(signal.SIGSTOP)
            time.sleep(RNG.random() / 5)
            process.send_signal(signal.SIGCONT)
            time.sleep(RNG.random() / 5)
        output, errors = process.communicate(timeout=BOOT_TIME)
    check(whole[0] == process.returncode == POWERED_OFF, f"status {process.returncode}")
    check(output.decode(errors="replace") == whole[1], "the output differs")
    check(counts(errors.decode()) == counts(whole[2]), "the counts differ")


def boot_saved_at_random_instructions():
    start = VIRTUAL
    points = sorted(RNG.randrange(1, 1500000000) for _ in range(6))
    print("points", *points)
    with tempfile.TemporaryDirectory() as folder:
        whole = same_with_saves(start, 0, points, folder)
    check(whole[0] == POWERED_OFF and "the guest works" in whole[1], f"status {whole[0]}")


def attackers_saved_at_random_instructions():
    """Devices in strange states, interrupts, string instructions cut in the middle."""
    last = 200000
    with tempfile.TemporaryDirectory() as folder:
        guest = assemble(folder)
        for kind in ("tame-ports", "mmio", "registers", "code64-ring0", "code64-ring3",
                     "code32-ring3", "code16-ring3", "legacy32", "real16"):
            seed = RNG.randrange(1 << 32)
            path = os.path.join(folder, "kernel")
            with open(path, "wb") as f:
                f.write(make_kernel(guest, kind, seed))
            points = sorted(RNG.randrange(1, last) for _ in range(8))
            points = sorted(set(points + [points[3] + i for i in range(8)]))
            try:
                same_with_saves(["-k", path, "-m", "32M", "--time", "virtual"], last, points, folder,
                                timeout=15)
            except subprocess.TimeoutExpired:
                print(f"{kind} {seed} halts for ever")
            except Failure as e:
                raise Failure(f"{kind} {seed}, saved at {points}: {e}") from e


def boot_saved_by_signals():
    """In host time, at moments that no instruction count knows."""
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "saved")
        output = save_after(1, saved, "--append", "console=ttyS0 doble.batch")
        for saves in range(1, 6):
            os.rename(saved, saved + "-last")
            output += save_by_signal(saved, "--restore", saved + "-last", wait=RNG.random())
            if not os.path.exists(saved):
                break  # it has come to its end
        else:
            output += run("--restore", saved)[1]
        print(saves, "saves")
        check("doble: the guest works" in output, f"the end is {output[-300:]}")


# --- files that are not what was saved ---


def checksum(data):
    """As in src/base/checksum.c."""
    words = struct.unpack(f"<{len(data) // 8}Q", data[:len(data) // 8 * 8])
    rest = data[len(words) * 8:]
    total = 0
    for word in (*words, int.from_bytes(rest, "little"), len(rest) + 1):
        total = (total ^ word) * 0x9e3779b97f4a7c15 & MASK
        total ^= total >> 29
    return struct.pack("<Q", total)


def fields(state):
    """(name, position, size) of each field of a state, as src/base/state.c writes it."""
    at = 0

    def number(form):
        nonlocal at
        value, = struct.unpack_from("<" + form, state, at)
        at += struct.calcsize("<" + form)
        return value

    def name():
        nonlocal at
        length = number("B")
        at += length
        return state[at - length:at].decode()

    while device := name():
        number("I"), number("I")
        for _ in range(number("I")):
            field = name()
            size = number("B") * number("I")
            yield f"{device}.{field}", at, size
            at += size


def saved_machine(folder):
    """The file of a small machine with interrupts and timers running."""
    kernel, saved = os.path.join(folder, "kernel"), os.path.join(folder, "saved")
    with open(kernel, "wb") as f:
        f.write(make_kernel(assemble(folder), "mmio", 1))
    status, _, errors = run("-k", kernel, "-m", "32M", "--time", "virtual", "--max-instructions",
                            "100000", "--save", saved)
    check(status == LIMIT, f"status {status}: {errors}")
    with open(saved, "rb") as f:
        return saved, f.read()


def restore(path, data):
    """Restores from `data`; a signal ends a machine that sleeps for ever."""
    with open(path, "wb") as f:
        f.write(data)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([DOBLE, "run", "--restore", path, "--max-instructions", "150000"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        status = end_of(process)
        errors.seek(0)
        return status, errors.read().decode(errors="replace")


def refused(path, data, what):
    status, errors = restore(path, data)
    check(status == HOST_ERROR and one_sentence(errors), f"{what}: status {status}: {errors}")


def damaged_files():
    with tempfile.TemporaryDirectory() as folder:
        path, good = saved_machine(folder)
        status, errors = restore(path, good)
        check(status == LIMIT, f"a good file: status {status}: {errors}")
        state_end = HEADER + struct.unpack_from("<Q", good, STATE_SIZE_AT)[0]
        for size in [0, 1, 7, 8, HEADER - 1, HEADER, state_end, len(good) - 1, len(good) - 8] + \
                [RNG.randrange(len(good)) for _ in range(40)]:
            refused(path, good[:size], f"cut to {size} bytes")
        for i in range(200):
            bad = bytearray(good)
            at = RNG.randrange((HEADER, state_end, len(good))[i % 3])
            bad[at] ^= RNG.randrange(1, 256)
            refused(path, bad, f"byte {at} changed")
        refused(path, good + b"x", "a byte more")


def forged_files():
    """With the right checksum the values themselves are all that is wrong."""
    refusals = 0
    with tempfile.TemporaryDirectory() as folder:
        path, good = saved_machine(folder)
        state_size = struct.unpack_from("<Q", good, STATE_SIZE_AT)[0]
        places = list(fields(good[HEADER:HEADER + state_size]))
        for _ in range(200):
            bad = bytearray(good[:-CHECKSUM])
            changed = RNG.sample(places, RNG.choice((1, 1, 2, 5, 20)))
            for _, at, size in changed:
                part = min(size, 8)
                at += HEADER + RNG.randrange(size - part + 1)
                bad[at:at + part] = RNG.choice((RNG.randbytes(part), b"\xff" * part,
                                                b"\x80" * part, RNG.randbytes(1) + bytes(part - 1)))
            if RNG.random() < 0.1:
                at = RNG.randrange(HEADER)
                bad[at] ^= RNG.randrange(1, 256)
            status, errors = restore(path, bytes(bad) + checksum(bad))
            what = f"{[name for name, _, _ in changed]}: status {status}: {errors[-2000:]}"
            check(status in (POWERED_OFF, HOST_ERROR, CRASHED, LIMIT, 128 + signal.SIGINT), what)
            check(status != HOST_ERROR or one_sentence(errors), what)
            refusals += status == HOST_ERROR
    print(refusals, "of 200 refused")


print("seed", SEED)
main(boot_repeats_whatever_the_host_does, boot_saved_at_random_instructions,
     boot_saved_by_signals, attackers_saved_at_random_instructions, damaged_files,
     forged_files)
