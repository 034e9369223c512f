/* The slow way of every memory access: TLB fill, page crossing, MMIO, pages with code, debug
 * registers and alignment checks. The fast way is tlb_lookup_*() in tlb.h. */
#include "cpu/access.h"

#include "base/timeline.h"
#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/insn.h"
#include "cpu/paging.h"
#include "cpu/tlb.h"

#include <string.h>

/* Where one part of an access, within one page, goes. */
struct target {
    void *host; /* RAM; NULL: MMIO at gpa */
    gpa_t gpa;
    bool notify; /* the page has code, or is read-only: stores go through memory_store() */
};

/* --- watched data: debug registers and the debugger's watchpoints --- */

static unsigned watch_len(const struct cpu *cpu, unsigned i)
{
    static const uint8_t lens[4] = {1, 2, 8, 4};

    return lens[cpu->dr[7] >> (18 + 4 * i) & 3];
}

/* DR6 bits of the data breakpoints that [gva, gva+len) touches. */
static uint64_t watch_hits(const struct cpu *cpu, gva_t gva, uint64_t len, bool write)
{
    uint64_t hits = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned rw = cpu->dr[7] >> (16 + 4 * i) & 3, size = watch_len(cpu, i);
        gva_t at = cpu->dr[i] & ~(gva_t)(size - 1);

        if (!(cpu->dr[7] >> (2 * i) & 3) || !(rw == 3 || (rw == 1 && write)))
            continue;
        if (at <= gva + (len - 1) && gva <= at + (size - 1))
            hits |= UINT64_C(1) << i;
    }
    return hits;
}

static bool watching(const struct cpu *cpu)
{
    return unlikely((cpu->dr[7] & 0xff) || cpu->debug);
}

static bool page_is_watched(const struct cpu *cpu, gva_t gva)
{
    return watch_hits(cpu, gva & PAGE_MASK, PAGE_SIZE, true) ||
           cpu_debug_watched(cpu, gva & PAGE_MASK, PAGE_SIZE);
}

static enum debug_watch_kind watch_kind(unsigned access)
{
    if ((access & ACCESS_RMW) == ACCESS_RMW)
        return DEBUG_WATCH_ACCESS;
    return access & ACCESS_WRITE ? DEBUG_WATCH_WRITE : DEBUG_WATCH_READ;
}

static void note_watch(struct cpu *cpu, gva_t gva, unsigned len, unsigned access)
{
    if (!watching(cpu) || (access & (ACCESS_SYSTEM | ACCESS_FETCH)))
        return;
    if (cpu->debug)
        cpu_debug_note_access(cpu, gva, len, watch_kind(access));
    cpu->pending_db |= watch_hits(cpu, gva, len, access & ACCESS_WRITE);
    if (cpu->pending_db)
        atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
}

/* --- TLB fill --- */

static void enter_tlb(struct cpu *cpu, struct tlb_entry *e, gva_t gva, unsigned access,
                      const struct translation *t, void *host_page, bool slow_stores)
{
    uint64_t tag = tlb_tag(gva), invalid = tlb_invalid_tag(tlb_index(gva));
    uintptr_t addend = (uintptr_t)host_page - (uintptr_t)(gva & PAGE_MASK);
    struct tlb_space *space = cpu->tlb->space;
    size_t table = (size_t)(e - space->entries[0]) / TLB_SIZE;
    uint64_t bit = UINT64_C(1) << tlb_index(gva) % 64;
    uint64_t *global = &space->global[table][tlb_index(gva) / 64];

    if (e->addend != addend || (e->read_tag != tag && e->fetch_tag != tag)) {
        e->read_tag = e->write_tag = e->fetch_tag = invalid;
        e->addend = addend;
    }
    if (access & ACCESS_FETCH) {
        e->fetch_tag = tag;
    } else {
        e->read_tag = tag;
        e->write_tag = t->writable && !slow_stores ? tag : invalid;
    }
    *global = t->global ? *global | bit : *global & ~bit;
    space->used[table] = true;
    if (t->page_size > PAGE_SIZE)
        tlb_note_large(cpu->tlb, gva, t->page_size);
    cpu->stats.tlb_fills++;
}

static struct tlb_entry *entry_for(struct cpu *cpu, gva_t gva, unsigned access)
{
    struct tlb *tlb = cpu->tlb;
    struct tlb_entry *table = cpu->native.table;

    if (access & ACCESS_SYSTEM)
        table = tlb->space->entries[TLB_SUPER];
    else if ((access & ACCESS_FETCH) && table == tlb->checked)
        table = tlb->space->entries[TLB_USER];
    return &table[tlb_index(gva)];
}

