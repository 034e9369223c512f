/* qcow2_make.c - see qcow2_make.h.
 *
 *   cluster 0   header
 *           1   refcount table
 *           2   its first block, which counts these three
 *           3   the L1 table: made by growing the image from size 0 */
#include "block/qcow2_make.h"

#include "block/qcow2_packed.h"
#include "block/qcow2_refcount.h"
#include "block/qcow2_table.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int qcow2_make_empty(struct file *file, const struct qcow2_header *header)
{
    const uint64_t size = UINT64_C(1) << header->cluster_bits, block = htobe64(2 * size);
    struct qcow2_header h = *header;
    uint8_t *clusters = calloc(3, size);
    int rc;

    if (!clusters)
        return -ENOMEM;
    h.size = 0;
    h.l1_size = 0;
    h.l1_offset = 3 * size;
    h.reftable_offset = size;
    h.reftable_clusters = 1;
    rc = qcow2_header_build(&h, NULL, NULL, clusters);
    memcpy(clusters + size, &block, sizeof block);
    for (unsigned i = 0; i < 3; i++)
        qcow2_refcount_poke(clusters + 2 * size, h.refcount_order, i, 1);
    if (rc >= 0)
        rc = file_write(file, 0, clusters, 3 * size);
    free(clusters);
    return rc;
}

int qcow2_set_backing(struct image *image, const char *name, const char *format, struct err *err)
{
    struct qcow2 *q = qcow2_of(image);
    uint8_t *cluster = malloc(q->cluster_size);
    int rc = cluster ? qcow2_header_build(&q->header, name, format, cluster) : -ENOMEM;

    if (rc >= 0)
        rc = file_write(&image->file, 0, cluster, q->cluster_size);
    if (rc == 0)
        rc = file_sync(&image->file);
    free(cluster);
    if (rc == -ENOSPC)
        return err_set(err, -EINVAL,
                       "%s: the backing file's name is too long for a cluster of %u bytes",
                       image->file.path, image->cluster);
    return rc < 0 ? err_set(err, rc, "%s: its header cannot be written: %s", image->file.path,
                            strerror(-rc))
                  : 0;
}

/* --- compressed clusters --- */

int qcow2_packer_init(struct qcow2_packer *p, struct image *image)
{
    *p = (struct qcow2_packer){.q = qcow2_of(image)};
    p->bytes = malloc(p->q->cluster_size);
    return p->bytes ? 0 : -ENOMEM;
}

/* One use more of the cluster that has a byte. -ERANGE: the refcount has no room for it. */
static int count_up(struct qcow2 *q, uint64_t offset)
{
    const uint64_t cluster = offset >> q->header.cluster_bits;
    uint64_t count;
    int rc = qcow2_refcount_get(q, cluster, &count);

    if (rc == 0 && count == qcow2_refcount_max(q))
        return -ERANGE;
    return rc < 0 ? rc : qcow2_refcount_set(q, cluster, count + 1);
}

/* A place for `length` bytes: in the rest of the last cluster, beyond it into the next one if that
 * is free, or at the beginning of another. */
static int place(struct qcow2_packer *p, uint64_t length, uint64_t *offset)
{
    struct qcow2 *q = p->q;
    const uint64_t left = p->at ? q->cluster_size - (p->at & (q->cluster_size - 1)) : 0;
    uint64_t fresh, got;
    int rc = 0;

    *offset = p->at;
    if (left >= length) {
        rc = count_up(q, p->at);
        if (rc != -ERANGE)
            return rc;
    }
    rc = qcow2_allocate(q, 1, &fresh, &got);
    if (rc < 0)
        return rc;
    if (left && left < length && fresh == p->at + left)
        rc = count_up(q, p->at);
    else
        rc = -ERANGE;
    if (rc == -ERANGE) {
        *offset = fresh;
        rc = 0;
    }
    return rc;
}

int qcow2_packer_write(struct qcow2_packer *p, uint64_t offset, const uint8_t *cluster)
{
    struct qcow2 *q = p->q;
    struct qcow2_place entry;
    uint64_t length, host;
    int rc = qcow2_pack(q, cluster, p->bytes, &length);

    if (rc == -ENOSPC)
        return image_write_bytes(q->image, offset, cluster,
                                 q->image->size - offset < q->cluster_size ? q->image->size - offset
                                                                           : q->cluster_size);
    pthread_mutex_lock(&q->lock);
    rc = place(p, length, &host);
    if (rc == 0)
        rc = file_write(&q->image->file, host, p->bytes, length);
    if (rc == 0)
        rc = qcow2_find_writable(q, offset, &entry);
    if (rc == 0) {
        qcow2_set_entry(q, &entry, 0, qcow2_packed_entry(q, host, length));
        p->at = host + length;
        if (!(p->at & (q->cluster_size - 1)))
            p->at = 0;
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

/* Entries speak of whole sectors; other programs want the file to have them. */
int qcow2_packer_finish(struct qcow2_packer *p)
{
    const struct file *file = &p->q->image->file;
    uint64_t size;
    int rc = file_size(file, &size);

    free(p->bytes);
    if (rc == 0 && size % BLOCK_SECTOR)
        rc = file_truncate(file, (size / BLOCK_SECTOR + 1) * BLOCK_SECTOR);
    return rc;
}
