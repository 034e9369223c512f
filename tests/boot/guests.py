#!/usr/bin/env python3
"""Runs the guests that test themselves (tests/guest) under Doble, and under QEMU (TCG) and Bochs
where they are installed.

    guests.py [--peer doble|qemu|bochs]... [--guest 64|32]... [--engine ENGINE] [WORD]...

Each WORD is a part of the guest's command line: FAMILY[/TEST] selects, -FAMILY[/TEST] leaves out.
A failure on a peer that tests/guest/differences.txt explains is no failure. Environment: BUILD,
DOBLE."""

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile

BUILD = os.environ.get("BUILD", "build")
DOBLE = os.environ.get("DOBLE", f"{BUILD}/doble")
HERE = os.path.dirname(os.path.abspath(__file__))
DIFFERENCES = os.path.join(HERE, "..", "guest", "differences.txt")
EXIT_PORT = "0x501"
# Features that need nothing of the host, so that they are tested on any.
DOBLE_CPU = "host,+vme,+pge,+pcid,+invpcid,+smep,+smap,+umip,+fsgsbase,+la57"
TIMEOUT = 240  # of seconds, on any host
BOCHS_SHARE = "/usr/share/bochs"
DISK_CYLINDERS = 2
DISK_BYTES = DISK_CYLINDERS * 16 * 63 * 512
COMMAND_LINE_MARK = b"@command-line@"
COMMAND_LINE_BYTES = 128


def run(command):
    """The output; a guest that hangs is killed, and what it said until then counts."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT)
        return done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as e:
        return None, (e.stdout or b"").decode(errors="replace")


def run_doble(image, words, engine):
    return run([DOBLE, "run", "-e", engine, "-k", image, "-m", "64M", "--cpu", DOBLE_CPU,
                "--debug-exit", EXIT_PORT, "--append", words])


def run_qemu(image, words, _engine):
    return run(["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", "64",
                "-kernel", image, "-append", words, "-device",
                f"isa-debug-exit,iobase={EXIT_PORT},iosize=4", "-serial", "stdio", "-display",
                "none", "-monitor", "none", "-no-reboot", "-nodefaults"])


def bochs_disk(image, words, path):
    """Bochs has a BIOS only: the image is the disk, and the command line is written into it."""
    with open(image, "rb") as f:
        data = bytearray(f.read())
    at = data.index(COMMAND_LINE_MARK)
    data[at:at + COMMAND_LINE_BYTES] = words.encode()[:COMMAND_LINE_BYTES - 1].ljust(
        COMMAND_LINE_BYTES, b"\0")
    with open(path, "wb") as f:
        f.write(data.ljust(DISK_BYTES, b"\0"))


def run_bochs(image, words, _engine):
    with tempfile.TemporaryDirectory() as scratch:
        bochs_disk(image, words, f"{scratch}/disk")
        with open(f"{scratch}/rc", "w") as f:
            f.write(f"""
display_library: rfb, options="timeout=0"
romimage: file={BOCHS_SHARE}/BIOS-bochs-latest
vgaromimage: file={BOCHS_SHARE}/VGABIOS-lgpl-latest
megs: 64
cpu: model=corei7_skylake_x, count=1, ips=50000000, ignore_bad_msrs=0, reset_on_triple_fault=0
clock: sync=none
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
ata0-master: type=disk, path={scratch}/disk, mode=flat, cylinders={DISK_CYLINDERS}, heads=16, spt=63
boot: disk
com1: enabled=1, mode=file, dev={scratch}/serial
log: {scratch}/log
panic: action=fatal
error: action=ignore
info: action=ignore
""")
        with open(f"{scratch}/debugger", "w") as f:
            f.write("continue\n")  # Debian's Bochs has its debugger built in, which asks first
        status, out = run(["bochs", "-q", "-f", f"{scratch}/rc", "-rc", f"{scratch}/debugger"])
        if os.path.exists(f"{scratch}/serial"):
            with open(f"{scratch}/serial", errors="replace") as f:
                out = f.read()
        return status, out


PEERS = {"doble": (run_doble, None), "qemu": (run_qemu, "qemu-system-x86_64"),
         "bochs": (run_bochs, "bochs")}


def read_differences():
    """[(peer, guest, pattern, reason)]"""
    rows = []
    with open(DIFFERENCES) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                rows.append(tuple(line.split(None, 3)))
    return rows


def explanation(rows, peer, guest, test):
    for row_peer, row_guest, pattern, reason in rows:
        if row_peer == peer and row_guest in ("*", guest) and fnmatch.fnmatch(test, pattern):
            return reason.strip()
    return None


def left_out(rows, peer, guest):
    """What would end the whole run on this peer is not even tried: reasons that begin with '!'."""
    return ["-" + pattern for row_peer, row_guest, pattern, reason in rows
            if row_peer == peer and row_guest in ("*", guest) and reason.startswith("!")]


def run_one(peer, guest, words, rows, engine):
    """True if all is well."""
    function, _ = PEERS[peer]
    image = f"{BUILD}/tests/guest/guest{guest}.bin"
    skipped = left_out(rows, peer, guest)
    status, out = function(image, " ".join(words + skipped), engine)
    good = True
    explained = 0
    for line in out.splitlines():
        line = line.strip()
        match = re.match(r"(ok|not ok) ([^ :]+)", line)
        reason = match and explanation(rows, peer, guest, match.group(2))
        if match and match.group(1) == "not ok" and reason:
            explained += 1
            line = f"explained {match.group(2)}: {reason}"
        elif match and match.group(1) == "not ok":
            good = False
        elif match and reason:
            line += "  (passes, although differences.txt lists it)"
        print(f"{peer}{guest}: {line}")
    if not re.search(r"^\d+ passed, \d+ failed, \d+ skipped", out, re.M):
        print(f"{peer}{guest}: did not reach its end (status {status})")
        good = False
    elif peer == "doble" and status != (1 if good else 3):
        print(f"doble{guest}: status {status}")
        good = False
    if explained:
        print(f"{peer}{guest}: {explained} differences explained")
    return good


def check_triple_fault(engine):
    """A guest that cannot go on ends Doble with status 4 and a sentence."""
    good = True
    for guest in ("64", "32"):
        status, out = run_doble(f"{BUILD}/tests/guest/guest{guest}.bin", "end=triple-fault",
                                engine)
        fine = status == 4 and "triple fault" in out
        print(f"doble{guest}: {'ok' if fine else 'not ok'} triple fault (status {status})")
        good &= fine
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", action="append", choices=list(PEERS))
    parser.add_argument("--guest", action="append", choices=["64", "32"])
    parser.add_argument("--engine", default="interpret", help="of Doble")
    args, words = parser.parse_known_args()
    rows = read_differences()
    good = True
    for peer in args.peer or PEERS:
        program = PEERS[peer][1]
        if program and not shutil.which(program):
            print(f"SKIP {peer}: {program} is not installed")
            continue
        for guest in args.guest or ["64", "32"]:
            good &= run_one(peer, guest, words, rows, args.engine)
            sys.stdout.flush()
        if peer == "doble" and not words:
            good &= check_triple_fault(args.engine)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
