/* multiboot1.h - the Multiboot specification, version 0.6.96: a kernel with a header in its first
 * 8 KiB is entered in 32-bit protected mode, with EAX = 2BADB002h and EBX pointing to a table of
 * what there is. Images are ELF, or flat if the header has addresses.
 *
 * Given: memory sizes and map, command line, modules, boot loader name; the screen in text mode, if
 * the machine has one. Not given: boot device, symbols, drives, ROM configuration, APM, VBE. A
 * header's wish for a video mode is a recommendation, and not followed. */
#ifndef DOBLE_FIRMWARE_MULTIBOOT1_H
#define DOBLE_FIRMWARE_MULTIBOOT1_H

#include "firmware/boot_load.h"

#define MULTIBOOT1_SEARCH 8192 /* the header lies within so many bytes of the file */

/* The offset of the header in the first `len` bytes of a file, or -1. */
int64_t multiboot1_find(const uint8_t *start, size_t len);

int multiboot1_load(struct boot_load *load, uint64_t header_offset, struct boot_state *out);

#endif
