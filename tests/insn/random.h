/* random.h - a small deterministic generator, and values that are likely to find mistakes. */
#ifndef DOBLE_TESTS_INSN_RANDOM_H
#define DOBLE_TESTS_INSN_RANDOM_H

#include "base/types.h"

struct rng {
    uint64_t s;
};

/* The sequence depends on both: on a run's seed, and on a name (of a form). */
void rng_init(struct rng *r, uint64_t seed, const char *name);

/* xorshift64* (Marsaglia, Vigna): fast, and good enough here. */
static inline uint64_t rng_u64(struct rng *r)
{
    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return r->s * UINT64_C(0x2545f4914f6cdd1d);
}
/* 0 .. n-1 */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((rng_u64(r) >> 32) * n) >> 32);
}
/* True once in n times. */
static inline bool rng_one_in(struct rng *r, uint32_t n)
{
    return rng_below(r, n) == 0;
}

/* An integer of `bits` (8 to 64): a boundary of some width, a small number, or any. */
uint64_t rng_integer(struct rng *r, unsigned bits);
/* A double (or float) bit pattern: zeros, denormals, infinities, NaNs of both kinds, boundaries of
 * the integer conversions, small integers, or any. */
uint64_t rng_double(struct rng *r);
uint32_t rng_float(struct rng *r);
/* An 80-bit extended value, including the unsupported formats. */
void rng_extended(struct rng *r, uint8_t out[10]);
/* Fills bytes with one kind of such values. */
void rng_fill(struct rng *r, uint8_t *out, unsigned len);

#endif
