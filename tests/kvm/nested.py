#!/usr/bin/env python3
"""The engine `kvm` for real: in a virtual machine of QEMU, whose emulated processor has AMD's
virtualization and whose Debian kernel brings kvm-amd, the monitor boots Debian under KVM, changes
its engine in mid-run, saves, restores, and is debugged.

The outer machine is the built-in guest; an archive appended to its initrd brings the modules, the
monitor with its libraries, the inner guest, and a loop that executes lines that come through the
first serial port. The second carries the monitor's sockets (bridge.c), the third is the inner
machine's terminal."""
import functools
import glob
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "boot", "lib"))
from doble import DOBLE, GUEST, PROMPT, Skip, check, main
from engines import Monitor
from newc import newc_archive
from rsp import Client, frame
from tiny import ENTRY, LOAD_ADDRESS, assemble, kernel

BRIDGE = os.path.join(os.environ.get("BUILD", "build"), "tests", "kvm", "bridge")
QEMU = "qemu-system-x86_64"
PATIENCE = 240  # seconds that anything may take on a busy host
APPEND = "console=ttyS0 quiet no_timer_check tsc=reliable"
DIGEST = b"67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f"  # of seq 1 1000

RUN = b"""#!/bin/sh
cd /doble
for m in irqbypass kvm kvm-amd; do insmod ./$m.ko; done
echo 1 >/proc/sys/kernel/printk
stty -echo
(./bridge /dev/ttyS1 /tmp/monitor &)
echo nested: ready
while read -r line; do
    eval "$line"
    echo "nested: status $?"
done
"""

# For the debugger: counts, and stores the count. The instructions are at multiples of 16.
COUNTER = """
    xor eax, eax
    .p2align 4
again:
    inc rax
    .p2align 4
    mov [rip + cell], rax
    .p2align 4
    cmp dword ptr [rip + stop], 0
    je again
    mov al, 21
    out 0xf4, al
1:  hlt
    jmp 1b
    .org 0x100
cell: .quad 0
stop: .quad 0
"""
BASE = LOAD_ADDRESS + ENTRY
AGAIN, STORE, STOP = (BASE + at for at in (0x10, 0x20, 0x108))


def skip(why):
    print(why)
    sys.exit(77)


def modules(folder):
    """The modules of the outer guest's kernel, from its package."""
    subprocess.run(["dpkg-deb", "-x", os.path.join(GUEST, "linux-image.deb"), folder], check=True)
    found = {}
    for name in ("irqbypass.ko", "kvm.ko", "kvm-amd.ko"):
        paths = glob.glob(f"{folder}/lib/modules/**/{name}", recursive=True)
        if not paths:
            skip(f"the kernel's package has no module {name}")
        found[name] = paths[0]
    return found


def libraries():
    """Those that the monitor is linked with, and the one that pthread_cancel() loads."""
    listed = subprocess.run(["ldd", DOBLE], capture_output=True, text=True, check=True).stdout
    late = subprocess.run(["gcc", "-print-file-name=libgcc_s.so.1"], capture_output=True, text=True,
                          check=True).stdout.strip()
    return [*re.findall(r"(/\S+)", listed), os.path.realpath(late)]


def content(path):
    with open(path, "rb") as f:
        return f.read()


def outer_initrd(folder):
    files = [("doble", None), ("doble/run", RUN), ("doble/doble", content(DOBLE)),
             ("doble/bridge", content(BRIDGE)), ("doble/counter", kernel(assemble(COUNTER)))]
    files += [("doble/" + name, content(os.path.join(GUEST, name)))
              for name in ("vmlinuz", "initrd.img")]
    files += [("doble/" + name, content(path)) for name, path in modules(folder).items()]
    made = {"/"}
    for path in libraries():
        for parent in reversed(pathlib.PurePath(path).parents):
            if str(parent) not in made:
                made.add(str(parent))
                files.append((str(parent).lstrip("/"), None))
        files.append((path.lstrip("/"), content(path)))
    path = os.path.join(folder, "initrd")
    with open(path, "wb") as f:
        f.write(content(os.path.join(GUEST, "initrd.img")) + newc_archive(files))
    return path


