/* linux_boot.h - starts a Linux kernel without firmware, by the x86 boot protocol
 * (Documentation/arch/x86/boot.rst in the kernel's source; protocol 2.10 of 2009 and later).
 *
 *   10000   boot_params (the "zero page")
 *   11000   GDT
 *   12000   page tables: PML4, PDPT, four page directories; 4 GiB mapped to themselves
 *   20000   command line
 *   kernel  at its preferred address (1 MiB if it isn't relocatable), with the room that init_size
 *           asks for
 *   initrd  as high as the kernel can reach, below 4 GiB if it fits
 *
 * A kernel that has a 64-bit entry is entered in long mode at its start + 200h, others in flat
 * 32-bit protected mode at their start. The files are hostile input: each defect of a header is
 * refused with a sentence. They are read straight into guest RAM.
 *
 * For the main thread, before the machine runs, and again after a reset. */
#ifndef DOBLE_FIRMWARE_LINUX_BOOT_H
#define DOBLE_FIRMWARE_LINUX_BOOT_H

#include "base/err.h"
#include "firmware/e820.h"
#include "mem/memory.h"

struct cpu;

struct linux_boot_config {
    const char *kernel;  /* path of a bzImage */
    const char *initrd;  /* path, or NULL */
    const char *cmdline; /* or NULL: empty */
    const struct e820_map *e820;
    gpa_t rsdp; /* 0: no ACPI */
};

struct boot_range {
    gpa_t base;
    uint64_t size;
};

/* How the first processor starts, and what was put where. */
struct boot_state {
    bool long_mode; /* else flat 32-bit protected mode */
    uint64_t rip;
    uint64_t rax, rbx; /* PVH and Multiboot */
    uint64_t rsi;      /* boot_params */
    uint64_t rsp;
    gpa_t cr3; /* long mode only */
    gpa_t gdt;
    uint16_t gdt_limit;
    struct boot_range kernel, initrd; /* size 0: none */
};

/* Loads kernel, initrd, command line and tables. On an error guest RAM may be partly written. */
int linux_boot_load(struct memory *mem, const struct linux_boot_config *config,
                    struct boot_state *out, struct err *err);

/* Loads all but the kernel: for a vmlinux (64-bit ELF), which was loaded already, above 1 MiB. It
 * is entered at `entry` in long mode. */
int linux_boot_load_rest(struct memory *mem, const struct linux_boot_config *config,
                         struct boot_range kernel, gpa_t entry, struct boot_state *out,
                         struct err *err);

/* Puts a processor that has just been reset into that state. */
void boot_state_apply(const struct boot_state *state, struct cpu *cpu);

#endif
