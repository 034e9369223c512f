/* random.c - see random.h. */
#include "random.h"

#include <string.h>

void rng_init(struct rng *r, uint64_t seed, const char *name)
{
    uint64_t h = seed * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0xcbf29ce484222325);

    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    r->s = h ? h : 1;
    for (unsigned i = 0; i < 4; i++)
        rng_u64(r);
}

uint64_t rng_integer(struct rng *r, unsigned bits)
{
    static const uint8_t widths[] = {8, 16, 32, 64};
    uint64_t any = rng_u64(r);
    uint64_t top;

    switch (any >> 60) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return any & 0xf;
    case 3: return UINT64_C(1) << ((any & 63) % bits);
    case 4: return (UINT64_C(1) << ((any & 63) % bits)) - 1;
    case 5: /* next to the sign change of a width */
        top = UINT64_C(1) << (widths[any & 3] - 1);
        return top + (any >> 8 & 3) - 2;
    case 6: return (uint64_t)(int64_t)(int8_t)any;
    case 7: return any & 0xffff;
    default: return rng_u64(r);
    }
}

static const uint64_t doubles[] = {
    0x0000000000000000, 0x0000000000000001, 0x000fffffffffffff, 0x0010000000000000,
    0x3fefffffffffffff, 0x3ff0000000000000, 0x3ff0000000000001, 0x3ff8000000000000,
    0x4000000000000000, 0x4008000000000000, 0x40dfffc000000000, 0x41dfffffffc00000,
    0x41e0000000000000, 0x43dfffffffffffff, 0x43e0000000000000, 0x43f0000000000000,
    0x47efffffe0000000, 0x36a0000000000000, 0x380fffffffffffff, 0x3fe0000000000000,
    0x7fefffffffffffff, 0x7ff0000000000000, 0x7ff0000000000001, 0x7ff7ffffffffffff,
    0x7ff8000000000000, 0x7fffffffffffffff, 0x400921fb54442d18, 0x4030000000000000,
};

uint64_t rng_double(struct rng *r)
{
    uint64_t any = rng_u64(r);
    uint64_t sign = any << 63;

    switch (any >> 62) {
    case 0: return rng_u64(r);
    case 1: /* near 1, so that sums and products stay finite */
        return sign | ((0x3e0 + (any >> 52 & 0x3f)) << 52) | (rng_u64(r) >> 12);
    default: return sign | doubles[(any >> 8) % ARRAY_SIZE(doubles)];
    }
}

static const uint32_t floats[] = {
    0x00000000, 0x00000001, 0x007fffff, 0x00800000, 0x3f7fffff, 0x3f800000, 0x3f800001,
    0x3fc00000, 0x40000000, 0x40400000, 0x46fffe00, 0x47000000, 0x4effffff, 0x4f000000,
    0x5effffff, 0x5f000000, 0x477fe000, 0x33000000, 0x38800000, 0x3f000000, 0x7f7fffff,
    0x7f800000, 0x7f800001, 0x7fbfffff, 0x7fc00000, 0x7fffffff, 0x40490fdb, 0x41800000,
};

uint32_t rng_float(struct rng *r)
{
    uint64_t any = rng_u64(r);
    uint32_t sign = (uint32_t)any << 31;

    switch (any >> 62) {
    case 0: return (uint32_t)(any >> 16);
    case 1: return sign | (uint32_t)((0x60 + (any >> 52 & 0x3f)) << 23) | (any >> 8 & 0x7fffff);
    default: return sign | floats[(any >> 8) % ARRAY_SIZE(floats)];
    }
}

void rng_extended(struct rng *r, uint8_t out[10])
{
    static const uint16_t exponents[] = {0,      1,      0x3fff, 0x3ffe, 0x4000, 0x400e,
                                         0x401e, 0x403e, 0x403d, 0x43fe, 0x7ffe, 0x7fff};
    static const uint64_t mantissas[] = {0,
                                         1,
                                         UINT64_C(1) << 63,
                                         (UINT64_C(1) << 63) | 1,
                                         UINT64_C(3) << 62,
                                         UINT64_MAX,
                                         UINT64_MAX >> 1,
                                         (UINT64_C(1) << 63) | 0x7ff,
                                         UINT64_C(0xfffffffffffff800)};
    uint64_t any = rng_u64(r);
    uint64_t mantissa = rng_u64(r) | UINT64_C(1) << 63;
    uint16_t exponent = 0x3fc0 + (any >> 8 & 0x7f);

    switch (any >> 62) {
    case 0: break;
    case 1:
        exponent = (uint16_t)(any >> 16);
        mantissa = any & 0x80 ? rng_u64(r) : mantissa;
        break;
    case 2:
        exponent = exponents[(any >> 8) % ARRAY_SIZE(exponents)];
        mantissa = mantissas[(any >> 24) % ARRAY_SIZE(mantissas)];
        break;
    default: /* a small integer */
        mantissa = UINT64_C(1) << 63 | (any & 7) << 60;
        exponent = 0x3fff + (any >> 8 & 7);
    }
    exponent = (exponent & 0x7fff) | (uint16_t)(any << 15);
    memcpy(out, &mantissa, 8);
    memcpy(out + 8, &exponent, 2);
}

static void fill_element(struct rng *r, unsigned kind, uint8_t out[16])
{
    uint64_t v[2];
    uint32_t f[4];

    switch (kind) {
    case 0:
        for (unsigned i = 0; i < 4; i++)
            f[i] = rng_float(r);
        memcpy(out, f, 16);
        return;
    case 1:
        v[0] = rng_double(r);
        v[1] = rng_double(r);
        break;
    case 2:
        v[0] = rng_integer(r, 64);
        v[1] = rng_integer(r, 64);
        break;
    case 3: /* few bits and bytes at their ends: saturation */
        v[0] = rng_u64(r) | UINT64_C(0x7f80ff007f80ff00);
        v[1] = rng_u64(r) & UINT64_C(0x807f00ff807f00ff);
        break;
    case 4:
        rng_extended(r, out);
        memcpy(out + 10, out, 6);
        return;
    default: v[0] = rng_u64(r); v[1] = rng_u64(r);
    }
    memcpy(out, v, 16);
}

void rng_fill(struct rng *r, uint8_t *out, unsigned len)
{
    unsigned kind = rng_below(r, 7);
    uint8_t element[16];

    for (; len >= 16; len -= 16, out += 16)
        fill_element(r, kind, out);
    if (len) {
        fill_element(r, kind, element);
        memcpy(out, element, len);
    }
}
