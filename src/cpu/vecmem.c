/* vecmem.c - masked moves and gathers (SDM vol. 2: MASKMOVQ, MASKMOVDQU, VMASKMOV, VPMASKMOV,
 * VPGATHER, VGATHER).
 *
 * What these have in common: elements that the mask leaves out are not accessed and can't fault.
 * Stores check all of their elements before they change the first. Gathers may stop at a fault with
 * the first elements done, whose mask elements are then zero, and go on from there; the rest of
 * both registers is as it was (found so on an AMD Zen processor). */
#include "cpu/vecmem.h"

#include "cpu/access.h"
#include "cpu/x87env.h"

#include <string.h>

static uint64_t truncate_address(uint64_t ea, unsigned asize)
{
    return ea & (UINT64_MAX >> (64 - 8 * asize));
}

static void clear_from(union vec *v, unsigned byte)
{
    memset(v->b + byte, 0, sizeof v->b - byte);
}

/* --- elements of 1, 4 or 8 bytes --- */

static bool selected(const uint8_t *mask, unsigned i, unsigned size)
{
    return mask[i * size + size - 1] & 0x80;
}

/* Stores the selected ones of `count` elements to consecutive addresses. */
static bool store_masked(struct cpu *cpu, const struct insn *in, uint64_t ea, const uint8_t *data,
                         const uint8_t *mask, unsigned count, unsigned size)
{
    gva_t gva;

    for (unsigned i = 0; i < count; i++) {
        uint64_t at = ea + i * size; /* an operand does not wrap around */

        if (selected(mask, i, size) &&
            (!seg_to_linear(cpu, in->seg, at, size, ACCESS_WRITE, &gva) ||
             !lin_probe(cpu, gva, size, ACCESS_WRITE | ACCESS_ANY_ALIGNMENT)))
            return false;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = ea + i * size; /* an operand does not wrap around */

        if (selected(mask, i, size) &&
            (!seg_to_linear(cpu, in->seg, at, size, ACCESS_WRITE, &gva) ||
             !lin_write(cpu, gva, data + i * size, size, ACCESS_WRITE | ACCESS_ANY_ALIGNMENT)))
            return false;
    }
    return true;
}

/* Loads the selected ones; the others are zero. */
static bool load_masked(struct cpu *cpu, const struct insn *in, uint64_t ea, uint8_t *data,
                        const uint8_t *mask, unsigned count, unsigned size)
{
    gva_t gva;

    memset(data, 0, count * size);
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = ea + i * size; /* an operand does not wrap around */

        if (selected(mask, i, size) &&
            (!seg_to_linear(cpu, in->seg, at, size, ACCESS_READ, &gva) ||
             !lin_read(cpu, gva, data + i * size, size, ACCESS_READ | ACCESS_ANY_ALIGNMENT)))
            return false;
    }
    return true;
}

/* --- byte masks --- */

/* The processor translates the whole operand, whatever the mask; its alignment counts only if there
 * is something to store. */
static bool probe_masked(struct cpu *cpu, const struct insn *in, uint64_t ea, const uint8_t *mask,
                         unsigned len)
{
    unsigned access = ACCESS_WRITE | ACCESS_ANY_ALIGNMENT;
    gva_t gva;

    for (unsigned i = 0; i < len; i++)
        if (selected(mask, i, 1))
            access = ACCESS_WRITE;

    return seg_to_linear(cpu, in->seg, ea, len, ACCESS_WRITE, &gva) &&
           lin_probe(cpu, gva, len, access);
}

bool op_maskmovq(struct cpu *cpu, const struct insn *in)
{
    uint64_t ea = truncate_address(cpu->gpr[RDI], in->asize);
    uint8_t data[8], mask[8];

    if (x87_exception_pending(cpu))
        return cpu_raise(cpu, EXC_MF);
    cpu_x87_sync(cpu);
    memcpy(data, x87_mmx(cpu, in->reg & 7), 8);
    memcpy(mask, x87_mmx(cpu, in->rm & 7), 8);
    /* As with every MMX instruction TOP is 0 then and no register empty; processors do that even
     * if the store faults. */
    x87_set_top(cpu, 0);
    cpu->fx[4] = 0xff;
    return probe_masked(cpu, in, ea, mask, 8) && store_masked(cpu, in, ea, data, mask, 8, 1);
}

