#!/usr/bin/env python3
"""The user's terminal: a shell in it, the keys of the monitor, and how it is left."""
import os
import signal
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import PROMPT, Session, check, main, wait_for
from tiny import assemble, kernel


def left(session, status):
    got = session.end()
    check(got == status, f"status {got}, not {status}: {session.errors()}")
    check(session.restored(), "the terminal was not restored")


def a_shell():
    with Session() as s:
        s.expect(PROMPT)
        s.read(1)  # the shell asks the terminal for its size, and waits a little
        s.send(b"echo $((40 + 2))x\r")
        s.expect(b"42x")
        s.send(b"(echo $((6 * 6))y; sleep 1000)\r")
        s.expect(b"36y")
        s.send(b"\x03")  # Ctrl-C
        s.expect(PROMPT)
        s.send(b"\x1d]\r")  # Ctrl-] for the guest
        s.expect(PROMPT)
        s.send(b"exit\r")
        left(s, 0)


def keys():
    with Session() as s:
        s.wait_raw()
        s.send(b"\x1dh")
        s.read(0.2)
        s.send(b"\x1dq")
        left(s, 0)
        check("Ctrl-] q leaves" in s.errors(), "no line of help")


def signals_at_any_moment():
    for moment in (0.01, 0.1, 0.5, 2):
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            with Session() as s:
                s.wait_raw()
                s.read(moment)
                s.signal(number)
                left(s, 128 + number)
                check(signal.Signals(number).name in s.errors(), "no sentence")


def power_button():
    with Session() as s:
        s.expect(PROMPT)
        s.signal(signal.SIGTERM)
        left(s, 0)
    with tempfile.NamedTemporaryFile() as f:
        f.write(kernel(assemble("jmp $")))  # knows nothing of buttons
        f.flush()
        with Session("-k", f.name) as s:
            s.wait_raw()
            s.signal(signal.SIGTERM)
            s.read(0.2)
            s.signal(signal.SIGTERM)
            left(s, 128 + signal.SIGTERM)


def is_stopped(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def stop_and_continue():
    with Session() as s:
        s.expect(PROMPT)
        s.signal(signal.SIGTSTP)
        wait_for(lambda: is_stopped(s.process.pid), "it is not stopped")
        check(s.restored(), "stopped, the terminal is not the shell's")
        s.signal(signal.SIGCONT)
        s.wait_raw()
        s.send(b"echo $((1 + 1))y\r")
        s.expect(b"2y")
        s.send(b"\x1dq")
        left(s, 0)


def crash_of_the_monitor():
    for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGTRAP):
        with Session() as s:
            s.wait_raw()
            s.read(0.2)
            s.signal(number)
            left(s, -number)


main(a_shell, keys, signals_at_any_moment, power_button, stop_and_continue, crash_of_the_monitor)
