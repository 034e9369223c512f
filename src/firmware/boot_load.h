/* boot_load.h - what the loaders of ELF and flat kernels share: who has which part of guest RAM,
 * modules, and the block of small tables that the kernel is told about.
 *
 *   info     GDT, command line, memory map, module list: below 640 KiB if the kernel leaves room
 *   kernel   where its headers say
 *   modules  page-aligned, above 1 MiB, below 4 GiB
 *
 * Everything in guest RAM is claimed before it is written, so nothing overlaps. For the main
 * thread. */
#ifndef DOBLE_FIRMWARE_BOOT_LOAD_H
#define DOBLE_FIRMWARE_BOOT_LOAD_H

#include "firmware/input_file.h"
#include "firmware/kernel_image.h"

#define BOOT_LOADER_NAME "Doble " DOBLE_VERSION

#define BOOT_LOAD_MODULES 64
#define BOOT_LOAD_RANGES 192 /* segments, modules and the info block */

struct boot_module {
    struct boot_range at;
    const char *text; /* name of the file without folders, and arguments */
    gpa_t string;     /* the text in guest RAM */
};

struct boot_load {
    struct memory *mem;
    const struct kernel_config *config;
    struct err *err;
    struct input_file kernel;

    char *cmdline; /* name of the kernel's file without folders, a space, arguments */
    char *options; /* the list of modules, cut into pieces */
    unsigned module_count;
    struct boot_module modules[BOOT_LOAD_MODULES];

    unsigned range_count;
    struct boot_range ranges[BOOT_LOAD_RANGES]; /* claimed */
    struct boot_range extent;                   /* of the kernel, from its first to its last byte */
    struct boot_range info;
    uint64_t info_used;
};

/* Opens the kernel. Whatever it returns, boot_load_close() may follow. */
int boot_load_open(struct boot_load *load, struct memory *mem, const struct kernel_config *config,
                   struct err *err);
void boot_load_close(struct boot_load *load);

/* "the kernel 'FILE' cannot be started: REASON" */
int boot_load_refuse(const struct boot_load *load, const char *reason);

/* The kernel's arguments, without the name that cmdline begins with. */
const char *boot_load_arguments(const struct boot_load *load);

/* Puts `file_size` bytes of the kernel's file from `offset` on at `gpa`, and zeros behind them up
 * to `room` bytes. Checks the file's end, that it is RAM, and that nothing is there yet. */
int boot_load_segment(struct boot_load *load, uint64_t offset, uint64_t file_size, gpa_t gpa,
                      uint64_t room);

/* Loads the modules, in their order from low to high, behind the kernel where there is room. */
int boot_load_modules(struct boot_load *load);

/* Makes the info block, with the strings of the modules; for after the kernel was loaded. */
int boot_load_info(struct boot_load *load);

/* Puts bytes into the info block, at a multiple of `align` (a power of two). */
int boot_load_put(struct boot_load *load, const void *bytes, uint64_t len, uint64_t align,
                  gpa_t *at);

/* The state of flat 32-bit protected mode at `entry`, with a GDT that has the segments in use. */
int boot_load_start32(struct boot_load *load, uint64_t entry, uint32_t eax, gpa_t ebx,
                      struct boot_state *out);

#endif
