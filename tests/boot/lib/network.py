"""Both ends of connections between this host and a guest: what is sent, and what arrived."""
import hashlib
import random
import socket
import threading
import time

from doble import BOOT_TIME, check

SIZE = 6 * 1024 * 1024 + 7
PORT = 5000  # of the guest


def data(seed):
    return random.Random(seed).randbytes(SIZE)


def digest(received):
    return hashlib.md5(received).hexdigest()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Sink:
    """Takes one connection at an address of this host, and all that comes."""

    def __init__(self, address):
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        self.received = b""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        connection, _ = self.listener.accept()
        parts = []
        with connection:
            while part := connection.recv(1 << 16):
                parts.append(part)
        self.received = b"".join(parts)

    def digest(self):
        self.thread.join(BOOT_TIME)
        self.listener.close()
        return digest(self.received)


def send(address, port, content):
    with socket.create_connection((address, port), BOOT_TIME) as s:
        s.sendall(content)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while part := s.recv(4096):
            answer += part
    return answer.decode(errors="replace")


def upload(address, port, content):
    """Sends `content` to a guest that listens, or will; returns what it answers."""
    end = time.monotonic() + BOOT_TIME
    while True:
        try:
            return send(address, port, content)
        except ConnectionError:
            check(time.monotonic() < end, "the guest does not listen")
            time.sleep(0.5)


# What the guest does with $PEER, the host's address, and $SINK, a port there. Each side says what it
# has, so that a checksum that nobody looked at is one that a transfer would show.
SCRIPT = f"""
ping -c 2 -W 10 $PEER >/dev/null && echo ping works
head -c {SIZE} /dev/urandom >/tmp/up
md5sum /tmp/up
nc $PEER $SINK </tmp/up
echo sent
nc -l -p {PORT} -e sh -c 'head -c {SIZE} | md5sum' &
echo ready
wait
"""


def both_ways(session, sink, address, port):
    """With SCRIPT running in the guest: a transfer in each direction arrives as it was sent."""
    out = session.expect(b"ready").decode()
    check("ping works" in out, f"no answer to ping: {out[-500:]}")
    received = sink.digest()
    check(received in out, f"the guest sent something else than {received}: {out[-500:]}")
    content = data(1)
    answer = upload(address, port, content)
    check(digest(content) in answer, f"the guest received something else: {answer!r}")
