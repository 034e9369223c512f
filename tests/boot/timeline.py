#!/usr/bin/env python3
"""--trace-timeline on real boots: its JSON, how slices nest, what survives a kill, and a division by
zero followed from the trap to the signal. `timeline.py --picture FILE.svg` draws that (docs/)."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import programs
import tiny
from doble import BOOT_TIME, GUEST, PROMPT, Session, check, main, needs_engine, one_sentence, run

MONITOR_ROW, GUEST_ROW, MAIN_ROW = "vCPU 0: monitor", "vCPU 0: guest", "main thread"
SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")
DIVIDE = "sleep 1; /doble/divide; echo divide: status $?"


class Timeline:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
        self.events = [e for e in events if e["ph"] != "M"]
        self.rows = {name: sorted((e for e in self.events if e["tid"] == tid and e["ph"] == "X"),
                                  key=lambda e: (e["ts"], -e["dur"]))
                     for tid, name in names.items()}

    def named(self, name):
        return [e for e in self.events if e["name"] == name]


def end(event):
    return event["ts"] + event["dur"]


def check_states(row):
    """One mode after the other, without a gap."""
    check(len(row) > 10, "the guest's row is empty")
    for before, after in zip(row, row[1:]):
        check(abs(end(before) - after["ts"]) < 0.01,
              f"a gap between {before} and {after}")
        check(before["name"] != after["name"], f"the same state twice: {before} and {after}")


def check_nesting(row):
    """A slice ends before the one around it."""
    stack = []
    for event in row:
        while stack and end(stack[-1]) <= event["ts"] + 0.0015:
            stack.pop()
        check(not stack or end(event) <= end(stack[-1]) + 0.0015,
              f"{event} does not end within {stack and stack[-1]}")
        stack.append(event)


def check_whole(path):
    timeline = Timeline(path)
    check_states(timeline.rows[GUEST_ROW])
    check_nesting(timeline.rows[MONITOR_ROW])
    check_nesting(timeline.rows[MAIN_ROW])
    for kind in ("guest user", "guest kernel", "halted", "#PF", "interrupt", "COM1", "timers",
                 "deliver exception", "deliver interrupt", "exit: halted"):
        check(timeline.named(kind), f"no event '{kind}'")
    uart = [e for e in timeline.named("COM1") if e["cat"] == "port write"]
    check({e["args"]["address"] for e in uart} >= {"0x3f8", "0x3f9"}, "COM1's ports are missing")
    return timeline


def wait_until_it_rests(session, path):
    """A guest that boots is idle by chance only; at its prompt it always is sooner or later."""
    end = time.monotonic() + BOOT_TIME
    while True:
        session.read(0.2)
        with open(path, "rb") as file:
            if b'"name":"halted"' in file.read():
                return
        check(time.monotonic() < end, "at its prompt the guest does not halt")


def boot(engine):
    needs_engine(engine)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "timeline.json")
        with Session("--engine", engine, "--trace-timeline", path + ",shortest=0.0001") as s:
            s.expect(PROMPT)
            wait_until_it_rests(s, path)
            s.send(b"poweroff -f\r")
            status = s.end()
            check(status == 0, f"status {status}: {s.errors()}")
        check_whole(path)


def timeline_of_a_boot_with_interpret():
    boot("interpret")


def timeline_of_a_boot_with_translate():
    boot("translate")


def emulated_instructions_are_there(engine):
    """A kernel of a few instructions, so that every event is known."""
    needs_engine(engine)
    code = tiny.assemble("""
        mov eax, 1
        cpuid
        mov dx, 0x3fb
        mov al, 3
        out dx, al
        in al, dx
        mov eax, 0xfed00000
        mov eax, [rax]
        mov dx, 0xf4
        mov al, 5
        out dx, al
        hlt""")
    with tempfile.TemporaryDirectory() as folder:
        path, kernel = os.path.join(folder, "timeline.json"), os.path.join(folder, "kernel")
        with open(kernel, "wb") as file:
            file.write(tiny.kernel(code))
        status, _, errors = run("--engine", engine, "--kernel", kernel, "--debug-exit", "0xf4",
                                "--trace-timeline", path)
        check(status == 11, f"status {status}: {errors}")
        timeline = Timeline(path)
    row = timeline.rows[MONITOR_ROW]
    check_nesting(row)
    seen = [e["name"] for e in row if e["cat"] == "emulate"]
    check(seen[:4] == ["cpuid", "out", "in", "out"], f"emulated: {seen}")
    write, read, *_ = timeline.named("COM1")
    check(write["cat"] == "port write" and read["cat"] == "port read", f"{write} {read}")
    check(write["args"] == {"address": "0x3fb", "size": 1, "value": "0x3"} == read["args"],
          f"{write} {read}")
    out = timeline.named("out")[0]
    check(out["ts"] <= write["ts"] and end(write) <= end(out) + 0.001, "COM1 is not within OUT")
    hpet, = timeline.named("hpet")
    check(hpet["cat"] == "mmio read" and hpet["args"]["address"] == "0xfed00000", f"{hpet}")


def emulated_instructions_with_interpret():
    emulated_instructions_are_there("interpret")


def emulated_instructions_with_translate():
    emulated_instructions_are_there("translate")


def limit_is_kept():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "timeline.json")
        status, _, errors = run("--engine", "interpret", "--max-instructions", "20000000",
                                "--trace-timeline", path + ",limit=1M")
        check(status == 5, f"status {status}: {errors}")
        check(1000000 < os.path.getsize(path) <= 1 << 20, f"{os.path.getsize(path)} bytes")
        check(Timeline(path).named("the limit of the file was reached"), "it is not said")


def machine_that_is_killed_leaves_json():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "timeline.json")
        with Session("--trace-timeline", path, terminal=False) as s:
            s.expect(b"doble: init")
            s.signal(signal.SIGKILL)
            s.end()
        timeline = Timeline(path)
        check(len(timeline.events) > 1000, "it is almost empty")


def full_disk_is_said():
    status, _, errors = run("--max-instructions", "1000000", "--trace-timeline", "/dev/full")
    check(status == 5, f"status {status}")
    check("doble: the timeline is not complete: No space left" in errors, errors)


def bad_settings_are_refused():
    for value in (",", "t,", "t,from", "t,from=", "t,from=-1", "t,from=1e3", "t,limit=1",
                  "t,limit=99999999999999999999", "t,to=1,from=2", "t,frmo=1", "t,from=1" + 99 * "0"):
        status, output, errors = run("--trace-timeline", value)
        check(status == 2 and not output and one_sentence(errors), f"{value}: {status} {errors}")
    status, _, errors = run("--trace-timeline", "/no/such/folder/timeline")
    check(status == 3 and one_sentence(errors), f"{status} {errors}")


def divide(folder, engine, *more):
    """Runs the program; the timeline's path and the two addresses it printed."""
    path = os.path.join(folder, engine + ".json")
    options = programs.options(folder, ["divide"], DIVIDE)
    options[-1] += " nokaslr"
    status, output, errors = run("--engine", engine, *options, "--trace-timeline",
                                 ",".join((path,) + more))
    check(status == 0, f"status {status}: {errors}")
    check("divide: status 0" in output, f"the program has failed: {output[-300:]}")
    return path, *re.search(r"division is at (\w+), the handler at (\w+)", output).groups()


