/* levels.S - set_paging_levels(cr3, la57): CR4.LA57 can change only while paging is off, so 64-bit
 * code has to leave long mode for it. The stack and this code have the same addresses everywhere. */
#include "selectors.h"

#ifdef __x86_64__
#define CR4_LA57 0x1000

    .text
    .code64
    .globl  set_paging_levels
set_paging_levels:
    push    %rbx
    mov     %rsp, %r11
    pushq   $KCS32
    pushq   $1f
    lretq
    .code32
1:  mov     %cr0, %eax
    and     $0x7fffffff, %eax
    mov     %eax, %cr0
    mov     %cr4, %eax
    and     $~CR4_LA57, %eax
    or      %esi, %eax
    mov     %eax, %cr4
    mov     %edi, %cr3
    mov     %cr0, %eax
    or      $0x80000000, %eax
    mov     %eax, %cr0
    ljmp    $KCS64, $2f
    .code64
2:  mov     $KDS, %eax
    mov     %eax, %ss
    mov     %r11d, %esp
    pop     %rbx
    ret
#endif

    .section .note.GNU-stack, "", @progbits