bool op_maskmovdqu(struct cpu *cpu, const struct insn *in)
{
    uint64_t ea = truncate_address(cpu->gpr[RDI], in->asize);

    if (!probe_masked(cpu, in, ea, cpu->ymm[in->rm & 15].b, 16))
        return false;
    return store_masked(cpu, in, ea, cpu->ymm[in->reg & 15].b, cpu->ymm[in->rm & 15].b, 16, 1);
}

/* --- VMASKMOV --- */

/* Opcodes of map 0F38: 2C..2F are VMASKMOVPS, PD (stores: bit 1); 8C and 8E VPMASKMOVD, Q by W. */
static unsigned vmaskmov_element(const struct insn *in)
{
    bool wide = in->opcode < 0x80 ? in->opcode & 1 : in->flags & INSN_REX_W;

    return wide ? 8 : 4;
}

bool op_vmaskmov(struct cpu *cpu, const struct insn *in)
{
    unsigned size = vmaskmov_element(in), len = in->flags & INSN_VEX_L ? 32 : 16;
    const uint8_t *mask = cpu->ymm[in->vvvv & 15].b;
    union vec *reg = &cpu->ymm[in->reg & 15];
    uint64_t ea = insn_ea(cpu, in);
    union vec result;

    if (in->opcode & 2)
        return store_masked(cpu, in, ea, reg->b, mask, len / size, size);
    if (!load_masked(cpu, in, ea, result.b, mask, len / size, size))
        return false;
    clear_from(&result, len);
    *reg = result;
    return true;
}

/* --- gathers --- */

/* The shape of a gather: opcodes 90 and 92 have 4-byte indices, 91 and 93 8-byte ones; W says the
 * size of the elements. The wider of the two fills the vector length. */
struct gather {
    unsigned index_size, size, count;
};

static struct gather gather_shape(const struct insn *in)
{
    unsigned len = in->flags & INSN_VEX_L ? 32 : 16;
    struct gather g;

    g.index_size = in->opcode & 1 ? 8 : 4;
    g.size = in->flags & INSN_REX_W ? 8 : 4;
    g.count = len / (g.index_size > g.size ? g.index_size : g.size);
    return g;
}

/* The address of element i: in->index is the number of the vector register with the indices. */
static uint64_t gather_address(const struct cpu *cpu, const struct insn *in, const struct gather *g,
                               unsigned i)
{
    const union vec *v = &cpu->ymm[in->index & 15];
    uint64_t index = g->index_size == 8 ? v->q[i] : (uint64_t)(int32_t)v->d[i];
    uint64_t ea = cpu->gpr[in->base] + (index << in->scale) + (uint64_t)in->disp;

    return truncate_address(ea, in->asize);
}

bool op_gather(struct cpu *cpu, const struct insn *in)
{
    struct gather g = gather_shape(in);
    union vec *dst = &cpu->ymm[in->reg & 15], *mask = &cpu->ymm[in->vvvv & 15];
    unsigned index = in->index & 15;

    if (index == in->reg || index == in->vvvv || in->reg == in->vvvv)
        return cpu_raise_ud(cpu);
    for (unsigned i = 0; i < g.count; i++) {
        uint8_t element[8];

        if (selected(mask->b, i, g.size)) {
            if (!virt_read(cpu, in->seg, gather_address(cpu, in, &g, i), element, g.size))
                return false;
            memcpy(dst->b + i * g.size, element, g.size);
        }
        memset(mask->b + i * g.size, 0, g.size);
    }
    clear_from(dst, g.count * g.size);
    clear_from(mask, 0);
    return true;
}
