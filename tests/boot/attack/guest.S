/* guest.S - a guest that means no good: it runs random code, or throws random values at every port,
 * device register, model-specific and control register.
 *
 * attack.py assembles it, fills in the parameters after the first jump, appends random code, and
 * wraps it as a bzImage, which is loaded at 16 MiB. Every exception, and an NMI every
 * 20 microseconds (8254 -> I/O APIC), leads to the job's next step, so that almost nothing ends it
 * early and a HLT doesn't end it at all.
 *
 *   1000h   real mode: handler and driver, copied from `real_start`
 *   10000h  real mode: random code, up to 90000h
 *   600000h page tables     610000h IDT     620000h TSS     700000h stack     800000h data
 *   1000200h this code; behind it the random code of the file (`payload`)
 *
 * The numbers of the jobs are the order of `jobs`. */
#define TABLES 0x600000
#define IDT 0x610000
#define TSS 0x620000
#define STACK 0x700000
#define DATA 0x800000
#define REAL 0x1000
#define REAL_CODE 0x10000
#define REAL_SIZE 0x80000

        .text
        .code64
        .globl start
start:
        jmp entry
        .org 8
seed:           .quad 0
job:            .long 0
cs_wanted:      .long 0         /* random code: selectors to run it with */
ss_wanted:      .long 0
payload_size:   .long 0         /* a power of two */
user_pages:     .long 0         /* 4: the page tables let ring 3 in */
flags_wanted:   .long 0         /* random code: RFLAGS */
next:           .quad 0         /* where an exception leads */

entry:
        cli
        cld
        movl $STACK, %esp
        call make_tables
        call make_idt
        lea mode_done(%rip), %rax
        mov %rax, next(%rip)
        mov %cr4, %rax
        or $0x600, %eax         /* OSFXSR, OSXMMEXCPT */
        mov %rax, %cr4
        or $0x40000, %eax       /* OSXSAVE: #GP where there is none */
        mov %rax, %cr4
        xor %ecx, %ecx
        xor %edx, %edx
        mov $7, %eax
        xsetbv
mode_done:
        call start_nmi
        mov job(%rip), %eax
        lea jobs(%rip), %rcx
        mov (%rcx,%rax,8), %rax
        mov %rax, next(%rip)
        jmp *%rax

        .balign 8
jobs:   .quad job_triple_fault, job_nowhere, job_no_memory, job_random, job_legacy, job_real
        .quad job_ports, job_tame_ports, job_mmio, job_tables, job_registers, job_fill, job_reset

/* --- what all need --- */

/* RAX = a random number; changes RCX. */
random:
        mov seed(%rip), %rax
        movabs $6364136223846793005, %rcx
        imul %rcx, %rax
        movabs $1442695040888963407, %rcx
        add %rcx, %rax
        mov %rax, seed(%rip)
        mov %rax, %rcx
        shr $32, %rcx
        xor %rcx, %rax
        ret

/* Virtual gigabytes 0 to 7 are the physical ones of `gigabytes`, in pages of 2 MiB. */
make_tables:
        mov $TABLES, %edi
        mov $0xa000 / 8, %ecx
        xor %eax, %eax
        rep stosq
        movl $TABLES + 0x1000 + 7, TABLES
        xor %edx, %edx
        lea gigabytes(%rip), %rsi
1:      mov %edx, %eax
        shl $12, %eax
        lea TABLES + 0x2000 + 7(%rax), %ecx
        mov %rcx, TABLES + 0x1000(,%rdx,8)
        lea TABLES + 0x2000(%rax), %edi
        mov (%rsi,%rdx,8), %rax
        shl $30, %rax
        or $0x83, %rax
        mov user_pages(%rip), %ecx
        or %rcx, %rax
        mov $512, %ecx
2:      stosq
        add $0x200000, %rax
        loop 2b
        inc %edx
        cmp $8, %edx
        jb 1b
        mov $TABLES, %eax
        mov %rax, %cr3
        ret
