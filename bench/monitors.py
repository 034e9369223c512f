"""The monitors that a benchmark compares: how each is started with a kernel, an initrd and a
command line, and which share of the default amount of work it gets.

A monitor's command writes the guest's console to standard output, and ends when the guest powers
off."""

import os
import shutil
import subprocess

MEMORY_MIB = 256
APPEND = "console=ttyS0 quiet"


class Monitor:
    """`divisor`: a monitor gets this fraction of the default count of units. Results are compared
    by the unit, so the fraction only decides how long a run takes."""

    name = ""
    divisor = 1
    in_guest = True

    def available(self):
        """None, or a sentence that says why this monitor cannot run here."""
        return None

    def command(self, guest, initrd, scratch):
        """The argument list. `guest` is the directory of the built-in guest; `scratch` is a
        directory for files of this run."""
        raise NotImplementedError


def missing(program, package):
    return None if shutil.which(program) else f"{program} is not installed (package {package})"


class Native(Monitor):
    """No monitor: the programs run on the host, on one processor as in the guests."""

    name = "native"
    in_guest = False


class Doble(Monitor):
    def __init__(self, program, engine):
        self.name = f"doble {engine}"
        self.program = program
        self.engine = engine
        self.divisor = 20 if engine == "interpret" else 1

    def available(self):
        return None if os.access(self.program, os.X_OK) else f"{self.program} is not built"

    def command(self, guest, initrd, scratch):
        return [self.program, "run", "--engine", self.engine, "--memory", f"{MEMORY_MIB}M",
                "--kernel", f"{guest}/vmlinuz", "--initrd", initrd, "--append", APPEND]


class Qemu(Monitor):
    """TCG, with the machine that starts a kernel soonest: microvm took 1.7 s, q35 1.9, pc 2.3. The
    guest's memory is a memfd so that it can be told from the monitor's own."""

    name = "qemu tcg"
    divisor = 4

    def available(self):
        return missing("qemu-system-x86_64", "qemu-system-x86")

    def command(self, guest, initrd, scratch):
        return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", str(MEMORY_MIB),
                "-object", f"memory-backend-memfd,id=ram,size={MEMORY_MIB}M",
                "-machine", "microvm,acpi=on,isa-serial=on,rtc=on,memory-backend=ram",
                "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-kernel", f"{guest}/vmlinuz", "-initrd", initrd, "-append", APPEND]


class Bochs(Monitor):
    """Starts from a CD made with GRUB, because Bochs knows firmware only; its time to init
    includes BIOS and GRUB. The serial port is written to a named pipe, which `cat` shows."""

    name = "bochs"
    divisor = 20
    share = "/usr/share/bochs"

    def available(self):
        return (missing("bochs", "bochs") or missing("grub-mkrescue", "grub-common") or
                missing("xorriso", "xorriso") or missing("mformat", "mtools") or
                (None if os.path.isdir("/usr/lib/grub/i386-pc")
                 else "GRUB's BIOS modules are not installed (package grub-pc-bin)"))

    def make_cd(self, guest, initrd, scratch):
        tree = f"{scratch}/cd"
        os.makedirs(f"{tree}/boot/grub", exist_ok=True)
        shutil.copy(f"{guest}/vmlinuz", f"{tree}/vmlinuz")
        shutil.copy(initrd, f"{tree}/initrd.img")
        with open(f"{tree}/boot/grub/grub.cfg", "w") as f:
            f.write("set timeout=0\nmenuentry guest {\n"
                    f" linux /vmlinuz {APPEND}\n initrd /initrd.img\n}}\n")
        subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", f"{scratch}/cd.iso",
                        tree], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def command(self, guest, initrd, scratch):
        self.make_cd(guest, initrd, scratch)
        serial = f"{scratch}/serial"
        if not os.path.exists(serial):
            os.mkfifo(serial)
        with open(f"{scratch}/bochsrc", "w") as f:
            f.write(f"""
display_library: rfb, options="timeout=0"
romimage: file={self.share}/BIOS-bochs-latest
vgaromimage: file={self.share}/VGABIOS-lgpl-latest
megs: {MEMORY_MIB}
cpu: model=corei7_haswell_4770, count=1, ips=50000000
clock: sync=none
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
ata0-master: type=cdrom, path={scratch}/cd.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
log: {scratch}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
""")
        with open(f"{scratch}/debugger", "w") as f:
            f.write("continue\n")  # Debian's Bochs has its debugger built in, which asks first
        return ["sh", "-c", f"cat {serial} & bochs -q -f {scratch}/bochsrc -rc {scratch}/debugger "
                            f"</dev/null >{scratch}/bochs.out 2>&1; kill $!"]


class Uml(Monitor):
    """User-mode Linux has a kernel of its own; the initrd is the same."""

    name = "uml"
    divisor = 2

    def available(self):
        return missing("linux.uml", "user-mode-linux")

    def command(self, guest, initrd, scratch):
        return ["linux.uml", f"mem={MEMORY_MIB}M", f"initrd={initrd}", "con=null",
                "con0=null,fd:1", "quiet"]