class Outer:
    """The virtual machine of QEMU, with a shell."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.bridge = os.path.join(self.folder.name, "bridge")
        console = os.path.join(self.folder.name, "console")
        self.output = self.inner_output = b""
        arguments = ["-accel", "tcg", "-cpu", "max,+svm", "-m", "1024", "-nodefaults", "-display",
                     "none", "-no-reboot", "-kernel", os.path.join(GUEST, "vmlinuz"), "-initrd",
                     outer_initrd(self.folder.name), "-append",
                     "console=ttyS0 quiet no_timer_check doble.run=/doble/run", "-serial", "stdio"]
        for path in (self.bridge, console):
            arguments += ["-serial", f"unix:{path},server=on,wait=off"]
        self.process = subprocess.Popen([QEMU, *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.expect(b"nested: ready")
        self.inner = socket.socket(socket.AF_UNIX)
        self.inner.connect(console)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def expect(self, what):
        """Collects the output of the shell until `what` has come."""
        end = time.monotonic() + PATIENCE
        start = len(self.output)
        while what not in self.output[start:]:
            check(time.monotonic() < end, f"{what!r} did not come after {self.output[-500:]!r}")
            if select.select([self.process.stdout], [], [], 1)[0]:
                part = os.read(self.process.stdout.fileno(), 65536)
                check(part, f"the machine has ended: {self.output[-500:]!r}")
                self.output += part
        return self.output[start:]

    def command(self, line):
        """Status and output of a line of shell."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        text = self.expect(b"nested: status ").decode(errors="replace")
        while not text.endswith("\n"):
            text += os.read(self.process.stdout.fileno(), 1).decode(errors="replace")
        output, status = text.rsplit("nested: status ", 1)
        return int(status), output

    def inner_expect(self, what):
        """Collects what the inner machine's terminal shows."""
        end = time.monotonic() + PATIENCE
        start = len(self.inner_output)
        while what not in self.inner_output[start:]:
            check(time.monotonic() < end,
                  f"{what!r} did not come after {self.inner_output[-300:]!r}")
            if select.select([self.inner], [], [], 1)[0]:
                self.inner_output += self.inner.recv(65536)

    def start(self, *args):
        """Starts a machine at the inner terminal, which listens to the bridge."""
        status, output = self.command("setsid ./doble run " + " ".join(args) +
                                      " </dev/ttyS2 >/dev/ttyS2 2>/tmp/errors & sleep 0.1")
        check(status == 0, output)

    def ended(self):
        """Waits until it has ended; what it wrote to standard error."""
        self.command("wait")
        return self.command("cat /tmp/errors")[1]

    def shell_works(self):
        """A line that is not itself the answer."""
        self.inner.sendall(b"seq 1 1000 | sha256sum\r")
        self.inner_expect(DIGEST)


outer = None
MACHINE = ["-m", "128M", "--kernel", "vmlinuz", "--initrd", "initrd.img"]


def number_after(text, title):
    found = re.search(rf"^ *{title} +(\d+)", text, re.M)
    check(found, f"no {title!r} in {text}")
    return int(found.group(1))


def debian_under_kvm():
    status, output = outer.command(" ".join(
        ["./doble run -e kvm --verbose --stats", *MACHINE, f"--append '{APPEND} doble.batch' 2>&1"]))
    check(status == 0 and "the guest works" in output, f"status {status}: {output[-2000:]}")
    check("doble: engine kvm: it was asked for" in output, output)
    check(number_after(output, "port") > 100 and number_after(output, "registers lent") >= 1, output)
    own = number_after(output, "the monitor's own, KiB")
    print(f"{own} KiB the monitor's own")
    check(own < 8192, f"the monitor itself uses {own} KiB")


def changes_in_mid_run():
    """On the way to the shell, and with the shell at work. A saved machine goes on, too."""
    outer.start("-e kvm", *MACHINE, f"--append '{APPEND}'", "--monitor unix:/tmp/monitor",
                "--stats")
    monitor = Monitor(outer.bridge, b"\n")
    for name in ("interpret", "kvm", "interpret", "kvm", "translate", "kvm"):
        answer = monitor.ask("engine " + name)
        check(answer == [f"{name}: it was asked for"], f"the change to {name}: {answer}")
        time.sleep(0.5)
    outer.inner_expect(PROMPT)
    outer.shell_works()
    for name in ("interpret", "kvm"):
        check(monitor.ask("engine " + name) == [f"{name}: it was asked for"], name)
        outer.shell_works()
    check(monitor.ask("save /tmp/saved") == ["saved to '/tmp/saved'"], "save")
    monitor.close()  # the bridge has one client
    outer.inner.sendall(b"poweroff -f\r")
    errors = outer.ended()
    check("was powered off, engine kvm" in errors, errors)
    restored_machine_goes_on()


