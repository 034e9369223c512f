"""Changing the engine of a machine that runs, by the text form of its monitor."""
import socket

PROMPT = b"(doble) "


class Monitor:
    """A connection to --monitor; ask() gives the lines of one answer."""

    def __init__(self, path, wake=b""):
        """`wake`: what has to be sent before anybody listens; it is answered, too."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(240)
        self.socket.connect(path)
        self.socket.sendall(wake)
        self.answer(2 if wake else 1)

    def close(self):
        self.socket.close()

    def answer(self, count=1):
        answer = b""
        while answer.count(PROMPT) < count:
            part = self.socket.recv(65536)
            if not part:
                break
            answer += part
        return answer.replace(PROMPT, b"").decode(errors="replace").splitlines()

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\n")
        return self.answer()
