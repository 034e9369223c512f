/* See decode_cache.h. Where the beginning of an instruction ends follows from which opcodes have a
 * ModRM byte. A result is kept only if what follows the beginning is exactly
 * the displacement and the immediates that the decoder found, so that a wrong idea of the beginning
 * costs time and nothing else. */
#include "cpu/decode_cache.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_BITS 12
#define MAX_OPERANDS 6 /* of an instruction that is kept, hidden ones included */

/* The part of struct decoded that counts when there are no more operands than that. */
struct kept {
    uint64_t bytes;
    uint32_t mode;
    uint8_t len; /* 0: empty */
    uint8_t d[offsetof(struct decoded, ops) + MAX_OPERANDS * sizeof(ZydisDecodedOperand)];
};

struct decode_cache {
    struct kept kept[1u << CACHE_BITS];
};

struct decode_cache *decode_cache_new(void)
{
    return calloc(1, sizeof(struct decode_cache)); /* pages come as they are used */
}

void decode_cache_free(struct decode_cache *cache)
{
    free(cache);
}

/* --- forms --- */

/* SDM vol. 2, table A-2. */
static bool has_modrm_default(unsigned opcode)
{
    switch (opcode) {
    case 0x00 ... 0x3f: return (opcode & 7) < 4;
    case 0x63:
    case 0x69:
    case 0x6b:
    case 0x80 ... 0x8f:
    case 0xc0 ... 0xc1:
    case 0xc6 ... 0xc7:
    case 0xd0 ... 0xd3:
    case 0xd8 ... 0xdf:
    case 0xf6 ... 0xf7:
    case 0xfe ... 0xff: return true;
    default: return false;
    }
}

/* Table A-3. */
static bool has_modrm_0f(unsigned opcode)
{
    switch (opcode) {
    case 0x04 ... 0x0c:
    case 0x0e:
    case 0x30 ... 0x37:
    case 0x77:
    case 0x80 ... 0x8f:
    case 0xa0 ... 0xa2:
    case 0xa8 ... 0xaa:
    case 0xc8 ... 0xcf: return false;
    default: return true;
    }
}

static bool is_prefix(unsigned byte)
{
    switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64 ... 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3: return true;
    default: return false;
    }
}

#define BEGINNING_MAX 8

/* The length of an instruction's beginning, by its first bytes, which are followed by zeros. */
static unsigned beginning(const uint8_t *code, bool code64)
{
    unsigned n = 0, vex;
    bool modrm;

    while (n < 4 && is_prefix(code[n]))
        n++;
    if (code64 && (code[n] & 0xf0) == 0x40)
        n++;
    vex = code[n] == 0xc5 ? 2 : code[n] == 0xc4 ? 3 : 0;
    if (vex) {
        n += vex + 1;
        modrm = true;
    } else if (code[n] != 0x0f) {
        modrm = has_modrm_default(code[n++]);
    } else if (code[n + 1] == 0x38 || code[n + 1] == 0x3a) {
        n += 3;
        modrm = true;
    } else {
        modrm =
            code[n + 1] != 0x0f && has_modrm_0f(code[n + 1]); /* 0F 0F has its opcode at its end */
        n += 2;
    }
    if (!modrm)
        return n;
    return n + 1 + (code[n] < 0xc0 && (code[n] & 7) == 4);
}

struct insn_form decode_form(const struct cpu *cpu, const uint8_t *code, unsigned avail)
{
    struct insn_form form = {.mode = cpu->mode};
    uint8_t first[2 * BEGINNING_MAX] = {0};

    if (avail >= BEGINNING_MAX)
        memcpy(first, code, BEGINNING_MAX);
    else
        memcpy(first, code, avail);
    form.len = (uint8_t)beginning(first, cpu_is_64bit(cpu));
    if (form.len > BEGINNING_MAX || form.len > avail) {
        form.len = 0;
        return form;
    }
    memcpy(&form.bytes, first, sizeof form.bytes);
    form.bytes &= UINT64_MAX >> (64 - 8 * form.len);
    return form;
}

static unsigned slot_of(const struct insn_form *form)
{
    return (unsigned)((form->bytes ^ form->mode) * UINT64_C(0x9E3779B97F4A7C15) >>
                      (64 - CACHE_BITS));
}

