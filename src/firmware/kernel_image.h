/* kernel_image.h - starts a kernel without firmware, whatever kind of image it is.
 *
 *   bzImage            the Linux boot protocol          linux_boot.c
 *   Multiboot 2        ELF32, ELF64 or flat             multiboot2.c
 *   Multiboot 1        ELF32, ELF64 or flat             multiboot1.c
 *   PVH                ELF with a PHYS32_ENTRY note     pvh.c
 *   vmlinux            64-bit ELF, Linux 64-bit entry   linux_boot.c
 *
 * An image that is several of these is started as the first of them; `protocol` chooses another.
 * The files are hostile input: each defect is refused with one sentence that names the file.
 * docs/kernels.md is the user's description.
 *
 * For the main thread, before the machine runs, and again after a reset. */
#ifndef DOBLE_FIRMWARE_KERNEL_IMAGE_H
#define DOBLE_FIRMWARE_KERNEL_IMAGE_H

#include "firmware/linux_boot.h"

enum kernel_protocol {
    KERNEL_AUTO,
    KERNEL_LINUX, /* bzImage or vmlinux */
    KERNEL_MULTIBOOT2,
    KERNEL_MULTIBOOT1,
    KERNEL_PVH,
};

struct kernel_config {
    const char *kernel; /* path */
    const char *initrd; /* NULL, a path (Linux), or "FILE[ ARGS],FILE..." (modules of the others) */
    const char *cmdline; /* or NULL: empty */
    const struct e820_map *e820;
    gpa_t rsdp; /* 0: no ACPI */
    bool vga;   /* the screen is there and in text mode 3 */
    enum kernel_protocol protocol;
};

/* Loads everything. On an error guest RAM may be partly written. */
int kernel_image_load(struct memory *mem, const struct kernel_config *config,
                      struct boot_state *out, struct err *err);

/* Reads the name of a protocol as the command line has it ("auto", "linux", "multiboot2",
 * "multiboot1", "pvh"). False: there is none of that name. */
bool kernel_protocol_parse(const char *name, enum kernel_protocol *protocol);

#endif
