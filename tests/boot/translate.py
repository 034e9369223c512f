#!/usr/bin/env python3
"""What other tests do with the interpreter, by the engine `translate`: the guests that test
themselves, the life of a Debian machine, the benchmark programs (which check their results)."""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from doble import GUEST, PROMPT, Session, check, main, run, save_after
from newc import newc_archive

BENCHPROG = os.path.join(os.environ.get("BUILD", "build"), "bench", "benchprog")
ENGINE = ["-e", "translate"]
# units of work: each some tenths of a second
COUNTS = {"loop": 20, "sieve": 5, "qsort": 10, "fib": 50, "indirect": 10, "chase": 5, "memcpy": 50,
          "mixed": 20, "sha256": 5, "compress": 5, "bytecode": 5, "matmul": 5, "nbody": 5, "fft": 20,
          "sse2": 200, "avx2": 200, "getppid": 10, "faults": 10, "fork": 10, "exec": 10, "pipe": 5}


def guests_that_test_themselves():
    done = subprocess.run([sys.executable, os.path.join(HERE, "guests.py"), "--peer", "doble",
                           "--engine", "translate"], capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if " not ok " in line or ": # " in line]
    check(done.returncode == 0, f"{failed or done.stdout[-300:] + done.stderr[-300:]}")


def batch():
    status, output, errors = run(*ENGINE)
    check(status == 0 and "the guest works" in output, f"status {status}: {errors}{output[-300:]}")


def restart():
    with Session(*ENGINE) as s:
        s.expect(PROMPT)
        s.read(1)
        s.send(b"reboot -f\r")
        s.expect(b"Restarting system")
        s.expect(PROMPT)
        s.read(1)
        s.send(b"poweroff -f\r")
        check(s.end() == 0, "after a restart it does not power off")


def saved_by_one_engine_and_continued_by_the_other():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "saved")
        for first, second in (("translate", "interpret"), ("interpret", "translate")):
            output = save_after(5000, path, "-e", first, "--append", "console=ttyS0 doble.batch")
            status, rest, errors = run("-e", second, "--restore", path)
            check(status == 0 and "the guest works" in output + rest,
                  f"by {first}, then {second}: status {status}: {errors}{rest[-300:]}")


def same_end_under_virtual_time():
    """Interrupts come at exact instruction counts, and so both engines do the same to the last."""
    ends = []
    for engine in ("interpret", "translate"):
        status, output, errors = run("-e", engine, "--time", "virtual", "--stats")
        check(status == 0 and "the guest works" in output, f"{engine}: status {status}: {errors}")
        ends.append(re.findall(r"^(instructions +\d+|hash of guest memory.*)$", output + errors, re.M))
    check(len(ends[0]) == 2, f"no count and hash: {ends[0]}")
    check(ends[0] == ends[1], f"different ends: {ends}")


def results_of_programs():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "initrd")
        script = "".join(f"/doble/benchprog {name} {count}\n" for name, count in COUNTS.items())
        with open(f"{GUEST}/initrd.img", "rb") as f, open(BENCHPROG, "rb") as g, \
                open(path, "wb") as out:
            out.write(f.read())
            out.write(newc_archive([("doble", None), ("doble/run", script.encode()),
                                    ("doble/benchprog", g.read())]))
        status, output, errors = run(*ENGINE, "-k", f"{GUEST}/vmlinuz", "-i", path, "--append",
                                     "console=ttyS0 quiet")
    right = re.findall(r"bench (\w+) done \d+ \d+ ok", output)
    check(status == 0, f"status {status}: {errors}")
    check(set(right) == set(COUNTS), f"wrong or missing: {sorted(set(COUNTS) - set(right))}")


main(guests_that_test_themselves, batch, restart, saved_by_one_engine_and_continued_by_the_other,
     same_end_under_virtual_time, results_of_programs, engine="translate")