/* --- displacement and immediates --- */

static int64_t read_signed(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1: return (int8_t)*p;
    case 2: return (int16_t)(p[0] | p[1] << 8);
    case 4: {
        int32_t v;

        memcpy(&v, p, 4);
        return v;
    }
    default: {
        int64_t v;

        memcpy(&v, p, 8);
        return v;
    }
    }
}

/* Cut to `size` bytes. */
static uint64_t read_unsigned(const uint8_t *p, unsigned size)
{
    return (uint64_t)read_signed(p, size) & UINT64_MAX >> (64 - 8 * size);
}

static void read_displacement(struct decoded *d, const uint8_t *code)
{
    ZydisDecodedOperand *op = d->ops;

    d->zi.raw.disp.value = read_signed(code + d->zi.raw.disp.offset, d->zi.raw.disp.size / 8);
    for (unsigned i = 0; i < d->zi.operand_count; i++, op++)
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.disp.has_displacement) {
            op->mem.disp.value = d->zi.raw.disp.value;
            d->in.disp = d->zi.raw.disp.value;
        }
}

static void read_immediates(struct decoded *d, const uint8_t *code)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 2 && d->zi.raw.imm[i].size; i++) {
        unsigned size = d->zi.raw.imm[i].size / 8;
        const uint8_t *at = code + d->zi.raw.imm[i].offset;

        if (d->zi.raw.imm[i].is_signed)
            d->zi.raw.imm[i].value.s = read_signed(at, size);
        else
            d->zi.raw.imm[i].value.u = read_unsigned(at, size);
    }
    for (unsigned i = 0; i < d->zi.operand_count && n < 2; i++)
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
            d->ops[i].encoding != ZYDIS_OPERAND_ENCODING_NONE)
            d->ops[i].imm.value.u = d->zi.raw.imm[n++].value.u;
    d->in.imm = d->zi.raw.imm[0].value.s;
    d->in.imm2 = (uint16_t)d->zi.raw.imm[1].value.u;
}

/* --- the table --- */

bool decode_cache_get(const struct decode_cache *cache, const struct insn_form *form,
                      const uint8_t *code, unsigned avail, struct decoded *d)
{
    const struct kept *k = &cache->kept[slot_of(form)];
    unsigned n;

    if (k->len != form->len || k->bytes != form->bytes || k->mode != form->mode || !k->len)
        return false;
    memcpy(d, k->d, offsetof(struct decoded, ops));
    if (d->in.len > avail)
        return false;
    n = d->zi.operand_count < 2 ? 2 : d->zi.operand_count; /* the first two may be looked at */
    memcpy(d->ops, k->d + offsetof(struct decoded, ops), n * sizeof *d->ops);
    if (d->zi.raw.disp.size)
        read_displacement(d, code);
    if (d->zi.raw.imm[0].size)
        read_immediates(d, code);
    return true;
}

/* Is what follows the beginning the displacement and the immediates, and nothing else? */
static bool is_divided(const struct insn_form *form, const ZydisDecodedInstruction *zi)
{
    unsigned end = form->len;

    if (zi->raw.disp.size && zi->raw.disp.offset != end)
        return false;
    end += zi->raw.disp.size / 8;
    for (unsigned i = 0; i < 2; i++) {
        if (zi->raw.imm[i].size && zi->raw.imm[i].offset != end)
            return false;
        end += zi->raw.imm[i].size / 8;
    }
    return end == zi->length;
}

/* Do operands depend on immediates otherwise than by their value? */
static bool is_plain(const struct decoded *d)
{
    for (unsigned i = 0; i < d->zi.operand_count; i++)
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_POINTER ||
            d->ops[i].encoding == ZYDIS_OPERAND_ENCODING_IS4)
            return false;
    return true;
}

void decode_cache_put(struct decode_cache *cache, const struct insn_form *form,
                      const struct decoded *d)
{
    struct kept *k = &cache->kept[slot_of(form)];

    if (!form->len || d->zi.operand_count > MAX_OPERANDS || !is_divided(form, &d->zi) ||
        !is_plain(d))
        return;
    k->bytes = form->bytes;
    k->mode = form->mode;
    k->len = form->len;
    memcpy(k->d, d, sizeof k->d);
}
