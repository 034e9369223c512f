"""Kernels of a few instructions: assembled text behind the setup header of a bzImage, entered in
64-bit mode with paging on and interrupts off (Documentation/arch/x86/boot.rst)."""
import os
import struct
import subprocess
import tempfile

LOAD_ADDRESS = 0x1000000
SETUP_BYTES = 2 * 512  # boot sector and one sector of setup code
ENTRY = 0x200          # of 64-bit code, in the part that is loaded


def assemble(text):
    """GNU assembler, Intel syntax, to raw bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "code")
        source = ".intel_syntax noprefix\n.text\n_start:\n" + text + "\n"
        subprocess.run(["as", "--64", "-o", path + ".o", "-"], input=source.encode(), check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", path + ".o", path], check=True)
        with open(path, "rb") as f:
            return f.read()


def kernel(code):
    """The bytes of a bzImage that starts with `code`."""
    body = bytes(ENTRY) + code
    body += bytes(-len(body) % 16)
    image = bytearray(SETUP_BYTES)

    def put(offset, form, *values):
        struct.pack_into("<" + form, image, offset, *values)

    put(0x1f1, "B", 1)                  # setup_sects
    put(0x1f4, "I", len(body) // 16)    # syssize
    put(0x1fe, "H", 0xaa55)
    put(0x200, "2s4sH", b"\xeb\x6a", b"HdrS", 0x20f)
    put(0x211, "B", 1)                  # loadflags: LOADED_HIGH
    put(0x22c, "I", 0x7fffffff)         # initrd_addr_max
    put(0x230, "IBBH", 0x200000, 1, 21, 1)  # alignment, relocatable, xloadflags: 64-bit entry
    put(0x238, "I", 2047)               # cmdline_size
    put(0x258, "QI", LOAD_ADDRESS, len(body) + 0x100000)  # pref_address, init_size
    return bytes(image) + body
