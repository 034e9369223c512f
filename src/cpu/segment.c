/* Descriptors and segment registers (SDM vol. 3, 3.4 and 5.2-5.7).
 *
 *   63      56 55 54 53 52 51   48 47 46 45 44 43  40 39     16 15      0
 *   | base    | G|DB| L|AV| limit | P| DPL | S| type | base    | limit    |
 *   | 31:24   |  |  |  |L | 19:16 |  |     |  |      | 23:0    | 15:0     |
 *
 * Accessed and busy bits are written with a store of the one byte that holds the type, under
 * supervisor rights. When FS or GS are loaded with a null selector their base becomes 0; that is
 * what Intel's processors do, and AMD's that report NullSelectorClearsBase. */
#include "cpu/segment.h"

#include "cpu/access.h"

#define TYPE_BYTE 5 /* offset of the byte with P, DPL, S and type */
#define ATTR_VM86 (SEG_P | SEG_DPL | SEG_S | SEG_WRITABLE | SEG_ACCESSED)
#define ATTR_REAL (SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)

bool segment_fault(struct cpu *cpu, enum vector vector, uint16_t sel, unsigned ext)
{
    return cpu_raise_error(cpu, vector, (sel & ~SEL_RPL) | ext);
}

/* --- descriptors in memory --- */

bool descriptor_find(const struct cpu *cpu, uint16_t sel, unsigned size, gva_t *address)
{
    uint64_t base = cpu->gdtr.base, limit = cpu->gdtr.limit;
    unsigned offset = sel & ~(SEL_RPL | SEL_TI);

    if (sel & SEL_TI) {
        if (!(cpu->ldtr.attr & SEG_P))
            return false;
        base = cpu->ldtr.base;
        limit = cpu->ldtr.limit;
    }
    *address = base + offset;
    return offset + size - 1 <= limit;
}