gigabytes: .quad 0, 1, 2, 3, 4, 64, 512, 1023

make_idt:
        lgdt gdt_pointer(%rip)
        lea handler(%rip), %rdx
        mov $IDT, %edi
        mov $256, %ecx
1:      mov %edx, %eax
        and $0xffff, %eax
        or $8 << 16, %eax
        stosl
        mov %edx, %eax
        and $0xffff0000, %eax
        or $0xee01, %eax        /* interrupt gate, DPL 3, IST 1 */
        stosl
        xor %eax, %eax
        stosq
        loop 1b
        lidt idt_pointer(%rip)
        mov $TSS, %edi
        mov $26, %ecx
        rep stosl
        movl $STACK, TSS + 4
        movl $STACK, TSS + 0x24
        movw $104, TSS + 0x66   /* no I/O permission map */
        andb $~2, gdt + 0x48 + 5(%rip)
        mov $0x48, %eax
        ltr %ax
        mov $0x10, %eax
        mov %eax, %ss
        mov %eax, %ds
        mov %eax, %es
        ret

/* An edge of the 8254 is an NMI: channel 0 in mode 2, and input 2 of the I/O APIC. */
start_nmi:
        mov $0xfec00000, %edx
        movl $0x14, (%rdx)
        movl $0x400, 0x10(%rdx)
        movl $0x15, (%rdx)
        movl $0, 0x10(%rdx)
        mov $0x34, %al
        out %al, $0x43
        mov $24, %al
        out %al, $0x40
        xor %al, %al
        out %al, $0x40
        ret

handler:
        mov $STACK, %esp
        cld
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        push $0x10
        push $STACK
        push $2
        push $8
        push next(%rip)
        iretq                   /* NMIs may come again */

/* --- jobs --- */

job_triple_fault:
        lidt nothing(%rip)
        ud2

job_nowhere:                    /* not mapped, and nobody who could handle it */
        lidt nothing(%rip)
        movabs $0x7fff12345678, %rax
        jmp *%rax

job_no_memory:                  /* mapped, but there is nothing on the bus */
        mov $0xd0000000, %eax
        jmp *%rax

/* Fills memory with random code first. */
job_fill:
        mov $DATA, %edi
        lea 0x400000(%rdi), %rdx
1:      call random
        stosq
        cmp %rdx, %rdi
        jb 1b
        lea fill_next(%rip), %rax
        mov %rax, next(%rip)
fill_next:
        call random
        and $0x3fffff, %eax
        lea DATA(%rax), %rbx
        jmp run_random

/* Runs the code of the file from a random place on, in the mode of cs_wanted. */
job_random:
        call random
        mov payload_size(%rip), %ecx
        dec %ecx
        and %ecx, %eax
        lea payload(%rip), %rbx
        add %rax, %rbx
run_random:
        mov ss_wanted(%rip), %eax
        push %rax
        push $DATA + 0x10000
        mov flags_wanted(%rip), %eax
        push %rax
        mov cs_wanted(%rip), %eax
        push %rax
        push %rbx
        mov $15, %ebx           /* registers: any value, or an address in `data` */
1:      call random
        test $0x100, %eax
        jz 2f
        and $0xfffff, %eax
        add $DATA, %eax
2:      push %rax
        dec %ebx
        jnz 1b
        mov ss_wanted(%rip), %eax
        mov %eax, %ds
        mov %eax, %es
        pop %rax
        pop %rcx
        pop %rdx
        pop %rbx
        pop %rbp
        pop %rsi
        pop %rdi
        pop %r8
        pop %r9
        pop %r10
        pop %r11
        pop %r12
        pop %r13
        pop %r14
        pop %r15
        iretq

