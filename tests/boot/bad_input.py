#!/usr/bin/env python3
"""Command lines, files and descriptors that cannot work: one sentence, the right exit status."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import BOOT_TIME, DOBLE, GUEST, check, main, one_sentence, run

USAGE, HOST_ERROR = 2, 3


def refused(status, args, word="", **kwargs):
    got, _, errors = run(*args, **kwargs)
    check(got == status, f"{args}: status {got}, not {status}: {errors}")
    check(one_sentence(errors), f"{args}: not one sentence: {errors!r}")
    check(word in errors, f"{args}: no {word!r} in {errors!r}")


def command_lines():
    for args, word in [
        (["--memroy", "1G"], "--memory"), (["--kernel"], "needs a value"), (["-q"], "-q"),
        (["--stats=1"], "takes no value"),
        (["-i", "x"], "--kernel"), (["--engine", "warp"], "warp"),
        (["--cpu", "z80"], "z80"), (["--cpu", "host,+nothing"], "nothing"),
        (["--trace", "nothing_*"], "nothing_*"), (["--serial", "telegraph"], "telegraph"),
        (["--time", "never"], "never"), (["--debug-exit", "65536"], "65536"),
    ]:
        refused(USAGE, args, word)
    refused(HOST_ERROR, ["no-such-disk.img"], "no-such-disk.img")


def memory_sizes():
    for size in ["0", "1", "1048575", "12Q", "", "-1G", "1.5G", "99999999999999999999"]:
        refused(USAGE, ["-m", size])
    for size in ["1M", "2M", "16M", "1000T"]:
        refused(HOST_ERROR, ["-m", size])


def without(data, at, size):
    """`data` with `size` bytes from `at` on turned to ones."""
    return data[:at] + b"\xff" * size + data[at + size:]


def kernels():
    with open(os.path.join(GUEST, "vmlinuz"), "rb") as f:
        good = f.read()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kernel")
        refused(HOST_ERROR, ["-k", path], path)
        refused(HOST_ERROR, ["-k", folder], folder)
        for content in [b"", b"x", b"\0" * 100000, good[:512], good[:4000], good[:100000],
                        good[:-100000], without(good, 0x1f1, 1), without(good, 0x1fe, 2),
                        without(good, 0x202, 4), without(good, 0x206, 2), without(good, 0x1f4, 4),
                        without(good, 0x260, 4)]:
            with open(path, "wb") as f:
                f.write(content)
            got, _, errors = run("-k", path, "--max-instructions", "100000")
            check(got in (HOST_ERROR, 4, 5) and one_sentence(errors.split("\n")[0] + "\n"),
                  f"kernel of {len(content)} bytes: status {got}: {errors}")
        if os.getuid() != 0:
            os.chmod(path, 0)
            refused(HOST_ERROR, ["-k", path], "ermission")


def initrds():
    kernel = os.path.join(GUEST, "vmlinuz")
    refused(HOST_ERROR, ["-k", kernel, "-i", "/nonexistent"], "/nonexistent")
    refused(HOST_ERROR, ["-k", kernel, "-i", "/"], "/")
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(1 << 30)
        refused(HOST_ERROR, ["-k", kernel, "-i", f.name, "-m", "512M"], f.name)


def saved_machines():
    refused(HOST_ERROR, ["--restore", "/nonexistent"], "/nonexistent")
    for content in [b"", b"x" * 1000, b"DobleVM\n", b"DobleVM\n" + b"\xff" * 1000]:
        with tempfile.NamedTemporaryFile() as f:
            f.write(content)
            f.flush()
            refused(HOST_ERROR, ["--restore", f.name], f.name)


def places():
    refused(HOST_ERROR, ["--serial", "file:/nonexistent/x"], "/nonexistent/x")
    refused(HOST_ERROR, ["--serial", "unix:/nonexistent/x"], "/nonexistent/x")
    refused(HOST_ERROR, ["--serial", "unix:/" + "x" * 200], "longer")
    refused(HOST_ERROR, ["--trace-file", "/nonexistent/x"], "/nonexistent/x")
    refused(HOST_ERROR, [], "DOBLE_GUEST", env={**os.environ, "DOBLE_GUEST": "/nonexistent"})


def shell(command):
    done = subprocess.run(["sh", "-c", command, "sh", DOBLE], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=BOOT_TIME)
    return done.returncode, done.stderr.decode()


def standard_output():
    for command in ['"$1" run >&-', '"$1" run >/dev/full', '"$1" --help >&-',
                    '"$1" run --help >/dev/full', '"$1" --version >/dev/full']:
        status, errors = shell(command)
        check(status == HOST_ERROR and one_sentence(errors), f"{command}: {status}: {errors}")
    status, errors = shell('{ "$1" run; echo $? >&2; } | head -c 1')
    check(errors.endswith("3\n") and one_sentence(errors[:-2]), f"a broken pipe: {errors}")


def pages():
    for args in (["--help"], ["--version"], ["run", "--help"], ["run", "--cpu", "help"],
                 ["run", "--trace", "help"]):
        done = subprocess.run([DOBLE, *args], capture_output=True, timeout=BOOT_TIME)
        check(done.returncode == 0 and done.stdout and not done.stderr, f"{args}: {done}")


main(command_lines, memory_sizes, kernels, initrds, saved_machines, places, standard_output, pages)
