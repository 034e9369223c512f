/* multiboot2.h - the Multiboot2 specification, version 2.0: a kernel with a header of tags in its
 * first 32 KiB is entered in 32-bit protected mode, with EAX = 36D76289h and EBX pointing to a list
 * of tags. Images are ELF, or flat if the header has an address tag.
 *
 * Given: command line, boot loader name, modules, memory sizes and map, the ACPI root pointer (old
 * and new form), the load base if the header has a relocatable tag, and the screen in text mode if
 * the machine has one. A header tag that asks for anything else is refused, unless it is optional.
 * The kernel runs where it is linked; it is never relocated. */
#ifndef DOBLE_FIRMWARE_MULTIBOOT2_H
#define DOBLE_FIRMWARE_MULTIBOOT2_H

#include "firmware/boot_load.h"

#define MULTIBOOT2_SEARCH 32768 /* the header lies within so many bytes of the file */

/* The offset of the header in the first `len` bytes of a file, or -1. */
int64_t multiboot2_find(const uint8_t *start, size_t len);

int multiboot2_load(struct boot_load *load, uint64_t header_offset, struct boot_state *out);

#endif
