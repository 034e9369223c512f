/* input.h - a fuzzer's bytes, taken from the front as numbers. When there are no more, zeros come.
 */
#ifndef DOBLE_TESTS_FUZZ_INPUT_H
#define DOBLE_TESTS_FUZZ_INPUT_H

#include "base/types.h"

#include <string.h>

struct input {
    const uint8_t *bytes;
    size_t left;
};

static inline size_t input_take(struct input *in, void *to, size_t count)
{
    size_t some = count < in->left ? count : in->left;

    memset(to, 0, count);
    if (some)
        memcpy(to, in->bytes, some);
    in->bytes += some;
    in->left -= some;
    return some;
}

static inline uint8_t input_u8(struct input *in)
{
    uint8_t v;

    input_take(in, &v, sizeof v);
    return v;
}

static inline uint16_t input_u16(struct input *in)
{
    uint16_t v;

    input_take(in, &v, sizeof v);
    return v;
}

static inline uint32_t input_u32(struct input *in)
{
    uint32_t v;

    input_take(in, &v, sizeof v);
    return v;
}

static inline uint64_t input_u64(struct input *in)
{
    uint64_t v;

    input_take(in, &v, sizeof v);
    return v;
}

/* A number whose size is random too: 0 to 8 bytes of it are in the input. */
static inline uint64_t input_number(struct input *in)
{
    uint64_t v = 0;

    input_take(in, &v, input_u8(in) % 9);
    return v;
}

/* A piece of the input, of at most `most` bytes; its length comes first. */
static inline struct input input_piece(struct input *in, size_t most)
{
    size_t count = input_u16(in);
    struct input piece = {in->bytes, count < in->left ? count : in->left};

    if (piece.left > most)
        piece.left = most;
    in->bytes += piece.left;
    in->left -= piece.left;
    return piece;
}

#endif