static bool may_enter(const struct cpu *cpu, gva_t gva, const struct tlb_entry *e)
{
    if (e >= cpu->tlb->checked && e < cpu->tlb->checked + TLB_SIZE)
        return false;
    return !watching(cpu) || !page_is_watched(cpu, gva);
}

static bool is_apic_page(const struct cpu *cpu, gpa_t gpa)
{
    return cpu->apic.base && cpu->apic.base(cpu->apic.opaque) == (gpa & PAGE_MASK);
}

/* Translates; enters RAM pages into the TLB. False: page fault. */
static bool resolve(struct cpu *cpu, gva_t gva, unsigned access, struct target *target)
{
    struct tlb_entry *e = entry_for(cpu, gva, access);
    uint64_t tag = tlb_tag(gva);
    struct translation t;
    uint8_t *flags;

    target->notify = false;
    if (access & ACCESS_FETCH ? e->fetch_tag == tag
                              : (access & ACCESS_WRITE ? e->write_tag : e->read_tag) == tag) {
        target->host = (void *)(gva + e->addend);
        return true;
    }
    if (!paging_translate(cpu, gva, access, &t))
        return false;
    target->gpa = t.gpa & cpu->mem->a20_mask;
    target->host = memory_ram(cpu->mem, target->gpa, 1);
    if (!target->host || is_apic_page(cpu, target->gpa)) {
        target->host = NULL;
        return true;
    }
    flags = memory_page_flags(cpu->mem, target->gpa);
    target->notify = __atomic_load_n(flags, __ATOMIC_RELAXED) & (PAGE_CODE | PAGE_READONLY);
    if (may_enter(cpu, gva, e))
        enter_tlb(cpu, e, gva, access, &t, (void *)((uintptr_t)target->host & (uintptr_t)PAGE_MASK),
                  target->notify);
    return true;
}

/* --- MMIO --- */

static uint64_t apic_read(struct cpu *cpu, gpa_t gpa, unsigned size)
{
    uint64_t start = timeline_start(), v;

    bus_lock(cpu->bus);
    /* The registers are 32 bits wide at multiples of 16; parts of one are read out of it. */
    v = cpu->apic.mmio_read(cpu->apic.opaque, (uint32_t)(gpa & 0xffc)) >> (gpa & 3) * 8;
    bus_unlock(cpu->bus);
    v = size < 8 ? v & ((UINT64_C(1) << size * 8) - 1) : v;
    timeline_slice(TIMELINE_MMIO_READ, "lapic", start, gpa, size, v);
    return v;
}

static void apic_write(struct cpu *cpu, gpa_t gpa, uint64_t v, unsigned size)
{
    uint64_t start = timeline_start();

    if (size < 4 || (gpa & 3))
        return; /* undefined by the manual: ignored */
    bus_lock(cpu->bus);
    cpu->apic.mmio_write(cpu->apic.opaque, (uint32_t)(gpa & 0xfff), (uint32_t)v);
    bus_unlock(cpu->bus);
    timeline_slice(TIMELINE_MMIO_WRITE, "lapic", start, gpa, size, v);
}

static uint64_t mmio_read(struct cpu *cpu, gpa_t gpa, unsigned size)
{
    cpu->stats.mmio++;
    return is_apic_page(cpu, gpa) ? apic_read(cpu, gpa, size) : bus_mmio_read(cpu->bus, gpa, size);
}

static void mmio_write(struct cpu *cpu, gpa_t gpa, uint64_t v, unsigned size)
{
    cpu->stats.mmio++;
    if (is_apic_page(cpu, gpa))
        apic_write(cpu, gpa, v, size);
    else
        bus_mmio_write(cpu->bus, gpa, v, size);
}

