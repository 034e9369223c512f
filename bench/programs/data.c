/* data.c - programs that work through blocks of data: a hash and a compressor. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#define DATA_SIZE (256u * 1024)

/* --- SHA-256 (FIPS 180-4) --- */

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void sha_block(uint32_t *h, const uint8_t *p)
{
    uint32_t w[64], s[8];

    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;

        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(s, h, sizeof(s));
    for (unsigned i = 0; i < 64; i++) {
        uint32_t s1 = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
        uint32_t t1 = s[7] + s1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + sha_k[i] + w[i];
        uint32_t s0 = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
        uint32_t t2 = s0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

        memmove(s + 1, s, 7 * sizeof(s[0]));
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        h[i] += s[i];
}

/* `size` is a multiple of 64, so the padding is a block of its own. */
static void sha256(const uint8_t *data, uint32_t size, uint32_t *h)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t padding[64] = {0x80};

    for (unsigned i = 0; i < 4; i++)
        padding[63 - i] = (uint8_t)(size * 8 >> 8 * i);
    memcpy(h, start, sizeof(start));
    for (uint32_t i = 0; i < size; i += 64)
        sha_block(h, data + i);
    sha_block(h, padding);
}

bool bench_sha256(unsigned long count)
{
    uint8_t *data = calloc(DATA_SIZE, 1);
    uint32_t h[8] = {0};

    if (!data)
        return false;
    bench_start();
    for (unsigned long unit = 0; unit < count; unit++)
        sha256(data, DATA_SIZE, h);
    bench_stop();
    free(data);
    /* sha256sum of 262,144 zero bytes begins and ends with these words */
    return h[0] == 0x8a39d2ab && h[7] == 0x589b4a90;
}

/* --- a compressor: literals and matches, found through a hash of four bytes ---
 *
 * Format: a byte 0..127 is followed by that many literals plus one; 128..255 is a match of that
 * number minus 124 bytes, at the 16-bit distance that follows. */

#define HASH_BITS 12
#define MATCH_MIN 4
#define MATCH_MAX 131
#define LITERALS_MAX 128

static uint32_t hash4(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v * 2654435761u >> (32 - HASH_BITS);
}

static uint8_t *put_literals(uint8_t *out, const uint8_t *from, const uint8_t *to)
{
    while (from < to) {
        size_t n = (size_t)(to - from) < LITERALS_MAX ? (size_t)(to - from) : LITERALS_MAX;

        *out++ = (uint8_t)(n - 1);
        memcpy(out, from, n);
        out += n;
        from += n;
    }
    return out;
}

static size_t match_length(const uint8_t *a, const uint8_t *b, const uint8_t *end)
{
    size_t n = 0;

    while (n < MATCH_MAX && b + n < end && a[n] == b[n])
        n++;
    return n;
}

static __attribute__((noinline)) size_t compress(uint8_t *out, const uint8_t *in, size_t size)
{
    const uint8_t *p = in, *literals = in, *end = in + size;
    uint32_t heads[1 << HASH_BITS] = {0};
    uint8_t *start = out;

    while (p + MATCH_MIN < end) {
        uint32_t *head = &heads[hash4(p)];
        const uint8_t *candidate = in + *head;
        size_t distance = (size_t)(p - candidate), length = 0;

        *head = (uint32_t)(p - in);
        if (distance > 0 && distance < 65536)
            length = match_length(candidate, p, end);
        if (length < MATCH_MIN) {
            p++;
            continue;
        }
        out = put_literals(out, literals, p);
        *out++ = (uint8_t)(length + 124);
        *out++ = (uint8_t)distance;
        *out++ = (uint8_t)(distance >> 8);
        p += length;
        literals = p;
    }
    return (size_t)(put_literals(out, literals, end) - start);
}

static __attribute__((noinline)) size_t expand(uint8_t *out, const uint8_t *in, size_t size)
{
    const uint8_t *end = in + size;
    uint8_t *start = out;

    while (in < end) {
        unsigned code = *in++;

        if (code < 128) {
            memcpy(out, in, code + 1);
            out += code + 1;
            in += code + 1;
        } else {
            size_t distance = in[0] | (size_t)in[1] << 8;

            in += 2;
            for (unsigned n = code - 124; n > 0; n--, out++)
                *out = out[-(ptrdiff_t)distance];
        }
    }
    return (size_t)(out - start);
}

/* Words of a small vocabulary in random order: it compresses like text. */
static void make_text(uint8_t *text, size_t size)
{
    static const char *const words[16] = {"machine ",   "the ", "of ",        "register\n",
                                          "virtual ",   "a ",   "interrupt ", "page ",
                                          "processor ", "is ",  "memory ",    "device, ",
                                          "and ",       "to ",  "guest ",     "translation. "};
    uint32_t seed = 3;
    size_t at = 0;

    while (at < size) {
        const char *word = words[bench_random(&seed) & 15];

        while (*word && at < size)
            text[at++] = (uint8_t)*word++;
    }
}

bool bench_compress(unsigned long count)
{
    uint8_t *text = malloc(DATA_SIZE), *packed = malloc(2 * DATA_SIZE), *again = malloc(DATA_SIZE);
    bool right = text && packed && again;
    size_t size = 0;

    if (right)
        make_text(text, DATA_SIZE);
    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        size = compress(packed, text, DATA_SIZE);
        right = expand(again, packed, size) == DATA_SIZE;
    }
    bench_stop();
    right = right && size < DATA_SIZE / 2 && memcmp(text, again, DATA_SIZE) == 0;
    free(text);
    free(packed);
    free(again);
    return right;
}
