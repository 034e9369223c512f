/* boot.S - how a test guest starts, whoever starts it.
 *
 * One file is a bzImage (Linux' Documentation/x86/boot.rst) and a bootable disk at the same time:
 *
 *     0000  boot sector: a PC's BIOS loads it at 7C00h; it reads the whole file to 10000h, copies
 *           the protected-mode part to 100000h and enters it at its 32-bit entry
 *     01F1  setup header
 *     0268  setup code: a loader that starts in real mode enters at 0200h
 *     0400  protected-mode part, for 100000h: 32-bit entry at 0, 64-bit entry at 200h (only the
 *           64-bit guest offers it)
 *
 * All ways end in guest_main(), with flat segments and interrupts off. */
#include "selectors.h"

#define KERNEL 0x100000
#define DISK_COPY 0x10000
#define SECTORS_AT_ONCE 32
#define COMMAND_LINE 0x228 /* cmd_line_ptr in the setup header and the zero page */

    .section .setup, "ax"
    .code16
boot_sector:
    ljmp    $0x7c0, $1f
1:  cli
    mov     %cs, %ax
    mov     %ax, %ds
    xor     %ax, %ax
    mov     %ax, %ss
    mov     $0x7c00, %sp
    mov     %dl, drive
    sti
2:  mov     drive, %dl
    mov     $packet, %si
    mov     $0x42, %ah
    int     $0x13
    jc      3f
    addw    $SECTORS_AT_ONCE, packet_lba
    addw    $(SECTORS_AT_ONCE * 32), packet_segment
    subw    $SECTORS_AT_ONCE, sectors_left
    ja      2b
    cli
    in      $0x92, %al
    or      $2, %al
    out     %al, $0x92
    lgdtl   sector_gdt_pointer
    mov     %cr0, %eax
    or      $1, %al
    mov     %eax, %cr0
    ljmpl   $BOOT_CS, $(0x7c00 + sector32 - boot_sector)
3:  hlt
    jmp     3b

    .code32
sector32:
    mov     $BOOT_DS, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    mov     $(DISK_COPY + 0x400), %esi
    mov     $KERNEL, %edi
    mov     $image_dwords, %ecx
    cld
    rep movsl
    mov     $DISK_COPY, %esi
    mov     $KERNEL, %eax
    jmp     *%eax

drive: .byte 0
    .balign 4
packet:
    .byte   16, 0
    .word   SECTORS_AT_ONCE, 0
packet_segment:
    .word   DISK_COPY / 16
packet_lba:
    .long   0, 0
sectors_left:
    .word   image_sectors
sector_gdt:
    .quad   0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
sector_gdt_pointer:
    .word   31
    .long   0x7c00 + sector_gdt - boot_sector

    .org    0x1f1
    .byte   1                   /* setup_sects */
    .word   1                   /* root_flags */
    .long   image_paragraphs    /* syssize */
    .word   0, 0xffff, 0        /* ram_size, vid_mode, root_dev */
    .word   0xaa55              /* boot_flag */
    .byte   0xeb, setup - 1f    /* jump */
1:  .ascii  "HdrS"
    .word   0x020c              /* version */
    .long   0                   /* realmode_swtch */
    .word   0, 0                /* start_sys_seg, kernel_version */
    .byte   0, 1                /* type_of_loader, loadflags: LOADED_HIGH */
    .word   0                   /* setup_move_size */
    .long   KERNEL              /* code32_start */
    .long   0, 0, 0             /* ramdisk_image, ramdisk_size, bootsect_kludge */
    .word   0xfe00, 0           /* heap_end_ptr, ext_loader_ver and _type */
    .long   0                   /* cmd_line_ptr */
    .long   0x7fffffff          /* initrd_addr_max */
    .long   0x100000            /* kernel_alignment */
    .byte   0, 0                /* relocatable_kernel, min_alignment */
#ifdef __x86_64__
    .word   1                   /* xloadflags: XLF_KERNEL_64 */
#else
    .word   0
