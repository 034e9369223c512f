"""What the boot tests share: running the monitor with and without a terminal, and counting cases.

A test program is a list of functions given to main(). Each prints "ok NAME" or "not ok NAME: why";
the program's status is 1 if any failed, and 77 (skipped) where the built-in guest is not there.
"""
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import traceback

DOBLE = os.path.abspath(os.environ.get("DOBLE", "build/doble"))
GUEST = os.path.abspath(os.environ.get("DOBLE_GUEST", "build/guest"))
BOOT_TIME = 120  # seconds that a slow, busy host may need
PROMPT = b"# "


class Failure(Exception):
    pass


def check(condition, why):
    if not condition:
        raise Failure(why)


def run(*args, timeout=BOOT_TIME, **kwargs):
    """Runs `doble run ARGS` without a terminal; returns status, output and errors as text."""
    done = subprocess.run([DOBLE, "run", *args], stdin=kwargs.pop("stdin", subprocess.DEVNULL),
                          capture_output=True, timeout=timeout, **kwargs)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


class Session:
    """`doble run` on a pseudo-terminal of its own (stdin=None) or on a given input; errors go to a
    pipe. Use with `with`: whatever is left of the process is ended."""

    def __init__(self, *args, terminal=True):
        self.output = self.error_output = b""
        self.terminal = terminal
        if terminal:
            self.master, self.slave = pty.openpty()
            self.before = termios.tcgetattr(self.slave)
            stdin = stdout = self.slave
        else:
            self.master, stdout = os.pipe()
            self.slave = stdout
            stdin = subprocess.DEVNULL
        self.process = subprocess.Popen([DOBLE, "run", *args], stdin=stdin, stdout=stdout,
                                        stderr=subprocess.PIPE, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)

    def read(self, seconds):
        """Collects output for a while; returns what came."""
        start, end = len(self.output), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                self.output += os.read(self.master, 65536)
        return self.output[start:]

    def expect(self, what, seconds=BOOT_TIME):
        """Collects output until `what` has come."""
        start, end = len(self.output), time.monotonic() + seconds
        while what not in self.output[start:]:
            if time.monotonic() > end or self.process.poll() is not None:
                raise Failure(f"{what!r} did not come; the last output is {self.output[-200:]!r}")
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += os.read(self.master, 65536)
        return self.output[start:]

    def send(self, keys):
        os.write(self.master, keys)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds):
        """Waits for the end, but not longer than that."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.02)

    def end(self, seconds=30):
        """Waits for the end (and reads meanwhile); returns the status."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            check(time.monotonic() < end, "it does not end")
            self.read(0.05)
        return self.process.returncode

    def errors(self):
        """All that went to standard error; after the end."""
        self.error_output += self.process.stderr.read()
        return self.error_output.decode(errors="replace")

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_sentence(errors):
    lines = errors.splitlines()
    return len(lines) == 1 and lines[0].startswith("doble: ")


def main(*tests, needs_guest=True):
    if needs_guest and not os.access(os.path.join(GUEST, "vmlinuz"), os.R_OK):
        print(f"the built-in guest is not in {GUEST}")
        sys.exit(77)
    os.environ["DOBLE_GUEST"] = GUEST
    failed = 0
    for test in tests:
        try:
            test()
            print("ok", test.__name__)
        except Exception as e:  # a test that breaks is a test that fails
            failed += 1
            print("not ok", f"{test.__name__}: {e}")
            if not isinstance(e, Failure):
                traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    sys.exit(failed > 0)
