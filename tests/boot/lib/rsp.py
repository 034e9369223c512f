"""A client of GDB's remote protocol, as simple as it can be, and one that can misbehave."""
import re
import socket
import struct
import time
import xml.etree.ElementTree as ElementTree

from doble import BOOT_TIME, Failure, check

SECONDS = BOOT_TIME


def frame(payload):
    return b"$" + payload + b"#%02x" % (sum(payload) & 0xff)


class Client:
    """A connection; answers are acknowledged until no_ack()."""

    def __init__(self, where, seconds=SECONDS):
        end = time.monotonic() + seconds
        self.received = b""
        self.acks = True
        while True:
            try:
                self.socket = connect(where)
                break
            except OSError as e:
                if time.monotonic() > end:
                    raise Failure(f"cannot connect to {where}: {e}") from None
                time.sleep(0.05)
        self.socket.settimeout(seconds)
        self.registers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def raw(self, data):
        self.socket.sendall(data)

    def read_byte(self):
        while not self.received:
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise Failure("no answer came") from None
            if not data:
                raise Failure("the connection was closed")
            self.received += data
        byte, self.received = self.received[:1], self.received[1:]
        return byte

    def answer(self):
        """The payload of the next packet; acknowledgements are skipped."""
        while self.read_byte() != b"$":
            pass
        payload = b""
        while (byte := self.read_byte()) != b"#":
            payload += byte
        digits = self.read_byte() + self.read_byte()
        check(int(digits, 16) == sum(payload) & 0xff, f"wrong checksum after {payload!r}")
        if self.acks:
            self.raw(b"+")
        return payload

    def ask(self, payload):
        if isinstance(payload, str):
            payload = payload.encode()
        self.raw(frame(payload))
        return self.answer().decode(errors="replace")

    def no_ack(self):
        check(self.ask("QStartNoAckMode") == "OK", "QStartNoAckMode was refused")
        self.acks = False

    # --- what a debugger does ---

    def start(self):
        """As GDB does: features, no acknowledgements, registers."""
        self.features = self.ask("qSupported:swbreak+;hwbreak+;xmlRegisters=i386")
        self.no_ack()
        text, part = b"", b"m"
        while part.startswith(b"m"):
            self.raw(frame(b"qXfer:features:read:target.xml:%x,700" % len(text)))
            part = self.answer()
            text += re.sub(rb"}(.)", lambda m: bytes([m[1][0] ^ 0x20]), part[1:], flags=re.S)
        self.target = ElementTree.fromstring(text.split(b".dtd\">", 1)[1])
        for i, reg in enumerate(self.target.iter("reg")):
            self.registers[reg.get("name")] = (i, int(reg.get("bitsize")) // 8)
        return self

    def reg_bytes(self, name):
        answer = self.ask("p%x" % self.registers[name][0])
        return bytes.fromhex(answer)

    def reg(self, name):
        return int.from_bytes(self.reg_bytes(name), "little")

    def set_reg(self, name, value):
        number, size = self.registers[name]
        if isinstance(value, int):
            value = value.to_bytes(size, "little")
        return self.ask("P%x=%s" % (number, value.hex()))

    def memory(self, address, length):
        """Bytes, or the error as text."""
        answer = self.ask("m%x,%x" % (address, length))
        return answer if answer.startswith("E") else bytes.fromhex(answer)

    def word(self, address):
        return struct.unpack("<Q", self.memory(address, 8))[0]

    def resume(self, how="c"):
        """Goes on; returns the stop."""
        return self.ask(f"vCont;{how}")

    def go(self, how="c"):
        """Goes on, and doesn't wait."""
        self.raw(frame(f"vCont;{how}".encode()))

    def interrupt(self):
        self.raw(b"\x03")
        return self.answer().decode()

    def monitor(self, command):
        self.raw(frame(b"qRcmd," + command.encode().hex().encode()))
        text = b""
        while (answer := self.answer()) != b"OK":
            check(answer.startswith(b"O"), f"monitor {command}: {answer!r}")
            text += bytes.fromhex(answer[1:].decode())
        return text.decode()


def connect(where):
    if isinstance(where, str):
        s = socket.socket(socket.AF_UNIX)
    else:
        s = socket.socket()
    try:
        s.settimeout(SECONDS)
        s.connect(where)
    except OSError:
        s.close()
        raise
    return s