bool descriptor_fetch(struct cpu *cpu, gva_t address, bool wide, struct descriptor *d)
{
    uint64_t raw[2] = {0, 0};

    if (!lin_read(cpu, address, raw, wide ? 16 : 8, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    d->address = address;
    d->low = raw[0];
    d->high = raw[1];
    return true;
}

/* The second half of a system descriptor in long mode. */
static bool read_upper_half(struct cpu *cpu, uint16_t sel, enum vector vector, unsigned ext,
                            struct descriptor *d)
{
    gva_t address;

    if (!descriptor_find(cpu, sel, 16, &address))
        return segment_fault(cpu, vector, sel, ext);
    if (!descriptor_fetch(cpu, address, true, d))
        return false;
    if (d->high >> 40 & 0x1f)
        return segment_fault(cpu, vector, sel, ext);
    return true;
}

bool descriptor_read(struct cpu *cpu, uint16_t sel, enum vector vector, unsigned ext,
                     struct descriptor *d)
{
    gva_t address;

    if (!descriptor_find(cpu, sel, 8, &address))
        return segment_fault(cpu, vector, sel, ext);
    if (!descriptor_fetch(cpu, address, false, d))
        return false;
    if ((cpu->efer & EFER_LMA) && !(descriptor_attr(d) & SEG_S))
        return read_upper_half(cpu, sel, vector, ext, d);
    return true;
}

bool descriptor_retype(struct cpu *cpu, struct descriptor *d, unsigned set, unsigned clear)
{
    uint64_t low = (d->low | (uint64_t)set << 40) & ~((uint64_t)clear << 40);
    uint8_t byte = (uint8_t)(low >> 40);

    if (low == d->low)
        return true;
    if (!lin_write(cpu, d->address + TYPE_BYTE, &byte, 1, ACCESS_RMW | ACCESS_SYSTEM))
        return false;
    d->low = low;
    return true;
}

/* --- contents of segment registers --- */

struct segment segment_from(const struct descriptor *d, uint16_t sel)
{
    uint32_t limit = (uint32_t)((d->low & 0xffff) | (d->low >> 32 & 0xf0000));
    uint16_t attr = descriptor_attr(d);
    struct segment s = {
        .base = (d->low >> 16 & 0xffffff) | (d->low >> 32 & 0xff000000) | d->high << 32,
        .limit = attr & SEG_G ? limit << 12 | 0xfff : limit,
        .sel = sel,
        .attr = attr,
    };

    return s;
}

struct segment segment_null(uint16_t sel)
{
    return (struct segment){.sel = sel};
}

struct segment segment_vm86(uint16_t sel)
{
    return (struct segment){
        .base = (uint64_t)sel << 4, .limit = 0xffff, .sel = sel, .attr = ATTR_VM86};
}

/* --- checks --- */

/* Readable by a program: data, or code with the read bit. */
static bool is_readable(uint16_t attr)
{
    return (attr & SEG_S) && (!(attr & SEG_CODE) || (attr & SEG_WRITABLE));
}

bool segment_check_data(struct cpu *cpu, uint16_t sel, unsigned cpl, enum vector vector,
                        struct segment *out)
{
    struct descriptor d;
    unsigned dpl;

    if (selector_is_null(sel)) {
        *out = segment_null(sel);
        return true;
    }
    if (!descriptor_read(cpu, sel, vector, 0, &d))
        return false;
    dpl = descriptor_dpl(&d);
    if (!is_readable(descriptor_attr(&d)))
        return segment_fault(cpu, vector, sel, 0);
    if (!descriptor_is_conforming(&d) && (selector_rpl(sel) > dpl || cpl > dpl))
        return segment_fault(cpu, vector, sel, 0);
    if (!(descriptor_attr(&d) & SEG_P))
        return segment_fault(cpu, EXC_NP, sel, 0);
    if (!descriptor_retype(cpu, &d, SEG_ACCESSED, 0))
        return false;
    *out = segment_from(&d, sel);
    return true;
}

bool segment_check_stack(struct cpu *cpu, uint16_t sel, unsigned cpl, enum vector vector,
                         unsigned ext, struct segment *out)
{
    const uint16_t kind = SEG_S | SEG_CODE | SEG_WRITABLE;
    struct descriptor d;

    if (selector_is_null(sel))
        return segment_fault(cpu, vector, 0, ext);
    if (!descriptor_read(cpu, sel, vector, ext, &d))
        return false;
    if (selector_rpl(sel) != cpl || descriptor_dpl(&d) != cpl ||
        (descriptor_attr(&d) & kind) != (SEG_S | SEG_WRITABLE))
        return segment_fault(cpu, vector, sel, ext);
    if (!(descriptor_attr(&d) & SEG_P))
        return segment_fault(cpu, EXC_SS, sel, ext);
    if (!descriptor_retype(cpu, &d, SEG_ACCESSED, 0))
        return false;
    *out = segment_from(&d, sel);
    return true;
}

bool segment_check_ldt(struct cpu *cpu, uint16_t sel, enum vector vector, struct segment *out)
{
    struct descriptor d;

    if (selector_is_null(sel)) {
        *out = segment_null(sel);
        return true;
    }
    if (sel & SEL_TI)
        return segment_fault(cpu, vector, sel, 0);
    if (!descriptor_read(cpu, sel, vector, 0, &d))
        return false;
    if (descriptor_system_type(&d) != SYS_LDT)
        return segment_fault(cpu, vector, sel, 0);
    if (!(descriptor_attr(&d) & SEG_P))
        return segment_fault(cpu, vector == EXC_TS ? EXC_TS : EXC_NP, sel, 0);
    *out = segment_from(&d, sel);
    if (!cpu_canonical(cpu, out->base))
        return segment_fault(cpu, vector, sel, 0);
    return true;
}

bool segment_take_code(struct cpu *cpu, struct descriptor *d, uint16_t sel, unsigned cpl,
                       struct segment *out)
{
    if (!descriptor_retype(cpu, d, SEG_ACCESSED, 0))
        return false;
    *out = segment_from(d, (uint16_t)((sel & ~SEL_RPL) | cpl));
    return true;
}

bool segment_check_rip(struct cpu *cpu, const struct segment *cs, uint64_t rip, unsigned ext)
{
    bool good = segment_is_64bit_code(cpu, cs) ? cpu_canonical(cpu, rip) : rip <= cs->limit;

    return good || cpu_raise_gp(cpu, ext);
}

/* --- loading --- */

void segment_load_real(struct cpu *cpu, enum seg seg, uint16_t sel)
{
    struct segment *s = &cpu->seg[seg];

    if (cpu->rflags & FLAG_VM) {
        *s = segment_vm86(sel);
        return;
    }
    /* Limit and attributes survive in real mode ("unreal" mode lives on that), but a segment that
     * protected mode left null becomes usable. */
    if (!(s->attr & SEG_P)) {
        s->limit = 0xffff;
        s->attr = ATTR_REAL;
    }
    s->sel = sel;
    s->base = (uint64_t)sel << 4;
}

static bool load_stack(struct cpu *cpu, uint16_t sel)
{
    if (selector_is_null(sel) && cpu_is_64bit(cpu) && cpu->cpl < 3 &&
        selector_rpl(sel) == cpu->cpl) {
        cpu->seg[SS] = segment_null(sel);
        return true;
    }
    return segment_check_stack(cpu, sel, cpu->cpl, EXC_GP, 0, &cpu->seg[SS]);
}

bool segment_load(struct cpu *cpu, enum seg seg, uint16_t sel)
{
    if (!(cpu->mode & MODE_PROTECTED))
        segment_load_real(cpu, seg, sel);
    else if (seg == SS ? !load_stack(cpu, sel)
                       : !segment_check_data(cpu, sel, cpu->cpl, EXC_GP, &cpu->seg[seg]))
        return false;
    cpu_update_mode(cpu);
    return true;
}

void segment_drop_inner(struct cpu *cpu, unsigned cpl)
{
    static const uint8_t data[] = {ES, DS, FS, GS};

    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct segment *s = &cpu->seg[data[i]];
        bool conforming = (s->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == (SEG_CODE | SEG_EXPAND_DOWN);

        if ((s->attr & SEG_P) && !conforming && (s->attr & SEG_DPL) >> SEG_DPL_SHIFT < cpl)
            *s = segment_null(0);
        else if (selector_is_null(s->sel))
            s->sel = 0; /* 1, 2, 3 do not stay, as processors have it; the base does */
    }
}
