/* iov.c - see iov.h. */
#include "block/iov.h"

#include <string.h>

uint64_t iov_bytes(const struct iovec *iov, unsigned count)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

/* The next piece of at most `length` bytes; false: there is none. */
static bool next_piece(struct iov_walk *walk, uint64_t length, struct iovec *piece)
{
    while (walk->count && walk->skip == walk->iov->iov_len) {
        walk->iov++;
        walk->count--;
        walk->skip = 0;
    }
    if (!walk->count || !length)
        return false;
    piece->iov_base = (uint8_t *)walk->iov->iov_base + walk->skip;
    piece->iov_len = walk->iov->iov_len - walk->skip;
    if (piece->iov_len > length)
        piece->iov_len = length;
    walk->skip += piece->iov_len;
    return true;
}

unsigned iov_take(struct iov_walk *walk, uint64_t length, struct iovec *out, unsigned max,
                  uint64_t *taken)
{
    unsigned count = 0;

    *taken = 0;
    while (count < max && next_piece(walk, length - *taken, &out[count]))
        *taken += out[count++].iov_len;
    return count;
}

void iov_skip(struct iov_walk *walk, uint64_t length)
{
    struct iovec piece;

    for (; next_piece(walk, length, &piece); length -= piece.iov_len)
        continue;
}

void iov_zero(struct iov_walk *walk, uint64_t length)
{
    struct iovec piece;

    for (; next_piece(walk, length, &piece); length -= piece.iov_len)
        memset(piece.iov_base, 0, piece.iov_len);
}

void iov_fill(struct iov_walk *walk, const void *from, uint64_t length)
{
    const uint8_t *p = from;
    struct iovec piece;

    for (; next_piece(walk, length, &piece); length -= piece.iov_len, p += piece.iov_len)
        memcpy(piece.iov_base, p, piece.iov_len);
}

void iov_copy(struct iov_walk *walk, void *to, uint64_t length)
{
    uint8_t *p = to;
    struct iovec piece;

    for (; next_piece(walk, length, &piece); length -= piece.iov_len, p += piece.iov_len)
        memcpy(p, piece.iov_base, piece.iov_len);
}
