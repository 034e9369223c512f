#!/usr/bin/env python3
"""Compare the speed of monitors: see docs/performance.md, and --help for the options.

Every repetition runs every monitor once, so that what happens on the host meanwhile hits all of
them. All times are taken by the host's clock when a line of the guest's console arrives."""

import argparse
import json
import math
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot",
                                "lib"))
import monitors
from newc import newc_archive

IDLE_SECONDS = 4  # how long the guest sleeps; the middle half is measured


def make_initrd(base, path, script, benchprog):
    """The built-in guest's initrd with /doble/run and /doble/benchprog behind it."""
    with open(base, "rb") as f, open(benchprog, "rb") as g, open(path, "wb") as out:
        out.write(f.read())
        out.write(newc_archive([("doble", None), ("doble/run", script.encode()),
                                ("doble/benchprog", g.read())]))


def process_tree(pid):
    pids = [pid]
    for p in pids:
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{task}/children") as f:
                    pids += map(int, f.read().split())
        except OSError:
            pass
    return pids


def cpu_seconds(pid):
    """Processor time of a process and its descendants."""
    ticks = 0
    for p in process_tree(pid):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def own_memory(pid):
    """Resident bytes of a process that are not guest memory. Guest memory is a mapping of a memfd
    or of shared memory, or an anonymous mapping that is just large enough for it."""
    guest = monitors.MEMORY_MIB << 20
    resident, is_guest = 0, False
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)", line)
            if m:
                size = int(m[2], 16) - int(m[1], 16)
                shared = m[3].startswith(("/memfd:", "/dev/shm/", "/tmp/"))
                is_guest = (shared and size >= guest / 2) or (not m[3] and
                                                              guest <= size <= guest * 1.25)
            elif line.startswith("Rss:") and not is_guest:
                resident += int(line.split()[1]) << 10
    return resident