#endif
    .long   255                 /* cmdline_size */
    .long   0, 0, 0             /* hardware_subarch and its data */
    .long   0, 0                /* payload_offset, payload_length */
    .quad   0, KERNEL           /* setup_data, pref_address */
    .long   memory_bytes, 0     /* init_size, handover_offset */
    .org    0x268
    .code16
setup:
    cli
    mov     %cs, %ax
    sub     $0x20, %ax
    mov     %ax, %ds
    movzwl  %ax, %esi
    shl     $4, %esi            /* the setup header serves as zero page */
    lea     sector_gdt(%esi), %eax
    mov     %eax, sector_gdt_pointer + 2
    lgdtl   sector_gdt_pointer
    mov     %cr0, %eax
    or      $1, %al
    mov     %eax, %cr0
    mov     $BOOT_DS, %ax
    mov     %ax, %ds
    mov     %ax, %es
    mov     %ax, %ss
    ljmpl   $BOOT_CS, $KERNEL
    .org    0x400

    .section .head, "ax"
    .code32
    .globl  startup_32
startup_32:
    cli
    cld
    mov     %esi, %ebx
    mov     $bss_start, %edi
    mov     $bss_end, %ecx
    sub     %edi, %ecx
    xor     %eax, %eax
    rep stosb
    mov     COMMAND_LINE(%ebx), %eax
    mov     %eax, boot_command_line
    mov     $stack_top, %esp
#ifdef __x86_64__
    mov     $boot_pml4, %eax
    mov     %eax, %cr3
    mov     %cr4, %eax
    or      $0x20, %eax
    mov     %eax, %cr4
    mov     $0xc0000080, %ecx
    rdmsr
    or      $0x100, %eax
    wrmsr
    mov     %cr0, %eax
    or      $0x80000000, %eax
    mov     %eax, %cr0
    lgdt    boot_gdt_pointer
    ljmp    $KCS64, $enter_c
#else
    lgdt    boot_gdt_pointer
    ljmp    $KCS32, $enter_c
#endif

#ifdef __x86_64__
    .org    0x200
    .code64
startup_64:
    cli
    cld
    mov     %rsi, %rbx
    mov     $bss_start, %edi
    mov     $bss_end, %ecx
    sub     %edi, %ecx
    xor     %eax, %eax
    rep stosb
    mov     COMMAND_LINE(%rbx), %eax
    mov     %eax, boot_command_line
    mov     $stack_top, %esp
    mov     $boot_pml4, %eax
    mov     %rax, %cr3
    lgdt    boot_gdt_pointer
    pushq   $KCS64
    pushq   $enter_c
    lretq

enter_c:
    mov     $KDS, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    xor     %eax, %eax
    mov     %eax, %fs
    mov     %eax, %gs
    mov     $stack_top, %esp
    call    guest_main
#else
enter_c:
    mov     $KDS, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    xor     %eax, %eax
    mov     %eax, %fs
    mov     %eax, %gs
    call    guest_main
#endif
1:  hlt
    jmp     1b

boot_gdt:
    .quad   0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer:
    .word   31
    .long   boot_gdt, 0

#ifdef __x86_64__
/* Linear = physical for the supervisor; and the first GiB once more at 1 GiB, for users. */
    .section .data
    .balign 4096
    .globl  boot_pml4, boot_pdpt
boot_pml4:
    .quad   boot_pdpt + 7
    .fill   511, 8, 0
boot_pdpt:
    .quad   boot_pd + 3, boot_user_pd + 7, boot_pd + 0x2003, boot_pd + 0x3003
    .fill   508, 8, 0
boot_pd:
    .set    i, 0
    .rept   2048
    .quad   (i << 21) + 0x83
    .set    i, i + 1
    .endr
boot_user_pd:
    .set    i, 0
    .rept   512
    .quad   (i << 21) + 0x87
    .set    i, i + 1
    .endr
#endif

    .section .bss
    .globl  boot_command_line
boot_command_line:
    .skip   8
    .balign 16
    .skip   16384
stack_top:

    .section .note.GNU-stack, "", @progbits
