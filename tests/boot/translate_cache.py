#!/usr/bin/env python3
"""Guests that are hard on the translator's code cache: each computes a number, which must be the same by
both engines, with the smallest cache there is. And what the cache does when the host refuses, and
what can be seen of it."""
import glob
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from doble import BOOT_TIME, DOBLE, Skip, check, main, needs_engine, takes_signals, wait_for
from tiny import assemble, kernel

SMALLEST = "4M"
EXIT = 0xf4
DONE = (0 << 1) | 1

# rdi = result: prints it in hexadecimal on the serial port, and ends.
REPORT = f"""
report:
    mov ecx, 16
1:  rol rdi, 4
    mov eax, edi
    and eax, 15
    add eax, 48
    cmp eax, 58
    jb 2f
    add eax, 39
2:  mov dx, 0x3f8
    out dx, al
    dec ecx
    jnz 1b
    mov dx, {EXIT}
    mov al, 0
    out dx, al
    hlt
"""

# xorshift in rbx
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


def start(code, *args, memory="32M", **kwargs):
    with tempfile.NamedTemporaryFile() as f:
        f.write(kernel(assemble(code)))
        f.flush()
        done = subprocess.run([DOBLE, "run", "-k", f.name, "-m", memory, "--debug-exit", hex(EXIT),
                               *args], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=BOOT_TIME, text=True, **kwargs)
    return done.returncode, done.stdout, done.stderr


def number(errors, title):
    found = re.search(rf"^\s*{title}\s+([\d.]+)$", errors, re.M)
    return float(found.group(1)) if found else 0


def same(code, memory="32M", evicts=False):
    """By both engines; returns the statistics of the translator."""
    needs_engine("translate")
    status, expected, errors = start(code, "-e", "interpret", memory=memory)
    check(status == DONE and len(expected) == 16, f"interpret: status {status}: {errors}{expected}")
    status, result, errors = start(code, "-e", "translate", "--code-cache", SMALLEST, "--stats",
                                   memory=memory)
    check(status == DONE, f"translate: status {status}: {errors}")
    check(result == expected, f"translate computes {result}, interpret {expected}")
    used = number(errors, "code in the cache, KiB") + number(errors, "metadata in the cache, KiB")
    check(0 < used <= 4096, f"{used} KiB are in a cache of 4 MiB")
    check(not evicts or number(errors, "regions evicted") > 0, "nothing was evicted")
    return errors


def many_pages_of_code():
    """100,000 pages, each with a function of its own, called three times in turn."""
    same("""
        mov rsp, 0x80000
        mov rsi, 0x2000000
        mov ecx, 100000
    fill:
        mov word ptr [rsi], 0x0548     # add rax, ecx
        mov [rsi + 2], ecx
        mov dword ptr [rsi + 6], 0xc3c0d148    # rol rax; ret
        add rsi, 4096
        dec ecx
        jnz fill
        mov ebx, 3
        xor eax, eax
    round:
        mov rsi, 0x2000000
        mov ecx, 100000
    call:
        call rsi
        add rsi, 4096
        dec ecx
        jnz call
        dec ebx
        jnz round
        mov rdi, rax
    """ + REPORT, memory="448M", evicts=True)


def code_that_rewrites_itself():
    """In each round the constant of the next instruction, of one in the other half of the same page,
    and of one in another page."""
    same("""
        mov rsp, 0x80000
        mov dword ptr [0x300000], 0x00000005
        mov word ptr [0x300004], 0xc300        # add eax, 0; ret
        mov ecx, 60000
        xor eax, eax
        xor edi, edi
    again:
        mov [rip + beside + 1], ecx
    beside:
        mov eax, 0x11111111
        add rdi, rax
        lea edx, [rcx + rcx * 4]
        mov [rip + distant + 1], edx
        call distant
        add rdi, rax
        mov [0x300001], ecx
        mov esi, 0x300000
        call rsi
        rol rdi
        add rdi, rax
        dec ecx
        jnz again
        jmp report
        .balign 64
    """ + REPORT + """
        .balign 2048
    distant:
        mov eax, 0x22222222
        ret
    """, evicts=True)


