#!/usr/bin/env python3
"""The user network: a lease, ping, TCP both ways with offloads, a saved machine; what cannot be had on
this host is said in one sentence."""
import os
import signal
import socket
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import Session, check, main, needs_engine, one_sentence, run
from network import PORT, SCRIPT, Sink, both_ways, data, digest, free_port, upload
from programs import options

USAGE, HOST_ERROR = 2, 3


def net(*words):
    return ["--net", ",".join(("user",) + words)]


def tcp_both_ways():
    needs_engine("translate")
    sink, port = Sink("127.0.0.1"), free_port()
    script = f"PEER=10.0.2.2 SINK={sink.port}\nip -4 addr show dev eth0\n{SCRIPT}"
    with tempfile.TemporaryDirectory() as folder, \
            Session(*options(folder, [], script), "-e", "translate",
                    *net(f"hostfwd=tcp:127.0.0.1:{port}-:{PORT}"), terminal=False) as s:
        both_ways(s, sink, "127.0.0.1", port)
        check(b"inet 10.0.2.15/24" in s.output, "no lease")
        check(s.end() == 0, s.errors())


def a_saved_machine_goes_on():
    """Connections end with the process; the network, the card and the lease stay."""
    needs_engine("translate")
    port = free_port()
    script = f"nc -ll -p {PORT} -e md5sum & for i in $(seq 100); do sleep 1; done"
    forward = net(f"hostfwd=tcp:127.0.0.1:{port}-:{PORT}")
    content = data(2)[:100000]

    def answers():
        return digest(content) in upload("127.0.0.1", port, content)

    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "saved")
        with Session(*options(folder, [], script), "-e", "translate", *forward, "--save", saved,
                     terminal=False) as s:
            check(answers(), "no answer")
            s.signal(signal.SIGUSR1)
            check(s.end() == 0, s.errors())
        with Session("--restore", saved, "-e", "translate", *forward, terminal=False) as s:
            check(answers(), "no answer from the restored machine")
        status, _, errors = run("--restore", saved)
        check(status == HOST_ERROR and one_sentence(errors), f"without its card: {errors}")


def errors_of_the_host():
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        status, _, errors = run(*net(f"hostfwd=tcp:127.0.0.1:{port}-:22"))
    check(status == HOST_ERROR and one_sentence(errors) and str(port) in errors, errors)
    status, _, errors = run("--net", "tap,ifname=nosuchif")
    check(status == HOST_ERROR and one_sentence(errors) and "'nosuchif'" in errors, errors)
    for text in ("usr", "user,hostfwd=80", "tap", "user,mac=1"):
        status, _, errors = run("--net", text)
        check(status == USAGE and errors.startswith("doble: --net: "), f"{text}: {errors}")


main(tcp_both_ways, a_saved_machine_goes_on, errors_of_the_host)
