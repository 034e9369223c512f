#!/usr/bin/env python3
"""bench/network.py [--seconds N] [--repeat N] - TCP over the user network, beside QEMU's TCG.

iperf3 of this host runs at both ends: in the guest as it is, with its libraries in the initrd. Each
repetition measures every monitor once, both ways; the medians are printed, in Mbit/s. docs/virtio.md
has results."""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "boot", "lib"))
from newc import newc_archive

MEMORY_MIB = 512
APPEND = "console=ttyS0 quiet"
SCRIPT = """#!/bin/sh
export LD_LIBRARY_PATH=/doble/lib
for way in '' -R; do
    echo "way $way"
    /doble/lib/loader /doble/iperf3 -c 10.0.2.2 -p PORT -t SECONDS -i 0 -J
    echo done
done
"""


def read(path):
    with open(path, "rb") as f:
        return f.read()


def libraries(program):
    """(name, path) of the shared libraries, the loader being "loader"."""
    out = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for name, path in re.findall(r"^\s*(?:(\S+) => )?(/\S+)", out, re.M):
        yield (os.path.basename(name), path) if name else ("loader", path)


def make_initrd(guest, path, port, seconds):
    program = shutil.which("iperf3")
    script = SCRIPT.replace("PORT", str(port)).replace("SECONDS", str(seconds))
    files = [("doble", None), ("doble/lib", None), ("doble/run", script.encode()),
             ("doble/iperf3", read(program))]
    files += [(f"doble/lib/{name}", read(library)) for name, library in libraries(program)]
    with open(path, "wb") as out:
        out.write(read(f"{guest}/initrd.img") + newc_archive(files))


def commands(build, guest, initrd):
    kernel = ["-kernel", f"{guest}/vmlinuz", "-initrd", initrd, "-append", APPEND]
    yield "doble", [f"{build}/doble", "run", "-e", "translate", "-m", f"{MEMORY_MIB}M", "-n", "user",
                    "-k", f"{guest}/vmlinuz", "-i", initrd, "-a", APPEND]
    yield "qemu", ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", str(MEMORY_MIB),
                   "-display", "none", "-serial", "stdio", "-no-reboot",
                   "-nic", "user,model=virtio-net-pci", *kernel]


def measure(command):
    """Mbit/s from the guest and to it."""
    out = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=300).stdout
    parts = re.findall(r"^way .*?$(.*?)^done", out.decode(errors="replace").replace("\r", ""),
                       re.M | re.S)
    if len(parts) != 2:
        raise SystemExit(f"{command[0]}: no result: {out[-500:]}")
    return [json.loads(part)["end"]["sum_received"]["bits_per_second"] / 1e6 for part in parts]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    guest = os.environ.get("DOBLE_GUEST", f"{args.build}/guest")
    for program in ("iperf3", "qemu-system-x86_64"):
        if not shutil.which(program):
            raise SystemExit(f"SKIP: {program} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    results = {}
    with tempfile.TemporaryDirectory() as folder, \
            subprocess.Popen(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            make_initrd(guest, f"{folder}/initrd", port, args.seconds)
            for _ in range(args.repeat):
                for name, command in commands(args.build, guest, f"{folder}/initrd"):
                    results.setdefault(name, []).append(measure(command))
        finally:
            server.terminate()
    for name, runs in results.items():
        out, into = (statistics.median(ways) for ways in zip(*runs))
        print(f"{name:8} guest to host {out:8.0f} Mbit/s   host to guest {into:8.0f} Mbit/s")


main()