def jumps_into_instructions():
    """A run of bytes that are instructions from wherever they are entered: with a period of 5."""
    same("""
        mov rsp, 0x80000
        mov rsi, 0x300000
        mov rdi, rsi
        mov eax, 0x05050505
        mov ecx, 20000
        rep stosd
        mov rax, 0x9090909090909090
        stosq
        mov byte ptr [rdi], 0xc3
        mov rbx, 88172645463325252
        mov ebp, 3000
        xor edi, edi
    again:
    """ + RANDOM + """
        mov eax, ebx
        shr eax, 7
        and eax, 0xffff
        lea rdx, [rax + rsi + 14400]     # within a page or five of the end
        xor eax, eax
        call rdx
        add rdi, rax
        rol rdi
        dec ebp
        jnz again
    """ + REPORT)


def modes_at_random():
    """CR0, CR4 and EFER change at random, between instructions that depend on them; each exception
    goes to a handler that notes its vector and goes on."""
    vectors = range(32)
    with_code = {8, 10, 11, 12, 13, 14, 17, 21}
    stubs = "".join(f".balign 16\n{'' if v in with_code else 'push 0'}\npush {v}\njmp handler\n"
                    for v in vectors)
    same("""
        mov rsp, 0x80000
        lea rsi, [rip + stubs]
        mov edi, 0x90000
        mov ecx, 32
    gate:
        mov rax, rsi
        mov [rdi], ax
        mov word ptr [rdi + 2], cs
        mov word ptr [rdi + 4], 0x8e00
        shr rax, 16
        mov [rdi + 6], rax
        mov dword ptr [rdi + 12], 0
        add rsi, 16
        add rdi, 16
        dec ecx
        jnz gate
        lidt [rip + idtr]
        mov rbx, 88172645463325252
        mov ebp, 20000
        xor edi, edi
        mov r12, cr0
        mov r13, cr4
    again:
    """ + RANDOM + """
        lea r15, [rip + next1]
        mov eax, ebx
        and eax, 0x4000e               # AM, TS, EM, MP
        mov rcx, r12
        and rcx, 0xfffffffffffbfff1
        or rax, rcx
        mov cr0, rax
    next1:
        lea r15, [rip + next2]
        mov rax, rbx
        shr rax, 20
        and eax, 0x100704              # SMEP, OSXMMEXCPT, OSFXSR, PCE, TSD
        or rax, r13
        mov cr4, rax
    next2:
        lea r15, [rip + next3]
        mov ecx, 0xc0000080
        rdmsr
        mov edx, ebx
        shr edx, 11
        and edx, 0x801                 # NXE, SCE
        and eax, 0xfffff7fe
        or eax, edx
        xor edx, edx
        wrmsr
    next3:
        lea r15, [rip + next4]
        add edi, 1
        addps xmm0, xmm1
        add edi, 2
    next4:
        lea r15, [rip + next5]
        fld1
        fstp st(0)
        add edi, 4
    next5:
        lea r15, [rip + next6]
        pxor mm0, mm1
        add edi, 8
    next6:
        lea r15, [rip + next7]
        wait
        add edi, 16
    next7:
        rol rdi
        dec ebp
        jnz again
        mov cr0, r12
        mov cr4, r13
    """ + REPORT + """
    handler:
        pop rax
        lea rdi, [rdi + rax + 1]
        ror rdi, 3
        add rsp, 8
        mov [rsp], r15
        iretq
    """ + ".balign 16\nstubs:" + stubs + """
    idtr: .word 511
        .quad 0x90000
    """)


