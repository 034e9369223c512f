/* real.S - enter_real(): runs code in real mode until the next interrupt or exception, as enter()
 * does for protected mode; and a trip to long mode and back. Only the 32-bit guest has them. */
#include "selectors.h"

#ifndef __x86_64__

    .text
    .code32
    .globl  enter_real, long_mode_trip
enter_real:
    push    %ebx
    push    %ebp
    push    %esi
    push    %edi
    pushf
    mov     %esp, kernel_sp
    mov     24(%esp), %esi
    mov     $real_in, %edi
    mov     $16, %ecx
    cld
    rep movsl
    lidt    real_idt
    mov     $KDS16, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %fs
    mov     %eax, %gs
    mov     %eax, %ss
    ljmp    $KCS16, $1f

    .section .low, "awx"
    .code16
1:  mov     %cr0, %eax
    and     $0xfe, %al
    mov     %eax, %cr0
    ljmp    $0, $2f
2:  xor     %ax, %ax
    mov     %ax, %ss
    mov     %ax, %ds
    movl    real_in + 16, %esp
    pushw   real_in + 36            /* FLAGS, CS, IP */
    pushw   real_in + 40
    pushw   real_in + 32
    mov     real_in + 52, %es
    movl    real_in + 0, %eax
    movl    real_in + 4, %ecx
    movl    real_in + 8, %edx
    movl    real_in + 12, %ebx
    movl    real_in + 20, %ebp
    movl    real_in + 24, %esi
    movl    real_in + 28, %edi
    mov     real_in + 48, %ds
    iretw

/* A stub of 8 bytes a vector. */
    .balign 8
    .globl  real_stubs
real_stubs:
    .set    i, 0
    .rept   256
    .balign 8
    pushw   $i
    jmp     real_common
    .set    i, i + 1
    .endr

real_common:
    cli
    pushal
    push    %ds
    push    %es
    push    %fs
    push    %gs
    mov     %cr0, %eax
    or      $1, %al
    mov     %eax, %cr0
    ljmpl   $KCS32, $real_back

    .balign 4
real_in:
    .skip   64
    .globl  real_idt
real_idt:
    .word   0x3ff
    .long   0

    .text
    .code32
real_back:
    mov     $KDS, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    movzwl  %sp, %eax
    mov     kernel_sp, %esp
    sub     $64, %esp
    and     $-16, %esp
    mov     %eax, (%esp)
    call    real_save

/* uint32_t long_mode_trip(uint32_t pml4): to 64-bit mode and compatibility mode and back. Gives
 * EFER in compatibility mode; 64-bit code leaves a sum in long_mode_result. */
    .globl  long_mode_result
long_mode_trip:
    push    %ebx
    mov     8(%esp), %ecx
    mov     %cr4, %eax
    or      $0x20, %eax
    mov     %eax, %cr4
    mov     %ecx, %cr3
    mov     $0xc0000080, %ecx
    rdmsr
    or      $0x100, %eax
    wrmsr
    mov     %cr0, %eax
    or      $0x80000000, %eax
    mov     %eax, %cr0
    ljmp    $KCS64, $3f
    .code64
3:  movabs  $0x123456789, %rax
    movabs  $0x876543210, %r9
    add     %r9, %rax
    mov     $long_mode_result, %ecx
    mov     %rax, (%rcx)
    mov     $4f, %ecx
    pushq   $KCS32
    push    %rcx
    lretq
    .code32
4:  mov     $0xc0000080, %ecx
    rdmsr
    mov     %eax, %ebx
    mov     %cr0, %eax
    and     $0x7fffffff, %eax
    mov     %eax, %cr0
    rdmsr
    and     $~0x100, %eax
    wrmsr
    mov     %cr4, %eax
    and     $~0x20, %eax
    mov     %eax, %cr4
    mov     %ebx, %eax
    pop     %ebx
    ret

    .section .bss
    .balign 8
long_mode_result:
    .skip   8
#endif

    .section .note.GNU-stack, "", @progbits
