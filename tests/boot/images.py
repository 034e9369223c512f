#!/usr/bin/env python3
"""`doble image` and qemu-img agree on every image that either of them makes; bad command lines and bad
files give one sentence and the right status. No guest runs."""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import BOOT_TIME, DOBLE, check, main, one_sentence

LEAKS, USAGE, HOST_ERROR, DAMAGED = 1, 2, 3, 4
MIB = 1 << 20
KINDS = ["compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M", "refcount_bits=1",
         "cluster_size=4K,refcount_bits=64", "refcount_bits=8", "compression_type=zstd",
         "lazy_refcounts=on"]
SAME_CHECK = ["image-end-offset", "total-clusters", "allocated-clusters", "compressed-clusters",
              "fragmented-clusters", "corruptions", "leaks"]
SAME_INFO = ["virtual-size", "cluster-size", "format", "format-specific", "backing-filename",
             "full-backing-filename", "backing-filename-format", "dirty-flag"]

folder = None


def doble(*args, status=0):
    done = subprocess.run([DOBLE, "image", *args], capture_output=True, text=True, cwd=folder,
                          timeout=BOOT_TIME)
    check(done.returncode == status, f"{args}: status {done.returncode}, not {status}: "
          f"{done.stderr}")
    return done.stdout if status in (0, LEAKS, DAMAGED) else done.stderr


def qemu(*args):
    done = subprocess.run(["qemu-img", *args], capture_output=True, text=True, cwd=folder,
                          timeout=BOOT_TIME)
    check(done.returncode == 0, f"qemu-img {args}: status {done.returncode}: {done.stderr}")
    return done.stdout


def qemu_io(image, *commands):
    words = [w for c in commands for w in ("-c", c)]
    subprocess.run(["qemu-io", "-f", "qcow2", *words, image], check=True, cwd=folder,
                   stdout=subprocess.DEVNULL, timeout=BOOT_TIME)


def source(name, size=6 * MIB):
    """Data, text that can be compressed, and holes."""
    rng = random.Random(1)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(rng.randbytes(MIB + 5 * 512))
        f.seek(2 * MIB + 3 * 512)
        f.write(b"some text, again and again. " * 30000)
        f.seek(size - 512)
        f.write(b"the end.".ljust(512))


def agree(name):
    """Both say the same of the image."""
    ours, theirs = (json.loads(doble("check", "--json", name)),
                    json.loads(qemu("check", "--output=json", name)))
    for key in SAME_CHECK:
        check(ours[key] == theirs.get(key, 0), f"{name}: {key}: {ours[key]}, {theirs.get(key)}")
    ours, theirs = (json.loads(doble("info", "--json", name)),
                    json.loads(qemu("info", "--output=json", name)))
    for key in SAME_INFO:
        check(ours.get(key) == theirs.get(key), f"{name}: {key}: {ours.get(key)}, "
              f"{theirs.get(key)}")


def same_bytes(a, b):
    with open(os.path.join(folder, a), "rb") as f, open(os.path.join(folder, b), "rb") as g:
        check(f.read() == g.read(), f"{a} and {b} differ")


def conversions():
    source("raw")
    for kind in KINDS:
        for compress in ([], ["-c"]):
            doble("convert", "-O", "qcow2", *compress, "-o", kind, "raw", "ours")
            qemu("convert", "-f", "raw", "-O", "qcow2", *compress, "-o", kind, "raw", "theirs")
            for name in ("ours", "theirs"):
                agree(name)
            qemu("compare", "raw", "ours")
            doble("convert", "-O", "raw", "theirs", "back")
            same_bytes("raw", "back")


def creations():
    for kind in KINDS:
        for size in ("0", "512", "100M", "1T"):
            if size == "1T" and "=512" in kind:
                continue  # more than 32 MiB of L1
            doble("create", "-f", "qcow2", "-o", kind, "ours", size)
            qemu("create", "-f", "qcow2", "-o", kind, "theirs", size)
            agree("ours")
            agree("theirs")
    doble("create", "disk.raw", "10M")
    check(os.path.getsize(os.path.join(folder, "disk.raw")) == 10 * MIB, "raw size")
    check(json.loads(qemu("info", "--output=json", "disk.raw"))["virtual-size"] == 10 * MIB, "raw")


def backing_chains():
    source("raw")
    doble("create", "-f", "qcow2", "-b", "raw", "-F", "raw", "one")
    qemu_io("one", "write -P 5 1M 300K", "discard 2M 1M", "write -z 5M 64K")
    qemu("create", "-f", "qcow2", "-b", "one", "-F", "qcow2", "two", "9M")
    qemu_io("two", "write -P 7 4M 2M", "write -P 8 8M 512")
    for name in ("one", "two"):
        agree(name)
        doble("convert", "-O", "raw", name, "ours.raw")
        qemu("convert", "-O", "raw", name, "theirs.raw")
        same_bytes("ours.raw", "theirs.raw")
    shutil.copy(os.path.join(folder, "theirs.raw"), os.path.join(folder, "before"))
    doble("rebase", "-b", "raw", "-F", "raw", "two")
    agree("two")
    qemu("compare", "before", "two")
    doble("rebase", "-b", "", "two")
    agree("two")
    qemu("compare", "before", "two")
    doble("rebase", "-u", "-b", "elsewhere", "two")
    check(json.loads(doble("info", "--json", "two"))["backing-filename"] == "elsewhere", "unsafe")


