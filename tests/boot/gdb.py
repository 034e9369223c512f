#!/usr/bin/env python3
"""The GDB stub: every kind of packet on small guests, clients that misbehave, and (where it is
installed) GDB itself on the Debian kernel and on a program in the guest."""
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import BOOT_TIME, DOBLE, GUEST, Failure, check, main, needs_engine, one_sentence, run
from newc import newc_archive
from rsp import Client, frame
from tiny import ENTRY, LOAD_ADDRESS, kernel

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")
USAGE, HOST_ERROR, CRASHED = 2, 3, 4
EXIT_PORT = 0xf4
ENGINES = ["interpret", "translate"]
NOWHERE = 0x123456789000  # canonical, and not mapped by the tiny kernels

# Counts, calls, stores; ends through the debug port when `stop` is not 0.
COUNTER = """
    lea rsp, [rip + stack_top]
    xor eax, eax
again:
    inc rax
    mov [rip + counter], rax
after_store:
    mov rbx, [rip + counter]
after_load:
    call function
    cmp dword ptr [rip + stop], 0
    je again
    mov al, 21
    out 0xf4, al
idle:
    hlt
    jmp idle
function:
    nop
    ret
crash:
    lidt [rip + stop]
    ud2
strings:
    cld
    lea rdi, [rip + buffer]
    mov ecx, 256
    mov al, 0x55
    rep stosb
after_string:
    jmp after_string
    .space 8192
counter: .quad 0
stop: .quad 0, 0
buffer: .space 256
    .space 8192
stack_top:
"""