class GuestRun:
    """Runs a command, notes when lines arrive, and samples the process while its guest idles."""

    def __init__(self, command, timeout):
        self.lines = []  # (seconds since the start, text)
        self.idle = self.memory = None
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        self.deadline = self.start + timeout
        try:
            self.read_lines()
            self.process.wait(max(1, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process.stdout.close()
        self.seconds = time.monotonic() - self.start

    def read_lines(self):
        pending = b""
        fd = self.process.stdout.fileno()
        while select.select([fd], [], [], max(0, self.deadline - time.monotonic()))[0]:
            data = os.read(fd, 65536)
            if not data:
                return
            now = time.monotonic() - self.start
            *complete, pending = (pending + data).split(b"\n")
            for line in complete:
                text = line.decode(errors="replace").strip()
                self.lines.append((now, text))
                if text == "bench idle":
                    self.sample()

    def sample(self):
        try:
            self.memory = max(map(own_memory, process_tree(self.process.pid)))
        except OSError:
            pass
        time.sleep(IDLE_SECONDS / 4)
        before = cpu_seconds(self.process.pid)
        time.sleep(IDLE_SECONDS / 2)
        # A monitor whose guest time does not follow the host's has slept by now.
        if self.process.poll() is None:
            self.idle = (cpu_seconds(self.process.pid) - before) / (IDLE_SECONDS / 2)

    def when(self, pattern):
        """The time of the first line that contains `pattern`, or None."""
        return next((t for t, text in self.lines if pattern in text), None)

    def programs(self):
        """{name: nanoseconds per unit} of the programs whose results were right."""
        started, results = {}, {}
        for t, text in self.lines:
            m = re.search(r"bench (\w+) (start|done (\d+) \d+ (ok|wrong))$", text)
            if not m:
                continue
            if m[2] == "start":
                started[m[1]] = t
            elif m[4] == "wrong":
                print(f"WRONG RESULT: {text}", file=sys.stderr)
            elif m[1] in started:
                results[m[1]] = (t - started[m[1]]) * 1e9 / int(m[3])
        return results


class Bench:
    def __init__(self, args):
        self.args = args
        self.build = os.path.abspath(args.build)
        self.guest = f"{self.build}/guest"
        self.benchprog = f"{self.build}/bench/benchprog"
        listing = subprocess.run([self.benchprog, "--list"], check=True, capture_output=True,
                                 text=True).stdout.splitlines()
        self.table = [line.split(" ", 2) for line in listing]
        self.table = [(n, int(c), u) for n, c, u in self.table if re.fullmatch(args.only, n)]
        self.monitors = self.choose_monitors()
        self.samples = {}  # (monitor, row) -> [value, ...]

    def choose_monitors(self):
        wanted = [monitors.Native()]
        wanted += [monitors.Doble(f"{self.build}/doble", e) for e in self.args.engines.split(",")
                   if e]
        wanted += [] if self.args.no_qemu else [monitors.Qemu()]
        wanted += [monitors.Bochs()] if self.args.bochs else []
        wanted += [monitors.Uml()] if self.args.uml else []
        for m in wanted:
            if m.available():
                print(f"left out: {m.name}: {m.available()}", file=sys.stderr)
        return [m for m in wanted if not m.available()]

    def script(self, monitor, benchprog):
        lines = ["#!/bin/sh"]
        for name, count, _ in self.table:
            count = max(1, round(count * self.args.work / monitor.divisor))
            lines.append(f"{benchprog} {name} {count}")
        if monitor.in_guest:
            lines += ["echo bench idle", f"sleep {IDLE_SECONDS}"]
        return "\n".join(lines) + "\n"

    def add(self, monitor, row, value):
        if value is not None:
            self.samples.setdefault((monitor.name, row), []).append(value)

    def run_native(self, monitor):
        command = ["taskset", "-c", "0", "sh", "-c", self.script(monitor, self.benchprog)]
        run = GuestRun(command, self.args.timeout)
        for name, ns in run.programs().items():
            self.add(monitor, name, ns)

    def run_guest(self, monitor, scratch, script):
        initrd = f"{scratch}/initrd.img"
        make_initrd(f"{self.guest}/initrd.img", initrd, script, self.benchprog)
        run = GuestRun(monitor.command(self.guest, initrd, scratch), self.args.timeout)
        if run.when("doble: init") is None:
            print(f"{monitor.name}: the guest did not reach init; its last lines:",
                  *[text for _, text in run.lines[-5:]], sep="\n  ", file=sys.stderr)
        return run

    def run_monitor(self, monitor):
        if not monitor.in_guest:
            return self.run_native(monitor)
        with tempfile.TemporaryDirectory(prefix="doble-bench-") as scratch:
            run = self.run_guest(monitor, scratch, "#!/bin/sh\n")
            if run.when("doble: init") is not None:
                self.add(monitor, "init", run.when("doble: init"))
                self.add(monitor, "power-off", run.seconds)
            run = self.run_guest(monitor, scratch, self.script(monitor, "/doble/benchprog"))
            for name, ns in run.programs().items():
                self.add(monitor, name, ns)
            self.add(monitor, "idle", run.idle)
            self.add(monitor, "memory", run.memory)

    def run(self):
        for repetition in range(self.args.repetitions):
            for monitor in self.monitors:
                start = time.monotonic()
                self.run_monitor(monitor)
                print(f"repetition {repetition + 1}: {monitor.name}: "
                      f"{time.monotonic() - start:.0f} s", file=sys.stderr)

    def median(self, monitor, row):
        values = self.samples.get((monitor.name, row))
        return statistics.median(values) if values else None

    def ratio(self, monitor, base, row):
        a, b = self.median(monitor, row), self.median(base, row)
        return a / b if a and b else None

    def geometric_mean(self, monitor, base):
        ratios = [self.ratio(monitor, base, name) for name, _, _ in self.table]
        logs = [math.log(r) for r in ratios if r]
        return math.exp(statistics.mean(logs)) if logs else None

    def row(self, title, cells):
        print(f"{title:<12}" + "".join(f"{cell:>22}" for cell in cells))

    def print_programs(self):
        base = self.monitors[0]
        print(f"Microseconds per unit (median of {self.args.repetitions}), and times native:\n")
        self.row("program", [m.name for m in self.monitors])
        for name, _, _ in self.table:
            cells = []
            for m in self.monitors:
                value, ratio = self.median(m, name), self.ratio(m, base, name)
                text = "-" if value is None else f"{value / 1e3:.1f}"
                cells.append(text if m is base or not ratio else f"{text} {ratio:8.2f}x")
            self.row(name, cells)
        self.row("geom. mean", [self.format(self.geometric_mean(m, base), 1, "x")
                                for m in self.monitors])

    def print_machines(self):
        guests = [m for m in self.monitors if m.in_guest]
        print("\nThe machine as a whole:\n")
        self.row("", [m.name for m in guests])
        for row, title, scale, unit in (("init", "to init", 1, " s"),
                                        ("power-off", "to power-off", 1, " s"),
                                        ("memory", "own memory", 2 ** -20, " MiB"),
                                        ("idle", "idle", 100, " %")):
            self.row(title, [self.format(self.median(m, row), scale, unit) for m in guests])

    def print_peers(self):
        """How many times as fast each doble engine is as each other monitor."""
        dobles = [m for m in self.monitors if isinstance(m, monitors.Doble)]
        others = [m for m in self.monitors if m.in_guest and m not in dobles]
        for d in dobles:
            for o in others:
                rows = {n: self.ratio(o, d, n) for n, _, _ in self.table}
                rows = {n: r for n, r in rows.items() if r}
                if not rows:
                    continue
                least = min(rows, key=rows.get)
                print(f"\n{d.name} is {self.geometric_mean(o, d):.2f} times as fast as {o.name} "
                      f"(least: {least}, {rows[least]:.2f}):")
                print("  " + ", ".join(f"{n} {r:.2f}" for n, r in rows.items()))

    @staticmethod
    def format(value, scale, unit):
        return "-" if value is None else f"{value * scale:.2f}{unit}"

    def write_json(self, path):
        with open("/proc/cpuinfo") as f:
            model = re.search(r"model name\s*: (.*)", f.read())
        result = {
            "processor": model[1] if model else "unknown",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "repetitions": self.args.repetitions,
            "units": {name: unit for name, _, unit in self.table},
            "unit of programs": "ns per unit", "unit of init, power-off": "s",
            "unit of memory": "bytes", "unit of idle": "cores",
            "samples": {m.name: {row: values for (name, row), values in self.samples.items()
                                 if name == m.name} for m in self.monitors},
            "medians": {m.name: {row: statistics.median(values)
                                 for (name, row), values in self.samples.items()
                                 if name == m.name} for m in self.monitors},
        }
        with open(path, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")


def main():
    p = argparse.ArgumentParser(description="Compare the speed of monitors.")
    p.add_argument("--build", default="build", help="build directory (default: build)")
    p.add_argument("--engines", default="interpret", help="engines of doble, separated by commas")
    p.add_argument("--no-qemu", action="store_true", help="leave out QEMU's TCG")
    p.add_argument("--bochs", action="store_true", help="include Bochs")
    p.add_argument("--uml", action="store_true", help="include user-mode Linux")
    p.add_argument("-n", "--repetitions", type=int, default=3, metavar="N")
    p.add_argument("--only", default=".*", metavar="REGEX", help="programs to run")
    p.add_argument("--work", type=float, default=1, metavar="FACTOR",
                   help="multiply the amount of work (default 1)")
    p.add_argument("--timeout", type=float, default=300, metavar="SECONDS",
                   help="give up on a guest after this time (default 300)")
    p.add_argument("--json", metavar="FILE", help="write all samples and medians to FILE "
                   "(default: bench/results.json in the build directory)")
    args = p.parse_args()
    bench = Bench(args)
    bench.run()
    bench.print_programs()
    bench.print_machines()
    bench.print_peers()
    path = args.json or f"{bench.build}/bench/results.json"
    bench.write_json(path)
    print(f"\nAll samples: {path}")


if __name__ == "__main__":
    main()
