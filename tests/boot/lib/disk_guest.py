"""A guest that writes to a disk and says what it has synced; and what must be found there after the
monitor was killed: an image without corruptions, a file system that its journal repairs, and every
file whose number was said."""
import os
import random
import re
import subprocess
import time

from doble import DOBLE, GUEST, Session, check
from newc import newc_archive
from programs import options

# Each file has its number in it many times. busybox's `sync FILE` is fsync.
WRITER = """
mkdir /mnt
mount -t ext4 /dev/vda /mnt || exit 1
for f in /mnt/f.*; do
    [ -e "$f" ] || continue
    n=${f##*.}
    grep -qvx "$n" "$f" && echo "WRONG $f"
done
n=$(ls /mnt | sed -n 's/^f\\.//p' | sort -n | tail -1)
n=${n:-0}
echo "FOUND $n"
while :; do
    n=$((n + 1))
    yes "$n" | head -n $((n * 7919 % 3000 + 1)) > /mnt/new
    sync /mnt/new
    mv /mnt/new "/mnt/f.$n"
    sync /mnt
    sync /mnt/f.$n
    echo "SYNCED $n"
    [ $((n % 16)) = 0 ] && rm -f "/mnt/f.$((n - 15))" && echo "REMOVED $((n - 15))"
    [ $((n % 40)) = 0 ] && fstrim /mnt
done
"""


def command(*args):
    done = subprocess.run(args, capture_output=True, text=True)
    check(done.returncode == 0, f"{' '.join(args)}: status {done.returncode}: {done.stdout}"
          f"{done.stderr}")
    return done.stdout


def make_disk(folder, size="64M"):
    """An ext4 file system in base.img, and disk.qcow2 over it."""
    base, disk = os.path.join(folder, "base.img"), os.path.join(folder, "disk.qcow2")
    command("mke2fs", "-q", "-F", "-t", "ext4", base, size)
    command(DOBLE, "image", "create", "-f", "qcow2", "-b", "base.img", "-F", "raw", disk)
    return disk


def numbers(output, word):
    return [int(n) for n in re.findall(word.encode() + rb" (\d+)\r?\n", output)]


class Campaign:
    """One image through many machines, each killed while it writes."""

    def __init__(self, folder, disk, seed, engine="translate"):
        self.folder, self.disk, self.engine = folder, disk, engine
        self.rng = random.Random(seed)
        self.synced = 0
        self.removed = set()

    def kill_one(self, longest):
        """Boots, lets the guest write for a random time, kills. It must have found what was synced."""
        with Session(*options(self.folder, [], WRITER), "-e", self.engine, "-d", self.disk,
                     terminal=False) as s:
            s.expect(b"FOUND")
            s.read(self.rng.uniform(0, longest))
            s.process.kill()
            s.process.wait()
            s.read(0.2)
        check(b"WRONG" not in s.output, f"contents: {s.output[-500:]!r}")
        found = numbers(s.output, "FOUND")
        if found:  # or it was killed while it said so
            check(found[0] >= self.synced, f"{self.synced} was synced, and {found[0]} is the last")
        self.synced = max([self.synced] + numbers(s.output, "SYNCED"))
        self.removed.update(numbers(s.output, "REMOVED"))

    def check_image(self):
        """No corruption; leaks are allowed. Returns how many there are."""
        done = subprocess.run([DOBLE, "image", "check", self.disk], capture_output=True, text=True)
        check(done.returncode in (0, 1), f"status {done.returncode}: {done.stdout}{done.stderr}")
        try:
            theirs = subprocess.run(["qemu-img", "check", self.disk], capture_output=True, text=True)
            check(theirs.returncode in (0, 3), f"qemu-img: {theirs.stdout}{theirs.stderr}")
        except FileNotFoundError:
            pass
        return int(re.search(r"^leaks: (\d+)", done.stdout, re.M).group(1))

    def check_files(self):
        """The journal makes the file system sound, and what was synced is there."""
        raw = os.path.join(self.folder, "look.img")
        command(DOBLE, "image", "convert", self.disk, raw)
        done = subprocess.run(["e2fsck", "-fy", "-E", "journal_only", raw], capture_output=True)
        done = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, text=True)
        check(done.returncode == 0, f"e2fsck: {done.stdout}{done.stderr}")
        there = set(re.findall(r"f\.(\d+)", command("debugfs", "-R", "ls -p /", raw)))
        for n in range(1, self.synced + 1):
            # A file that is being removed, and of which the guest could not say so any more, may
            # be gone, too.
            if n in self.removed or str(n) in there or n % 16 == 1 and n + 15 >= self.synced:
                continue
            check(False, f"file {n} was synced and is not there; {self.synced} is the last")
        os.unlink(raw)