def resizing():
    for kind in ("", "compat=0.10", "cluster_size=512"):
        options = ["-o", kind] if kind else []
        doble("create", "-f", "qcow2", *options, "image", "1M")
        qemu_io("image", "write -P 3 0 1M")
        doble("resize", "image", "+200M")
        qemu_io("image", "read -P 3 0 1M", "read -P 0 1M 200M", "write -P 4 200M 1M")
        agree("image")
        check("--shrink" in doble("resize", "image", "1000K", status=USAGE), "no warning")
        doble("resize", "--shrink", "image", "1000K")
        check(json.loads(qemu("info", "--output=json", "image"))["virtual-size"] == 1024000, "size")
        qemu_io("image", "read -P 3 0 1000K")
        agree("image")


def snapshots_stay():
    doble("create", "-f", "qcow2", "image", "64M")
    qemu_io("image", "write -P 1 0 1M")
    qemu("snapshot", "-c", "first", "image")
    doble("convert", "-O", "raw", "image", "before")
    doble("create", "-f", "qcow2", "-b", "image", "-F", "qcow2", "top")
    qemu_io("image", "write -P 2 0 512K")
    agree("image")
    doble("resize", "image", "+1M")
    agree("image")
    qemu("snapshot", "-a", "first", "image")
    qemu_io("image", "read -P 1 0 1M")


def leaks_and_damage():
    doble("create", "-f", "qcow2", "image", "64M")
    qemu_io("image", "write -P 1 0 1M")
    with open(os.path.join(folder, "image"), "r+b") as f:
        f.truncate(22 * 65536)  # five clusters of tables, sixteen of data, and one that is lost
        f.seek(2 * 65536 + 2 * 21)
        f.write(struct.pack(">H", 1))
    check(json.loads(doble("check", "--json", "image", status=LEAKS))["leaks"] == 1, "leaks")
    doble("check", "-r", "leaks", "image")
    with open(os.path.join(folder, "image"), "r+b") as f:
        f.seek(2 * 65536 + 2 * 6)
        f.write(bytes(8))
    ours = json.loads(doble("check", "--json", "image", status=DAMAGED))
    theirs = json.loads(subprocess.run(["qemu-img", "check", "--output=json", "image"],
                                       capture_output=True, cwd=folder).stdout)
    check(ours["corruptions"] >= theirs["corruptions"] > 0, f"{ours} {theirs}")
    doble("check", "-r", "all", "image")
    qemu("check", "image")
    qemu_io("image", "read -P 1 0 1M")


def bad_command_lines():
    for args in [[], ["destroy", "x"], ["create"], ["create", "x"], ["create", "x", "much"],
                 ["create", "-f", "vmdk", "x", "1M"], ["create", "-o", "colour=red", "x", "1M"],
                 ["create", "-f", "qcow2", "-o", "cluster_size=1000", "x", "1M"],
                 ["create", "-f", "qcow2", "-o", "refcount_bits=3", "x", "1M"], ["info"],
                 ["info", "-q", "x"], ["info", "x", "y"], ["check", "-r", "some", "x"],
                 ["convert", "x"], ["convert", "-c", "x", "y"], ["rebase", "x"]]:
        errors = doble(*args, status=USAGE)
        check(one_sentence(errors), f"{args}: {errors}")
        check(not os.path.exists(os.path.join(folder, "x")), f"{args} made a file")


def bad_files():
    doble("create", "-f", "qcow2", "image", "1M")
    with open(os.path.join(folder, "garbage"), "wb") as f:
        f.write(b"QFI\xfb" + bytes(range(256)) * 4)
    with open(os.path.join(folder, "vmdk"), "wb") as f:
        f.write(b"KDMV" + bytes(1020))
    doble("create", "-f", "qcow2", "-b", "image", "-F", "qcow2", "self")
    doble("rebase", "-b", "self", "-F", "qcow2", "image", status=HOST_ERROR)
    os.rename(os.path.join(folder, "self"), os.path.join(folder, "image"))
    for args, word in [(["info", "missing"], "missing"), (["info", "garbage"], "garbage"),
                       (["info", "vmdk"], "VMDK"), (["convert", "image", "out"], "its own backing"),
                       (["info", "/dev/null"], "/dev/null"), (["info", "."], "."),
                       (["check", "-f", "raw", "image"], "raw"),
                       (["create", "no/such/folder", "1M"], "no/such/folder"),
                       (["create", "-f", "qcow2", "-o", "cluster_size=512", "huge", "1T"], "huge"),
                       (["create", "-f", "qcow2", "-b", "missing", "top"], "missing"),
                       (["create", "-f", "qcow2", "-b", "nbd://host/x", "top"], "nbd:"),
                       (["resize", "missing", "1M"], "missing")]:
        errors = doble(*args, status=HOST_ERROR)
        check(one_sentence(errors) and word in errors, f"{args}: {errors}")


if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
    print("there is no qemu-img here to compare with (package qemu-utils)")
    sys.exit(77)
with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
    main(creations, conversions, backing_chains, resizing, snapshots_stay, leaks_and_damage,
         bad_command_lines, bad_files, needs_guest=False)
