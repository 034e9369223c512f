/* checksum.h - a 64-bit checksum of a stream of bytes.
 *
 * It notices every change within one aligned word of eight bytes, and practically every other
 * accident. It is no protection against an attacker, who can compute it, too. */
#ifndef DOBLE_BASE_CHECKSUM_H
#define DOBLE_BASE_CHECKSUM_H

#include "base/types.h"

struct checksum {
    uint64_t hash;
    uint8_t word[8]; /* bytes that do not make a word yet */
    unsigned count;
};

/* Starts from {0}; how the stream is cut into calls makes no difference. */
void checksum_add(struct checksum *sum, const void *bytes, size_t count);
uint64_t checksum_value(const struct checksum *sum);

#endif
