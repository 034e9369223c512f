#!/usr/bin/env python3
"""The engine `kvm` on this host's own KVM, where `--engine auto` finds that good."""
import os
import re
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "boot", "lib"))
from doble import PROMPT, Session, check, main, run
from engines import Monitor

DIGEST = b"67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f"  # of seq 1 1000


def which_engine():
    """The line that says which engine `auto` takes, and why."""
    errors = run("--engine", "auto", "--verbose", "--append", "console=ttyS0 doble.batch")[2]
    return re.search(r"^doble: engine (.*)$", errors, re.M).group(1)


def debian():
    status, output, errors = run("-e", "kvm", "--stats", "--append", "console=ttyS0 doble.batch")
    check(status == 0 and "the guest works" in output, f"status {status}: {errors}{output[-300:]}")
    own = int(re.search(r"monitor's own, KiB +(\d+)", errors).group(1))
    check(own < 8192, f"the monitor itself uses {own} KiB")


def changes_in_mid_run():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "monitor")
        with Session("-e", "kvm", "--monitor", "unix:" + path) as s:
            while not os.path.exists(path):
                time.sleep(0.01)
            monitor = Monitor(path)
            for name in ("interpret", "kvm", "translate", "kvm"):
                check(monitor.ask("engine " + name) == [f"{name}: it was asked for"], name)
                s.read(0.2)
            if PROMPT not in s.output:
                s.expect(PROMPT)
            s.read(1)
            s.send(b"seq 1 1000 | sha256sum\r")
            s.expect(DIGEST)
            s.send(b"poweroff -f\r")
            check(s.end() == 0, "it does not power off")


line = which_engine()
if not line.startswith("kvm: "):
    print(line)
    sys.exit(77)
main(debian, changes_in_mid_run)