def division_by_zero(engine):
    needs_engine(engine)
    with tempfile.TemporaryDirectory() as folder:
        path, division, handler = divide(folder, engine, "shortest=0.0001")
        timeline = Timeline(path)
        check_states(timeline.rows[GUEST_ROW])
        traps = timeline.named("#DE")
        check(len(traps) == 1, f"{len(traps)} traps #DE")
        trap = traps[0]
        check(trap["args"]["rip"] == division and trap["args"]["vector"] == 0, f"{trap}")
        row = timeline.rows[GUEST_ROW]
        at = next(i for i, e in enumerate(row) if e["ts"] <= trap["ts"] <= end(e))
        check(row[at]["name"] == "guest user", f"the trap is not in the program but in {row[at]}")
        check(row[at + 1]["name"] == "guest kernel", f"after the trap comes {row[at + 1]}")
        cr3 = row[at]["args"]["cr3"]
        # Interrupts may let another program run before the signal.
        back = next(e for e in row[at + 2:] if e["name"] == "guest user" and
                    e["args"]["cr3"] == cr3)
        check(back["args"]["rip"] == handler,
              f"the program goes on at {back['args']['rip']}, not in its handler {handler}")


def division_by_zero_with_interpret():
    division_by_zero("interpret")


def division_by_zero_with_translate():
    division_by_zero("translate")


def picture(output):
    """docs/timeline.svg, from a run of its own."""
    marks = ("asm_exc_divide_error,exc_divide_error,do_trap,force_sig_fault,send_signal_locked,"
             "__sigqueue_alloc,complete_signal,exit_to_user_mode_prepare,get_signal,"
             "dec_rlimit_put_ucounts,copy_siginfo_to_user,signal_setup_done,native_irq_return_iret")
    with tempfile.TemporaryDirectory() as folder:
        path, _, _ = divide(folder, "translate", "limit=1G")
        elf, symbols = os.path.join(folder, "elf"), os.path.join(folder, "symbols")
        subprocess.run([os.path.join(SCRIPTS, "kernel-symbols"), os.path.join(GUEST, "vmlinuz"),
                        "-o", elf], check=True)
        with open(symbols, "w", encoding="utf-8") as file:
            subprocess.run(["nm", elf], stdout=file, check=True)
        subprocess.run([os.path.join(SCRIPTS, "timeline-picture"), path, "-o", output,
                        "--symbols", symbols, "--mark", marks, "--title", "A division by zero in a "
                        "guest program, from the trap to its signal handler"], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--picture"]:
        picture(sys.argv[2])
    else:
        main(bad_settings_are_refused, full_disk_is_said, timeline_of_a_boot_with_interpret,
             timeline_of_a_boot_with_translate, emulated_instructions_with_interpret,
             emulated_instructions_with_translate, limit_is_kept,
             machine_that_is_killed_leaves_json, division_by_zero_with_interpret,
             division_by_zero_with_translate)
