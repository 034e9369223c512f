#include "cpu/tlb.h"

#include <string.h>

void tlb_select(struct cpu *cpu)
{
    enum tlb_table table = TLB_SUPER;

    if (cpu->cpl == 3)
        table = (cpu->cr0 & CR0_AM) && (cpu->rflags & FLAG_AC) ? TLB_CHECKED : TLB_USER;
    else if ((cpu->rflags & FLAG_AC) || !(cpu->cr4 & CR4_SMAP))
        table = TLB_SUPER_AC;
    cpu->tlb->current = cpu->tlb->entries[table];
}

static void forget_spaces(struct tlb *tlb)
{
    for (unsigned i = 0; i < TLB_PCIDS; i++)
        tlb->spaces[i].cr3_pcid = UINT64_MAX;
}

/* A generation that no entry has. When the numbers run out, all entries go. */
static uint64_t new_generation(struct tlb *tlb)
{
    if (tlb->next_generation > TLB_GEN_MASK || tlb->next_generation == 0) {
        memset(tlb->entries, 0, sizeof tlb->entries);
        forget_spaces(tlb);
        tlb->next_generation = 1;
    }
    return tlb->next_generation++;
}

void tlb_flush_all(struct cpu *cpu)
{
    struct tlb *tlb = cpu->tlb;

    forget_spaces(tlb);
    tlb->generation = new_generation(tlb);
    tlb->large_mask = 0;
    tlb->large_base = 1;
    tlb->code_epoch++;
    cpu->stats.tlb_flushes++;
}

/* The slot that keeps the generation of `pcid`, or the one to be taken over for it. */
static unsigned space_of(struct tlb *tlb, uint64_t pcid)
{
    for (unsigned i = 0; i < TLB_PCIDS; i++)
        if (tlb->spaces[i].cr3_pcid == pcid)
            return i;
    tlb->next_space = (tlb->next_space + 1) % TLB_PCIDS;
    return tlb->next_space;
}

void tlb_load_cr3(struct cpu *cpu, bool no_flush)
{
    struct tlb *tlb = cpu->tlb;
    uint64_t pcid = cpu->cr3 & 0xfff;
    unsigned slot;

    tlb->code_epoch++;
    if (!(cpu->cr4 & CR4_PCIDE)) {
        tlb->generation = new_generation(tlb);
        cpu->stats.tlb_flushes++;
        return;
    }
    slot = space_of(tlb, pcid);
    if (!no_flush || tlb->spaces[slot].cr3_pcid != pcid) {
        /* new_generation() may forget all spaces, so the slot is filled afterwards */
        uint64_t generation = new_generation(tlb);

        tlb->spaces[slot].cr3_pcid = pcid;
        tlb->spaces[slot].generation = generation;
        cpu->stats.tlb_flushes++;
    }
    tlb->generation = tlb->spaces[slot].generation;
}

void tlb_note_large(struct tlb *tlb, gva_t gva, uint64_t size)
{
    gva_t mask = ~(size - 1);

    if (tlb->large_mask == 0 && tlb->large_base == 1) {
        tlb->large_mask = mask;
        tlb->large_base = gva & mask;
        return;
    }
    mask &= tlb->large_mask;
    while ((gva & mask) != (tlb->large_base & mask))
        mask <<= 1;
    tlb->large_mask = mask;
    tlb->large_base = gva & mask;
}

void tlb_invalidate_page(struct cpu *cpu, gva_t gva)
{
    struct tlb *tlb = cpu->tlb;
    unsigned index = (gva >> PAGE_SHIFT) & (TLB_SIZE - 1);

    /* A large page is spread over many entries, of which any may stand for this address. */
    if ((gva & tlb->large_mask) == tlb->large_base) {
        tlb_flush_all(cpu);
        return;
    }
    for (unsigned t = 0; t < TLB_TABLES; t++)
        memset(&tlb->entries[t][index], 0, sizeof tlb->entries[t][index]);
    tlb->code_epoch++;
}

void tlb_revoke_writes(struct cpu *cpu, gpa_t gpa)
{
    struct tlb *tlb = cpu->tlb;
    uintptr_t page = (uintptr_t)memory_ram(cpu->mem, gpa & PAGE_MASK, PAGE_SIZE);

    for (unsigned t = 0; t < TLB_TABLES; t++)
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            struct tlb_entry *e = &tlb->entries[t][i];

            if (e->write_tag && ((e->write_tag & PAGE_MASK) + e->addend) == page)
                e->write_tag = 0;
        }
}