/* RDX = a random port, RAX = a random value. */
random_port:
        call random
        mov %rax, %rbx
        shr $16, %rax
        test $3, %bl
        jz 1f
        and $31, %eax           /* mostly one of ours */
        lea ports(%rip), %rcx
        movzwl (%rcx,%rax,2), %eax
1:      movzwl %ax, %edx
        call random
        ret
ports:  .word 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71, 0x3f8
        .word 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x60, 0x64, 0x600, 0x602, 0x604, 0x608
        .word 0x60c, 0x80, 0xe9, 0x92, 0xcf8, 0xcf9

/* Those that end or restart the machine are left out. */
job_tame_ports:
        call random_port
        lea -0x601(%rdx), %ecx  /* 601h-605h: with its size the access may reach the control */
        cmp $4, %ecx
        jbe job_tame_ports
        lea -0xcf6(%rdx), %ecx
        cmp $3, %ecx
        jbe job_tame_ports
        lea -0x8f(%rdx), %ecx
        cmp $3, %ecx
        jbe job_tame_ports
        lea -0x5d(%rdx), %ecx
        cmp $7, %ecx
        jbe job_tame_ports
        call one_port
        jmp job_tame_ports

job_ports:
        call random_port
        call one_port
        jmp job_ports

/* An access of kind BH to port DX. */
one_port:
        shr $8, %ebx
        and $7, %ebx
        lea port_kinds(%rip), %rcx
        jmp *(%rcx,%rbx,8)
        .balign 8
port_kinds: .quad port_in1, port_in2, port_in4, port_out1, port_out2, port_out4, port_ins, port_outs
port_in1: in %dx, %al
        ret
port_in2: in %dx, %ax
        ret
port_in4: in %dx, %eax
        ret
port_out1: out %al, %dx
        ret
port_out2: out %ax, %dx
        ret
port_out4: out %eax, %dx
        ret
port_ins:
        mov $DATA, %edi
        mov %eax, %ecx
        and $31, %ecx
        test $32, %al
        jz 1f
        rep insl
        ret
1:      rep insb
        ret
port_outs:
        mov $DATA, %esi
        mov %eax, %ecx
        and $31, %ecx
        test $32, %al
        jz 1f
        rep outsl
        ret
1:      rep outsb
        ret

/* RDI = a random address where there is no RAM; RAX random. */
random_address:
        call random
        mov %rax, %rbx
        and $15, %ebx
        shr $8, %rax
        lea places(%rip), %rcx
        shl $4, %ebx
        mov (%rcx,%rbx), %rdi
        and 8(%rcx,%rbx), %rax
        add %rax, %rdi
        call random
        test $0x300, %eax
        jz 1f
        and $~15, %rdi          /* mostly where a register begins */
1:      mov %rax, %rbx
        call random
        ret
        .balign 8
places: .quad 0xfee00000, 0xfff, 0xfee00000, 0x3ff, 0xfee00300, 0x1f, 0xfee00000, 0x1fff
        .quad 0xfec00000, 0x1f, 0xfec00000, 0x1fff, 0xfed00000, 0x3ff, 0xfed00000, 0x1ff
        .quad 0xfecff000, 0x1fff, 0xa0000, 0x5ffff, 0xfff000, 0x1fff, 0xe0000000, 0xfffffff
        .quad 0xfffff000, 0xfff, 0x100000000, 0x3ffff, 0x140000000, 0xff, 0x1c0000000, 0x3fffffff

job_mmio:
        call random_address
        shr $16, %ebx
        and $31, %ebx
        lea mmio_kinds(%rip), %rcx
        mov (%rcx,%rbx,8), %rbx
        mov $DATA, %esi
        xor %ecx, %ecx
        mov %al, %cl
        call *%rbx
        jmp job_mmio
        .balign 8
mmio_kinds:
        .quad w1, w2, w4, w8, r1, r2, r4, r8, w4, w4, r4, r4, w16, r16, xadd4, cas8, cas16, movs_to
        .quad movs_from, stos, fxsave, fxrstor, stack, execute, bit, xchg1, vector, interrupts
        .quad flush, x87, add8, bit_far
