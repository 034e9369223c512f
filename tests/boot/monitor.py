#!/usr/bin/env python3
"""The monitor of a running machine: its console behind Ctrl-] c, its sockets for people and for
programs, and that what it says of the guest is so."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import BOOT_TIME, DOBLE, PROMPT, Session, check, connect, main, one_sentence

CONSOLE = b"(doble) "
MIB = 1 << 20
DIRECT_MAP = 0xffff888000000000  # where Linux maps all RAM, with nokaslr and 4-level paging


class Client:
    """A connection to --monitor-json."""

    def __init__(self, path):
        self.socket = connect(path)
        self.file = self.socket.makefile("rb")
        self.events = []
        self.count = 0

    def next(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def ask(self, command, **arguments):
        """The whole answer; events that come before it are kept."""
        self.count += 1
        request = {"id": self.count, "command": command, "arguments": arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self.next()
            check(answer, f"{command}: the connection was closed")
            if "event" not in answer:
                check(answer["id"] == self.count, f"{command}: the answer of another: {answer}")
                return answer
            self.events.append(answer["event"])

    def result(self, command, **arguments):
        answer = self.ask(command, **arguments)
        check("result" in answer, f"{command}: {answer}")
        return answer["result"]

    def error(self, command, **arguments):
        answer = self.ask(command, **arguments)
        check("error" in answer, f"{command}: no error: {answer}")
        return answer["error"]

    def expect_event(self, event):
        while event not in self.events:
            answer = self.next()
            check(answer, f"the connection was closed before the event {event}")
            self.events.append(answer.get("event"))
        self.events.remove(event)


class Machine:
    """A machine in a terminal with both sockets."""

    def __init__(self, *args):
        self.folder = tempfile.TemporaryDirectory()
        self.text_path = os.path.join(self.folder.name, "text")
        self.json_path = os.path.join(self.folder.name, "json")
        self.session = Session("--monitor", "unix:" + self.text_path, "--monitor-json",
                               "unix:" + self.json_path, *args)

    def __enter__(self):
        self.session.__enter__()
        return self

    def __exit__(self, *args):
        self.session.__exit__(*args)
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def client(self):
        return Client(self.json_path)

    def shell(self):
        """Waits for the guest's shell."""
        self.session.expect(PROMPT)
        self.session.read(1)  # it asks the terminal for its size, and waits a little

    def left(self, status):
        got = self.session.end()
        check(got == status, f"status {got}, not {status}: {self.session.errors()}")
        check(self.session.restored(), "the terminal was not restored")
        check(not os.path.exists(self.text_path) and not os.path.exists(self.json_path),
              "the sockets are still there")


def text_socket(path, lines):
    """What a person gets who sends these lines and closes."""
    with connect(path) as s:
        s.sendall(lines)
        s.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: s.recv(65536), b""))


def the_console():
    with Machine() as m:
        s = m.session
        m.shell()
        s.send(b"while :; do echo ti''ck; sleep 0.1; done &\r")
        s.expect(b"tick")
        s.send(b"\x1dc")
        s.expect(CONSOLE)
        s.expect(b"tick")  # it goes on
        s.send(b"pausx\x7fe\r")
        s.expect(b"paused\r\n" + CONSOLE)
        check(b"tick" not in s.read(1.5), "paused, the guest goes on")
        before = s.cpu_seconds()
        s.read(1)
        check(s.cpu_seconds() - before < 0.1, "paused, it uses the processor")
        for line, answer in ((b"status", b"state         paused"), (b"registers", b"rip "),
                             (b"pauze", b"did you mean 'pause'"), (b"stats", b"COM1"),
                             (b"devices ns16550", b"ns16550.0"), (b"leave", b"but is paused]")):
            s.send(line + b"\r")
            s.expect(answer)
        s.send(b"echo \x1dc")  # "echo " is for the guest, which takes it when it goes on
        s.expect(CONSOLE)
        s.send(b"resume\r")
        s.expect(b"running")
        s.expect(b"tick")
        s.send(b"\x04")
        s.expect(b"[the guest has the keys again]")
        s.send(b"$((6 * 7))x; kill %1\r")
        s.expect(b"42x")
        s.send(b"\x1dcquit\r")
        m.left(0)


