"""Archives that the kernel unpacks: cpio in "newc" format (initramfs)."""


def newc_archive(files):
    """A cpio archive in "newc" format of (path, content or None for a folder) pairs."""
    out = bytearray()
    for inode, (path, content) in enumerate(files + [("TRAILER!!!", b"")], 1):
        mode = 0o40755 if content is None else 0o100755
        name = path.encode() + b"\0"
        fields = [inode, mode, 0, 0, 1, 0, len(content or b""), 0, 0, 0, 0, len(name), 0]
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + name
        out += b"\0" * (-len(out) % 4)
        out += content or b""
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
