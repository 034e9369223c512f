/* qcow2_packed.c - see qcow2_packed.h. */
#include "block/qcow2_packed.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define WINDOW_BITS (-12) /* deflate without a header, as QEMU writes it */

static unsigned offset_bits(const struct qcow2 *q)
{
    return 62 - (q->header.cluster_bits - 8);
}

void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *length)
{
    const unsigned bits = offset_bits(q);
    const uint64_t sectors =
        (entry >> bits & ((UINT64_C(1) << (q->header.cluster_bits - 8)) - 1)) + 1;

    *offset = entry & ((UINT64_C(1) << bits) - 1);
    *length = sectors * BLOCK_SECTOR - *offset % BLOCK_SECTOR;
}

uint64_t qcow2_packed_entry(const struct qcow2 *q, uint64_t offset, uint64_t length)
{
    const uint64_t sectors = (offset + length - 1) / BLOCK_SECTOR - offset / BLOCK_SECTOR;

    return QCOW2_PACKED | sectors << offset_bits(q) | offset;
}

static bool inflate_cluster(const uint8_t *from, uint64_t length, uint8_t *to, uint64_t size)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)from,
                  .avail_in = (uInt)length,
                  .next_out = to,
                  .avail_out = (uInt)size};
    int rc;

    if (inflateInit2(&z, WINDOW_BITS) != Z_OK)
        return false;
    rc = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && z.avail_out == 0;
}

static bool unzstd_cluster(const uint8_t *from, uint64_t length, uint8_t *to, uint64_t size)
{
    ZSTD_inBuffer in = {from, length, 0};
    ZSTD_outBuffer out = {to, size, 0};
    ZSTD_DStream *stream = ZSTD_createDStream();
    size_t rc = 1;

    while (stream && rc != 0 && out.pos < out.size) {
        const size_t was_in = in.pos, was_out = out.pos;

        rc = ZSTD_decompressStream(stream, &out, &in);
        if (ZSTD_isError(rc) || (in.pos == was_in && out.pos == was_out))
            break;
    }
    ZSTD_freeDStream(stream);
    return out.pos == out.size;
}

/* Fills q->packed_data, with packed_lock held. */
static int load(struct qcow2 *q, uint64_t entry)
{
    uint64_t offset, length;
    uint8_t *bytes;
    int rc;
    bool ok;

    if (q->packed_entry == entry)
        return 0;
    q->packed_entry = 0;
    qcow2_packed_place(q, entry, &offset, &length);
    if (!q->packed_data)
        q->packed_data = malloc(q->cluster_size);
    bytes = malloc(length);
    rc = bytes && q->packed_data ? file_read(&q->image->file, offset, bytes, length) : -ENOMEM;
    if (rc == 0) {
        ok = q->header.compression == QCOW2_ZSTD
                 ? unzstd_cluster(bytes, length, q->packed_data, q->cluster_size)
                 : inflate_cluster(bytes, length, q->packed_data, q->cluster_size);
        rc = ok ? 0 : -EIO;
    }
    if (rc == 0)
        q->packed_entry = entry;
    free(bytes);
    return rc;
}

int qcow2_unpack(struct qcow2 *q, uint64_t entry, uint64_t at, uint64_t length, struct iov_walk *to)
{
    int rc;

    pthread_mutex_lock(&q->packed_lock);
    rc = load(q, entry);
    if (rc == 0)
        iov_fill(to, q->packed_data + at, length);
    pthread_mutex_unlock(&q->packed_lock);
    return rc;
}

static bool deflate_cluster(const uint8_t *from, uint64_t size, uint8_t *to, uint64_t *length)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)from,
                  .avail_in = (uInt)size,
                  .next_out = to,
                  .avail_out = (uInt)(size - 1)};
    int rc;

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        return false;
    rc = deflate(&z, Z_FINISH);
    *length = z.total_out;
    deflateEnd(&z);
    return rc == Z_STREAM_END;
}

int qcow2_pack(const struct qcow2 *q, const uint8_t *cluster, uint8_t *to, uint64_t *length)
{
    size_t got;

    if (q->header.compression == QCOW2_ZLIB)
        return deflate_cluster(cluster, q->cluster_size, to, length) ? 0 : -ENOSPC;
    got = ZSTD_compress(to, q->cluster_size - 1, cluster, q->cluster_size, ZSTD_CLEVEL_DEFAULT);
    *length = got;
    return ZSTD_isError(got) ? -ENOSPC : 0;
}
