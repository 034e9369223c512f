#!/usr/bin/env python3
"""A tap interface of this host: ping, and TCP both ways with checksums and segments left to the other
side. Needs the right to make one."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import Session, check, main
from network import PORT, SCRIPT, Sink, both_ways
from programs import options

NAME = f"doble{os.getpid() % 100000}"
HOST, GUEST = "10.213.7.1", "10.213.7.2"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def make_interface():
    """Why there is none, or None."""
    try:
        ip("tuntap", "add", NAME, "mode", "tap")
    except FileNotFoundError:
        return "there is no program 'ip' here"
    except subprocess.CalledProcessError as e:
        return f"a tap interface cannot be made here: {e.stderr.decode().strip()}"
    return None


def set_up_interface():
    ip("addr", "add", f"{HOST}/24", "dev", NAME)
    ip("link", "set", NAME, "up")


def tcp_both_ways():
    sink = Sink(HOST)
    script = f"ip addr add {GUEST}/24 dev eth0\nPEER={HOST} SINK={sink.port}\n{SCRIPT}"
    with tempfile.TemporaryDirectory() as folder, \
            Session(*options(folder, [], script), "-e", "translate", "-n", f"tap,ifname={NAME}",
                    terminal=False) as s:
        both_ways(s, sink, GUEST, PORT)
        check(s.end() == 0, s.errors())


why = make_interface()
if why:
    print("SKIP:", why)
    sys.exit(77)
try:
    set_up_interface()
    main(tcp_both_ways, engine="translate")
finally:
    ip("link", "del", NAME)
