#!/usr/bin/env python3
"""Machines that firmware starts: SeaBIOS, a boot sector of our own on each kind of disk, its text on
the serial port, in the terminal and in a picture."""
import os
import socket
import struct
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import Session, check, main, run

BIOS = "/usr/share/seabios/bios-256k.bin"

# Reads the sector behind it with INT 13h and prints it with INT 10h; then it echoes keys.
CODE = bytes.fromhex(
    "31c0 8ed8 8ec0 8ed0 bc007c"  # xor ax, ax; segments and stack
    "bb007e b80102 b90200 b600 cd13"  # one sector from cylinder 0, sector 2 to 7E00h
    "be007e"  # mov si, 7E00h
    "ac 08c0 7409 b40e bb0700 cd10 ebf2"  # print until zero
    "b400 cd16 b40e bb0700 cd10 ebf5"  # echo
)


def disk_image(path, text):
    code = CODE.ljust(510, b"\0") + b"\x55\xaa"
    with open(path, "wb") as f:
        f.write(code + text.encode().ljust(512, b"\0"))
        f.truncate(1 << 20)


def needs_bios(test):
    def wrapped():
        if not os.path.exists(BIOS):
            print("SKIP: there is no SeaBIOS")
            return
        test()
    wrapped.__name__ = test.__name__
    return wrapped


def started(*args):
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "disk")
        disk_image(image, "read by the BIOS")
        with Session(*[a.replace("IMAGE", image) for a in args]) as s:
            s.expect(b"read by the BIOS")
            os.write(s.master, b"x\x1dq")
            s.process.wait()


@needs_bios
def ide_disk():
    started("-d", "IMAGE,if=ide")


@needs_bios
def virtio_disk():
    started("-d", "IMAGE,if=virtio")


@needs_bios
def lone_image_under_translate():
    started("-e", "translate", "IMAGE")


@needs_bios
def screen_and_keyboard():
    with tempfile.TemporaryDirectory() as folder:
        image, monitor, picture = (os.path.join(folder, n) for n in ("disk", "monitor", "p.png"))
        disk_image(image, "<")
        with Session("--display", "text", "--monitor", "unix:" + monitor, image) as s:
            s.expect(b"<")
            os.write(s.master, b"Q")
            s.expect(b"Q")
            with socket.socket(socket.AF_UNIX) as c:
                c.connect(monitor)
                c.sendall(b"screenshot %s\n" % picture.encode())
                answer = b""
                while b" in " not in answer:
                    answer += c.recv(4096)
            os.write(s.master, b"\x1dq")
            s.process.wait()
        with open(picture, "rb") as f:
            png = f.read()
        width, height = struct.unpack(">II", png[16:24])
        at = png.index(b"IDAT")
        pixels = zlib.decompress(png[at + 4:at + 4 + struct.unpack(">I", png[at - 4:at])[0]])
        check((width, height) == (720, 400), f"{width} x {height}")
        check(len(set(pixels)) > 1, "the picture is empty")


def kinds_of_files():
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"\x1f\x8b" + bytes(1022))
        f.flush()
        status, _, errors = run(f.name)
        check(status == 3 and "gzip" in errors, f"status {status}: {errors}")


if __name__ == "__main__":
    main(ide_disk, virtio_disk, lone_image_under_translate, screen_and_keyboard, kinds_of_files,
         needs_guest=False)
