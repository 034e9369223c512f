/* pvh.h - the PVH boot protocol (docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h of Xen):
 * an ELF kernel with the note XEN_ELFNOTE_PHYS32_ENTRY is entered there in 32-bit protected mode,
 * with EBX pointing to a hvm_start_info that has modules, command line, ACPI and the memory map. */
#ifndef DOBLE_FIRMWARE_PVH_H
#define DOBLE_FIRMWARE_PVH_H

#include "firmware/elf_load.h"

int pvh_load(struct boot_load *load, const struct elf_image *elf, struct boot_state *out);

#endif