def assemble(text, folder, bits=64, base=LOAD_ADDRESS + ENTRY):
    """The bytes at `base`, and where the labels are."""
    path = os.path.join(folder, "code")
    source = f".intel_syntax noprefix\n.code{bits}\n.globl _start\n_start:\n{text}\n"
    emulation = "elf_x86_64" if bits == 64 else "elf_i386"
    subprocess.run(["as", f"--{bits}", "-o", path + ".o", "-"], input=source.encode(), check=True)
    subprocess.run(["ld", "-m", emulation, "-N", "-Ttext", hex(base), "-o", path + ".elf",
                    path + ".o"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["objcopy", "-O", "binary", path + ".elf", path], check=True)
    names = subprocess.run(["nm", path + ".elf"], capture_output=True, text=True, check=True).stdout
    with open(path, "rb") as f:
        code = f.read()
    lines = [line.split() for line in names.splitlines()]
    return code, {name: int(address, 16) for address, _, name in lines}


class Machine:
    """A machine that waits for a debugger, with `text` as its kernel."""

    engine = ENGINES[0]

    def __init__(self, text=COUNTER, *args, wait=True, where=None, image=None):
        self.folder = tempfile.TemporaryDirectory()
        self.where = where or os.path.join(self.folder.name, "gdb")
        self.path = os.path.join(self.folder.name, "kernel")
        if not image:
            code, self.at = assemble(text, self.folder.name)
            image = kernel(code)
        with open(self.path, "wb") as f:
            f.write(image)
        place = f"unix:{self.where}" if isinstance(self.where, str) else "%s:%d" % self.where
        command = [DOBLE, "run", "-e", self.engine, "-k", self.path, "-m", "64M",
                   "--debug-exit", hex(EXIT_PORT),
                   "--serial", "none", "--gdb", place, *args]
        self.process = subprocess.Popen(command + (["--gdb-wait"] if wait else []),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.folder.cleanup()

    def client(self):
        return Client(self.where)

    def end(self):
        self.process.wait(BOOT_TIME)
        return self.process.returncode


@contextlib.contextmanager
def debugged(text=COUNTER, *args):
    with Machine(text, *args) as machine, machine.client() as client:
        yield machine, client.start()


# --- registers and memory ---

def registers():
    with debugged() as (m, c):
        names = {r.get("name") for r in c.target.iter("reg")}
        check({"rax", "rip", "eflags", "fs_base", "k_gs_base", "cr0", "cr8", "efer", "st7", "fop",
               "xmm15", "mxcsr"} <= names, f"registers are missing: {sorted(names)}")
        check(c.target.find("architecture").text == "i386:x86-64", "wrong architecture")
        check(c.reg("rip") == m.at["_start"], f"starts at {c.reg('rip'):#x}")
        check(c.reg("efer") & 0x400 and c.reg("cr0") >> 31, "not in long mode")
        total = sum(size for _, size in c.registers.values())
        check(len(c.ask("g")) == 2 * total, "the g packet has another length")
        for name in c.registers:
            check(len(c.reg_bytes(name)) == c.registers[name][1], f"{name} has another size")


def register_writes():
    with debugged() as (_, c):
        for name, value in [("rax", 0x1122334455667788), ("r15", 2**64 - 1), ("fs_base", 0x1234),
                            ("k_gs_base", 0x5678), ("xmm7", 2**127 + 5), ("mxcsr", 0x1fbf),
                            ("fctrl", 0x27f), ("eflags", 0x246), ("cr2", 0xdead000),
                            ("cr8", 5), ("ymm3h", 2**128 - 2)]:
            if name not in c.registers:
                continue  # a host without AVX
            check(c.set_reg(name, value) == "OK", f"{name} cannot be written")
            check(c.reg(name) == value, f"{name} is {c.reg(name):#x}, not {value:#x}")
        pi = bytes.fromhex("35c26821a2da0fc90040")
        check(c.set_reg("st2", pi) == "OK" and c.reg_bytes("st2") == pi, "st2 was not written")
        before = c.ask("g")
        for name, value in [("cr0", 0x80000000), ("cr4", 0), ("efer", 0), ("cs", 0x33),
                            ("mxcsr", 2**31), ("rip", 2**63), ("fs_base", 2**63), ("dr7", 1),
                            ("eflags", 0x20002), ("ss", 0xfff8), ("cr8", 16), ("xcr0", 0)]:
            check(c.set_reg(name, value) == "E01", f"{name} took {value:#x}")
        check(c.ask("g") == before, "a refused write changed something")
        check(c.ask("G" + before) == "OK" and c.ask("g") == before, "G changed something")
        for bad in ["p", "pzz", "p1000", "pffffffffffffffff", "p-1", "P0", "P0=", "P0=11",
                    "P0=zz22334455667788", "P1000=00", "P0=" + "0" * 18, "G", "G00", "Gzz",
                    "G" + before + "00", "p11111111111111111"]:
            check(c.ask(bad) in ("E01", "OK") and c.ask("g") == before, f"{bad[:20]} did something")


def memory():
    with debugged() as (m, c):
        code = c.memory(m.at["_start"], 16)
        check(len(code) == 16 and code != bytes(16), "the code is not there")
        check(c.ask("M%x,4:deadbeef" % m.at["buffer"]) == "OK", "M failed")
        check(c.memory(m.at["buffer"], 5) == b"\xde\xad\xbe\xef\0", "M wrote something else")
        c.raw(frame(b"X%x,4:" % m.at["buffer"] + b"}\x03}\x04}\x5d\x80"))
        check(c.answer() == b"OK", "X failed")
        check(c.memory(m.at["buffer"], 4) == b"#$}\x80", "X wrote something else")
        for bad in ["m", "m,", "m1000", "mzz,4", f"m{m.at['_start']:x},", "m0,4,", "M0", "M0,1",
                    "M%x,4:00" % m.at["buffer"], "M%x,1:0000" % m.at["buffer"], "M0,ffffffff:00",
                    "X0", "X%x,5:abc" % m.at["buffer"], "m11111111111111111,1"]:
            check(c.ask(bad) == "E01", f"{bad} gave {c.ask(bad)}")
        for nowhere in [NOWHERE, 0x800000000000, 2**64 - 1, 2**64 - 4096, 0xfee00000]:
            check(c.memory(nowhere, 8) == "E14", f"memory at {nowhere:#x}")
            check(c.ask("M%x,1:00" % nowhere) == "E14", f"wrote at {nowhere:#x}")
        top = 64 << 20
        check(len(c.memory(top - 8, 64)) == 8, "a read over the end of RAM is cut off")
        check(c.ask("M%x,10:%s" % (top - 8, "00" * 16)) == "E14", "wrote beyond RAM")
        check(len(c.memory(m.at["_start"], 2**64 - 1)) == 8192, "a huge length is bounded")
        check(c.ask("m%x,0" % NOWHERE) == "", "nothing can be read anywhere")


# --- running ---

def steps():
    with debugged() as (m, c):
        places = [c.reg("rip")]
        for _ in range(3):
            check(c.resume("s:1").startswith("T05"), "no stop after a step")
            places.append(c.reg("rip"))
        check(places == sorted(set(places)) and places[3] == m.at["again"] + 3,
              f"steps to {[hex(p) for p in places]}")
        check(c.reg("rax") == 1 and c.word(m.at["counter"]) == 0, "stepped too far")
        check(c.ask("s").startswith("T05") and c.word(m.at["counter"]) == 1, "s doesn't step")
        check(c.ask("S05").startswith("T05") and c.reg("rbx") == 1, "S doesn't step")
        check(c.ask("s%x" % m.at["again"]).startswith("T05"), "s ADDR doesn't step")
        check(c.reg("rax") == 2, "s ADDR stepped elsewhere")
        for bad in ["vCont", "vCont;", "vCont;x", "vCont;cc", "vCont;C", "vCont;Czz", "szz", "czz",
                    "s8000000000000000", "Sxx", "C", "C05;zz"]:
            check(c.ask(bad) in ("E01", ""), f"{bad} did something")
        check(c.ask("vCont?") == "vCont;c;C;s;S", "vCont? has another answer")
        text = c.monitor("step-interrupts on")
        check("are taken" in text and "wait" in c.monitor("step-interrupts off"), text)


def breakpoints():
    for kind, reason in [(0, "swbreak"), (1, "hwbreak")]:
        with debugged() as (m, c):
            check(c.ask(f"Z{kind},{m.at['function']:x},1") == "OK", "no breakpoint")
            code = c.memory(m.at["function"], 2)
            for i in range(1, 5):
                stop = c.resume()
                check(stop.startswith("T05") and reason in stop, f"stopped by {stop}")
                check(c.reg("rip") == m.at["function"] and c.reg("rax") == i, "stopped elsewhere")
            check(code == c.memory(m.at["function"], 2) == b"\x90\xc3", "the guest's code changed")
            check(c.resume("s").startswith("T05"), "no step from a breakpoint")
            check(c.reg("rip") == m.at["function"] + 1, "stepped elsewhere")
            c.set_reg("rip", m.at["function"])
            check(c.resume().startswith("T05") and c.reg("rax") == 4,
                  "a breakpoint where the program counter was moved to counts")
            check(c.ask(f"z{kind},{m.at['function']:x},1") == "OK", "not removed")
            check(c.ask(f"z{kind},{m.at['function']:x},1") == "OK", "removing again is no error")
            c.ask("M%x,1:01" % m.at["stop"])
            check(c.resume() == "W2b" and m.end() == 43, "it did not run to its end")


def many_breakpoints():
    with debugged() as (m, c):
        for address in [NOWHERE, 0, 2**64 - 1, 0x800000000000]:
            check(c.ask("Z0,%x,1" % address) == "OK", f"no breakpoint at {address:#x}")
            check(c.ask("z0,%x,1" % address) == "OK", "not removed")
        answers = [c.ask("Z0,%x,1" % (NOWHERE + 3 * (i * 7 % 600))) for i in range(600)]
        check(answers.count("OK") == 512 and answers[-1] == "E28", "how many breakpoints?")
        check(c.ask("Z1,%x,1" % (NOWHERE + 3 * 7)) == "OK", "another kind at the same place")
        for i in range(600):
            c.ask("z0,%x,1" % (NOWHERE + 3 * i))
        check(c.ask("Z0,%x,1" % m.at["function"]) == "OK" and c.resume().startswith("T05"),
              "no place after removing them")
        for bad in ["Z", "Z0", "Z0,", "Z0,1", "Z0,1,", "Z0,zz,1", "Z0,1,1,", "Z0,1,1;X1,00",
                    "Z2,1000,0", "Z2,1000,ffffffffffffffff", "Z3,ffffffffffffffff,2",
                    "Z4,0,10001", "z", "z0,1"]:
            check(c.ask(bad) in ("E01", "E28"), f"{bad} gave {c.ask(bad)}")
        check(c.ask("Z5,1,1") == "" and c.ask("z9,1,1") == "", "kinds that are not known")
        answers = [c.ask("Z2,%x,8" % (0x2000 + 8 * i)) for i in range(70)]
        check(answers.count("OK") == 64, "how many watchpoints?")


def watchpoints():
    with debugged() as (m, c):
        check(c.ask("Z2,%x,8" % m.at["counter"]) == "OK", "no watchpoint")
        for i in range(1, 4):
            stop = c.resume()
            check(f"watch:{m.at['counter']:x};" in stop, f"stopped by {stop}")
            check(c.reg("rip") == m.at["after_store"], f"stopped at {c.reg('rip'):#x}")
            check(c.word(m.at["counter"]) == i, "it stopped too late")
        c.ask("z2,%x,8" % m.at["counter"])
        check(c.ask("Z3,%x,1" % (m.at["counter"] + 7)) == "OK", "no read watchpoint")
        stop = c.resume()
        check(f"rwatch:{m.at['counter'] + 7:x};" in stop, f"stopped by {stop}")
        check(c.reg("rip") == m.at["after_load"], "the read was missed")
        c.ask("z3,%x,1" % (m.at["counter"] + 7))
        check(c.ask("Z4,%x,2" % (m.at["counter"] - 1)) == "OK", "no access watchpoint")
        for place in ["after_store", "after_load"]:
            check("awatch:" in c.resume() and c.reg("rip") == m.at[place], f"missed {place}")
        c.ask("z4,%x,2" % (m.at["counter"] - 1))
        check(c.ask("Z2,%x,1" % (m.at["buffer"] + 100)) == "OK", "no watchpoint")
        c.set_reg("rip", m.at["strings"])
        check("watch:" in c.resume(), "a string store was missed")
        check(c.memory(m.at["buffer"] + 99, 3) == b"\x55\x55\0", "REP STOSB was not stopped")
        check(c.reg("rcx") == 155, f"RCX is {c.reg('rcx')}")
        c.ask("z2,%x,1" % (m.at["buffer"] + 100))
        check(c.ask("Z0,%x,1" % m.at["after_string"]) == "OK" and c.resume().startswith("T05"),
              "it went astray")
        check(c.memory(m.at["buffer"], 256) == b"\x55" * 256, "REP STOSB was not finished")


def go_until(c, condition):
    """Goes on and interrupts, until the guest has got so far."""
    end = time.monotonic() + BOOT_TIME
    while True:
        c.go()
        time.sleep(0.02)
        check(c.interrupt().startswith("T02"), "no stop by an interrupt")
        if condition():
            return
        check(time.monotonic() < end, "it does not go on")


def interrupts():
    with debugged() as (m, c):
        for _ in range(5):
            go_until(c, lambda: True)
        go_until(c, lambda: c.word(m.at["counter"]) > 10)
        count = c.word(m.at["counter"])
        time.sleep(0.1)
        check(c.word(m.at["counter"]) == count, "it runs although it was stopped")
        c.raw(b"\x03\x03")
        check(c.ask("?").startswith("T02"), "an interrupt while stopped does nothing")
        c.go()
        check(c.ask("g").startswith("E.") and c.ask("m0,4").startswith("E."),
              "packets are refused while it runs")
        check(c.interrupt().startswith("T02"), "no stop after that")
        c.set_reg("rip", m.at["idle"])
        go_until(c, lambda: c.reg("rip") == m.at["idle"] + 1)  # it is halted
        c.go()
        time.sleep(0.05)
        check(c.interrupt().startswith("T02") and c.reg("rip") == m.at["idle"] + 1,
              "a halted processor is not stopped")
        c.go("s")  # nothing can end that halt
        time.sleep(0.05)
        check(c.interrupt().startswith("T02"), "a step of a halted processor is not stopped")


def ends():
    with debugged() as (m, c):
        c.raw(frame(b"k"))
        check(m.end() == 0, f"kill: status {m.process.returncode}")
    with debugged() as (m, c):
        check(c.ask("vKill;1") == "OK" and m.end() == 0, "vKill did not end it")
    with debugged() as (m, c):
        c.set_reg("rip", m.at["crash"])
        check(c.resume().startswith("T06"), "a triple fault does not stop")
        check(c.resume() == "X06" and m.end() == CRASHED, "nor end it")
    with debugged() as (m, c):
        c.go()
        m.process.send_signal(signal.SIGINT)
        check(c.answer() == b"X02" and m.end() == 128 + signal.SIGINT, "the end is not told")


# --- clients that come and go ---

def detach_and_reattach():
    with Machine() as m:
        with m.client() as c:
            c.start()
            c.ask("Z0,%x,1" % m.at["function"])
            check(c.resume().startswith("T05"), "no stop")
            check(c.ask("D;1") == "OK", "D was refused")
        for _ in range(3):
            with m.client() as c:
                c.start()
                check(c.ask("?").startswith("T05"), "not stopped when it attaches")
                first = c.word(m.at["counter"])  # a breakpoint that outlived its debugger stops it
                go_until(c, lambda: c.word(m.at["counter"]) > first)
                c.ask("Z2,%x,8" % m.at["counter"])
        with m.client() as c:  # the one before went without a word
            c.start()
            c.ask("M%x,1:01" % m.at["stop"])
            check(c.ask("qAttached") == "1" and c.ask("D") == "OK", "D was refused")
        check(m.end() == 43, "it did not run on")


def disconnects():
    with Machine() as m:
        for bytes_sent in [b"", b"+", b"$", b"$m", b"$m100,4#", b"$m100,4#2", frame(b"?"),
                           frame(b"c"), frame(b"vCont;s"), b"$" + b"a" * 50000,
                           frame(b"g") * 200, frame(b"Z0,%x,1" % m.at["function"]) + frame(b"c")]:
            with m.client() as c:
                c.raw(bytes_sent)
        with m.client() as c:
            c.start()
            c.ask("M%x,1:01" % m.at["stop"])
            check(c.resume() == "W2b", "something is left of them")
        check(m.end() == 43, "it did not run to its end")


def second_client():
    with debugged() as (m, c):
        for _ in range(3):
            with m.client() as other:
                other.raw(frame(b"qSupported"))
                check(other.read_byte() == b"+", "its packet was not acknowledged")
                check(b"another debugger" in other.answer(), "it was not refused")
                check(other.socket.recv(100) == b"", "its connection is still open")
        silent = [m.client() for _ in range(5)]
        check(c.resume("s").startswith("T05"), "the first one is disturbed")
        for s in silent:
            s.close()
        check(c.ask("?").startswith("T05"), "the first one is disturbed")


def hostile_packets():
    with debugged() as (m, c):
        c.ask("Z0,%x,1" % m.at["function"])
        check(c.ask(b"a" * 16384) == "", "the longest packet")
        check(c.ask(b"a" * 16385) == "E.the packet is too long", "a longer one")
        check(c.ask(b"m" * 300000) == "E.the packet is too long", "a much longer one")
        c.raw(b"$g#00")
        check(b"checksum" in c.answer(), "a wrong checksum was not noticed")
        c.raw(b"$g#zz")
        check(b"checksum" in c.answer(), "a checksum that is none was not noticed")
        c.raw(b"$g$?" + frame(b"qC"))
        check(c.answer() == b"QC1", "a packet without an end hides the next")
        c.raw(bytes(b for b in range(256) if b not in b"$\x03") * 10 + frame(b"qC"))
        check(c.answer() == b"QC1", "noise between packets")
        for bad in ["", "!", "vRun;", "vFile:open:", "qXfer:features:read:other.xml:0,100",
                    "qXfer:features:read:target.xml:", "qXfer:features:read:target.xml:0",
                    "qXfer:features:read:target.xml:ffffffff,10", "qRcmd,", "qRcmd,0", "qRcmd,zz",
                    "qRcmd," + "41" * 2000, "H", "Hx1", "Hg2", "T5", "qThreadExtraInfo,9", "b", "i",
                    "R00", "t", "A", "qCRC:0,ffffffffffffffff", "qSearch:memory:0;1;a", "\0", "}",
                    "qSupported" + ";a" * 5000, "QStartNoAckMode1", "qfThreadInfo2", "Qx",
                    "vMustReplyEmpty"]:
            c.raw(frame(bad.encode()))
            answer = c.answer()
            while answer.startswith(b"O") and answer != b"OK":
                answer = c.answer()
            check(len(answer) < 200, f"{bad[:30]!r}: {answer[:100]!r}")
        check(c.resume().startswith("T05") and c.reg("rip") == m.at["function"], "it is disturbed")


def hostile_with_acknowledgements():
    with Machine() as m, m.client() as c:
        c.raw(b"$?#00")
        check(c.read_byte() == b"-", "a bad packet is not refused")
        c.raw(frame(b"qC"))
        check(c.read_byte() == b"+", "a good packet is not acknowledged")
        c.raw(b"---")
        for _ in range(4):
            check(c.answer() == b"QC1", "not sent again")
        c.raw(b"-" * 100000)  # answers for which there is no room must wait, and do
        c.close()
        c = m.client()
        check(c.start().ask("qC") == "QC1", "no client after that")


def client_that_does_not_read():
    with Machine() as m:
        c = m.client()
        c.start()
        c.socket.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            for _ in range(20000):
                sent += c.socket.send(frame(b"g") * 20)
        check(sent < 20 << 20, "it takes requests without end")
        with open(f"/proc/{m.process.pid}/statm") as f:
            check(int(f.read().split()[1]) < 40000, "it keeps answers without end")
        c.close()
        with m.client() as c:
            check(c.start().ask("qC") == "QC1", "no client after that")


def random_packet(rng):
    starts = [b"m", b"M", b"X", b"p", b"P", b"G", b"Z0,", b"Z2,", b"z0,", b"Z3,", b"vCont", b"H",
              b"qXfer:features:", b"qRcmd,", b"q", b"Q", b"v", b"s", b"C05", b"S"]
    if rng.random() < 0.1:
        return b"?" + rng.randbytes(rng.randrange(300)).replace(b"$", b"").replace(b"#", b"")
    return rng.choice(starts) + bytes(rng.choice(b"0123456789abcdef,;:=-z\x80")
                                      for _ in range(rng.randrange(40)))


def random_packets():
    """What they do to the guest may crash the guest, but nothing else."""
    rng = random.Random(3)
    for _ in range(10):
        with Machine() as m:
            with contextlib.suppress(OSError, Failure):
                for _ in range(10):
                    with Client(m.where, seconds=1) as c:
                        c.start()
                        for _ in range(50):
                            c.raw(frame(random_packet(rng)) + b"\x03")
            while m.process.poll() is None:
                with contextlib.suppress(OSError, Failure):
                    with Client(m.where, seconds=1) as c:
                        c.start().ask("qC")
                        c.raw(frame(b"k"))
                        m.end()
            check(m.end() in (0, CRASHED, 43), f"it ended with status {m.process.returncode}")


# --- monitor commands ---

def monitor_commands():
    with debugged() as (m, c):
        text = c.monitor("help")
        for word in ["translate", "pages", "gdt", "idt", "ldt", "apic", "device", "registers"]:
            check(f"monitor {word}" in text, f"no {word} in help")
        check("2 MiB" in c.monitor("translate $pc"), c.monitor("translate $pc"))
        check("not mapped" in c.monitor(f"translate {NOWHERE:#x}"), "translated")
        check("not canonical" in c.monitor("translate 0x800000000000"), "translated")
        text = c.monitor(f"pages {m.at['_start']}")
        check(all(w in text for w in ["CR3", "PML4E", "PDPTE", "PDE"]), text)
        check("64-bit" in c.monitor("gdt") and "IDT" in c.monitor("idt"), "no tables")
        check("no LDT" in c.monitor("ldt"), c.monitor("ldt"))
        check("LINT0" in c.monitor("apic") and "pin 23" in c.monitor("apic"), "no APICs")
        check("i8254" in c.monitor("device i8254*"), c.monitor("device i8254"))
        check("ns16550" in c.monitor("device"), "not all devices")
        check("no device" in c.monitor("device nothing"), "some device")
        check("rax" in c.monitor("registers") and "cr3" in c.monitor("registers"), "no registers")
        for bad in ["", "what", "translate", "translate x", "translate -1", "gdt 1",
                    "translate 99999999999999999999", "pages zz", "step-interrupts maybe",
                    "%n%s", "x" * 500, "device " + "*[a" * 60]:
            check(c.monitor(bad), f"{bad[:20]!r} is answered with nothing")


# A GDT of 32-bit segments comes with a Multiboot loader: the CPU is in protected mode.
MULTIBOOT = """
    .long 0x1badb002, 0x10003, -(0x1badb002 + 0x10003)
    .long _start, _start, 0, 0, start
start:
    mov esp, 0x300000
    mov eax, 0x12345678
again:
    inc eax
    push eax
    pop ebx
    jmp again
"""


def protected_mode():
    with tempfile.TemporaryDirectory() as folder:
        image, at = assemble(MULTIBOOT, folder, 32, 0x100000)
    with Machine(image=image) as m, m.client() as c:
        c.start()
        check(c.target.find("architecture").text == "i386", "wrong architecture")
        check(c.registers["eax"] == (0, 4) and c.registers["eip"] == (8, 4), "wrong registers")
        check(c.reg("eip") == at["start"] and not c.reg("efer") & 0x400, "wrong start")
        check(c.ask("Z0,%x,1" % at["again"]) == "OK" and c.resume().startswith("T05"), "no stop")
        check(c.reg("eip") == at["again"] and c.reg("eax") == 0x12345678, "wrong place")
        check(c.resume("s").startswith("T05") and c.reg("eax") == 0x12345679, "wrong step")
        check("paging is off" in c.monitor("pages 0x100000"), "paging?")


# --- where it listens ---

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def places():
    port = free_port()
    with Machine(where=("127.0.0.1", port)) as m:
        with m.client() as c:
            c.start()
            c.ask("M%x,1:01" % m.at["stop"])
            for args in [["--gdb", f"127.0.0.1:{port}"], ["--gdb", f"localhost:{port}"]]:
                status, _, errors = run("-k", m.path, *args)
                check(status == HOST_ERROR and one_sentence(errors) and "in use" in errors, errors)
            check(c.resume() == "W2b" and m.end() == 43, "disturbed")
    with Machine() as m:
        with m.client() as c:
            c.start()
            status, _, errors = run("-k", m.path, "--gdb", f"unix:{m.where}")
            check(status == HOST_ERROR and one_sentence(errors), errors)
            check(c.ask("qC") == "QC1", "disturbed")
            check(os.stat(m.where).st_mode & 0o077 == 0, "others may connect")
            c.raw(frame(b"k"))
        check(m.end() == 0 and not os.path.exists(m.where), "the socket is left behind")
    for bad in ["", "1234", ":", "host:", "host:x", "host:70000", "unix:", "::1:1234", "[::1:1234"]:
        status, _, errors = run("--gdb", bad)
        check(status == USAGE and one_sentence(errors), f"{bad!r}: {status} {errors}")
    check(run("--gdb-wait")[0] == USAGE, "--gdb-wait alone")
    for bad in ["192.0.2.1:1234", "no-such-host.invalid:1234", "unix:/no/such/folder/gdb"]:
        status, _, errors = run("--gdb", bad)
        check(status == HOST_ERROR and one_sentence(errors), f"{bad!r}: {status} {errors}")


# --- GDB itself ---

def gdb(commands, *files):
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
        script.write(f"set pagination off\nset confirm off\nset remotetimeout {BOOT_TIME}\n"
                     "set debuginfod enabled off\n" + commands)
        script.flush()
        done = subprocess.run(["gdb", "-nx", "-batch", "-x", script.name, *files],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=BOOT_TIME)
        return done.stdout.decode(errors="replace")


@contextlib.contextmanager
def debian(*args, append=""):
    """The built-in guest, waiting; gives the folder (with its socket, "gdb") and the process."""
    with tempfile.TemporaryDirectory() as folder:
        output = open(os.path.join(folder, "output"), "wb")
        process = subprocess.Popen([DOBLE, "run", "-e", Machine.engine, "--gdb-wait",
                                    "--gdb", f"unix:{folder}/gdb",
                                    "--append", "console=ttyS0 nokaslr " + append, *args],
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while not os.path.exists(f"{folder}/gdb"):
                check(process.poll() is None, "it did not start")
                time.sleep(0.02)
            yield folder, process
        finally:
            process.kill()
            process.wait()
            output.close()


def output_of(folder):
    with open(os.path.join(folder, "output"), "rb") as f:
        return f.read().decode(errors="replace")


def gdb_on_the_kernel():
    with debian(append="doble.batch") as (folder, process):
        symbols = os.path.join(folder, "symbols.elf")
        subprocess.run([os.path.join(SCRIPTS, "kernel-symbols"), os.path.join(GUEST, "vmlinuz"),
                        "-o", symbols], check=True, stdout=subprocess.DEVNULL)
        text = gdb(f"""
target remote {folder}/gdb
info registers cr0 cr4 efer fs_base
hbreak start_kernel
continue
bt
delete
break vfs_write
continue
bt
stepi
stepi
x/i $pc
finish
delete
watch *(unsigned long *)&jiffies_64
continue
continue
bt
delete
monitor translate $pc
p $_siginfo
detach
""", symbols)
        for words in [r"cr0 +0x80\w+ +\[ PE", r"Breakpoint 1, 0x\w+ in start_kernel \(\)",
                      r"Breakpoint 2, 0x\w+ in vfs_write \(\)",
                      r"#1 .*\bksys_write \(\)\n#2 .*\bdo_syscall_64 \(\)",
                      r"=> 0x\w+ <vfs_write\+\d",
                      r"Old value = (\d+)\nNew value = (\d+)",
                      r"#\d+ .*tick_\w+", r"-> physical 0x\w+, 2 MiB page", r"\bdetached\]"]:
            check(re.search(words, text), f"no {words!r} in:\n{text}")
        pairs = re.findall(r"Old value = (\d+)\nNew value = (\d+)", text)
        values = [(int(old), int(new)) for old, new in pairs]
        check(len(values) == 2 and all(b > a for a, b in values) and values[0][1] == values[1][0],
              f"jiffies: {values}")
        check(process.wait(BOOT_TIME) == 0 and "the guest works" in output_of(folder),
              f"it did not run on:\n{output_of(folder)[-500:]}")


PROGRAM = """
#include <stdio.h>
volatile int counter;
static int twice(int n) { counter += n; return 2 * n; }
int main(void)
{
    int sum = 0;
    for (int i = 1; i <= 10; i++)
        sum += twice(i);
    printf("the sum is %d\\n", sum);
    return sum == 110 ? 0 : 1;
}
"""


def gdb_on_a_program():
    with tempfile.TemporaryDirectory() as folder:
        source, program, initrd = (os.path.join(folder, n) for n in ["p.c", "run", "initrd"])
        with open(source, "w") as f:
            f.write(PROGRAM)
        subprocess.run(["gcc", "-g", "-O0", "-static", "-no-pie", "-Wl,-Ttext-segment=0x70000000",
                        "-o", program, source], check=True)
        with open(os.path.join(GUEST, "initrd.img"), "rb") as f:
            archive = f.read()
        with open(program, "rb") as f:
            archive += newc_archive([("doble", None), ("doble/run", f.read())])
        with open(initrd, "wb") as f:
            f.write(archive)
        with debian("-k", os.path.join(GUEST, "vmlinuz"), "-i", initrd) as (place, process):
            text = gdb(f"""
target remote {place}/gdb
hbreak *main
continue
p $cs & 3
p $cpl
delete
hbreak twice
continue
bt
p n
next
delete
watch counter
continue
continue
print counter
delete
monitor translate $sp
continue
""", program)
            for words in [r"Breakpoint 1, .*main \(\)", r"\$1 = 3", r"\$2 = 3",
                          r"Breakpoint 2, twice \(n=1\)",
                          r"#1 .* in main \(\) at", r"\$3 = 1", r"Old value = 1\nNew value = 3",
                          r"Old value = 3\nNew value = 6", r"\$4 = 6", r"exited normally"]:
                check(re.search(words, text), f"no {words!r} in:\n{text}")
            check(process.wait(BOOT_TIME) == 0 and "the sum is 110" in output_of(place),
                  f"it did not run on:\n{output_of(place)[-500:]}")


def with_engine(test, engine):
    def run_test():
        needs_engine(engine)
        Machine.engine = engine
        test()
    run_test.__name__ = f"{test.__name__} ({engine})"
    return run_test


def all_tests():
    same = [register_writes, hostile_packets, hostile_with_acknowledgements, places, second_client,
            client_that_does_not_read, random_packets, monitor_commands]
    each = [registers, memory, steps, breakpoints, many_breakpoints, watchpoints, interrupts, ends,
            detach_and_reattach, disconnects, protected_mode]
    if shutil.which("gdb"):
        each += [gdb_on_the_kernel, gdb_on_a_program]
    return [with_engine(t, ENGINES[0]) for t in same] + \
        [with_engine(t, e) for e in ENGINES for t in each]


words = sys.argv[1:]
main(*(t for t in all_tests() if not words or any(w in t.__name__ for w in words)))
