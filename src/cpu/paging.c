/* The page walk (SDM vol. 3, ch. 4).
 *
 *   form      levels  bits per level  entry   root
 *   32-bit    2       10              4       CR3
 *   PAE       2       9               8       the four PDPTE registers, loaded with CR3
 *   4-level   4       9               8       CR3
 *   5-level   5       9               8       CR3
 *
 * One loop serves all forms; what differs is which bits are reserved and where a large page's
 * address is. Rights are gathered on the way down and checked at the leaf. Accessed bits of the
 * upper levels are set when an entry is used, those of the leaf (and dirty) when the access is
 * allowed, by compare-exchange against the value that was judged; if another processor or device
 * changed the entry in between, the walk starts again.
 *
 * Left out: memory types (PAT, PCD, PWT) have no effect, because nothing is cached. */
#include "cpu/paging.h"

#include "cpu/cpuid.h"

#define PTE_P UINT64_C(0x1)
#define PTE_RW UINT64_C(0x2)
#define PTE_US UINT64_C(0x4)
#define PTE_A UINT64_C(0x20)
#define PTE_D UINT64_C(0x40)
#define PTE_PS UINT64_C(0x80)
#define PTE_G UINT64_C(0x100)
#define PTE_NX (UINT64_C(1) << 63)
#define PTE_ADDRESS UINT64_C(0x000ffffffffff000)

#define PDPTE_RESERVED UINT64_C(0x1e6)

/* Bits low..high, both included; none if low > high. */
static uint64_t bit_range(unsigned low, unsigned high)
{
    return low > high ? 0 : (UINT64_MAX >> (63 - high)) & (UINT64_MAX << low);
}

struct walk {
    struct cpu *cpu;
    gva_t gva;
    unsigned access;
    unsigned entry_size, index_bits; /* the form: see the table above */
    unsigned level;                  /* of `entry`; 1 is the page table */
    gpa_t table;                     /* the table that is looked up at `level` */
    gpa_t entry_gpa;
    uint64_t entry;
    uint64_t rights; /* RW and US of all entries so far, ANDed; NX of all, ORed */
};

enum step { STEP_AGAIN, STEP_DOWN, STEP_LEAF, STEP_ABSENT, STEP_RESERVED };

uint64_t paging_phys_mask(const struct cpu *cpu)
{
    return bit_range(0, cpu_model_phys_bits(cpu->model) - 1);
}

/* --- entries in memory --- */

static void *entry_host(const struct walk *w)
{
    return memory_ram(w->cpu->mem, w->entry_gpa & w->cpu->mem->a20_mask, w->entry_size);
}

/* What isn't RAM is read through the bus, like the processor would. */
static uint64_t read_entry(const struct walk *w)
{
    void *host = entry_host(w);

    if (!host)
        return bus_mmio_read(w->cpu->bus, w->entry_gpa, w->entry_size);
    if (w->entry_size == 4)
        return __atomic_load_n((uint32_t *)host, __ATOMIC_RELAXED);
    return __atomic_load_n((uint64_t *)host, __ATOMIC_RELAXED);
}

