/* elf_load.h - ELF kernels, 32-bit and 64-bit (System V ABI, chapters 4 and 5), loaded at the
 * physical addresses of their program headers. Not relocated: section headers, symbols and dynamic
 * linking are ignored. For the main thread. */
#ifndef DOBLE_FIRMWARE_ELF_LOAD_H
#define DOBLE_FIRMWARE_ELF_LOAD_H

#include "firmware/boot_load.h"

#define ELF_SEGMENTS 64

struct elf_segment {
    uint64_t offset, file_size; /* in the file */
    gpa_t gpa;                  /* p_paddr */
    uint64_t vaddr, room;       /* p_vaddr, p_memsz */
};

struct elf_image {
    bool is_64;
    uint64_t entry; /* e_entry, as the file says */
    unsigned count;
    struct elf_segment segments[ELF_SEGMENTS];
    bool has_pvh;       /* the note XEN_ELFNOTE_PHYS32_ENTRY is there */
    uint64_t pvh_entry; /* physical */
};

/* Whether these are the first bytes of an ELF file of any kind. */
bool elf_is_elf(const uint8_t *start, size_t len);

/* Reads and checks the headers and notes of the kernel's file. */
int elf_read(const struct boot_load *load, struct elf_image *elf);

/* Loads the segments into guest RAM. */
int elf_load(struct boot_load *load, const struct elf_image *elf);

/* The physical address of an entry, which is one of a segment's physical or virtual addresses. */
int elf_entry(const struct boot_load *load, const struct elf_image *elf, uint64_t entry,
              gpa_t *out);

#endif