/* The largest power of two, up to 8, that is left. */
static unsigned mmio_part(unsigned len)
{
    return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static void part_read(struct cpu *cpu, const struct target *t, uint8_t *buf, unsigned len)
{
    if (t->host) {
        memcpy(buf, t->host, len);
        return;
    }
    for (unsigned at = 0; at < len;) {
        unsigned size = mmio_part(len - at);
        uint64_t v = mmio_read(cpu, t->gpa + at, size);

        memcpy(buf + at, &v, size);
        at += size;
    }
}

static void part_write(struct cpu *cpu, const struct target *t, const uint8_t *buf, unsigned len)
{
    if (t->host && !t->notify) {
        memcpy(t->host, buf, len);
        return;
    }
    if (t->host) {
        memory_store(cpu->mem, t->gpa, buf, len);
        return;
    }
    for (unsigned at = 0; at < len;) {
        unsigned size = mmio_part(len - at);
        uint64_t v = 0;

        memcpy(&v, buf + at, size);
        mmio_write(cpu, t->gpa + at, v, size);
        at += size;
    }
}

/* --- linear addresses --- */

/* The address after the first `n` bytes; linear addresses outside long mode wrap at 4 GiB. */
static gva_t gva_after(const struct cpu *cpu, gva_t gva, unsigned n)
{
    return cpu->mode & MODE_LONG ? gva + n : (uint32_t)(gva + n);
}

static unsigned first_part(gva_t gva, unsigned len)
{
    uint64_t left = PAGE_SIZE - (gva & ~PAGE_MASK);

    return left < len ? (unsigned)left : len;
}

/* What #AC demands of an operand of `len` bytes (SDM vol. 3, table 6-7). */
static unsigned alignment_of(unsigned len)
{
    switch (len) {
    case 2:
    case 4:
    case 8:
    case 16: return len;
    case 32: return 16;
    case 10: return 8; /* an 80-bit value */
    case 14:
    case 94: return 2; /* x87 environments and states */
    case 28:
    case 108: return 4;
    default: return 1;
    }
}

/* SDM vol. 3, 6.15 (#AC): only explicit accesses at CPL 3, of more than a byte. */
bool lin_misaligned(const struct cpu *cpu, gva_t gva, unsigned len)
{
    return (cpu->mode & MODE_USER) && (cpu->cr0 & CR0_AM) && (cpu->rflags & FLAG_AC) &&
           (gva & (alignment_of(len) - 1));
}

static bool aligned(struct cpu *cpu, gva_t gva, unsigned len, unsigned access)
{
    if (likely(cpu->native.table != cpu->tlb->checked) ||
        (access & (ACCESS_SYSTEM | ACCESS_FETCH | ACCESS_ANY_ALIGNMENT)))
        return true;
    if (gva & (alignment_of(len) - 1))
        return cpu_raise_error(cpu, EXC_AC, 0);
    return true;
}

/* Resolves both parts of an access of up to a page. */
static bool resolve_span(struct cpu *cpu, gva_t gva, unsigned len, unsigned access,
                         struct target part[2])
{
    unsigned first = first_part(gva, len);

    if (!aligned(cpu, gva, len, access) || !resolve(cpu, gva, access, &part[0]))
        return false;
    if (first < len && !resolve(cpu, gva_after(cpu, gva, first), access, &part[1]))
        return false;
    note_watch(cpu, gva, len, access);
    return true;
}

bool lin_read(struct cpu *cpu, gva_t gva, void *buf, unsigned len, unsigned access)
{
    struct target part[2];
    unsigned first = first_part(gva, len);

    if (!resolve_span(cpu, gva, len, access, part))
        return false;
    part_read(cpu, &part[0], buf, first);
    if (first < len)
        part_read(cpu, &part[1], (uint8_t *)buf + first, len - first);
    return true;
}

bool lin_write(struct cpu *cpu, gva_t gva, const void *buf, unsigned len, unsigned access)
{
    struct target part[2];
    unsigned first = first_part(gva, len);

    if (!resolve_span(cpu, gva, len, access | ACCESS_WRITE, part))
        return false;
    part_write(cpu, &part[0], buf, first);
    if (first < len)
        part_write(cpu, &part[1], (const uint8_t *)buf + first, len - first);
    return true;
}

bool lin_probe(struct cpu *cpu, gva_t gva, unsigned len, unsigned access)
{
    struct target part[2];

    return len == 0 || resolve_span(cpu, gva, len, access, part);
}

bool lin_span(struct cpu *cpu, gva_t gva, unsigned access, void **host, unsigned *len)
{
    struct target t;

    *host = NULL;
    *len = (unsigned)(PAGE_SIZE - (gva & ~PAGE_MASK));
    if (!resolve(cpu, gva, access, &t))
        return false;
    if (!(t.notify && (access & ACCESS_WRITE)) &&
        ((access & ACCESS_FETCH) || !watching(cpu) || !page_is_watched(cpu, gva)) &&
        cpu->native.table != cpu->tlb->checked)
        *host = t.host;
    return true;
}

/* --- segments --- */

static bool seg_fault(struct cpu *cpu, enum seg seg)
{
    return cpu_raise_error(cpu, seg == SS ? EXC_SS : EXC_GP, 0);
}

static bool seg_allows(const struct segment *s, unsigned access)
{
    if (!(s->attr & SEG_P))
        return false;
    if (s->attr & SEG_CODE)
        return !(access & ACCESS_WRITE) && (s->attr & SEG_WRITABLE);
    return !(access & ACCESS_WRITE) || (s->attr & SEG_WRITABLE);
}

static bool seg_holds(const struct segment *s, uint32_t ea, unsigned len)
{
    uint64_t last = (uint64_t)ea + len - 1;

    if ((s->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN)
        return ea > s->limit && last <= (s->attr & SEG_DB ? UINT32_MAX : 0xffff);
    /* A flat segment has no end: an operand may run over 4 GiB to address 0. */
    return last <= s->limit || (s->limit == UINT32_MAX && s->base == 0);
}

bool seg_to_linear(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned len, unsigned access,
                   gva_t *gva)
{
    const struct segment *s = &cpu->seg[seg];

    if (cpu_is_64bit(cpu)) {
        *gva = seg >= FS ? ea + s->base : ea;
        if (unlikely(!cpu_canonical(cpu, *gva) || !cpu_canonical(cpu, *gva + len - 1)))
            return seg_fault(cpu, seg);
        /* AMD's processors look at the offset, too. */
        if (unlikely(seg >= FS && !cpu_canonical(cpu, ea) && cpu_model_is_amd(cpu->model)))
            return seg_fault(cpu, seg);
        return true;
    }
    if (!seg_allows(s, access) && (cpu->mode & MODE_PROTECTED))
        return seg_fault(cpu, seg);
    if (!seg_holds(s, (uint32_t)ea, len))
        return seg_fault(cpu, seg);
    *gva = (uint32_t)(s->base + ea);
    return true;
}

bool virt_read(struct cpu *cpu, enum seg seg, uint64_t ea, void *buf, unsigned len)
{
    gva_t gva;
    const void *host;

    if (!seg_to_linear(cpu, seg, ea, len, ACCESS_READ, &gva))
        return false;
    host = tlb_lookup_read(cpu, gva, len);
    if (unlikely(!host))
        return lin_read(cpu, gva, buf, len, ACCESS_READ);
    memcpy(buf, host, len);
    return true;
}

bool virt_write(struct cpu *cpu, enum seg seg, uint64_t ea, const void *buf, unsigned len)
{
    gva_t gva;
    void *host;

    if (!seg_to_linear(cpu, seg, ea, len, ACCESS_WRITE, &gva))
        return false;
    host = tlb_lookup_write(cpu, gva, len);
    if (unlikely(!host))
        return lin_write(cpu, gva, buf, len, ACCESS_WRITE);
    memcpy(host, buf, len);
    return true;
}

bool virt_read_int(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned size, uint64_t *v)
{
    uint64_t value = 0;

    if (!virt_read(cpu, seg, ea, &value, size))
        return false;
    *v = value;
    return true;
}

bool virt_write_int(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned size, uint64_t v)
{
    return virt_write(cpu, seg, ea, &v, size);
}

bool virt_rmw(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned len, void **host)
{
    struct target part[2];
    gva_t gva;

    if (!seg_to_linear(cpu, seg, ea, len, ACCESS_RMW, &gva) ||
        !resolve_span(cpu, gva, len, ACCESS_RMW, part))
        return false;
    *host = first_part(gva, len) < len || part[0].notify ? NULL : part[0].host;
    return true;
}

/* --- stack --- */

uint64_t stack_mask(const struct cpu *cpu)
{
    if (cpu_is_64bit(cpu))
        return UINT64_MAX;
    return cpu->mode & MODE_SS32 ? UINT32_MAX : 0xffff;
}

void stack_set_pointer(struct cpu *cpu, uint64_t v)
{
    gpr_write(cpu, RSP, cpu_is_64bit(cpu) ? 8 : cpu->mode & MODE_SS32 ? 4 : 2, false, v);
}

bool stack_push(struct cpu *cpu, uint64_t v, unsigned size)
{
    uint64_t sp = (cpu->gpr[RSP] - size) & stack_mask(cpu);

    if (!virt_write_int(cpu, SS, sp, size, v))
        return false;
    stack_set_pointer(cpu, sp);
    return true;
}

bool stack_pop(struct cpu *cpu, uint64_t *v, unsigned size)
{
    uint64_t sp = cpu->gpr[RSP] & stack_mask(cpu);

    if (!virt_read_int(cpu, SS, sp, size, v))
        return false;
    stack_set_pointer(cpu, sp + size);
    return true;
}

/* --- operands --- */

bool insn_read_rm(struct cpu *cpu, const struct insn *in, uint64_t *v)
{
    if (in->flags & INSN_MEM)
        return virt_read_int(cpu, in->seg, insn_ea(cpu, in), in->osize, v);
    *v = gpr_read(cpu, in->rm, in->osize, in->flags & INSN_HIGH_RM);
    return true;
}

bool insn_write_rm(struct cpu *cpu, const struct insn *in, uint64_t v)
{
    if (in->flags & INSN_MEM)
        return virt_write_int(cpu, in->seg, insn_ea(cpu, in), in->osize, v);
    gpr_write(cpu, in->rm, in->osize, in->flags & INSN_HIGH_RM, v);
    return true;
}