w1:     mov %al, (%rdi)
        ret
w2:     mov %ax, (%rdi)
        ret
w4:     mov %eax, (%rdi)
        ret
w8:     mov %rax, (%rdi)
        ret
r1:     mov (%rdi), %al
        ret
r2:     mov (%rdi), %ax
        ret
r4:     mov (%rdi), %eax
        ret
r8:     mov (%rdi), %rax
        ret
w16:    movups %xmm0, (%rdi)
        ret
r16:    movups (%rdi), %xmm0
        ret
xadd4:  lock xadd %eax, (%rdi)
        ret
cas8:   lock cmpxchg %rax, (%rdi)
        ret
cas16:  lock cmpxchg16b (%rdi)
        ret
movs_to: rep movsb
        ret
movs_from: xchg %rsi, %rdi
        rep movsq
        ret
stos:   rep stosl
        ret
fxsave: fxsave64 (%rdi)
        ret
fxrstor: fxrstor64 (%rdi)
        ret
stack:  mov %rdi, %rsp
        push %rax
        pop %rax
        mov $STACK, %esp
        jmp job_mmio
execute: jmp *%rdi
bit:    lock btsl $3, (%rdi)
        ret
bit_far: bts %rax, (%rdi)
        ret
xchg1:  xchg %al, (%rdi)
        ret
vector: vpgatherdd %ymm1, (%rdi,%ymm2,4), %ymm0
        vmovups %ymm0, (%rdi)
        vpmaskmovd %ymm0, %ymm1, (%rdi)
        ret
interrupts: sti
        nop
        cli
        ret
flush:  invlpg (%rdi)
        clflush (%rdi)
        prefetcht0 (%rdi)
        ret
x87:    fldt (%rdi)
        fstpt (%rdi)
        fnsave (%rdi)
        frstor (%rdi)
        ret
add8:   addq $5, (%rdi)
        incb (%rdi)
        ret

/* Has the processor look for its tables in devices. */
job_tables:
        call random_address
        shr $16, %ebx
        and $7, %ebx
        lea table_kinds(%rip), %rcx
        jmp *(%rcx,%rbx,8)
        .balign 8
table_kinds: .quad table_cr3, table_idt, table_gdt, table_tss, table_ldt, table_ist, table_pde, table_pte
table_cr3:
        and $~0xfff, %rdi
        mov %rdi, %cr3
        ud2
table_idt:
        mov %rdi, idt_pointer + 2(%rip)
        lidt idt_pointer(%rip)
        int3
table_gdt:
        mov %rdi, gdt_pointer + 2(%rip)
        lgdt gdt_pointer(%rip)
        mov %eax, %ds
        int3
table_tss:                      /* then IST 1 is read from a device */
        mov %edi, %eax
        mov %ax, gdt + 0x4a(%rip)
        shr $16, %eax
        mov %al, gdt + 0x4c(%rip)
        mov %ah, gdt + 0x4f(%rip)
        movb $0x89, gdt + 0x4d(%rip)
        mov $0x48, %eax
        ltr %ax
        int3
table_ldt:
        mov %edi, %eax
        mov %ax, gdt + 0x4a(%rip)
        shr $16, %eax
        mov %al, gdt + 0x4c(%rip)
        mov %ah, gdt + 0x4f(%rip)
        movb $0x82, gdt + 0x4d(%rip)
        mov $0x48, %eax
        lldt %ax
        mov $0xc, %eax
        mov %eax, %fs
        lar %eax, %ebx
        jmp job_tables
table_ist:
        mov %rdi, TSS + 0x24
        int3
table_pde:                      /* page directory, then page table, in a device */
        and $~0xfff, %rdi
        or $7, %rdi
        mov %rdi, TABLES + 0x1000 + 0x18
        mov %cr3, %rax
        mov %rax, %cr3
        mov 0xc0001000, %eax
        mov %eax, 0xc0002000
        jmp job_tables
