/* random.h - a sequence of numbers that look random and can be repeated: what guests get in virtual
 * time where a machine would give them entropy. */
#ifndef DOBLE_BASE_RANDOM_H
#define DOBLE_BASE_RANDOM_H

#include "base/types.h"

/* SplitMix64: the next number after `state`, from any start. */
static inline uint64_t random_repeatable(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

#endif
