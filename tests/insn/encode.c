/* encode.c - see encode.h and form_encode() in forms.h. */
#include "encode.h"

#include <string.h>

/* The fields of an encoding that the variant leaves open. */
struct choice {
    unsigned mode;
    unsigned mod, reg, rm; /* ModRM, without the bits of REX and VEX */
    bool r, x, b;          /* REX or VEX, not inverted */
    bool rex;              /* a REX prefix even if it has no bits */
    bool short_vex;
    unsigned vvvv; /* not inverted: 0 is 1111b in the byte */
    uint8_t seg_prefix, asize_prefix, extra_prefix;
};

struct out {
    uint8_t *bytes;
    unsigned len;
};

static void put(struct out *o, unsigned byte)
{
    if (o->len < MAX_INSN_BYTES)
        o->bytes[o->len++] = (uint8_t)byte;
}

static void put_map(struct out *o, unsigned map)
{
    if (map)
        put(o, 0x0f);
    if (map == 2)
        put(o, 0x38);
    if (map == 3)
        put(o, 0x3a);
}

static void put_legacy(struct out *o, const struct variant *v, const struct choice *c)
{
    unsigned rex =
        0x40 | (unsigned)v->w << 3 | (unsigned)c->r << 2 | (unsigned)c->x << 1 | (unsigned)c->b;

    if (v->lock)
        put(o, 0xf0);
    if (v->opsize)
        put(o, 0x66);
    if (v->prefix)
        put(o, v->prefix);
    if (c->mode == 64 && (c->rex || rex != 0x40))
        put(o, rex);
    put_map(o, v->map);
    put(o, v->opcode);
}

static unsigned vex_pp(unsigned prefix)
{
    return prefix == 0x66 ? 1 : prefix == 0xf3 ? 2 : prefix == 0xf2 ? 3 : 0;
}

static void put_vex(struct out *o, const struct variant *v, const struct choice *c)
{
    unsigned last = (~c->vvvv & 15) << 3 | (unsigned)v->l << 2 | vex_pp(v->prefix);

    if (c->short_vex && v->map == 1 && !v->w && !c->x && !c->b) {
        put(o, 0xc5);
        put(o, (unsigned)!c->r << 7 | last);
    } else {
        put(o, 0xc4);
        put(o, (unsigned)!c->r << 7 | (unsigned)!c->x << 6 | (unsigned)!c->b << 5 | v->map);
        put(o, (unsigned)v->w << 7 | last);
    }
    put(o, v->opcode);
}

static void put_all(struct out *o, const struct variant *v, const struct choice *c)
{
    if (c->seg_prefix)
        put(o, c->seg_prefix);
    if (c->asize_prefix)
        put(o, c->asize_prefix);
    if (v->family == VEX)
        put_vex(o, v, c);
    else
        put_legacy(o, v, c);
    put(o, c->mod << 6 | c->reg << 3 | c->rm);
}

void encode_plain(const struct variant *v, unsigned mode, unsigned reg, unsigned rm,
                  uint8_t bytes[16])
{
    struct out o = {bytes, 0};
    struct choice c = {.mode = mode, .mod = v->memory ? 0 : 3, .reg = reg, .rm = rm};

    memset(bytes, 0, 16);
    put_all(&o, v, &c);
}

static unsigned pick_bit(struct rng *rng, unsigned mask)
{
    unsigned bit;

    if (!mask)
        return 0;
    do
        bit = rng_below(rng, 8);
    while (!(mask >> bit & 1));
    return bit;
}

static uint8_t pick_segment(struct rng *rng)
{
    static const uint8_t prefixes[] = {0x64, 0x65, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e};

    return rng_one_in(rng, 6) ? prefixes[rng_below(rng, 8)] : 0;
}

static void choose(const struct variant *v, unsigned mode, struct rng *rng, struct choice *c)
{
    *c = (struct choice){.mode = mode};
    c->reg = pick_bit(rng, v->reg_mask);
    c->rm = v->memory && !(v->rm_mask == 1u << 4) ? rng_below(rng, 8) : pick_bit(rng, v->rm_mask);
    c->mod = v->memory ? rng_below(rng, 3) : 3;
    c->seg_prefix = pick_segment(rng);
    c->asize_prefix = rng_one_in(rng, 8) ? 0x67 : 0;
    c->vvvv = rng_one_in(rng, 2) ? rng_below(rng, mode == 64 ? 16 : 8) : 0;
    c->short_vex = rng_one_in(rng, 2);
    if (mode == 64) {
        unsigned bits = rng_below(rng, 16);

        c->r = bits & 1;
        c->x = bits >> 1 & 1;
        c->b = bits >> 2 & 1;
        c->rex = bits >> 3 & 1;
    }
}

/* Displacement and immediate: Zydis decides which of these bytes belong to the instruction. */
static void put_tail(struct out *o, struct rng *rng)
{
    uint64_t v[2] = {rng_integer(rng, 32), rng_integer(rng, 32)};
    unsigned room = 16 - o->len;

    if (rng_one_in(rng, 2))
        v[0] = rng_u64(rng);
    if (rng_one_in(rng, 2))
        v[0] ^= v[1] << 32;
    memcpy(o->bytes + o->len, v, room < 16 ? room : 16);
}

bool form_encode(const struct form *form, const ZydisDecoder *decoder, struct rng *rng,
                 uint8_t bytes[16], struct decoded *d)
{
    char name[sizeof(form->name)];

    for (unsigned i = 0; i < 400; i++) {
        const struct variant *v =
            &form->variants[rng_one_in(rng, 2) ? 0 : rng_below(rng, form->variant_count)];
        struct out o = {bytes, 0};
        struct choice c;

        choose(v, form->mode, rng, &c);
        memset(bytes, 0x90, 16);
        put_all(&o, v, &c);
        if (!v->has_modrm)
            o.len--;
        put_tail(&o, rng);
        if (!decoder_decode(decoder, bytes, MAX_INSN_BYTES, d))
            continue;
        decoder_form_name(d, name, sizeof(name));
        if (strcmp(name, form->name) != 0)
            continue;
        memset(bytes + d->insn.length, 0x90, 16 - d->insn.length);
        return true;
    }
    return false;
}
