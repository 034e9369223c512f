/* trap.S - enter(): runs code in any context until the next exception or interrupt.
 *
 * enter() saves what C must keep, loads the context with IRET and is gone. Whatever vector comes
 * next, its stub stores the processor's frame and all registers, hands them to trap_save() and
 * comes back as if enter() returned. Offsets are those of struct regs (guest.h). */
#include "selectors.h"

#ifdef __x86_64__
#define W 8
#define IP 128
#else
#define W 4
#define IP 32
#endif
#define FLAGS (IP + W)
#define SEL_CS (IP + 2 * W)
#define SEL_SS (IP + 3 * W)
#define SEL_DS (IP + 4 * W)
#define SEL_ES (IP + 5 * W)
#define SEL_FS (IP + 6 * W)
#define SEL_GS (IP + 7 * W)

    .section .bss
    .globl  kernel_sp
    .balign 16
kernel_sp:
    .skip   8

    .text
    .globl  enter, enter_iret, trap_leave, trap_stubs

#ifdef __x86_64__
    .code64
enter:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    pushfq
    mov     %rsp, kernel_sp
    mov     SEL_DS(%rdi), %ds
    mov     SEL_ES(%rdi), %es
    mov     SEL_FS(%rdi), %fs
    mov     SEL_GS(%rdi), %gs
    pushq   SEL_SS(%rdi)
    pushq   32(%rdi)
    pushq   FLAGS(%rdi)
    pushq   SEL_CS(%rdi)
    pushq   IP(%rdi)
    mov     0(%rdi), %rax
    mov     8(%rdi), %rcx
    mov     16(%rdi), %rdx
    mov     24(%rdi), %rbx
    mov     40(%rdi), %rbp
    mov     48(%rdi), %rsi
    mov     64(%rdi), %r8
    mov     72(%rdi), %r9
    mov     80(%rdi), %r10
    mov     88(%rdi), %r11
    mov     96(%rdi), %r12
    mov     104(%rdi), %r13
    mov     112(%rdi), %r14
    mov     120(%rdi), %r15
    mov     56(%rdi), %rdi
enter_iret:
    iretq

trap_common:
    push    %rax
    mov     %gs, %eax
    push    %rax
    mov     %fs, %eax
    push    %rax
    mov     %es, %eax
    push    %rax
    mov     %ds, %eax
    push    %rax
    push    %r15
    push    %r14
    push    %r13
    push    %r12
    push    %r11
    push    %r10
    push    %r9
    push    %r8
    push    %rdi
    push    %rsi
    push    %rbp
    push    %rbx
    push    %rdx
    push    %rcx
    mov     %rsp, %rdi
    cld
    and     $-16, %rsp
    call    trap_save
trap_leave:
    mov     $KDS, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     kernel_sp, %rsp
    popfq
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    ret

#else
    .code32
#define FLAG_VM 0x20000
enter:
    push    %ebx
    push    %ebp
    push    %esi
    push    %edi
    pushf
    mov     %esp, kernel_sp
    mov     24(%esp), %edi
    testl   $FLAG_VM, FLAGS(%edi)
    jnz     1f
    testl   $3, SEL_CS(%edi)
    jnz     2f
    mov     16(%edi), %eax          /* same level: IRET doesn't load the stack */
    mov     SEL_SS(%edi), %ss
    mov     %eax, %esp
    jmp     3f
1:  pushl   SEL_GS(%edi)
    pushl   SEL_FS(%edi)
    pushl   SEL_DS(%edi)
    pushl   SEL_ES(%edi)
2:  pushl   SEL_SS(%edi)
    pushl   16(%edi)
3:  pushl   FLAGS(%edi)
    pushl   SEL_CS(%edi)
    pushl   IP(%edi)
    mov     0(%edi), %eax
    mov     4(%edi), %ecx
    mov     8(%edi), %edx
    mov     12(%edi), %ebx
    mov     20(%edi), %ebp
    mov     24(%edi), %esi
    testl   $FLAG_VM, FLAGS(%edi)
    jnz     4f
    mov     SEL_ES(%edi), %es
    mov     SEL_FS(%edi), %fs
    mov     SEL_GS(%edi), %gs
    pushl   28(%edi)
    mov     SEL_DS(%edi), %ds
    popl    %edi
    jmp     enter_iret
4:  mov     28(%edi), %edi
enter_iret:
    iret

/* On a 16-bit stack (base 0) the upper half of ESP doesn't count. */
trap_common:
    push    %eax
    mov     %gs, %eax
    push    %eax
    mov     %fs, %eax
    push    %eax
    mov     %es, %eax
    push    %eax
    mov     %ds, %eax
    push    %eax
    mov     %ss, %eax
    push    %eax
    push    %edi
    push    %esi
    push    %ebp
    push    %ebx
    push    %edx
    push    %ecx
    mov     %esp, %eax
    mov     %ss, %ecx
    lar     %ecx, %ecx
    test    $0x400000, %ecx
    jnz     1f
    movzwl  %ax, %eax
1:  mov     $KDS, %ecx
    mov     %ecx, %ds
    mov     %ecx, %es
    mov     %ecx, %ss
    mov     %eax, %esp
    cld
    and     $-16, %esp
    sub     $12, %esp
    push    %eax
    call    trap_save
trap_leave:
    mov     $KDS, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     kernel_sp, %esp
    popf
    pop     %edi
    pop     %esi
    pop     %ebp
    pop     %ebx
    ret
#endif

/* One stub a vector, 16 bytes apart. Where the processor pushes no error code the stub pushes -1. */
    .balign 16
trap_stubs:
    .set    i, 0
    .rept   256
    .balign 16
    .if     !(i == 8 || (i >= 10 && i <= 14) || i == 17 || i == 21)
    push    $-1
    .endif
    push    $i
    jmp     trap_common
    .set    i, i + 1
    .endr

    .section .note.GNU-stack, "", @progbits
