#include "cpu/tlb.h"

#include <string.h>

static void clear_entry(struct tlb_entry *e, unsigned index)
{
    e->read_tag = e->write_tag = e->fetch_tag = tlb_invalid_tag(index);
    e->addend = 0;
}

static void clear_table(struct tlb_entry *table)
{
    for (unsigned i = 0; i < TLB_SIZE; i++)
        clear_entry(&table[i], i);
}

void tlb_init(struct tlb *tlb)
{
    clear_table(tlb->checked);
    for (unsigned s = 0; s < TLB_SPACES; s++) {
        tlb->spaces[s].pcid = UINT64_MAX;
        for (unsigned t = 0; t < TLB_TABLES; t++)
            clear_table(tlb->spaces[s].entries[t]);
    }
    tlb->space = &tlb->spaces[0];
    tlb->large_mask = 0;
    tlb->large_base = 1;
}

void tlb_forget_stack(struct cpu *cpu)
{
    cpu->native.window_mask = UINT64_MAX;
    cpu->native.forgotten = true;
}

void tlb_select(struct cpu *cpu)
{
    struct tlb *tlb = cpu->tlb;
    struct cpu_native *n = &cpu->native;
    bool ac = cpu->rflags & FLAG_AC;

    n->table_ac = tlb->space->entries[TLB_SUPER_AC];
    n->table_no_ac = cpu->cr4 & CR4_SMAP ? tlb->space->entries[TLB_SUPER] : n->table_ac;
    if (cpu->cpl != 3)
        n->table = ac ? n->table_ac : n->table_no_ac;
    else if ((cpu->cr0 & CR0_AM) && ac)
        n->table = tlb->checked;
    else
        n->table = tlb->space->entries[TLB_USER];
    tlb_forget_stack(cpu);
}

static bool is_global(const struct tlb_space *space, unsigned table, unsigned index)
{
    return space->global[table][index / 64] >> index % 64 & 1;
}

static void clear_space(struct tlb_space *space)
{
    for (unsigned t = 0; t < TLB_TABLES; t++) {
        if (space->used[t])
            clear_table(space->entries[t]);
        space->used[t] = false;
    }
    memset(space->global, 0, sizeof space->global);
    space->epoch++;
}

/* All but entries of global pages. */
static void clear_local(struct tlb_space *space)
{
    for (unsigned t = 0; t < TLB_TABLES; t++)
        for (unsigned i = 0; space->used[t] && i < TLB_SIZE; i++)
            if (!is_global(space, t, i))
                clear_entry(&space->entries[t][i], i);
    space->epoch++;
}

static void forget_kernel_code(struct tlb *tlb)
{
    tlb->kernel_epoch++;
    tlb->kernel_is_local = false;
}

static unsigned code_page_bit(gva_t gva)
{
    return (unsigned)(gva >> PAGE_SHIFT) % TLB_CODE_PAGES;
}

void tlb_note_code(struct cpu *cpu, gva_t gva)
{
    struct tlb *tlb = cpu->tlb;
    const struct tlb_space *space = tlb->space;
    unsigned index = tlb_index(gva), bit = code_page_bit(gva);
    unsigned table = cpu->native.table == space->entries[TLB_SUPER_AC] ? TLB_SUPER_AC : TLB_SUPER;

    tlb->code_pages[bit / 64] |= UINT64_C(1) << bit % 64;
    if (cpu->cpl != 3 &&
        !(space->entries[table][index].fetch_tag == tlb_tag(gva) && is_global(space, table, index)))
        tlb->kernel_is_local = true;
}

void tlb_flush_all(struct cpu *cpu)
{
    struct tlb *tlb = cpu->tlb;

    for (unsigned s = 0; s < TLB_SPACES; s++) {
        clear_space(&tlb->spaces[s]);
        tlb->spaces[s].pcid = UINT64_MAX;
    }
    tlb_forget_stack(cpu);
    /* The space in force keeps its place; its PCID is unknown until CR3 is loaded again. */
    tlb->large_mask = 0;
    tlb->large_base = 1;
    tlb->code_epoch++;
    forget_kernel_code(tlb);
    memset(tlb->code_pages, 0, sizeof tlb->code_pages);
    cpu->stats.tlb_flushes++;
}

/* The space of `pcid`, or the one to be taken over for it. */
static struct tlb_space *space_of(struct tlb *tlb, uint64_t pcid)
{
    for (unsigned i = 0; i < TLB_SPACES; i++)
        if (tlb->spaces[i].pcid == pcid)
            return &tlb->spaces[i];
    tlb->next_space = (tlb->next_space + 1) % TLB_SPACES;
    return &tlb->spaces[tlb->next_space];
}

void tlb_load_cr3(struct cpu *cpu, bool no_flush)
{
    struct tlb *tlb = cpu->tlb;
    uint64_t pcid = cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
    struct tlb_space *space = space_of(tlb, pcid);

    tlb->code_epoch++;
    if (!no_flush || space->pcid != pcid || !(cpu->cr4 & CR4_PCIDE)) {
        clear_local(space);
        cpu->stats.tlb_flushes++;
    }
    if (tlb->kernel_is_local)
        forget_kernel_code(tlb);
    space->pcid = pcid;
    tlb->space = space;
    tlb_select(cpu);
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
    unsigned index = tlb_index(gva), bit = code_page_bit(gva);
    bool code = tlb->code_pages[bit / 64] >> bit % 64 & 1;

    /* A large page is spread over many entries, of which any may stand for this address. */
    if ((gva & tlb->large_mask) == tlb->large_base) {
        tlb_flush_all(cpu);
        return;
    }
    for (unsigned s = 0; s < TLB_SPACES; s++) {
        for (unsigned t = 0; t < TLB_TABLES; t++)
            clear_entry(&tlb->spaces[s].entries[t][index], index);
        tlb->spaces[s].epoch += code;
    }
    if (code) {
        forget_kernel_code(tlb);
        memset(tlb->code_pages, 0, sizeof tlb->code_pages);
    }
    tlb_forget_stack(cpu);
    tlb->code_epoch++;
}

static void revoke_in_table(struct tlb_entry *table, uintptr_t page)
{
    for (unsigned i = 0; i < TLB_SIZE; i++)
        if (table[i].write_tag != tlb_invalid_tag(i) &&
            table[i].addend - table[i].write_tag == page)
            table[i].write_tag = tlb_invalid_tag(i);
}

void tlb_revoke_writes(struct cpu *cpu, gpa_t gpa)
{
    struct tlb *tlb = cpu->tlb;
    uintptr_t page = (uintptr_t)memory_ram(cpu->mem, gpa & PAGE_MASK, PAGE_SIZE);

    tlb_forget_stack(cpu);
    for (unsigned s = 0; s < TLB_SPACES; s++)
        for (unsigned t = 0; t < TLB_TABLES; t++)
            if (tlb->spaces[s].used[t])
                revoke_in_table(tlb->spaces[s].entries[t], page);
}