table_pte:
        and $~0xfff, %rdi
        or $7, %rdi
        mov %rdi, TABLES + 0x4000
        mov %cr3, %rax
        mov %rax, %cr3
        mov 0x80001000, %eax
        mov %eax, 0x80002000
        jmp job_tables

/* Model-specific, control and debug registers. */
job_registers:
        call random
        mov %rax, %rbx
        and $15, %ebx
        lea msrs(%rip), %rcx
        mov (%rcx,%rbx,8), %ebp
        mov 4(%rcx,%rbx,8), %ecx
        shr $8, %rax
        and %ecx, %eax
        add %eax, %ebp
        call random
        mov %rax, %rbx
        call random
        mov %rax, %rdx
        shr $32, %rdx
        test $1, %bl
        jz 1f
        and $7, %edx            /* small numbers are more often valid */
        and $0xffff, %eax
1:      mov %ebp, %ecx
        mov %ebx, %esi
        shr $8, %esi
        and $15, %esi
        lea register_kinds(%rip), %rdi
        call *(%rdi,%rsi,8)
        jmp job_registers
        .balign 8
msrs:   .long 0, 0x1f, 0x10, 0, 0x1b, 0, 0x3a, 3, 0x174, 3, 0x200, 0xff, 0x277, 0, 0x2ff, 0
        .long 0x800, 0xff, 0x830, 0, 0xc0000080, 7, 0xc0000100, 3, 0xc0010000, 0x1ff
        .long 0x4b564d00, 7, 0x6e0, 0, 0, 0xffff
register_kinds:
        .quad m_read, m_write, m_write, m_write, c0, c4, c8, d0, d7, d6, xcr, c2, sysc, sysent, c3, m_write
m_read: rdmsr
        ret
m_write: wrmsr
        ret
c0:     or $0x80000001, %eax
        mov %rax, %cr0
        ret
c2:     mov %rbx, %cr2
        ret
c3:     and $0x1f, %edx
        or $TABLES, %rdx
        mov %rdx, %cr3
        ret
c4:     or $0x620, %eax
        and $0xfffff, %eax
        mov %rax, %cr4
        ret
c8:     mov %rax, %cr8
        ret
d0:     mov %rbx, %dr0
        mov %rax, %dr1
        ret
d6:     mov %eax, %eax
        mov %rax, %dr6
        ret
d7:     and $0xffff, %eax
        mov %rax, %dr7
        ret
xcr:    and $0xff, %eax
        xor %edx, %edx
        xor %ecx, %ecx
        xsetbv
        ret
sysc:   syscall
        ret
sysent: sysenter
        ret

job_reset:
        mov $0xcf9, %edx
        mov $6, %al
        out %al, %dx
        jmp job_reset

/* --- protected mode without paging --- */

job_legacy:
        lea legacy_next(%rip), %rax
        jmp leave_long_mode
job_real:
        lea real_enter(%rip), %rax
leave_long_mode:
        mov %rax, next(%rip)
        mov $STACK, %esp
        push $0x18
        lea 1f(%rip), %rax
        push %rax
        lretq
        .code32
1:      mov %cr0, %eax
        and $0x7fffffff, %eax
        mov %eax, %cr0
        mov $0xc0000080, %ecx
        rdmsr
        and $~0x100, %eax
        wrmsr
        mov $IDT, %edi
        mov $256, %ecx
        mov $legacy_handler, %edx
2:      mov %edx, %eax
        and $0xffff, %eax
        or $0x18 << 16, %eax
        stosl
        mov %edx, %eax
        and $0xffff0000, %eax
        or $0xee00, %eax
        stosl
        loop 2b
        lidt idt_pointer
        jmp *next

