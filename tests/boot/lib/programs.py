"""Programs for the guest: compiled from tests/guest-programs, and put into an initrd whose init runs
them (guest/init runs /doble/run if it is there)."""
import os
import subprocess

from doble import GUEST
from newc import newc_archive

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), "guest-programs")


def compile_static(name, folder):
    path = os.path.join(folder, name)
    subprocess.run(["gcc", "-O2", "-static", "-no-pie", "-o", path,
                    os.path.join(SOURCES, name + ".c")], check=True)
    return path


def options(folder, programs, script):
    """Options of `doble run` for the built-in guest with these programs in /doble and a script that
    it runs instead of a shell."""
    files = [("doble", None), ("doble/run", ("#!/bin/sh\n" + script + "\n").encode())]
    for name in programs:
        with open(compile_static(name, folder), "rb") as f:
            files.append(("doble/" + name, f.read()))
    initrd = os.path.join(folder, "initrd.img")
    with open(os.path.join(GUEST, "initrd.img"), "rb") as base, open(initrd, "wb") as out:
        out.write(base.read() + newc_archive(files))
    return ["--kernel", os.path.join(GUEST, "vmlinuz"), "--initrd", initrd,
            "--append", "console=ttyS0 quiet"]
