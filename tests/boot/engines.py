#!/usr/bin/env python3
"""Which engine runs and why; a machine that changes its engine and goes on; a KVM that is not there,
forbidden, broken or slow (played by tests/kvm/fake_kvm.c)."""
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import DOBLE, PROMPT, Session, Skip, check, main, one_sentence, run
from engines import Monitor
from rsp import Client, frame
from tiny import ENTRY, LOAD_ADDRESS, assemble, kernel

FAKE = os.path.abspath(os.path.join(os.environ.get("BUILD", "build"), "tests", "kvm", "fake_kvm.so"))
HOST_ERROR = 3
# A guest of 3,000 iterations that then writes 21 to the debug port: status 43.
COUNTER = """
    mov ecx, 3000
1:  dec ecx
    jnz 1b
    mov eax, 21
    out 0xf4, al
2:  hlt
    jmp 2b
"""
LIMITED = ["--time", "virtual", "--max-instructions", "1000000"]


class TinyGuest:
    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "kernel")
        with open(path, "wb") as f:
            f.write(kernel(assemble(COUNTER)))
        self.args = ["-k", path, "-m", "32M", "--debug-exit", "0xf4", "--verbose"]
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def run(self, engine, fault, *more):
        env = {**os.environ, "LD_PRELOAD": FAKE, "FAKE_KVM": fault}
        return run("-e", engine, *self.args, *more, env=env, timeout=60)


def engine_lines(errors):
    return [line for line in errors.splitlines() if line.startswith("doble: engine ")]


def auto_says_which_and_why():
    with TinyGuest() as guest:
        status, _, errors = run(*guest.args, timeout=60)
        lines = engine_lines(errors)
        check(status == 43 and len(lines) == 1, f"status {status}: {errors}")
        check(re.match(r"doble: engine (kvm|translate): \S.{10}", lines[0]), lines[0])
        print(lines[0])
        status, _, errors = run(*guest.args, *LIMITED, timeout=60)
        check(status == 43 and "engine translate: KVM doesn't count" in errors, errors)


FAULTS = [("absent", "modprobe|load the module"), ("forbidden", "group"), ("version", "version 11"),
          ("lacks", "KVM_GET_SREGS2"), ("slots", "slot 0"), ("feature", "CPU features?"),
          ("internal", "internal error 1"), ("silent", "again and again"),
          ("entry", "cannot enter"), ("unknown", r"\(999\)")]


def broken_kvm_by_name():
    with TinyGuest() as guest:
        for fault, words in FAULTS:
            status, _, errors = guest.run("kvm", fault)
            last = errors.splitlines()[-1]
            check(status == HOST_ERROR, f"{fault}: status {status}: {errors}")
            check(re.search(words, last) and one_sentence(last), f"{fault}: {last}")
            check("--engine translate" in last or "--cpu" in last, f"{fault}: no advice: {last}")


def broken_kvm_by_auto():
    with TinyGuest() as guest:
        for fault, words in FAULTS + [("stuck", "wasn't done")]:
            status, _, errors = guest.run("auto", fault)
            lines = engine_lines(errors)
            check(status == 43, f"{fault}: status {status}: {errors}")
            check(len(lines) == 1 and lines[0].startswith("doble: engine translate: "),
                  f"{fault}: {lines}")
            check(re.search(words + "|wasn't done", lines[0]), f"{fault}: {lines[0]}")


def kvm_that_fails_later():
    """What was executed until then counts: registers and the local APIC go over to translation. A
    busy host may not find the time for the trial."""
    with TinyGuest() as guest:
        for _ in range(50):
            status, _, errors = guest.run("auto", "late", "--stats")
            check(status == 43, f"status {status}: {errors}")
            if "doble: engine kvm: in a trial" in errors:
                break
        else:
            raise Skip("the trial of KVM never ends in time on this host")
        check("ended through the debug port, engine translate" in errors, errors)
        check(re.search(r"^translate: KVM gives up at every instruction", errors, re.M), errors)


def breakpoint_in_a_debug_register():
    """The engine asks for it, hears of it, and goes on behind it, and the guest's DR7 stays 0."""
    with TinyGuest() as guest, tempfile.TemporaryDirectory() as folder:
        path, loop = os.path.join(folder, "gdb"), LOAD_ADDRESS + ENTRY + 5
        env = {**os.environ, "LD_PRELOAD": FAKE, "FAKE_KVM": "debugger"}
        process = subprocess.Popen([DOBLE, "run", "-e", "kvm", *guest.args, "--gdb", "unix:" + path,
                                    "--gdb-wait"], env=env, stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        with Client(path) as gdb:
            check(gdb.ask(f"Z1,{loop:x},1") == "OK", "Z1")
            for _ in range(3):
                answer = gdb.ask("c")
                check(answer.startswith("T05") and "hwbreak" not in answer.split(";")[0], answer)
                check(gdb.ask("p10") == loop.to_bytes(8, "little").hex(), "RIP is elsewhere")
            check(gdb.ask("s").startswith("T05"), "no step")
            check(gdb.ask("p10") == (loop + 2).to_bytes(8, "little").hex(), "the step went elsewhere")
            check(gdb.ask(f"z1,{loop:x},1") == "OK", "z1")
            gdb.raw(frame(b"k"))
        process.wait(30)
        process.stderr.close()


def kvm_does_not_count():
    with TinyGuest() as guest:
        for more in (["--time", "virtual"], ["--max-instructions", "5"]):
            status, _, errors = guest.run("kvm", "internal", *more)
            check(status == HOST_ERROR and more[0] in errors.splitlines()[-1], f"{more}: {errors}")


def changes_on_the_way_to_the_shell():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "monitor")
        with Session("-e", "interpret", "--monitor", "unix:" + path, "--append",
                     "console=ttyS0") as s:
            s.expect(b"Linux version")
            monitor, changes = Monitor(path), 0
            while PROMPT not in s.output[-20:] and changes < 200:
                name = ("translate", "interpret")[changes % 2]
                check(monitor.ask("engine " + name) == [f"{name}: it was asked for"],
                      f"the change to {name}")
                changes += 1
                s.read(0.3)
            check(changes > 3, f"the shell was there after {changes} changes")
            s.read(1)
            s.send(b"echo $((6 * 7)) is the answer; seq 1 1000 | sha256sum\r")
            s.expect(b"42 is the answer")
            s.expect(b"67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f")
            check(monitor.ask("engine")[0].split(":")[0] in ("translate", "interpret"), "engine")
            s.send(b"poweroff -f\r")
            check(s.end() == 0, "it does not power off")
            print(f"{changes} changes")


def changes_that_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "monitor")
        with Session("-e", "translate", "--time", "virtual", "--monitor", "unix:" + path,
                     "--append", "console=ttyS0 quiet") as s:
            s.expect(PROMPT)
            monitor = Monitor(path)
            for name, words in (("warp", "no engine 'warp'"), ("kvm", "--time virtual|/dev/kvm|KVM|kvm")):
                answer = " ".join(monitor.ask("engine " + name))
                check(re.search(words, answer), f"{name}: {answer}")
            check(monitor.ask("engine auto") == ["translate: KVM doesn't count instructions"], "auto")
            s.send(b"echo $((6 * 7)) still\r")
            s.expect(b"42 still")
            s.send(b"\x1dq")
            check(s.end() == 0, "left badly")


main(auto_says_which_and_why, broken_kvm_by_name, broken_kvm_by_auto, kvm_that_fails_later, breakpoint_in_a_debug_register,
     kvm_does_not_count, changes_on_the_way_to_the_shell, changes_that_are_refused)
