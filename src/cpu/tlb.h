/* tlb.h - the software translation look-aside buffer of one vCPU.
 *
 * Address spaces (PCIDs) that are in use have a set of tables each, so that a CR3 load with the
 * no-flush bit finds its old entries again. A set has a table for each kind of access rights: user,
 * supervisor with AC clear (SMAP in force), supervisor with AC set. Tables are direct-mapped.
 *
 * An entry exists only for plain RAM. It holds, for each kind of access, the negated linear address
 * of the page: gva + tag is then the offset in the page, and one unsigned comparison with what is
 * left of the page tells whether all of an access is in it. (Native code makes the same comparison
 * without touching flags.) An invalid tag belongs to a page that would have another index. The
 * write tag is valid only when the page's dirty bit is set, the guest may write, and no code of the
 * page is cached by an engine (PAGE_CODE) - a miss goes the slow way and finds out.
 *
 * vCPU thread only. */
#ifndef DOBLE_CPU_TLB_H
#define DOBLE_CPU_TLB_H

#include "cpu/access.h"

#define TLB_BITS 10
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_CODE_PAGES 65536
#define TLB_SPACES 4 /* address spaces whose entries can live side by side */

struct tlb_entry {
    uint64_t read_tag, write_tag, fetch_tag;
    uintptr_t addend; /* host address = linear address + addend */
};

/* TLB_CHECKED never gets an entry: while alignment is checked (CR0.AM, RFLAGS.AC, CPL 3) every
 * access goes the slow way, which does it. */
enum tlb_table { TLB_USER, TLB_SUPER, TLB_SUPER_AC, TLB_TABLES };

struct tlb_space {
    uint64_t pcid;         /* UINT64_MAX: free */
    bool used[TLB_TABLES]; /* the table has entries */
    uint64_t epoch;        /* like code_epoch below, of this address space's user code alone */
    uint64_t global[TLB_TABLES][TLB_SIZE / 64]; /* bits: the entry outlives a load of CR3 */
    struct tlb_entry entries[TLB_TABLES][TLB_SIZE];
};

struct tlb {
    struct tlb_space *space; /* of the address space in force */
    unsigned next_space;
    /* The smallest aligned power-of-two range that holds all pages larger than 4 KiB entered since
     * the last full flush: (gva & large_mask) == large_base. No such page: large_mask = 0 and
     * large_base = 1, which no address meets. */
    gva_t large_base, large_mask;
    /* an engine that caches code by linear address compares this: it changes when a linear address
     * may mean another page of code (every flush, INVLPG, address-space switch) */
    uint64_t code_epoch;
    /* The same of code at CPL 0 to 2, in all address spaces. It stays when CR3 is loaded, as long
     * as all such code that was noted by tlb_note_code() is in global pages. */
    uint64_t kernel_epoch;
    bool kernel_is_local; /* some is not */
    /* By a hash of the page: code of it may be cached by linear address. INVLPG of other pages
     * leaves epochs alone. */
    uint64_t code_pages[TLB_CODE_PAGES / 64];
    struct tlb_entry checked[TLB_SIZE]; /* always empty */
    struct tlb_space spaces[TLB_SPACES];
};

/* What native code has found in the TLB holds no more: it has no page of the stack until it finds
 * one again. */
void tlb_forget_stack(struct cpu *cpu);
/* Makes all tables empty; before first use. */
void tlb_init(struct tlb *tlb);
/* Notes that a mapping of `size` bytes > 4 KiB at gva was entered. */
void tlb_note_large(struct tlb *tlb, gva_t gva, uint64_t size);
/* Picks the table in force (cpu->native.table) by CPL and AC; call when either changes
 * (cpu_update_mode does). */
void tlb_select(struct cpu *cpu);
void tlb_flush_all(struct cpu *cpu);
/* An engine caches, by its linear address, code that it has just fetched through the TLB. */
void tlb_note_code(struct cpu *cpu, gva_t gva);
/* CR3 was loaded: switch or flush, by CR4.PCIDE and bit 63 of the value written. */
void tlb_load_cr3(struct cpu *cpu, bool no_flush);
/* INVLPG: the page of gva, in every table, global or not. */
void tlb_invalidate_page(struct cpu *cpu, gva_t gva);
/* A page got code: no write entry for it may stay. */
void tlb_revoke_writes(struct cpu *cpu, gpa_t gpa);

static inline unsigned tlb_index(gva_t gva)
{
    return (gva >> PAGE_SHIFT) & (TLB_SIZE - 1);
}

/* The tag of a valid entry, and of an invalid one at `index`: a page of another index, and not the
 * next one either, because native code looks at the last byte of an access only, which may be in
 * the page behind the one that chose the entry. */
static inline uint64_t tlb_tag(gva_t gva)
{
    return 0 - (gva & PAGE_MASK);
}
static inline uint64_t tlb_invalid_tag(unsigned index)
{
    return 0 - ((uint64_t)(index ^ 2) << PAGE_SHIFT);
}

/* The fast path: the host address of an access within one page, or NULL (go the slow way). */
static inline void *tlb_lookup_read(const struct cpu *cpu, gva_t gva, unsigned len)
{
    const struct tlb_entry *e = &cpu->native.table[tlb_index(gva)];

    return likely(gva + e->read_tag <= PAGE_SIZE - len) ? (void *)(gva + e->addend) : NULL;
}
static inline void *tlb_lookup_write(const struct cpu *cpu, gva_t gva, unsigned len)
{
    const struct tlb_entry *e = &cpu->native.table[tlb_index(gva)];

    return likely(gva + e->write_tag <= PAGE_SIZE - len) ? (void *)(gva + e->addend) : NULL;
}

#endif
