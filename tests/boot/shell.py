#!/usr/bin/env python3
"""A user's hour at the guest's shell: job control, editing of lines, the size of the window, and
a machine that rests when nobody types."""
import hashlib
import os
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from attacker import assemble, make_kernel
from doble import Failure, PROMPT, Session, check, main, run

UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"


def says(s, keys, what):
    s.send(keys)
    return s.expect(what)


def job_control(s):
    """A key that makes a signal reaches who is in the foreground when it comes."""
    says(s, b"(echo $((6 * 6)) runs; sleep 1000)\r", b"36 runs")
    says(s, b"\x03", PROMPT)  # Ctrl-C
    says(s, b"echo status $?\r", b"status 130")
    says(s, b"(echo $((6 * 7)) runs; sleep 1001)\r", b"42 runs")
    says(s, b"\x1a", b"Stopped")  # Ctrl-Z
    says(s, b"bg\r", b"sleep 1001")
    says(s, b"jobs\r", b"Running")
    says(s, b"fg\r", b"sleep 1001")
    s.send_until(b"\x03", PROMPT)
    left = says(s, b"jobs; echo $((6 * 7)) jobs\r", b"42 jobs")
    check(b"Running" not in left, "Ctrl-C did not end the job in the foreground")
    says(s, b"(echo $((6 * 9)) runs; cat)\r", b"54 runs")
    says(s, b"a line\r", b"a line\r\na line")
    says(s, b"\x04", PROMPT)  # Ctrl-D ends the input
    says(s, b"echo $((6 * 8)) now\r", b"48 now")


def line_editing(s):
    says(s, b"echo ac" + LEFT + b"b\r", b"\r\nabc\r\n")
    says(s, UP + b"d\r", b"\r\nabcd\r\n")
    says(s, UP + UP + DOWN + LEFT + RIGHT + b"\x7f\x7fe\r", b"\r\nabe\r\n")  # backspace
    says(s, b"ls /pro\t\r", b"cpuinfo")  # completion
    says(s, b"echo x\x15echo y\r", b"\r\ny\r\n")  # Ctrl-U
    says(s, b"echo '\xc3\xa4\xe2\x82\xac' | wc -c\r", b"\r\n6\r\n")  # all eight bits


def pasted_text(s):
    """More than the FIFO and the monitor's buffer hold at a time."""
    text = b"".join(b"%06d " % i for i in range(1500))
    digest = hashlib.md5(text).hexdigest().encode()
    says(s, b"stty raw -echo; echo $((7 * 7)) go; head -c %d | md5sum; stty sane\r" % len(text),
         b"49 go")
    for at in range(0, len(text), 1000):
        s.send(text[at:at + 1000])
        s.read(0.05)
    if digest not in s.output:
        s.expect(digest)


def window_size(s):
    """A serial cable does not carry it: the guest's `resize` asks the terminal."""
    says(s, b"resize\r", b"\x1b[6n")
    says(s, b"\x1b[41;123R", PROMPT)
    says(s, b"stty size\r", b"41 123")


def switches(s):
    """How often the threads of the monitor have gone to sleep so far."""
    total = 0
    tasks = f"/proc/{s.process.pid}/task"
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/status") as status:
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read(), re.M).group(1))
    return total


def rests_at_the_prompt(s):
    """Counted, not timed: how often something wakes it. What it used is only reported."""
    s.read(2)
    before, used, start = switches(s), s.cpu_seconds(), time.monotonic()
    s.read(5)
    woken, used, passed = switches(s) - before, s.cpu_seconds() - used, time.monotonic() - start
    woken /= passed
    print(f"at the prompt: {used / passed:.2%} of a core, woken {woken:.1f} times a second")
    check(woken < 60, f"something wakes it {woken:.0f} times a second")


def an_hour_at_the_shell():
    with Session() as s:
        s.expect(PROMPT)
        s.read(1)  # the shell asks the terminal for its size, and waits a little
        for part in (job_control, line_editing, pasted_text, window_size, rests_at_the_prompt):
            try:
                part(s)
            except Failure as e:
                raise Failure(f"{part.__name__}: {e}") from e
        s.send(b"\x1dq")
        check(s.end() == 0 and s.restored(), "left badly")


def memory(*args):
    """KiB: what the guest has touched, and the monitor's own."""
    errors = run(*args, "-e", "interpret", "--stats")[2]
    touched = int(re.search(r"of it touched, KiB +(\d+)", errors).group(1))
    own = int(re.search(r"monitor's own, KiB +(\d+)", errors).group(1))
    print(f"{args[1]}: {touched} KiB touched by the guest, {own} KiB the monitor's own")
    check(own < 24576, f"{args}: the monitor itself uses {own} KiB")
    return touched


def memory_is_touched_by_the_guest_only():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kernel")
        with open(path, "wb") as f:
            f.write(make_kernel(assemble(folder), "code64-ring3", 1))
        for size in ("32M", "4G"):
            touched = memory("-m", size, "-k", path, "--max-instructions", "100000")
            check(touched < 2048, f"-m {size}: {touched} KiB are touched by a guest of 1 MiB")
    # of 4 GiB Linux takes 64 MiB to keep books, and 64 MiB for bounce buffers
    check(memory("-m", "4G") < memory("-m", "256M") + 192 * 1024, "Linux touches too much of 4 GiB")


main(an_hour_at_the_shell, memory_is_touched_by_the_guest_only)
