#!/usr/bin/env python3
"""Guests that crash, go astray or attack: they end as the manual page says, and the monitor never
ends any other way."""
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import Session, check, main, rests, wait_for
from tiny import assemble, kernel

CRASHED, LIMIT, HALTED = 4, 5, None
ENDS = [0, CRASHED, LIMIT, HALTED]
INSTRUCTIONS = 3000000  # enough to go far astray

NO_IDT = "lidt [rip + none]\n"
NONE = "\nnone: .fill 10, 1, 0\n"

# xorshift in rbx, from which addresses and values are taken
RANDOM = """
    mov rax, rbx
    shl rax, 13
    xor rbx, rax
    mov rax, rbx
    shr rax, 7
    xor rbx, rax
    mov rax, rbx
    shl rax, 17
    xor rbx, rax
"""


def boot(code, *args, limit=INSTRUCTIONS):
    """Status and errors; HALTED if the guest halts with interrupts off and so sleeps for ever."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(kernel(code))
        f.flush()
        with Session("-k", f.name, "-m", "32M", "--max-instructions", str(limit),
                     "--time", "virtual", *args, terminal=False) as s:
            wait_for(lambda: s.process.poll() is not None or rests(s.process.pid),
                     "it neither ends nor rests")
            if s.process.poll() is None:
                return HALTED, ""
            return s.process.returncode, s.errors()


def ends(name, code, statuses, *args, **kwargs):
    status, errors = boot(code, *args, **kwargs)
    check(status in statuses, f"{name}: status {status}, not one of {statuses}: {errors[-500:]}")
    return errors


def debug_exit():
    for value in (0, 1, 21, 127, 255):
        code = assemble(f"mov dx, 0xf4\nmov al, {value}\nout dx, al\nhlt")
        ends(f"value {value}", code, [(value << 1 | 1) & 0xff], "--debug-exit", "0xf4")


def triple_fault():
    errors = ends("#UD without an IDT", assemble(NO_IDT + "ud2" + NONE), [CRASHED])
    check("triple fault" in errors and "RIP" in errors.upper(), f"no sentence or dump: {errors}")
    ends("#PF", assemble(NO_IDT + "mov rax, [0x123456789000]" + NONE), [CRASHED])
    ends("nowhere", assemble(NO_IDT + "mov rax, 0x7fff12345678\njmp rax" + NONE), [CRASHED])
    ends("not canonical", assemble(NO_IDT + "mov rax, 0xdead123456789abc\njmp rax" + NONE),
         [CRASHED])
    ends("no page tables", assemble("xor eax, eax\nmov cr3, rax\njmp $"), ENDS)
    ends("a bad stack", assemble(NO_IDT + "mov rsp, 1\npush rax\nint3" + NONE), [CRASHED])


def jump_into_nothing():
    for address in (0, 0xa0000, 0xfff00000, 0xfee00000, 0xfed00000, 0xfec00000, 0xe0000000,
                    0x1fff000):
        code = assemble(f"mov eax, {address}\njmp rax")
        ends(f"{address:#x}", code, ENDS)


def garbage():
    for seed in range(40):
        code = random.Random(seed).randbytes(65536)
        ends(f"seed {seed}", code, ENDS, limit=200000)


def memory_full_of_garbage():
    """Fills 16 MiB with random code and runs it from many places."""
    fill = "mov rdi, 0x100000\nmov ecx, 0x1c0000\nmov rbx, {seed}\nfill:" + RANDOM + \
        "mov [rdi], rbx\nadd rdi, 8\ncmp rdi, 0xf00000\njb fill\nmov eax, ebx\n" \
        "and eax, 0x7fffff\nadd eax, 0x200000\njmp rax\n"
    for seed in range(1, 6):
        ends(f"seed {seed}", assemble(fill.format(seed=seed * 0x9e3779b97f4a7c15 % 2**63)),
             ENDS, limit=40000000)


def ports():
    """Random reads and writes of all sizes at all ports but those that end or restart the machine."""
    loop = "mov rbx, {seed}\nmov rsp, 0x80000\nlidt [rip + none]\nagain:" + RANDOM + """
        mov edx, ebx
        shr edx, 16
        cmp dx, 0x64
        je again
        cmp dx, 0x92
        je again
        cmp dx, 0x600
        jb not_pm
        cmp dx, 0x60f
        jbe again
    not_pm:
        cmp dx, 0xcf6
        jb good
        cmp dx, 0xcf9
        jbe again
    good:
        mov eax, ebx
        test ebx, 0x100
        jz narrow
        and edx, 0x7ff   # where the devices are
        cmp dx, 0x600
        jae again
        cmp dx, 0x61
        jb narrow
        cmp dx, 0x64
        jbe again
        cmp dx, 0x92
        je again
    narrow:
        test ebx, 1
        jz reads
        test ebx, 2
        jz write2
        test ebx, 4
        jz write4
        out dx, al
        jmp again
    write2: out dx, ax
        jmp again
    write4: out dx, eax
        jmp again
    reads: test ebx, 2
        jz read2
        test ebx, 4
        jz read4
        in al, dx
        jmp again
    read2: in ax, dx
        jmp again
    read4: in eax, dx
        jmp again
    """ + NONE
    for seed in range(1, 5):
        ends(f"seed {seed}", assemble(loop.format(seed=seed * 0x9e3779b97f4a7c15 % 2**63)),
             ENDS, "--serial", "none")


def mmio():
    """Random accesses of all sizes to the pages of the local APIC, the IOAPIC and the HPET, which
    are mapped to themselves, and around them."""
    loop = "mov rbx, {seed}\nmov rsp, 0x80000\nagain:" + RANDOM + """
        mov edi, {base}
        mov eax, ebx
        shr eax, 20
        and eax, 0xfff
        add rdi, rax
        mov rax, rbx
        shr rax, 24
        test ebx, 1
        jz reads
        test ebx, 2
        jz write4
        test ebx, 4
        jz write8
        test ebx, 8
        jz write2
        mov [rdi], al
        jmp again
    write2: mov [rdi], ax
        jmp again
    write4: and edi, -4
        mov [rdi], eax
        jmp again
    write8: mov [rdi], rax
        jmp again
    reads: test ebx, 2
        jz read4
        mov rax, [rdi]
        movups xmm0, [rdi]
        jmp again
    read4: mov eax, [rdi]
        lock add dword ptr [rdi], 1
        jmp again
    """
    for base in (0xfee00000, 0xfec00000, 0xfed00000, 0xfedff800, 0xd0000000):
        for seed in (1, 2):
            code = assemble(loop.format(seed=seed * 0x9e3779b97f4a7c15 % 2**63, base=base))
            ends(f"{base:#x}, seed {seed}", code, ENDS, "--serial", "none")


main(debug_exit, triple_fault, jump_into_nothing, garbage, memory_full_of_garbage, ports, mmio,
     needs_guest=False)
