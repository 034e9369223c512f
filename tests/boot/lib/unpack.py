"""Unpacks the ELF file (vmlinux) that is inside of a bzImage: its header says where the compressed
payload is (Documentation/arch/x86/boot.rst, payload_offset)."""
import struct
import subprocess

# first bytes: program; lz4 and zstd payloads are followed by their unpacked size, 4 bytes
TOOLS = [(b"\xfd7zXZ", ["xz", "-dc", "--single-stream"], 0), (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"], 4),
         (b"\x02\x21\x4c\x18", ["lz4", "-dc"], 4), (b"\x1f\x8b", ["gzip", "-dc"], 0),
         (b"BZh", ["bzip2", "-dc"], 0)]


def unpack_vmlinux(bzimage, vmlinux):
    with open(bzimage, "rb") as f:
        image = f.read()
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1f1] or 4) + 1) * 512 + offset
    payload = image[start:start + length]
    for magic, tool, trailer in TOOLS:
        if payload.startswith(magic):
            with open(vmlinux, "wb") as out:
                subprocess.run(tool, input=payload[:len(payload) - trailer], stdout=out,
                               stderr=subprocess.DEVNULL, check=False)
            return
    raise ValueError(f"{bzimage}: the payload begins with {payload[:6].hex()}")