static bool exchange_entry(void *host, unsigned size, uint64_t old, uint64_t new)
{
    uint32_t old32 = (uint32_t)old;

    if (size == 4)
        return __atomic_compare_exchange_n((uint32_t *)host, &old32, (uint32_t) new, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n((uint64_t *)host, &old, new, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

/* Sets A or D in the entry. False: the entry has changed since it was read. */
static bool mark_entry(struct walk *w, uint64_t bits)
{
    struct memory *mem = w->cpu->mem;
    void *host = entry_host(w);
    uint8_t *flags;

    if ((w->entry & bits) == bits || !host ||
        !memory_writable(mem, w->entry_gpa & mem->a20_mask, w->entry_size))
        return true;
    if (!exchange_entry(host, w->entry_size, w->entry, w->entry | bits))
        return false;
    w->entry |= bits;
    flags = memory_page_flags(mem, w->entry_gpa & mem->a20_mask);
    if (__atomic_load_n(flags, __ATOMIC_RELAXED) & PAGE_CODE)
        memory_touched(mem, w->entry_gpa & mem->a20_mask, w->entry_size);
    return true;
}

/* --- one level --- */

static bool is_leaf(const struct walk *w)
{
    if (w->level == 1)
        return true;
    if (!(w->entry & PTE_PS))
        return false;
    if (w->level == 2)
        return w->entry_size == 8 || (w->cpu->cr4 & CR4_PSE);
    return w->level == 3 && cpu_model_has(w->cpu->model, FEAT_PDPE1GB);
}

/* 32-bit paging has reserved bits only in 4-MiB pages: those between the part of the address that
 * PSE-36 keeps in bits 20:13 and the page's own address. */
static uint64_t reserved_32(const struct walk *w, bool leaf)
{
    unsigned width = cpu_model_phys_bits(w->cpu->model);

    if (!leaf || w->level != 2)
        return 0;
    return bit_range((width < 40 ? width : 40) - 19, 21);
}

static uint64_t reserved_64(const struct walk *w, bool leaf)
{
    const struct cpu *cpu = w->cpu;
    bool long_mode = cpu->efer & EFER_LMA;
    uint64_t bits = bit_range(cpu_model_phys_bits(cpu->model), long_mode ? 51 : 62);

    if (!(cpu->efer & EFER_NXE))
        bits |= PTE_NX;
    if (leaf && w->level > 1)
        bits |= bit_range(13, 11 + 9 * (w->level - 1));
    if (!leaf && w->level > 2)
        bits |= PTE_PS;
    return bits;
}

/* Looks up the entry of w->level and judges it, rights apart. */
static enum step walk_level(struct walk *w, bool peek)
{
    unsigned shift = PAGE_SHIFT + w->index_bits * (w->level - 1);
    uint64_t index = w->gva >> shift & bit_range(0, w->index_bits - 1);
    bool leaf;

    w->entry_gpa = w->table + index * w->entry_size;
    w->entry = read_entry(w);
    if (!(w->entry & PTE_P))
        return STEP_ABSENT;
    leaf = is_leaf(w);
    if (w->entry & (w->entry_size == 4 ? reserved_32(w, leaf) : reserved_64(w, leaf)))
        return STEP_RESERVED;
    w->rights &= w->entry | ~(PTE_RW | PTE_US);
    w->rights |= w->entry_size == 8 ? w->entry & PTE_NX : 0;
    if (leaf)
        return STEP_LEAF;
    if (!peek && !mark_entry(w, PTE_A))
        return STEP_AGAIN;
    w->table = w->entry & PTE_ADDRESS;
    w->level--;
    return STEP_DOWN;
}

/* Sets the form and the root. False: the PDPTE is not present. */
static bool walk_start(struct walk *w)
{
    const struct cpu *cpu = w->cpu;
    bool long_mode = cpu->efer & EFER_LMA;
    uint64_t root = cpu->cr3;

    w->entry_size = cpu->cr4 & CR4_PAE ? 8 : 4;
    w->index_bits = w->entry_size == 8 ? 9 : 10;
    w->level = 2;
    w->rights = PTE_RW | PTE_US;
    if (long_mode)
        w->level = cpu->cr4 & CR4_LA57 ? 5 : 4;
    else if (w->entry_size == 8)
        root = cpu->pdpte[w->gva >> 30 & 3];
    else
        root = (uint32_t)root;
    w->table = root & PTE_ADDRESS & paging_phys_mask(cpu);
    return long_mode || w->entry_size == 4 || (root & PTE_P);
}

static enum step walk_tables(struct walk *w, bool peek)
{
    enum step step;

    if (!walk_start(w))
        return STEP_ABSENT;
    do
        step = walk_level(w, peek);
    while (step == STEP_DOWN);
    return step;
}

/* --- rights (SDM vol. 3, 4.6) --- */

static bool is_user(const struct walk *w)
{
    return w->cpu->cpl == 3 && !(w->access & ACCESS_SYSTEM);
}

static bool may_write(const struct walk *w)
{
    if (is_user(w))
        return (w->rights & PTE_US) && (w->rights & PTE_RW);
    return (w->rights & PTE_RW) || !(w->cpu->cr0 & CR0_WP);
}

static bool may_fetch(const struct walk *w)
{
    if (w->rights & PTE_NX)
        return false;
    if (is_user(w))
        return w->rights & PTE_US;
    return !(w->rights & PTE_US) || !(w->cpu->cr4 & CR4_SMEP);
}

/* SMAP: data of user pages is out of reach for the supervisor, unless AC is set and the access is
 * one that the program asked for. */
static bool smap_forbids(const struct walk *w)
{
    if (is_user(w) || !(w->rights & PTE_US) || !(w->cpu->cr4 & CR4_SMAP))
        return false;
    return (w->access & ACCESS_SYSTEM) || !(w->cpu->rflags & FLAG_AC);
}

static bool allowed(const struct walk *w)
{
    if (w->access & ACCESS_FETCH)
        return may_fetch(w);
    if (smap_forbids(w))
        return false;
    if (w->access & ACCESS_WRITE)
        return may_write(w);
    return !is_user(w) || (w->rights & PTE_US);
}

/* --- results --- */

static bool page_fault(const struct walk *w, uint32_t error)
{
    const struct cpu *cpu = w->cpu;
    bool nx = (cpu->efer & EFER_NXE) && (cpu->cr4 & CR4_PAE);

    if (w->access & ACCESS_WRITE)
        error |= PF_W;
    if (is_user(w))
        error |= PF_U;
    if ((w->access & ACCESS_FETCH) && (nx || (cpu->cr4 & CR4_SMEP)))
        error |= PF_I;
    return cpu_raise_pf(w->cpu, w->gva, error);
}

static gpa_t page_base(const struct walk *w)
{
    if (w->entry_size == 4 && w->level == 2)
        return (w->entry & 0xffc00000) | (w->entry >> 13 & 0xff) << 32;
    return w->entry & PTE_ADDRESS;
}

static void fill_translation(const struct walk *w, struct translation *t)
{
    t->page_size = PAGE_SIZE << (w->index_bits * (w->level - 1));
    t->gpa = (page_base(w) & ~(t->page_size - 1)) | (w->gva & (t->page_size - 1));
    t->writable = (w->entry & PTE_D) && may_write(w);
    t->global = (w->entry & PTE_G) && (w->cpu->cr4 & CR4_PGE);
}

static gva_t linear_width(const struct cpu *cpu, gva_t gva)
{
    return cpu->efer & EFER_LMA ? gva : (uint32_t)gva;
}

static void translate_identity(const struct cpu *cpu, gva_t gva, struct translation *t)
{
    t->gpa = linear_width(cpu, gva);
    t->page_size = PAGE_SIZE;
    t->writable = true;
    t->global = false;
}

static enum step walk_and_mark(struct walk *w)
{
    enum step step = walk_tables(w, false);
    uint64_t bits = w->access & ACCESS_WRITE ? PTE_A | PTE_D : PTE_A;

    if (step == STEP_LEAF && allowed(w) && !mark_entry(w, bits))
        return STEP_AGAIN;
    return step;
}

bool paging_translate(struct cpu *cpu, gva_t gva, unsigned access, struct translation *t)
{
    struct walk w = {.cpu = cpu, .gva = linear_width(cpu, gva), .access = access};
    enum step step;

    if (!(cpu->cr0 & CR0_PG)) {
        translate_identity(cpu, gva, t);
        return true;
    }
    do
        step = walk_and_mark(&w);
    while (unlikely(step == STEP_AGAIN));
    if (step == STEP_ABSENT)
        return page_fault(&w, 0);
    if (step == STEP_RESERVED)
        return page_fault(&w, PF_P | PF_RSVD);
    if (!allowed(&w))
        return page_fault(&w, PF_P);
    fill_translation(&w, t);
    return true;
}

bool paging_peek(struct cpu *cpu, gva_t gva, struct translation *t)
{
    struct walk w = {.cpu = cpu, .gva = linear_width(cpu, gva), .access = ACCESS_READ};

    if (!(cpu->cr0 & CR0_PG)) {
        translate_identity(cpu, gva, t);
        return true;
    }
    if (walk_tables(&w, true) != STEP_LEAF)
        return false;
    fill_translation(&w, t);
    return true;
}

unsigned paging_entries(struct cpu *cpu, gva_t gva, struct paging_entry entries[PAGING_LEVELS])
{
    struct walk w = {.cpu = cpu, .gva = linear_width(cpu, gva), .access = ACCESS_READ};
    enum step step = STEP_DOWN;
    unsigned count = 0;

    if (!(cpu->cr0 & CR0_PG) || !walk_start(&w))
        return 0;
    while (step == STEP_DOWN && count < PAGING_LEVELS) {
        unsigned level = w.level;

        step = walk_level(&w, true);
        entries[count++] = (struct paging_entry){level, w.entry_gpa, w.entry};
    }
    return count;
}

bool paging_load_pdptes(struct cpu *cpu, uint64_t cr3)
{
    bool pae = (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !(cpu->efer & EFER_LMA);
    uint64_t reserved = PDPTE_RESERVED | ~paging_phys_mask(cpu);
    struct walk w = {.cpu = cpu, .entry_size = 8};
    uint64_t pdpte[4];

    if (!pae)
        return true;
    for (unsigned i = 0; i < 4; i++) {
        w.entry_gpa = (cr3 & 0xffffffe0) + i * 8;
        pdpte[i] = read_entry(&w);
        if ((pdpte[i] & PTE_P) && (pdpte[i] & reserved))
            return cpu_raise_gp(cpu, 0);
    }
    for (unsigned i = 0; i < 4; i++)
        cpu->pdpte[i] = pdpte[i];
    return true;
}