def find_page(client, prefix, size):
    """The physical address of a page that begins with these bytes."""
    for address in range(MIB, size, 0x10000):
        data = bytes.fromhex(client.result("memory", address=address, length=0x10000,
                                           phys=True)["bytes"])
        for page in range(0, 0x10000, 0x1000):
            if data.startswith(prefix, page):
                return address + page
    return None




def memory_is_what_the_guest_wrote():
    """A file in the guest's memory is found in its RAM, by both kinds of addresses."""
    size = 96 * MIB
    text = "".join(f"{n}\n" for n in range(3000, 7000)).encode()
    with Machine("-m", "96M", "-a", "console=ttyS0 quiet nokaslr") as m:
        m.shell()
        m.session.send(b"seq 3000 6999 >/tmp/f; sync; echo do''ne\r")
        m.session.expect(b"done")
        c = m.client()
        c.result("pause")
        gpa = find_page(c, text[:4096], size)
        check(gpa, "the guest's file is not in its memory")
        linear = DIRECT_MAP + gpa
        dump = c.result("memory", address=hex(linear), length=4096)
        check(bytes.fromhex(dump["bytes"]) == text[:4096], "the linear address shows other bytes")
        where = c.result("translate", address=hex(linear))
        check(where["physical"] == hex(gpa) and where["owner"] == "RAM", f"translated to {where}")
        dump = text_socket(m.text_path, b"memory %d 32 phys\n" % gpa)
        check(b"33 30 30 30 0a 33 30 30  31 0a" in dump and b"|3000.3001.3002.3|" in dump,
              f"the dump is {dump}")
        check(c.error("memory", address=0x10, length=16)["code"] == "failed", "not mapped")
        check(c.error("memory", address=size - 8, length=16, phys=True)["code"] == "failed",
              "beyond RAM")
        c.result("resume")
        c.result("quit")
        c.expect_event("quit")
        m.left(0)


def save_and_restore():
    """Saved while it runs, it goes on; what was saved comes back here, and in a new process."""
    with Machine() as m:
        s = m.session
        m.shell()
        c = m.client()
        s.send(b"x=before; echo o''k\r")
        s.expect(b"ok")
        saved = m.path("saved machine")
        check(c.result("save", file=saved)["file"] == saved, "saved elsewhere")
        s.send(b"x=after; echo $x$x\r")
        s.expect(b"afterafter")
        check(c.error("save", file=m.path("no/where"))["code"] == "failed", "saved nowhere")
        with open(saved, "rb") as f:
            image = f.read()
        damaged = m.path("damaged")
        for name, bytes_ in (("cut", image[:-1]), ("changed", image[:-9] + b"!" + image[-8:]),
                             ("empty", b""), ("another file", b"x" * 100000)):
            with open(damaged, "wb") as f:
                f.write(bytes_)
            check(c.error("restore", file=damaged)["code"] == "failed", name)
        check(c.error("restore", file="/dev/tty")["code"] == "failed", "a device")
        s.send(b"echo $x$x\r")
        s.expect(b"afterafter")
        check(b"restored from" in text_socket(m.text_path, b'restore "%s"\n' % saved.encode()),
              "not restored")
        c.expect_event("reset")
        s.send(b"echo $x$x\r")
        s.expect(b"beforebefore")
        with Session("--restore", saved) as other:
            other.send(b"\recho $x$x\r")
            other.expect(b"beforebefore")
            other.send(b"\x1dcreset\r")
            other.expect(b"no kernel to start again")
            other.send(b"quit\r")
            check(other.end() == 0, "the restored machine did not end")
        with Session("-m", "256M", "--monitor", "unix:" + m.path("small")) as other:
            other.expect(PROMPT)
            answer = text_socket(m.path("small"), b'restore "%s"\n' % saved.encode())
            check(b"error: the saved machine is not like this one" in answer, f"{answer}")
            other.send(b"\recho $((3 * 5))z\r")
            other.expect(b"15z")
        c.result("quit")
        m.left(0)


def buttons():
    with Machine() as m:
        m.shell()
        c, other = m.client(), m.client()
        c.result("reset")
        other.expect_event("reset")
        m.session.expect(b"doble: init")
        m.shell()
        c.result("pause")
        c.result("reset")
        other.expect_event("reset")
        first = c.result("status")
        time.sleep(0.3)
        check(c.result("status") == first, "reset, it goes on while it is paused")
        c.result("resume")
        m.shell()
        c.result("power")
        other.expect_event("powered-off")
        m.left(0)


