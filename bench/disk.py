#!/usr/bin/env python3
"""disk.py [--repeat N] [--seconds S] [--format raw|qcow2] - fio on a virtio disk: Doble and QEMU's TCG.

The built-in guest runs the host's fio, with its libraries, on /dev/vda: direct I/O through libaio, so
that the guest's page cache has no part in it. The image lies in the host's page cache; both monitors
use it with io_uring and without O_DIRECT. Monitors take turns; medians are printed, as MiB/s for
sequential and as operations a second for random accesses."""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot",
                                "lib"))
from newc import newc_archive

JOBS = [("sequential read, 1 MiB", "read", "1m", 8), ("sequential write, 1 MiB", "write", "1m", 8),
        ("random read, 4 KiB, 32 at once", "randread", "4k", 32),
        ("random write, 4 KiB, 32 at once", "randwrite", "4k", 32),
        ("random read, 4 KiB, 1 at once", "randread", "4k", 1)]


def libraries(program):
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


def guest_files(seconds):
    """fio, its libraries under their own names, and a script that runs the jobs."""
    script = "#!/bin/sh\nmodprobe virtio_blk 2>/dev/null\ncd /doble\n"
    for n, (_, kind, block, depth) in enumerate(JOBS):
        script += (f"echo JOB {n}; /doble/fio --name=j --filename=/dev/vda --direct=1 --rw={kind} "
                   f"--bs={block} --iodepth={depth} --ioengine=libaio --time_based --size=512m "
                   f"--runtime={seconds} --minimal --randrepeat=1 --norandommap --thread | "
                   "awk -F';' '{print \"RESULT\", $7, $8, $48, $49}'\n")
    files = [("doble", None), ("doble/run", script.encode()), ("lib64", None), ("lib", None),
             ("lib/x86_64-linux-gnu", None)]
    with open("/usr/bin/fio", "rb") as f:
        files.append(("doble/fio", f.read()))
    for path in libraries("/usr/bin/fio"):
        with open(path, "rb") as f:
            place = "lib64/" if "ld-linux" in path else "lib/x86_64-linux-gnu/"
            files.append((place + os.path.basename(path), f.read()))
    return files


def results(output):
    """Of each job: KiB/s and operations a second."""
    found = re.findall(r"JOB (\d)\s+RESULT (\d+) (\d+) (\d+) (\d+)", output)
    if len(found) != len(JOBS):
        sys.exit(f"fio has not finished: {output[-2000:]}")
    return [(int(r_kib) + int(w_kib), int(r_ops) + int(w_ops))
            for _, r_kib, r_ops, w_kib, w_ops in found]


def command(monitor, options, kernel, initrd, disk):
    append = "console=ttyS0 quiet"
    if monitor == "doble":
        return [options.doble, "run", "-e", "translate", "-m", "512M", "-k", kernel, "-i", initrd,
                "-a", append, "-d", f"{disk},format={options.format}"]
    return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512M", "-display", "none",
            "-nodefaults", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd,
            "-append", append, "-drive",
            f"file={disk},format={options.format},if=virtio,cache=writeback,aio=io_uring,"
            "discard=unmap"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--format", choices=["raw", "qcow2"], default="raw")
    parser.add_argument("--build", default="build")
    options = parser.parse_args()
    options.doble = os.path.join(options.build, "doble")
    kernel, base = (os.path.join(options.build, "guest", name) for name in ("vmlinuz", "initrd.img"))
    measured = {"doble": [], "qemu": []}
    with tempfile.TemporaryDirectory() as folder:
        initrd, disk = os.path.join(folder, "initrd"), os.path.join(folder, "disk")
        with open(base, "rb") as f, open(initrd, "wb") as out:
            out.write(f.read() + newc_archive(guest_files(options.seconds)))
        raw = os.path.join(folder, "raw")
        with open(raw, "wb") as f:
            for _ in range(512):
                f.write(os.urandom(1 << 20))
        subprocess.run([options.doble, "image", "convert", "-O", options.format, raw, disk], check=True)
        for n in range(options.repeat):
            for monitor, lines in measured.items():
                done = subprocess.run(command(monitor, options, kernel, initrd, disk),
                                      stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                      errors="replace", timeout=600)
                lines.append(results(done.stdout))
                print(f"{n + 1}: {monitor}: {lines[-1]}", file=sys.stderr, flush=True)
    print(f"| {options.format} | Doble | QEMU TCG | times |\n| --- | --- | --- | --- |")
    for n, (name, kind, _, _) in enumerate(JOBS):
        which = 1 if kind.startswith("rand") else 0
        ours, theirs = (statistics.median(run[n][which] for run in measured[m])
                        for m in ("doble", "qemu"))
        unit, scale = ("1/s", 1) if which else ("MiB/s", 1024)
        print(f"| {name} | {ours / scale:.0f} {unit} | {theirs / scale:.0f} {unit} | "
              f"{ours / theirs if theirs else 0:.1f} |")


main()
