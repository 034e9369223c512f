/* flat_load.h - images that are loaded as one piece, at addresses that their Multiboot header gives
 * (Multiboot 1, 3.1.3: the "a.out kludge"; Multiboot 2, 3.1.5: the address tag). For the main
 * thread. */
#ifndef DOBLE_FIRMWARE_FLAT_LOAD_H
#define DOBLE_FIRMWARE_FLAT_LOAD_H

#include "firmware/boot_load.h"

struct flat_image {
    uint64_t header_offset; /* of the Multiboot header in the file */
    uint32_t header_addr;   /* where that offset lies in memory */
    uint32_t load_addr;     /* where loading begins */
    uint32_t load_end_addr; /* where it ends; 0: with the file */
    uint32_t bss_end_addr;  /* zeros up to here; 0: none */
    uint32_t entry_addr;
};

/* Checks the addresses against each other, the file and the guest's memory, and loads the image. */
int flat_load(struct boot_load *load, const struct flat_image *flat);

#endif