def two_clients_and_trace():
    with Machine() as m:
        m.shell()
        a, b = m.client(), m.client()
        check(a.result("pause")["state"] == "paused", "not paused")
        b.expect_event("paused")
        check(b.result("status")["state"] == "paused", "the other doesn't know")
        check(b.result("resume")["state"] == "running", "the other may not resume")
        a.expect_event("resumed")
        check(a.result("trace", pattern="ns16550_*", on=True)["matched"] > 1, "no events")
        m.session.send(b"\r")
        m.session.expect(PROMPT)
        a.result("trace", pattern="*", on=False)
        check(not any(a.result("trace").values()), "an event is still on")
        check(a.error("statu")["message"].endswith("did you mean 'status'?"), "no suggestion")
        b.socket.sendall(b"{\"id\": 1, \"comm")  # and is never heard of again
        b.socket.close()
        check(a.result("status")["state"] == "running", "the other's end disturbs")
        a.result("quit")
        m.left(0)
        check("ns16550_read" in m.session.errors(), "nothing was traced")


def hostile_clients():
    """Noise from some; the guest and another client go on."""
    with Machine() as m:
        m.shell()
        good = m.client()
        for i in range(40):
            bad = connect(m.json_path if i % 2 else m.text_path)
            bad.sendall([os.urandom(5000), b"[" * 200000, b"a" * 200000 + b"\n", b"\0\n" * 100,
                         b"devices *\n" * 50][i % 5])
            bad.close()
            check(good.result("status")["state"] == "running", f"after client {i}")
        deaf = connect(m.json_path)
        deaf.setblocking(False)
        try:
            for _ in range(10000):
                deaf.send(b'{"command":"registers"}\n' * 100)
        except BlockingIOError:
            pass
        check(good.result("status")["state"] == "running", "one who does not read disturbs")
        m.session.send(b"echo $((9 * 9))q\r")
        m.session.expect(b"81q")
        good.result("quit")
        m.left(0)


def virtual_time():
    with Machine("--time", "virtual") as m:
        m.shell()
        c = m.client()
        c.result("pause")
        first = c.result("status")
        time.sleep(0.5)
        check(c.result("status") == first, "paused, virtual time goes on")
        c.result("resume")
        m.session.send(b"echo $((4 * 4))v\r")
        m.session.expect(b"16v")
        c.result("quit")
        m.left(0)


def fails(*args, part):
    done = subprocess.run([DOBLE, "run", *args], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=BOOT_TIME)
    errors = done.stderr.decode(errors="replace")
    check(done.returncode == (2 if part == "unix:PATH" else 3) and one_sentence(errors) and
          part in errors, f"{args}: status {done.returncode}: {errors}")


def socket_paths():
    for option in ("--monitor", "--monitor-json"):
        fails(option, "tcp:1", part="unix:PATH")
        fails(option, "unix:", part="unix:PATH")
        fails(option, "unix:/nonexistent/socket", part="/nonexistent/socket")
        fails(option, "unix:" + "x" * 200, part="longer than")
    with Machine() as m:
        m.client().result("status")
        fails("--monitor", "unix:" + m.text_path, part="something is there already")
        fails("--monitor", "unix:" + DOBLE, part="something is there already")
        fails("--monitor", "unix:" + m.path("same"), "--monitor-json", "unix:" + m.path("same"),
              part="something is there already")
        check(b"running" in text_socket(m.text_path, b"status\n"), "the first one's is gone")
        m.session.signal(signal.SIGKILL)
        m.session.end()
        check(os.path.exists(m.text_path), "no socket is left behind")
        with Session("--monitor", "unix:" + m.text_path) as second:
            second.wait_raw()
            check(b"machine" in text_socket(m.text_path, b"status\n"), "no second machine")
            text_socket(m.text_path, b"quit\n")
            check(second.end() == 0, "status")


main(the_console, memory_is_what_the_guest_wrote, save_and_restore, buttons,
     two_clients_and_trace, hostile_clients, virtual_time, socket_paths)
