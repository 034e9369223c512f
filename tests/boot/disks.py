#!/usr/bin/env python3
"""Disks of a guest: raw and qcow2, saved machines, kill -9; what cannot be had is said in one
sentence."""
import hashlib
import os
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from disk_guest import Campaign, command, make_disk
from doble import DOBLE, Session, check, main, one_sentence, run
from programs import options

USAGE, HOST_ERROR = 2, 3
SCRIPT = """
cat /sys/block/vda/serial; echo
mkdir /mnt; mount -t ext4 /dev/vda /mnt && seq 1 50000 > /mnt/numbers && sync && umount /mnt
cat /sys/block/vdb/ro
dd if=/dev/vdb bs=64k 2>/dev/null | md5sum
dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null || echo refused
"""
NUMBERS = "".join(f"{n}\n" for n in range(1, 50001)).encode()


def a_disk_and_one_that_is_read_only():
    data = os.urandom(1 << 20)
    with tempfile.TemporaryDirectory() as folder:
        disk, other = os.path.join(folder, "disk.img"), os.path.join(folder, "other.img")
        command("mke2fs", "-q", "-F", "-t", "ext4", disk, "32M")
        with open(other, "wb") as f:
            f.write(data)
        status, output, errors = run(*options(folder, [], SCRIPT), "-e", "translate",
                                     "-d", f"{disk},format=raw,serial=a.serial",
                                     "-d", f"{other},readonly,aio=threads")
        check(status == 0, errors)
        for word in ("a.serial", hashlib.md5(data).hexdigest(), "refused"):
            check(word in output, f"no {word!r} in {output}")
        command("e2fsck", "-fn", disk)
        command("debugfs", "-R", f"dump /numbers {folder}/numbers", disk)
        with open(os.path.join(folder, "numbers"), "rb") as f:
            check(f.read() == NUMBERS, "the file is not what the guest has written")


SAVED_SCRIPT = """
mkdir /mnt; mount -t ext4 /dev/vda /mnt || exit 1
echo STARTED
for i in $(seq 60); do seq 1 $((i * 300)) > /mnt/f.$i; sync; done
for i in $(seq 60); do [ "$(tail -1 /mnt/f.$i)" = $((i * 300)) ] || echo "WRONG $i"; done
umount /mnt; echo FINISHED
"""


def a_saved_machine_goes_on_with_its_disk():
    with tempfile.TemporaryDirectory() as folder:
        disk, saved = make_disk(folder), os.path.join(folder, "saved")
        with Session(*options(folder, [], SAVED_SCRIPT), "-e", "translate", "-d", disk,
                     "--save", saved, terminal=False) as s:
            s.expect(b"STARTED")
            s.read(0.3)
            s.signal(signal.SIGUSR1)
            check(s.end() == 0, s.errors())
        status, _, errors = run("--restore", saved)
        check(status == HOST_ERROR and one_sentence(errors), f"without its disk: {errors}")
        status, output, errors = run("--restore", saved, "-e", "translate", "-d", disk)
        check(status == 0 and "FINISHED" in output and "WRONG" not in output, output + errors)
        command(DOBLE, "image", "check", disk)
        command(DOBLE, "image", "convert", disk, os.path.join(folder, "raw"))
        command("e2fsck", "-fn", os.path.join(folder, "raw"))


def killed_while_it_writes():
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(folder, make_disk(folder), seed=1)
        for kills in range(20):  # some may come before the guest has synced anything
            if kills >= 2 and campaign.synced:
                return
            campaign.kill_one(longest=2 + kills)
            campaign.check_image()
            campaign.check_files()
        check(False, "the guest has synced nothing")


def refused(status, args, word):
    got, _, errors = run(*args)
    check(got == status and one_sentence(errors) and word in errors, f"{args}: {got} {errors}")


def command_lines():
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        with open(disk, "wb") as f:
            f.truncate(1 << 20)
        for value, word in [("", "--disk"), (",readonly", "--disk"), (f"{disk},format=vdi", "vdi"),
                            (f"{disk},if=scsi", "scsi"), (f"{disk},fast", "fast"),
                            (f"{disk},serial=", "serial"), (f"{disk},serial=" + "x" * 21, "serial"),
                            (f"{disk},queues=0", "queues=0"), (f"{disk},queues=17", "queues=17")]:
            refused(USAGE, ["-d", value], word)
        refused(HOST_ERROR, ["-d", f"{folder}/missing"], "missing")
        refused(HOST_ERROR, ["-d", folder], folder)
        refused(HOST_ERROR, ["-d", f"{disk},format=qcow2"], "qcow2")
        refused(HOST_ERROR, ["-d", disk, "-d", disk], "disk.img")


if not shutil.which("mke2fs"):
    print("there is no mke2fs here (package e2fsprogs)")
    sys.exit(77)
main(a_disk_and_one_that_is_read_only, a_saved_machine_goes_on_with_its_disk,
     killed_while_it_writes, command_lines, engine="translate")
