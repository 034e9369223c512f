/* tlb.h - the software translation look-aside buffer of one vCPU.
 *
 * Three direct-mapped tables: user, supervisor with AC clear (SMAP in force), supervisor with AC
 * set. An entry's tag is the linear page number with the current generation in its low 12 bits, so a
 * flush is one increment; a tag never matches an address of another generation. Entries exist only
 * for plain RAM pages. The write tag is valid only when the page's dirty bit is set, the guest may
 * write, and no code of the page is cached by an engine (PAGE_CODE) - a miss goes the slow way and
 * finds out.
 *
 * Address spaces: each PCID in use has a generation of its own, so that a CR3 load with the no-flush
 * bit finds its old entries again. */
#ifndef DOBLE_CPU_TLB_H
#define DOBLE_CPU_TLB_H

#include "cpu/access.h"

#define TLB_BITS 10
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_GEN_MASK 0xfffu
#define TLB_PCIDS 8 /* address spaces whose entries can live side by side */

struct tlb_entry {
    uint64_t read_tag, write_tag, fetch_tag;
    uintptr_t addend; /* host address = linear address + addend */
};

/* TLB_CHECKED never gets an entry: while alignment is checked (CR0.AM, RFLAGS.AC, CPL 3) every access
 * goes the slow way, which does it. */
enum tlb_table { TLB_USER, TLB_SUPER, TLB_SUPER_AC, TLB_CHECKED, TLB_TABLES };

struct tlb {
    struct tlb_entry *current; /* table for explicit data accesses right now */
    uint64_t generation;       /* 1..4095, in force */
    uint64_t next_generation;
    struct tlb_entry entries[TLB_TABLES][TLB_SIZE];
    struct {
        uint64_t cr3_pcid; /* PCID, or UINT64_MAX: free */
        uint64_t generation;
    } spaces[TLB_PCIDS];
    unsigned next_space;
    /* The smallest aligned power-of-two range that holds all pages larger than 4 KiB entered since
     * the last full flush: (gva & large_mask) == large_base. No such page: large_mask = 0 and
     * large_base = 1, which no address meets. */
    gva_t large_base, large_mask;
    /* an engine that caches code by linear address compares this: it changes when a linear address
     * may mean another page of code (every flush, INVLPG, address-space switch) */
    uint64_t code_epoch;
};

/* Notes that a mapping of `size` bytes > 4 KiB at gva was entered. */
void tlb_note_large(struct tlb *tlb, gva_t gva, uint64_t size);
/* Picks `current` by CPL and AC; call when either changes (cpu_update_mode does). */
void tlb_select(struct cpu *cpu);
void tlb_flush_all(struct cpu *cpu);
/* CR3 was loaded: switch or flush, by CR4.PCIDE and bit 63 of the value written. */
void tlb_load_cr3(struct cpu *cpu, bool no_flush);
/* INVLPG: the page of gva, in every table, global or not. */
void tlb_invalidate_page(struct cpu *cpu, gva_t gva);
/* A page got code: no write entry for it may stay. */
void tlb_revoke_writes(struct cpu *cpu, gpa_t gpa);

/* The fast path: the host address of an access within one page, or NULL (go the slow way). */
static inline void *tlb_lookup_read(const struct cpu *cpu, gva_t gva, unsigned len)
{
    const struct tlb_entry *e = &cpu->tlb->current[(gva >> PAGE_SHIFT) & (TLB_SIZE - 1)];

    if (likely(e->read_tag == ((gva & PAGE_MASK) | cpu->tlb->generation) &&
               (gva & ~PAGE_MASK) + len <= PAGE_SIZE))
        return (void *)(gva + e->addend);
    return NULL;
}
static inline void *tlb_lookup_write(const struct cpu *cpu, gva_t gva, unsigned len)
{
    const struct tlb_entry *e = &cpu->tlb->current[(gva >> PAGE_SHIFT) & (TLB_SIZE - 1)];

    if (likely(e->write_tag == ((gva & PAGE_MASK) | cpu->tlb->generation) &&
               (gva & ~PAGE_MASK) + len <= PAGE_SIZE))
        return (void *)(gva + e->addend);
    return NULL;
}

#endif
