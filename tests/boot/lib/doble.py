"""What the boot tests share: running the monitor with and without a terminal, and counting cases.

A test program is a list of functions given to main(). Each prints "ok NAME", "not ok NAME: why" or
"skip NAME: why"; the program's status is 1 if any failed, and 77 (skipped) where the built-in guest
is not there.

Any time may pass between two steps of a test, of the monitor and of the guest: a host may be slow,
busy, or lose its processors to others. So tests wait for what must come, for BOOT_TIME at most, and
sleep only where nothing must come or where any moment will do.
"""
import contextlib
import functools
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
import traceback

DOBLE = os.path.abspath(os.environ.get("DOBLE", "build/doble"))
GUEST = os.path.abspath(os.environ.get("DOBLE_GUEST", "build/guest"))
BOOT_TIME = 300  # seconds that a slow, busy host may need for anything
PROMPT = b"# "
HOST_ERROR = 3


class Failure(Exception):
    pass


class Skip(Exception):
    """This cannot be tested on this host, and why."""


def check(condition, why):
    if not condition:
        raise Failure(why)


def wait_for(condition, why):
    """Waits until it is true; returns what it gave."""
    end = time.monotonic() + BOOT_TIME
    while not (value := condition()):
        check(time.monotonic() < end, why)
        time.sleep(0.02)
    return value


def takes_signals(pid):
    """Before that a signal just kills. The monitor blocks its signals, and reads them."""
    with open(f"/proc/{pid}/status") as status:
        blocked = int(re.search(r"^SigBlk:\s+(\w+)", status.read(), re.M).group(1), 16)
    return blocked >> (signal.SIGUSR1 - 1) & 1


def rests(pid, seconds=1):
    """True if no thread of the process could run, nor did, for a while. It will rest for ever if
    nothing from outside disturbs it, and no timer."""
    def switches():
        total = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as status:
                text = status.read()
            if not re.search(r"^State:\s+S", text, re.M):
                return None
            total += sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", text))
        return total

    try:
        before = switches()
        if before is None or not takes_signals(pid):
            return False  # it runs, or it starts
        time.sleep(seconds)
        return switches() == before
    except OSError:
        return False  # it has ended


def end_of(process):
    """Waits for the end of a machine whose guest may halt for ever: then a signal ends it. Returns
    the status; None if it had to be killed."""
    end = time.monotonic() + BOOT_TIME
    while time.monotonic() < end:
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            if rests(process.pid):
                process.send_signal(signal.SIGINT)
    process.kill()
    process.wait()
    return None


def save_by_signal(path, *args, after=0, wait=0):
    """Runs a machine and has it save itself into `path` when so many bytes of output have come and
    so many seconds have passed. Returns the output; if it ended before, there is no file."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    process = subprocess.Popen([DOBLE, "run", *args, "--save", path], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE)
    output = b""
    wait_for(lambda: process.poll() is not None or takes_signals(process.pid), "it does not start")
    while len(output) < after and (part := os.read(process.stdout.fileno(), after)):
        output += part
    time.sleep(wait)
    process.send_signal(signal.SIGUSR1)
    output += process.communicate(timeout=BOOT_TIME)[0]
    check(process.returncode == 0, f"saving: status {process.returncode}")
    return output.decode(errors="replace")


def save_after(count, path, *args):
    """The same, and it is saved: a boot takes long enough for a signal to come in time, mostly."""
    for _ in range(20):
        output = save_by_signal(path, *args, after=count)
        if os.path.exists(path):
            return output
    raise Failure("it has always ended before it could be saved")


def run(*args, timeout=BOOT_TIME, **kwargs):
    """Runs `doble run ARGS` without a terminal; returns status, output and errors as text."""
    done = subprocess.run([DOBLE, "run", *args], stdin=kwargs.pop("stdin", subprocess.DEVNULL),
                          capture_output=True, timeout=timeout, **kwargs)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


@functools.lru_cache
def needs_engine(engine):
    """Some engines need more of the processor than others."""
    if engine == "interpret":
        return
    status, _, errors = run("--engine", engine, "--max-instructions", "1")
    if status == HOST_ERROR:
        raise Skip(errors.strip())


def connect(path):
    """A connection to a socket that will be there."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(BOOT_TIME)
    end = time.monotonic() + BOOT_TIME
    while True:
        try:
            s.connect(path)
            return s
        except OSError as e:
            if time.monotonic() > end:
                s.close()
                raise Failure(f"cannot connect to {path}: {e}") from None
            time.sleep(0.02)


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

    def expect(self, what):
        """Collects output until `what` has come."""
        start, end = len(self.output), time.monotonic() + BOOT_TIME
        while what not in self.output[start:]:
            over = time.monotonic() > end or self.process.poll() is not None
            if select.select([self.master], [], [], 0 if over else 0.1)[0]:
                self.output += os.read(self.master, 65536)
            elif over:
                raise Failure(f"{what!r} did not come; the last output is {self.output[-200:]!r}")
        return self.output[start:]

    def send(self, keys):
        os.write(self.master, keys)

    def signal(self, number):
        self.process.send_signal(number)

    def send_until(self, keys, what):
        """Sends the keys, again and again, until `what` has come: for keys that nobody may have been
        there for yet."""
        start, end = len(self.output), time.monotonic() + BOOT_TIME
        while what not in self.output[start:]:
            check(time.monotonic() < end, f"{keys!r} does not bring {what!r}")
            self.send(keys)
            self.read(0.5)

    def wait_raw(self):
        """Waits until the terminal is the monitor's. Before that a signal just kills."""
        wait_for(lambda: not self.restored(), "the terminal does not become raw")

    def end(self):
        """Waits for the end (and reads meanwhile); returns the status."""
        end = time.monotonic() + BOOT_TIME
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


def main(*tests, needs_guest=True, engine="interpret"):
    if needs_guest and not os.access(os.path.join(GUEST, "vmlinuz"), os.R_OK):
        print(f"the built-in guest is not in {GUEST}")
        sys.exit(77)
    os.environ["DOBLE_GUEST"] = GUEST
    failed = 0
    for test in tests:
        try:
            needs_engine(engine)
            test()
            print("ok", test.__name__)
        except Skip as e:
            print("skip", f"{test.__name__}: {e}")
        except Exception as e:  # a test that breaks is a test that fails
            failed += 1
            print("not ok", f"{test.__name__}: {e}")
            if not isinstance(e, Failure):
                traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    sys.exit(failed > 0)
