/* A kernel that can be started in every way: headers for Multiboot 1 and 2, a PVH note, and a 64-bit
 * entry as of a vmlinux. FLAT: with addresses, for an image that is no ELF file. */
#ifdef FLAT
#define FLAGS 0x10003
#else
#define FLAGS 3
#endif
	.section .text.head, "ax"
	.balign 8
mb1:	.long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
#ifdef FLAT
	.long mb1, start_of_image, end_of_data, end_of_bss, entry
#endif
	.balign 8
mb2:	.long 0xe85250d6, 0, mb2_end - mb2, -(0xe85250d6 + mb2_end - mb2)
	.short 1, 0			/* wants: command line, modules, memory map, ACPI */
	.long 24, 1, 3, 6, 15
#ifdef FLAT
	.short 2, 0
	.long 24, mb2, start_of_image, end_of_data, end_of_bss
	.short 3, 0
	.long 12, entry, 0
#endif
	.short 5, 1			/* a screen would be nice */
	.long 20, 80, 25, 0, 0
	.short 0, 0
	.long 8
mb2_end:

	.globl entry
entry:	mov $stack_top, %esp
	push %ebx
	push %eax
	call kernel_main
1:	cli
	hlt
	jmp 1b

	.code64
	.globl entry64
entry64:				/* boot_params are in RSI; back to 32-bit mode is not worth it */
	mov $stack_top, %esp
	mov 0x228(%rsi), %ebx		/* cmd_line_ptr */
	mov $0x3f8, %edx
2:	mov (%rbx), %al
	out %al, %dx
	inc %rbx
	test %al, %al
	jnz 2b
	mov $'\n', %al
	out %al, %dx
	mov $0x21, %al
	out %al, $0xf4
	hlt

	.section .note.pvh, "a"
	.balign 4
	.long 4, 4, 18
	.asciz "Xen"
	.long entry

	.bss
	.balign 16
	.skip 8192
stack_top:
	.section .note.GNU-stack, "", @progbits