def restored_machine_goes_on():
    """By the engine that has not saved it, which then hands over to KVM."""
    outer.start("-e interpret --restore /tmp/saved --monitor unix:/tmp/monitor --stats")
    outer.shell_works()
    monitor = Monitor(outer.bridge, b"\n")
    check(monitor.ask("engine kvm") == ["kvm: it was asked for"], "kvm after restore")
    outer.shell_works()
    monitor.close()
    outer.inner.sendall(b"poweroff -f\r")
    check("was powered off, engine kvm" in outer.ended(), "the restored machine does not end well")


def refusals():
    """KVM has no VME here: a machine that has it stays with its engine."""
    outer.start("-e interpret", *MACHINE, f"--append '{APPEND}'", "--monitor unix:/tmp/monitor")
    monitor = Monitor(outer.bridge, b"\n")
    answer = monitor.ask("engine kvm")
    check(re.match(r"error: the engine 'kvm' cannot give the guest the CPU feature '\w+'",
                   " ".join(answer)), f"{answer}")
    check(monitor.ask("engine")[0].startswith("interpret: "), "it has changed")
    monitor.ask("quit")
    monitor.close()
    outer.ended()


def stops_at(gdb, address, packet="c"):
    answer = gdb.ask(packet)
    check(answer.startswith("T05"), f"{packet}: {answer}")
    rip = int.from_bytes(bytes.fromhex(gdb.ask("p10")), "little")
    check(rip == address, f"{packet}: stopped at {rip:#x}, not {address:#x}")
    return answer


def debugger():
    """QEMU's processor doesn't load a guest's DR7, so that a breakpoint in the debug registers never
    hits here; tests/kvm/host.py has those, and tests/boot/engines.py what the engine does about one."""
    outer.command("killall bridge; (./bridge /dev/ttyS1 /tmp/gdb &); sleep 0.1")
    outer.start("-e kvm -m 32M --kernel counter --debug-exit 0xf4 --gdb unix:/tmp/gdb --gdb-wait")
    with Client(outer.bridge) as gdb:
        many = [AGAIN, STORE, *range(BASE + 0x200, BASE + 0x208)]  # more than it has registers
        for address in many:
            check(gdb.ask(f"Z0,{address:x},1") == "OK", "Z0")
        for n in (1, 2, 3):
            stops_at(gdb, AGAIN)
            stops_at(gdb, STORE)
            check(gdb.ask("p0") == n.to_bytes(8, "little").hex(), f"RAX is not {n}")
        stops_at(gdb, STORE + 7, "s")
        for address in many:
            check(gdb.ask(f"z0,{address:x},1") == "OK", "z0")
        gdb.raw(frame(b"c"))
        time.sleep(1)
        before = int.from_bytes(bytes.fromhex(gdb.ask("p0")), "little") if gdb.interrupt() else 0
        check(before > 10, "it does not run under KVM")
        gdb.raw(frame(b"s"))
        check(gdb.answer().startswith(b"T05"), "no step from where it was interrupted")
        check(gdb.ask(f"M{STOP:x},4:01000000") == "OK", "M")
        check(gdb.ask("c") == "W2b", "it does not end with status 43")
    outer.ended()


def check_means():
    if not shutil.which(QEMU):
        skip(f"{QEMU} is not there; Debian has it in qemu-system-x86")
    for path in (os.path.join(GUEST, "vmlinuz"), os.path.join(GUEST, "linux-image.deb")):
        if not os.access(path, os.R_OK):
            skip(f"{path} is not there; 'make guest' fetches it")


def in_time(test):
    """A busy host may not find the time for all of it."""
    @functools.wraps(test)
    def wrapped():
        if time.monotonic() - start > 200:
            raise Skip("this host is busy")
        test()
    return wrapped


if __name__ == "__main__":
    check_means()
    start = time.monotonic()
    outer = Outer()
    try:
        main(*map(in_time, (debian_under_kvm, changes_in_mid_run, refusals, debugger)))
    finally:
        outer.close()
