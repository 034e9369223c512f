/* checksum.c - multiply and fold, eight bytes at a time. Each step is a bijection of the hash, so
 * two streams that differ in one word have different checksums. */
#include "base/checksum.h"

#include <string.h>

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

void checksum_add(struct checksum *sum, const void *bytes, size_t count)
{
    const uint8_t *p = bytes;
    uint64_t word;

    while (count && sum->count) {
        sum->word[sum->count++] = *p++;
        count--;
        if (sum->count == sizeof word) {
            memcpy(&word, sum->word, sizeof word);
            sum->hash = mix(sum->hash, word);
            sum->count = 0;
        }
    }
    for (; count >= sizeof word; p += sizeof word, count -= sizeof word) {
        memcpy(&word, p, sizeof word);
        sum->hash = mix(sum->hash, word);
    }
    memcpy(sum->word + sum->count, p, count);
    sum->count += (unsigned)count;
}

/* The rest counts with its length, so that zeros at the end make a difference. */
uint64_t checksum_value(const struct checksum *sum)
{
    uint64_t word = 0;

    memcpy(&word, sum->word, sum->count);
    return mix(mix(sum->hash, word), sum->count + 1);
}