legacy_handler:
        mov $0x10, %eax
        mov %eax, %ss
        mov %eax, %ds
        mov %eax, %es
        mov $STACK, %esp
legacy_next:
        cld
        mov $0x10, %eax
        mov %eax, %ss
        mov $STACK, %esp
        call legacy_random
        mov payload_size, %ecx
        dec %ecx
        and %ecx, %eax
        add $payload, %eax
        push $2
        push $0x18
        push %eax
        mov $8, %ebx
1:      call legacy_random
        test $0x100, %eax
        jz 2f
        and $0xfffff, %eax
        add $DATA, %eax
2:      push %eax
        dec %ebx
        jnz 1b
        popa
        iret
legacy_random:
        imul $1664525, seed, %eax
        add $1013904223, %eax
        mov %eax, seed
        mov %eax, %edx
        shr $15, %edx
        xor %edx, %eax
        ret

/* --- real mode --- */

/* Fills 10000h-8FFFFh with the file's code, and goes where 16-bit code can be. */
real_enter:
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov $REAL_CODE, %edi
1:      mov $payload, %esi
        mov payload_size, %ecx
        shr $2, %ecx
        rep movsl
        cmp $REAL_CODE + REAL_SIZE, %edi
        jb 1b
        mov $REAL, %edi
        mov $real_start, %esi
        mov $real_end - real_start, %ecx
        rep movsb
        mov seed, %eax
        mov %eax, REAL + real_seed - real_start
        xor %edi, %edi          /* interrupt vectors */
        mov $256, %ecx
        mov $REAL + real_handler - real_start, %eax
        rep stosl
        lidt real_idt_pointer
        mov $0x28, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        ljmp $0x20, $REAL
        .code16
real_start:
        mov %cr0, %eax
        and $~1, %al
        mov %eax, %cr0
        ljmp $0, $REAL + real_handler - real_start
real_handler:
        xor %ax, %ax
        mov %ax, %ss
        mov $0x7000, %sp
        mov %ax, %ds
        cld
        pushw $2
        call real_random
        and $0x7fff, %ax
        add $0x1000, %ax
        pushw %ax
        call real_random
        pushw %ax
        mov $8, %bx
1:      call real_random
        push %ax
        dec %bx
        jnz 1b
        call real_random
        mov %ax, %ds
        call real_random2
        mov %ax, %es
        popa
        iretw
real_random:
        xor %ax, %ax
        mov %ax, %ds
real_random2:
        imull $1664525, %cs:REAL + real_seed - real_start, %eax
        add $1013904223, %eax
        mov %eax, %cs:REAL + real_seed - real_start
        shr $16, %eax
        ret
        .balign 4
real_seed: .long 0
real_end:

        .code64
        .balign 8
gdt:    .quad 0
        .quad 0x00af9b000000ffff        /* 08: 64-bit code */
        .quad 0x00cf93000000ffff        /* 10: data */
        .quad 0x00cf9b000000ffff        /* 18: 32-bit code */
        .quad 0x00009b000000ffff        /* 20: 16-bit code */
        .quad 0x000093000000ffff        /* 28: 16-bit data */
        .quad 0x00cff3000000ffff        /* 30: data, ring 3 */
        .quad 0x00affb000000ffff        /* 38: 64-bit code, ring 3 */
        .quad 0x00cffb000000ffff        /* 40: 32-bit code, ring 3 */
        .quad 0x0000890000000067 | (TSS & 0xffffff) << 16 /* 48: TSS, 16 bytes */
        .quad 0
        .quad 0x008ffb000000ffff        /* 58: 16-bit code of 4 GiB, ring 3 */
        .word 0
gdt_pointer: .word . - gdt - 1
        .quad gdt
        .word 0
idt_pointer: .word 0xfff
        .quad IDT
real_idt_pointer: .word 0x3ff
        .quad 0
nothing: .word 0
        .quad 0

        .balign 16
payload:
