/* paging.h - the page walk: from linear to guest-physical addresses (SDM vol. 3, ch. 4).
 *
 * All forms: none, 32-bit (PSE, PSE-36), PAE, 4-level, 5-level; NX, WP, U/S, SMEP, SMAP, G, PAT
 * ignored for caching, reserved bits, accessed and dirty bits set by atomic updates. */
#ifndef DOBLE_CPU_PAGING_H
#define DOBLE_CPU_PAGING_H

#include "cpu/access.h"

struct translation {
    gpa_t gpa;          /* of the address asked for */
    uint64_t page_size; /* of the mapping: 4 KiB, 2 MiB, 4 MiB, 1 GiB; paging off: 4 KiB */
    bool writable;      /* a write by this privilege would be allowed now (dirty already set) */
    bool global;
};

/* Error code bits of #PF. */
#define PF_P 1u
#define PF_W 2u
#define PF_U 4u
#define PF_RSVD 8u
#define PF_I 16u

/* Walks for an access of the kinds in `access` (enum access) at the current CPL. Sets A, and D for
 * writes. False: #PF recorded (or #GP/#SS not: canonical checks are the caller's). */
bool paging_translate(struct cpu *cpu, gva_t gva, unsigned access, struct translation *t) MUST_USE;

/* The same without side effects on the guest and without faults: for debuggers. */
bool paging_peek(struct cpu *cpu, gva_t gva, struct translation *t);

/* The entries that a walk for gva looks up, the root's first, down to the one that maps the page or
 * ends the walk; also without side effects. Returns how many: 0 when paging is off, or at an absent
 * PDPTE of PAE paging. */
#define PAGING_LEVELS 5
struct paging_entry {
    unsigned level; /* 1 is the page table */
    gpa_t gpa;      /* of the entry */
    uint64_t entry;
};
unsigned paging_entries(struct cpu *cpu, gva_t gva, struct paging_entry entries[PAGING_LEVELS]);

/* Loads PDPTEs for PAE paging from CR3; false: #GP(0) for reserved bits. True when PAE isn't on. */
bool paging_load_pdptes(struct cpu *cpu, uint64_t cr3) MUST_USE;

/* The physical address has bits above MAXPHYADDR? */
uint64_t paging_phys_mask(const struct cpu *cpu); /* bits that a physical address can have */

#endif
