/* native_entry.S - the signal handler's first and last instructions (see native.h).
 *
 * The tested instruction may have left any segment register, FS base or flag behind, and C code
 * needs FS for its thread-local storage. So: save what it left, put our own back, call the C
 * handler, and load what the next case begins with. The return by sigreturn is done here too,
 * because nothing may run between the loading and it. */
        .text
        .globl native_entry
        .type native_entry, @function
native_entry:
        pushq $0x202            /* AC, NT and ID may be set */
        popfq
        leaq native_after(%rip), %r8
        rdfsbase %rax
        movq %rax, 0(%r8)
        rdgsbase %rax
        movq %rax, 8(%r8)
        movw %ds, 16(%r8)
        movw %es, 18(%r8)
        movw %fs, 20(%r8)
        movw %gs, 22(%r8)
        xorl %eax, %eax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %fs
        movw %ax, %gs
        movq native_own_fs(%rip), %rax
        wrfsbase %rax
        subq $8, %rsp
        cld
        call native_signal
        addq $8, %rsp
        leaq native_before(%rip), %r8
        movw 16(%r8), %ds
        movw 18(%r8), %es
        movw 20(%r8), %fs
        movw 22(%r8), %gs
        cmpw $3, 20(%r8)        /* a selector that isn't null brings its base along */
        ja 1f
        movq 0(%r8), %rax
        wrfsbase %rax
1:      cmpw $3, 22(%r8)
        ja 2f
        movq 8(%r8), %rax
        wrgsbase %rax
2:      addq $8, %rsp           /* the kernel expects RSP as after the handler's RET */
        movl $15, %eax          /* rt_sigreturn */
        syscall
        ud2
        .size native_entry, . - native_entry
        .section .note.GNU-stack, "", @progbits