def thunks_dropped_meanwhile():
    """An instruction that translated code leaves to the interpreter has native code there; single
    steps through 30,000 different instructions drop it."""
    program = "\n".join(f"xor eax, {n * 2654435761 % 2**31}" for n in range(30000))
    same("""
        mov rsp, 0x80000
        lea rax, [rip + debug]
        mov edi, 0x90000 + 16
        mov [rdi], ax
        mov word ptr [rdi + 2], cs
        mov word ptr [rdi + 4], 0x8e00
        shr rax, 16
        mov [rdi + 6], rax
        mov dword ptr [rdi + 12], 0
        lidt [rip + idtr]
        xor edi, edi
        mov ebp, 3
    again:
        mov ecx, 50
    x87:
        fninit
        fld1
        fadd st(0), st(0)
        fadd st(0), st(0)
        fistp dword ptr [0x91000]
        add edi, [0x91000]
        dec ecx
        jnz x87
        pushfq
        or dword ptr [rsp], 0x100
        popfq
    """ + program + """
        pushfq
        and dword ptr [rsp], 0xfffffeff
        popfq
        add rdi, rax
        dec ebp
        jnz again
        jmp report
    debug:
        iretq
    idtr: .word 511
        .quad 0x90000
    """ + REPORT)


def endless_changes_can_be_stopped():
    needs_engine("translate")
    code = "mov rsp, 0x80000\nagain: inc ecx\nmov [rip + here + 1], ecx\nhere: mov eax, 0\njmp again"
    with tempfile.NamedTemporaryFile() as f:
        f.write(kernel(assemble(code)))
        f.flush()
        process = subprocess.Popen([DOBLE, "run", "-k", f.name, "-m", "32M", "-e", "translate",
                                    "--code-cache", SMALLEST], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        wait_for(lambda: takes_signals(process.pid), "it does not start")
        process.send_signal(signal.SIGINT)
        check(process.wait(BOOT_TIME) == 128 + signal.SIGINT, f"status {process.returncode}")


def refused_by_the_host():
    """Where there is no address space for the code cache, the interpreter takes its place."""
    needs_engine("translate")
    code = "mov edi, 42\n" + REPORT

    def limit(mib):
        return lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))

    for mib in range(100, 2000, 100):
        status, result, _ = start(code, "-e", "interpret", preexec_fn=limit(mib))
        if status == DONE:
            break
    else:
        raise Skip("the monitor needs more address space than any limit here (a sanitizer's)")
    status, result, errors = start(code, "-e", "translate", "--code-cache", "1G",
                                   preexec_fn=limit(mib + 100))
    check(status == DONE and result == "000000000000002a", f"status {status}: {errors}")
    check("'translate' cannot be used" in errors and "'interpret' takes its place" in errors,
          f"no sentence: {errors}")


def seen_from_outside():
    needs_engine("translate")
    code = "mov ecx, 1000\nagain: add edi, 3\nlea rdi, [rdi + rcx * 2]\ndec ecx\njnz again\n" + REPORT
    with tempfile.TemporaryDirectory() as folder:
        dump = os.path.join(folder, "dump")
        before = set(glob.glob("/tmp/perf-*.map"))
        status, _, errors = start(code, "-e", "translate", "--dump-blocks", dump, "--perf-map",
                                  "--trace", "translate")
        check(status == DONE, f"status {status}: {errors}")
        with open(dump) as f:
            listing = f.read()
    check(re.search(r"^block at 1000\w+, mode 0x\w+: \d+ instructions", listing, re.M) and
          re.search(r"^  1000\w+  lea rdi, \[rdi\+rcx\*2\] +\w{8}  \w", listing, re.M),
          f"the listing: {listing[:500]}")
    blocks = len(re.findall("^block at", listing, re.M))
    events = re.findall(r"^translate: rip=0x(\w+) instructions=\d+", errors, re.M)
    check(len(events) == blocks, f"{len(events)} events, {blocks} blocks in the listing")
    maps = set(glob.glob("/tmp/perf-*.map")) - before
    check(maps, "no file for perf")
    lines = []
    for path in maps:
        with open(path) as f:
            lines += f.read().splitlines()
        os.unlink(path)
    names = [re.fullmatch(r"\w+ \w+ guest_kernel_(\w+)", line) for line in lines]
    check(all(names) and {m.group(1) for m in names} >= set(events), f"the file for perf: {lines}")


main(many_pages_of_code, code_that_rewrites_itself, jumps_into_instructions, modes_at_random,
     thunks_dropped_meanwhile, endless_changes_can_be_stopped, refused_by_the_host,
     seen_from_outside)
