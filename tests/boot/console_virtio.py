#!/usr/bin/env python3
"""The console on virtio: a shell on hvc0, no byte lost in either direction, the size of the window."""
import fcntl
import hashlib
import os
import signal
import struct
import sys
import tempfile
import termios

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import PROMPT, Session, check, main

OPTIONS = ["--console", "virtio", "-e", "translate"]


def resize(s, rows, columns):
    fcntl.ioctl(s.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    s.signal(signal.SIGWINCH)


def says(s, keys, what):
    s.send(keys)
    return s.expect(what)


def a_shell_on_hvc0():
    numbers = b"".join(b"%d\r\n" % i for i in range(1, 60001))
    text = b"".join(b"%06d " % i for i in range(1500))
    with tempfile.TemporaryDirectory() as folder, Session(*OPTIONS, "--save", f"{folder}/saved") as s:
        s.expect(PROMPT)
        says(s, b"tty\r", b"/dev/hvc0")
        resize(s, 41, 123)
        s.send_until(b"stty size\r", b"41 123")
        out = says(s, b"seq 60000; echo over $((6 * 7))\r", b"over 42")
        check(numbers in out, "output is missing")
        says(s, b"stty raw -echo; echo $((7 * 7)) go; head -c %d | md5sum; stty sane\r" % len(text),
             b"49 go")
        s.send(text[:4000])
        s.read(0.1)
        s.send(text[4000:])
        s.expect(hashlib.md5(text).hexdigest().encode())
        s.read(0.5)
        s.signal(signal.SIGUSR1)
        check(s.end() == 0, s.errors())
        with Session(*OPTIONS, "--restore", f"{folder}/saved") as again:
            again.wait_raw()
            says(again, b"echo again $((6 * 8))\r", b"again 48")
            again.send(b"exit\r")
            check(again.end() == 0, again.errors())


main(a_shell_on_hvc0, engine="translate")
