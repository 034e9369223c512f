#!/usr/bin/env python3
"""Lives of whole machines: batch, virtual time, save and restore, reset, limits, other cables."""
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import BOOT_TIME, DOBLE, PROMPT, Session, check, connect, main, run, save_after

VERBOSE = ["--append", "console=ttyS0 doble.batch"]


def batch():
    status, output, errors = run("-e", "interpret", "--stats")
    check(status == 0 and "the guest works" in output, f"status {status}: {errors}{output[-300:]}")
    own = int(re.search(r"monitor's own, KiB +(\d+)", errors).group(1))
    check(own < 24576, f"the monitor itself uses {own} KiB")


def counts(errors):
    return (re.search(r"^instructions +(\d+)", errors, re.M).group(1),
            re.search(r"^hash of guest memory +(\w+)", errors, re.M).group(1))


def virtual_time_repeats_and_survives_saving():
    first = run("--time", "virtual", "--stats", *VERBOSE)
    second = run("--time", "virtual", "--stats", *VERBOSE)
    check(first[0] == second[0] == 0, f"status {first[0]}, {second[0]}")
    check(first[1] == second[1], "the output differs")
    check(counts(first[2]) == counts(second[2]),
          f"instructions and memory differ: {counts(first[2])}, {counts(second[2])}")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "saved")
        for count in (1, 7000, 15000):
            output = save_after(count, path, "--time", "virtual", *VERBOSE)
            status, rest, errors = run("--restore", path, "--stats")
            check(status == 0 and output + rest == first[1],
                  f"saved after {count} bytes, it went on differently: status {status}")
            check(counts(errors) == counts(first[2]),
                  f"saved after {count} bytes, the counts differ")


def damaged_saves_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "saved")
        save_after(1, path, "--time", "virtual", *VERBOSE)
        size = os.path.getsize(path)
        with open(path, "r+b") as f:
            for at in (0, 8, 12, 16, 56, 64, 330, 1000, 5000):
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 0xff]))
                f.flush()
                status, _, errors = run("--restore", path, "--max-instructions", "1",
                                        "--serial", "none")
                check(status in (2, 3, 4, 5) and errors, f"byte {at} turned: status {status}")
                f.seek(at)
                f.write(byte)
            f.truncate(size // 2)
        status, _, errors = run("--restore", path)
        check(status == 3 and "cut off" in errors, f"cut in half: status {status}: {errors}")


def restart():
    with Session() as s:
        s.expect(PROMPT)
        s.read(1)
        s.send(b"reboot -f\r")
        s.expect(b"Restarting system")
        s.expect(PROMPT)
        s.read(1)
        s.send(b"poweroff -f\r")
        check(s.end() == 0, "after a restart it does not power off")


def instruction_limit():
    status, _, errors = run("--max-instructions", "1000000", "--time", "virtual", "--stats")
    check(status == 5, f"status {status}")
    check("instructions                        1000000" in errors, f"not exactly there: {errors}")


def slow_reader_gets_every_byte():
    fast = run("--time", "virtual", *VERBOSE)[1]
    process = subprocess.Popen([DOBLE, "run", "--time", "virtual", *VERBOSE],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    slow = hashlib.sha256()
    while block := os.read(process.stdout.fileno(), 700):
        slow.update(block)
        time.sleep(0.01)
    check(process.wait() == 0, "it failed")
    check(slow.hexdigest() == hashlib.sha256(fast.encode()).hexdigest(), "bytes were lost")


def to_a_file():
    with tempfile.NamedTemporaryFile() as f:
        status, output, _ = run("--serial", "file:" + f.name)
        check(status == 0 and output == "" and b"the guest works" in f.read(), f"status {status}")


def through_a_socket():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "serial")
        process = subprocess.Popen([DOBLE, "run", "--serial", "unix:" + path,
                                    "--append", "console=ttyS0"], stdin=subprocess.DEVNULL)
        try:
            for _ in range(2):  # a peer that leaves, and another
                with connect(path) as peer:
                    check(peer.recv(1), "nothing comes")
            with connect(path) as peer:
                output = b""
                while PROMPT not in output:
                    output += peer.recv(4096)
                peer.sendall(b"poweroff -f\n")
                check(process.wait(BOOT_TIME) == 0, "it does not power off")
            check(not os.path.exists(path), "the socket is still there")
        finally:
            process.kill()
            process.wait()


main(batch, virtual_time_repeats_and_survives_saving, damaged_saves_are_refused, restart,
     instruction_limit, slow_reader_gets_every_byte, to_a_file, through_a_socket)
