/* Frames of several pushes (SDM vol. 3, 6.12 and 5.8.5). */
#include "cpu/frame.h"

#include "cpu/access.h"
#include "cpu/segment.h"
#include "cpu/tlb.h"

#include <string.h>

void frame_init_stack(struct frame *f, const struct segment *ss, uint64_t sp, bool wide,
                      unsigned cpl, unsigned size, unsigned ext)
{
    f->ss = *ss;
    f->sp = sp;
    f->mask = wide ? UINT64_MAX : ss->attr & SEG_DB ? UINT32_MAX : 0xffff;
    f->cpl = cpl;
    f->error = (ss->sel & ~SEL_RPL) | ext;
    f->size = size;
    f->count = 0;
}

void frame_init_current(struct frame *f, const struct cpu *cpu, unsigned size, unsigned ext)
{
    frame_init_stack(f, &cpu->seg[SS], cpu->gpr[RSP], cpu_is_64bit(cpu), cpu->cpl, size, ext);
    f->error = ext;
}

/* Do `len` bytes at `offset` lie in the stack segment? */
static bool fits(const struct cpu *cpu, const struct frame *f, uint64_t offset, unsigned len)
{
    uint64_t last = offset + len - 1;

    if (f->mask == UINT64_MAX)
        return cpu_canonical(cpu, offset) && cpu_canonical(cpu, last);
    if ((f->ss.attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN)
        return offset > f->ss.limit && last <= (f->ss.attr & SEG_DB ? UINT32_MAX : 0xffff);
    return last <= f->ss.limit || (f->ss.limit == UINT32_MAX && f->ss.base == 0);
}

static gva_t frame_linear(const struct frame *f, uint64_t offset)
{
    return f->mask == UINT64_MAX ? offset : (uint32_t)(f->ss.base + offset);
}

/* The usual case: the frame doesn't wrap at the end of a 16-bit or 32-bit stack. */
static bool write_whole(struct cpu *cpu, struct frame *f, uint64_t offset)
{
    uint8_t bytes[FRAME_ITEMS * 8];
    unsigned len = f->count * f->size;

    if (!fits(cpu, f, offset, len))
        return cpu_raise_error(cpu, EXC_SS, f->error);
    for (unsigned i = 0; i < f->count; i++)
        memcpy(bytes + (f->count - 1 - i) * f->size, &f->item[i], f->size);
    return lin_write(cpu, frame_linear(f, offset), bytes, len, ACCESS_WRITE);
}

/* Item by item: when it wraps, or when alignment is checked for each. */
static bool write_items(struct cpu *cpu, struct frame *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        uint64_t offset = (f->sp - (i + 1) * f->size) & f->mask;

        if (!fits(cpu, f, offset, f->size))
            return cpu_raise_error(cpu, EXC_SS, f->error);
        if (!lin_probe(cpu, frame_linear(f, offset), f->size, ACCESS_WRITE))
            return false;
    }
    for (unsigned i = 0; i < f->count; i++) {
        uint64_t offset = (f->sp - (i + 1) * f->size) & f->mask;

        if (!lin_write(cpu, frame_linear(f, offset), &f->item[i], f->size, ACCESS_WRITE))
            return false;
    }
    return true;
}

static bool write_frame(struct cpu *cpu, struct frame *f)
{
    unsigned len = f->count * f->size;
    uint64_t offset = (f->sp - len) & f->mask;
    bool wraps = ((offset + len - 1) & f->mask) != offset + len - 1;

    return wraps || f->cpl == 3 ? write_items(cpu, f) : write_whole(cpu, f, offset);
}

bool frame_write(struct cpu *cpu, struct frame *f)
{
    uint8_t cpl = cpu->cpl;
    bool done;

    /* The pushes are made with the rights of the stack's privilege. */
    if (f->cpl != cpl) {
        cpu->cpl = (uint8_t)f->cpl;
        tlb_select(cpu);
    }
    done = write_frame(cpu, f);
    if (f->cpl != cpl) {
        cpu->cpl = cpl;
        tlb_select(cpu);
    }
    if (done)
        f->sp = (f->sp - f->count * f->size) & f->mask;
    return done;
}

bool frame_peek(struct cpu *cpu, unsigned index, unsigned size, unsigned skip, uint64_t *v)
{
    uint64_t offset = (cpu->gpr[RSP] + (uint64_t)index * size + skip) & stack_mask(cpu);

    return virt_read_int(cpu, SS, offset, size, v);
}
