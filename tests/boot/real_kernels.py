#!/usr/bin/env python3
"""Kernels of Debian's packages that are started without firmware: memtest86+, Xen, GRUB. The packages
are unpacked beside the monitor, not installed."""
import gzip
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import DOBLE, GUEST, Session, main

PACKAGES = os.path.join(os.path.dirname(DOBLE), "packages")
MEMTEST = "boot/memtest86+x64.bin"
XEN = "boot/xen-4.17-amd64.gz"
GRUB = "usr/lib/grub/i386-pc/kernel.img"
GRUB_CONFIG = """serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
echo hello from GRUB
"""


def find(package, name):
    """A file of a Debian package; None if it cannot be had here."""
    for folder in ("/", os.path.join(PACKAGES, package)):
        if os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    os.makedirs(PACKAGES, exist_ok=True)
    done = subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package],
                          cwd=PACKAGES, capture_output=True)
    debs = [f for f in os.listdir(PACKAGES) if f.startswith(package + "_")]
    if done.returncode or not debs:
        return None
    subprocess.run(["dpkg", "-x", os.path.join(PACKAGES, debs[0]), os.path.join(PACKAGES, package)],
                   check=True)
    return os.path.join(PACKAGES, package, name)


def shows(words, *args):
    """Starts a kernel and waits for what it writes on the serial line."""
    with Session(*args, terminal=False) as s:
        s.expect(words.encode())


def memtest():
    shows("Status: Testing", "-k", find("memtest86+", MEMTEST), "-a", "console=ttyS0,115200", "-m",
          "64M")


def xen_starts_linux():
    image = os.path.join(PACKAGES, "xen")
    os.makedirs(PACKAGES, exist_ok=True)
    with gzip.open(find("xen-hypervisor-4.17-amd64", XEN)) as packed, open(image, "wb") as unpacked:
        unpacked.write(packed.read())
    modules = f"{GUEST}/vmlinuz console=hvc0 earlyprintk=xen,{GUEST}/initrd.img"
    for protocol in ("multiboot1", "multiboot2"):
        shows("Hypervisor detected: Xen PV", "-k", image, "--protocol", protocol, "-i", modules, "-m",
              "1G", "-a", "com1=115200,8n1 console=com1")


def grub():
    modules = os.path.dirname(find("grub-pc-bin", GRUB))
    config, image = os.path.join(PACKAGES, "grub.cfg"), os.path.join(PACKAGES, "grub.img")
    os.makedirs(PACKAGES, exist_ok=True)
    with open(config, "w") as f:
        f.write(GRUB_CONFIG)
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-d", modules, "-c", config, "-o", image, "-p",
                    "/", "serial", "terminal", "echo", "minicmd"], check=True)
    shows("hello from GRUB", "-k", image)


def available():
    tests = []
    for test, package, name in ((memtest, "memtest86+", MEMTEST), (grub, "grub-pc-bin", GRUB),
                                (xen_starts_linux, "xen-hypervisor-4.17-amd64", XEN)):
        if not find(package, name):
            print(f"skip {test.__name__}: Debian's package {package} cannot be had here")
        elif test is grub and not shutil.which("grub-mkimage"):
            print("skip grub: there is no grub-mkimage (Debian's package grub-common)")
        else:
            tests.append(test)
    return tests


if __name__ == "__main__":
    TESTS = available()
    if not TESTS:
        sys.exit(77)
    main(*TESTS)
