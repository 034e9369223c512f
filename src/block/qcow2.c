/* qcow2.c - see qcow2.h: opening, reading, writing, flushing.
 *
 * A write goes to the place of the cluster if it has one of its own; that is done outside the lock.
 * Everything else takes new clusters: their data is written first, what the request does not cover
 * copied from the old ones or the backing image, and then the entries are changed in memory. */
#define _GNU_SOURCE
#include "block/qcow2.h"

#include "base/trace.h"
#include "block/qcow2_check.h"
#include "block/qcow2_packed.h"
#include "block/qcow2_refcount.h"
#include "block/qcow2_table.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_BITS 12
#define L2_SLICES 256 /* 1 MiB, which speaks of 8 GiB in clusters of 64 KiB */
#define REF_SLICES 64
#define MOST_AT_ONCE (2 * MIB) /* that are allocated together */

/* --- the header's changes --- */

int qcow2_corrupt(struct qcow2 *q, const char *what, uint64_t value)
{
    trace_qcow2_corrupt(q->image->file.path, what, value);
    if (q->corrupt)
        return -EIO;
    q->corrupt = true;
    if (!q->image->read_only && q->header.version >= 3) {
        q->header.incompatible |= QCOW2_CORRUPT;
        /* The image is not changed any more, whether the mark reaches it or not. */
        (void)!qcow2_write_header_fields(q, offsetof(struct qcow2_header_disk, incompatible), 8);
    }
    return -EIO;
}

int qcow2_write_header_fields(struct qcow2 *q, size_t at, size_t length)
{
    const struct qcow2_header *h = &q->header;
    const struct qcow2_header_disk d = {
        .size = htobe64(h->size),
        .l1_size = htobe32(h->l1_size),
        .l1_offset = htobe64(h->l1_offset),
        .reftable_offset = htobe64(h->reftable_offset),
        .reftable_clusters = htobe32(h->reftable_clusters),
        .incompatible = htobe64(h->incompatible),
        .compatible = htobe64(h->compatible),
        .autoclear = htobe64(h->autoclear),
    };
    int rc = file_write(&q->image->file, at, (const uint8_t *)&d + at, length);

    return rc < 0 ? rc : file_sync(&q->image->file);
}

/* --- flushing --- */

/* Steps 1 and 2 of qcow2.h: also what must be before any L2 entry reaches the file. */
static int flush_refcounts(void *opaque)
{
    struct qcow2 *q = opaque;
    int rc = qcow2_cache_write(&q->refs);

    return rc < 0 ? rc : file_sync(&q->image->file);
}

int qcow2_flush_tables(struct qcow2 *q)
{
    int rc = flush_refcounts(q);

    if (rc == 0 && (q->l2.dirty_count || q->dirty_end)) {
        rc = qcow2_cache_write(&q->l2);
        if (rc == 0)
            rc = qcow2_write_l1(q);
        if (rc == 0)
            rc = file_sync(&q->image->file);
    }
    return rc < 0 ? rc : qcow2_free_now(q);
}

static int qcow2_flush(struct image *image)
{
    struct qcow2 *q = qcow2_of(image);
    bool tables;
    int rc = 0;

    pthread_mutex_lock(&q->lock);
    tables = q->refs.dirty_count || q->l2.dirty_count || q->dirty_end || q->freed_count;
    if (q->corrupt)
        rc = -EIO;
    else if (tables)
        rc = qcow2_flush_tables(q);
    pthread_mutex_unlock(&q->lock);
    return rc == 0 && !tables ? file_sync(&image->file) : rc;
}

/* --- where bytes are --- */

static int map_normal(struct qcow2 *q, uint64_t entry, uint64_t in_cluster, unsigned flags,
                      struct extent *extent)
{
    const uint64_t host = entry & QCOW2_OFFSET;

    if (host & (q->cluster_size - 1))
        return qcow2_corrupt(q, "a cluster's offset", host);
    *extent = (struct extent){.kind = EXTENT_DATA, .host = host + in_cluster, .allocated = true};
    if (flags & MAP_WRITE) {
        if (!(entry & QCOW2_COPIED))
            return -EAGAIN;
        if (q->corrupt)
            return -EIO;
        if (qcow2_is_metadata(q, host, q->cluster_size))
            return qcow2_corrupt(q, "data in the place of metadata at", host);
    }
    return 0;
}

static int map_entry(struct qcow2 *q, uint64_t entry, uint64_t in_cluster, unsigned flags,
                     struct extent *extent)
{
    switch (qcow2_kind(q, entry)) {
    case QCOW2_NORMAL: return map_normal(q, entry, in_cluster, flags, extent);
    case QCOW2_COMPRESSED:
        *extent = (struct extent){.kind = EXTENT_PACKED, .host = entry, .allocated = true};
        return 0;
    case QCOW2_ZERO: *extent = (struct extent){.kind = EXTENT_ZERO}; return 0;
    case QCOW2_ZERO_ALLOCATED:
        *extent = (struct extent){.kind = EXTENT_ZERO, .allocated = true};
        return 0;
    default: *extent = (struct extent){.kind = EXTENT_BACKING}; return 0;
    }
}

/* Does what the next cluster has continue what is before it? */
static bool continues(const struct extent *extent, const struct extent *next)
{
    return next->kind == extent->kind && next->allocated == extent->allocated &&
           (extent->kind != EXTENT_DATA || next->host == extent->host + extent->length);
}

static int map_locked(struct qcow2 *q, uint64_t offset, uint64_t length, unsigned flags,
                      struct extent *extent)
{
    const uint64_t in_cluster = offset & (q->cluster_size - 1);
    struct qcow2_place place;
    struct extent next;
    int rc = qcow2_find(q, offset, flags & MAP_TRY, &place);

    if (rc == 0)
        rc = map_entry(q, qcow2_entry(&place, 0), in_cluster, flags, extent);
    if (rc < 0)
        return rc;
    extent->length = q->cluster_size - in_cluster;
    if (!place.slice)
        extent->length += (place.count - 1) * q->cluster_size;
    else if (extent->kind != EXTENT_PACKED)
        for (unsigned i = 1; i < place.count && extent->length < length; i++) {
            if (map_entry(q, qcow2_entry(&place, i), 0, flags, &next) < 0 ||
                !continues(extent, &next))
                break;
            extent->length += q->cluster_size;
        }
    if (extent->length > length)
        extent->length = length;
    return 0;
}

static int qcow2_map(struct image *image, uint64_t offset, uint64_t length, unsigned flags,
                     struct extent *extent)
{
    struct qcow2 *q = qcow2_of(image);
    int rc;

    if (!(flags & MAP_TRY))
        pthread_mutex_lock(&q->lock);
    else if (pthread_mutex_trylock(&q->lock) != 0)
        return -EAGAIN;
    rc = map_locked(q, offset, length, flags, extent);
    if (rc == 0 && (extent->kind == EXTENT_DATA || extent->kind == EXTENT_PACKED))
        image_io_begin(image);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

static int qcow2_read_packed(struct image *image, uint64_t offset, const struct extent *extent,
                             struct iov_walk *to)
{
    struct qcow2 *q = qcow2_of(image);

    return qcow2_unpack(q, extent->host, offset & (q->cluster_size - 1), extent->length, to);
}

/* --- writing to new clusters --- */

/* A run of clusters that are allocated for a request. */
struct run {
    uint64_t first;          /* offset of the disk: the first cluster */
    uint64_t clusters;       /* that follow each other, in one piece of an L2 table */
    uint64_t host;           /* where they will be */
    uint64_t offset, length; /* of the disk: what the request has for them */
    bool fresh;              /* the file was never written there: it reads as zeros */
};

/* Copies what the guest sees at `offset` to `host`. */
static int copy_old(struct qcow2 *q, const struct run *run, uint64_t offset, uint64_t length)
{
    const uint64_t host = run->host + (offset - run->first);
    uint8_t *bytes;
    int rc;

    if (!length)
        return 0;
    bytes = malloc(length);
    if (!bytes)
        return -ENOMEM;
    rc = image_read_bytes(q->image, offset, bytes, length);
    /* Comparing a buffer with itself, moved by one byte, says whether it is all zeros. */
    if (rc == 0 && !(run->fresh && !bytes[0] && memcmp(bytes, bytes + 1, length - 1) == 0))
        rc = file_write(&q->image->file, host, bytes, length);
    free(bytes);
    return rc;
}

/* How many clusters from the place on have to be allocated, of those that the request touches. */
static uint64_t count_new(struct qcow2 *q, const struct qcow2_place *place, uint64_t wanted)
{
    uint64_t n;

    for (n = 1; n < wanted && n < place->count; n++) {
        const uint64_t entry = qcow2_entry(place, (unsigned)n);

        if (qcow2_kind(q, entry) == QCOW2_NORMAL && entry & QCOW2_COPIED)
            break;
    }
    return n;
}

static int write_run(struct qcow2 *q, const struct run *run, struct iov_walk *from)
{
    const uint64_t end = run->first + run->clusters * q->cluster_size,
                   last = run->offset + run->length;
    int rc = copy_old(q, run, run->first, run->offset - run->first);

    if (rc == 0 && from)
        rc =
            file_writev(&q->image->file, run->host + (run->offset - run->first), from, run->length);
    else if (rc == 0)
        rc = file_write_zeros(&q->image->file, run->host + (run->offset - run->first), run->length);
    if (rc == 0)
        rc = copy_old(q, run, last, end - last);
    return rc;
}

/* The entries point to the new clusters. */
static int enter_run(struct qcow2 *q, const struct run *run)
{
    struct qcow2_place place;
    int rc = qcow2_find_writable(q, run->first, &place);

    for (unsigned i = 0; rc == 0 && i < run->clusters; i++) {
        const uint64_t old = qcow2_entry(&place, i);

        qcow2_set_entry(q, &place, i, (run->host + i * q->cluster_size) | QCOW2_COPIED);
        rc = qcow2_free_entry(q, old);
    }
    return rc;
}

/* Writes as much as it can in one run, with the lock held; *done says how much. From NULL: zeros.
 */
static int write_new(struct qcow2 *q, uint64_t offset, uint64_t length, struct iov_walk *from,
                     uint64_t *done)
{
    const uint64_t mask = q->cluster_size - 1;
    struct run run = {.first = offset & ~mask, .offset = offset};
    struct qcow2_place place;
    uint64_t wanted, got;
    int rc = qcow2_find_writable(q, offset, &place);

    if (rc < 0)
        return rc;
    wanted = qcow2_clusters(q, (offset & mask) + length);
    if (wanted > MOST_AT_ONCE / q->cluster_size)
        wanted = MOST_AT_ONCE / q->cluster_size;
    wanted = count_new(q, &place, wanted);
    rc = qcow2_allocate(q, wanted, &run.host, &got);
    if (rc < 0)
        return rc;
    run.clusters = got;
    run.length = got * q->cluster_size - (offset & mask);
    if (run.length > length)
        run.length = length;
    run.fresh = run.host >= q->file_end && !q->image->file.is_device;
    if (run.host + got * q->cluster_size > q->file_end)
        q->file_end = run.host + got * q->cluster_size;
    rc = write_run(q, &run, from);
    if (rc == 0)
        rc = enter_run(q, &run);
    else
        qcow2_give_back(q, run.host, got);
    *done = run.length;
    return rc;
}

/* Writes what is in its place already, or some of the rest. */
static int write_some(struct qcow2 *q, uint64_t offset, uint64_t length, struct iov_walk *from,
                      uint64_t *done)
{
    struct extent extent;
    int rc;

    pthread_mutex_lock(&q->lock);
    rc = q->corrupt ? -EIO : map_locked(q, offset, length, MAP_WRITE, &extent);
    if (rc == 0 && extent.kind == EXTENT_DATA) {
        image_io_begin(q->image);
        pthread_mutex_unlock(&q->lock);
        *done = extent.length;
        rc = from ? file_writev(&q->image->file, extent.host, from, extent.length)
                  : file_write_zeros(&q->image->file, extent.host, extent.length);
        image_io_end(q->image);
        return rc;
    }
    if (rc == 0 || rc == -EAGAIN)
        rc = write_new(q, offset, length, from, done);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

static int qcow2_write(struct image *image, uint64_t offset, uint64_t length, struct iov_walk *from)
{
    int rc = 0;

    for (uint64_t done; rc == 0 && length; offset += done, length -= done) {
        rc = write_some(qcow2_of(image), offset, length, from, &done);
        if (rc < 0)
            break;
    }
    return rc;
}

/* --- zeros --- */

/* What becomes of a cluster that shall read as zeros. Version 2 has only the absence of a cluster,
 * and that only without a backing image; false: zeros have to be written. */
static bool zero_entry(const struct qcow2 *q, uint64_t old, bool may_unmap, uint64_t *entry)
{
    const enum qcow2_kind kind = qcow2_kind(q, old);
    const bool keep = !may_unmap && (kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOCATED);

    if (kind == QCOW2_ZERO || (kind == QCOW2_ZERO_ALLOCATED && !may_unmap) ||
        (kind == QCOW2_UNALLOCATED && !q->image->backing_name))
        *entry = old;
    else if (q->header.version >= 3)
        *entry = (keep ? old : 0) | QCOW2_READS_ZERO;
    else if (!q->image->backing_name && may_unmap)
        *entry = 0;
    else
        return false;
    return true;
}

/* The cluster at `offset`, all of it, with the lock held. `advice`: it need not become zeros. */
static int zero_cluster(struct qcow2 *q, uint64_t offset, uint64_t length, bool may_unmap,
                        bool advice)
{
    struct qcow2_place place;
    uint64_t old, entry, done;
    int rc = qcow2_find(q, offset, false, &place);

    if (rc < 0)
        return rc;
    old = qcow2_entry(&place, 0);
    if (!zero_entry(q, old, may_unmap, &entry))
        return advice ? 0 : write_new(q, offset, length, NULL, &done);
    if (entry == old)
        return 0;
    rc = qcow2_find_writable(q, offset, &place);
    if (rc < 0)
        return rc;
    qcow2_set_entry(q, &place, 0, entry);
    return entry & QCOW2_OFFSET ? 0 : qcow2_free_entry(q, old);
}

static int write_zeros_in_place(struct image *image, uint64_t offset, uint64_t length)
{
    uint64_t same = 0;
    struct extent extent;
    int rc = image_status(image, NULL, offset, length, &extent);

    if (rc == 0 && extent.kind == EXTENT_ZERO && extent.length == length)
        return 0;
    for (; rc == 0 && length; offset += same, length -= same)
        rc = write_some(qcow2_of(image), offset, length, NULL, &same);
    return rc;
}

/* Whole clusters by their entries; what is left at the ends is written, unless it is only advice.
 */
static int zero_range(struct image *image, uint64_t offset, uint64_t length, bool may_unmap,
                      bool advice)
{
    struct qcow2 *q = qcow2_of(image);
    int rc = 0;

    while (rc == 0 && length) {
        const uint64_t in_cluster = offset & (q->cluster_size - 1);
        uint64_t now = q->cluster_size - in_cluster;
        bool whole;

        if (now > length)
            now = length;
        whole = in_cluster == 0 && (now == q->cluster_size || offset + now == image->size);
        if (whole) {
            pthread_mutex_lock(&q->lock);
            rc = q->corrupt ? -EIO : zero_cluster(q, offset, now, may_unmap, advice);
            pthread_mutex_unlock(&q->lock);
        } else if (!advice) {
            rc = write_zeros_in_place(image, offset, now);
        }
        offset += now;
        length -= now;
    }
    return rc;
}

static int qcow2_write_zeroes(struct image *image, uint64_t offset, uint64_t length, bool may_unmap)
{
    return zero_range(image, offset, length, may_unmap, false);
}

static int qcow2_discard(struct image *image, uint64_t offset, uint64_t length)
{
    return zero_range(image, offset, length, true, true);
}

/* --- opening and closing --- */

static int read_table(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **table)
{
    int rc;

    free(*table);
    *table = calloc(entries + 1, 8); /* + 1: also of no entries */
    if (!*table)
        return -ENOMEM;
    rc = file_read(&q->image->file, offset, *table, entries * 8);
    for (uint64_t i = 0; rc == 0 && i < entries; i++)
        (*table)[i] = be64toh((*table)[i]);
    return rc;
}

int qcow2_load_tables(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->header;
    int rc = read_table(q, h->l1_offset, h->l1_size, &q->l1);

    q->reftable_size = h->reftable_clusters << (h->cluster_bits - 3);
    if (rc == 0)
        rc = read_table(q, h->reftable_offset, q->reftable_size, &q->reftable);
    if (rc == 0)
        rc = file_size(&q->image->file, &q->file_end);
    q->free_hint = 0;
    q->dirty_end = 0;
    qcow2_cache_forget(&q->l2, 0, UINT64_MAX);
    qcow2_cache_forget(&q->refs, 0, UINT64_MAX);
    return rc;
}

static void init_locks(struct qcow2 *q)
{
    pthread_mutexattr_t recursive;

    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&q->lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    pthread_mutex_init(&q->packed_lock, NULL);
}

static int init_caches(struct qcow2 *q)
{
    const unsigned bits = q->header.cluster_bits < SLICE_BITS ? q->header.cluster_bits : SLICE_BITS;
    int rc = qcow2_cache_init(&q->l2, &q->image->file, bits, L2_SLICES);

    q->l2.before_write = flush_refcounts;
    q->l2.opaque = q;
    return rc < 0 ? rc : qcow2_cache_init(&q->refs, &q->image->file, bits, REF_SLICES);
}

/* What has to be done before the first write: repair after a crash of somebody lazy, and say that
 * features which we do not keep up are void. */
static int prepare_writing(struct qcow2 *q, struct err *err)
{
    const char *path = q->image->file.path;
    int rc = 0;

    if (q->header.incompatible & QCOW2_DIRTY) {
        rc = qcow2_repair_dirty(q, err);
        if (rc < 0)
            return rc;
    }
    if (q->header.autoclear) {
        q->header.autoclear = 0;
        rc = qcow2_write_header_fields(q, offsetof(struct qcow2_header_disk, autoclear), 8);
    }
    return rc < 0 ? err_set(err, rc, "%s: its header cannot be written: %s", path, strerror(-rc))
                  : 0;
}

static void qcow2_close(struct image *image)
{
    struct qcow2 *q = qcow2_of(image);

    /* Clusters that the last flush has freed; harmless if it does not work. */
    if (q->refs.dirty_count && !q->corrupt)
        (void)!qcow2_cache_write(&q->refs);
    qcow2_cache_free(&q->l2);
    qcow2_cache_free(&q->refs);
    free(q->l1);
    free(q->reftable);
    free(q->freed);
    free(q->packed_data);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->packed_lock);
    free(q);
    image->state = NULL;
}

static int qcow2_open(struct image *image, unsigned flags, struct err *err)
{
    struct qcow2 *q = calloc(1, sizeof *q);
    int rc;

    if (!q)
        return err_set(err, -ENOMEM, "%s: not enough memory", image->file.path);
    q->image = image;
    image->state = q;
    init_locks(q);
    rc = qcow2_header_read(image, &q->header, flags, err);
    if (rc == 0) {
        q->cluster_size = UINT64_C(1) << q->header.cluster_bits;
        q->l2_bits = q->header.cluster_bits - 3;
        image->size = q->header.size & ~(uint64_t)(BLOCK_SECTOR - 1);
        image->cluster = (uint32_t)q->cluster_size;
        image->gives_back = true;
        rc = init_caches(q);
        if (rc == 0)
            rc = qcow2_load_tables(q);
        if (rc < 0)
            err_set(err, rc, "%s: its tables cannot be read: %s", image->file.path, strerror(-rc));
    }
    if (rc == 0 && flags & IMAGE_WRITE && !(flags & IMAGE_REPAIR))
        rc = prepare_writing(q, err);
    if (rc < 0)
        qcow2_close(image);
    return rc;
}

/* --- another size --- */

/* A longer L1 table in a new place; the file has it before the header says so. */
static int move_l1(struct qcow2 *q, uint64_t entries, uint64_t size)
{
    const struct qcow2_header old = q->header;
    uint64_t *l1 = calloc(entries + 1, 8);
    uint64_t offset = 0;
    int rc = l1 ? qcow2_allocate_all(q, qcow2_clusters(q, entries * 8), &offset) : -ENOMEM;

    if (rc < 0) {
        free(l1);
        return rc;
    }
    memcpy(l1, q->l1, (uint64_t)old.l1_size * 8);
    free(q->l1);
    q->l1 = l1;
    q->header.size = size;
    q->header.l1_size = (uint32_t)entries;
    q->header.l1_offset = offset;
    q->dirty_l1 = 0;
    q->dirty_end = (uint32_t)entries;
    rc = qcow2_flush_tables(q);
    if (rc == 0)
        rc = qcow2_write_header_fields(q, offsetof(struct qcow2_header_disk, size), 24);
    if (rc == 0 && old.l1_size)
        rc = qcow2_free_later(q, old.l1_offset, qcow2_clusters(q, (uint64_t)old.l1_size * 8));
    if (rc < 0)
        q->corrupt = true; /* it is not known which one the file has now */
    return rc;
}

static int change_size(struct qcow2 *q, uint64_t size)
{
    const uint64_t entries = qcow2_l1_entries(size, q->header.cluster_bits);
    int rc = 0;

    if (entries > QCOW2_MAX_L1_BYTES / 8)
        return -EFBIG;
    if (size < q->image->size)
        rc = qcow2_discard(q->image, size, q->image->size - size);
    if (rc == 0 && entries > q->header.l1_size) {
        rc = move_l1(q, entries, size);
    } else if (rc == 0) {
        rc = qcow2_flush_tables(q);
        q->header.size = size;
        if (rc == 0)
            rc = qcow2_write_header_fields(q, offsetof(struct qcow2_header_disk, size), 8);
    }
    if (rc == 0)
        q->image->size = size;
    return rc < 0 ? rc : qcow2_flush_tables(q);
}

/* What was beyond the end and is inside now reads as zeros, whatever the last cluster, version 2 or
 * a backing image have there. */
static int clear_growth(struct qcow2 *q, uint64_t from)
{
    const struct image *image = q->image;
    const bool hidden = image->backing_name &&
                        (q->header.version < 3 || !image->backing || image->backing->size > from);
    uint64_t end = (from + q->cluster_size - 1) & ~(q->cluster_size - 1);

    if (hidden || end > image->size)
        end = image->size;
    return end > from ? zero_range(q->image, from, end - from, true, false) : 0;
}

static int qcow2_resize(struct image *image, uint64_t size, struct err *err)
{
    struct qcow2 *q = qcow2_of(image);
    const uint64_t before = image->size;
    int rc;

    if (q->header.snapshot_count && (size < before || q->header.version < 3))
        return err_set(err, -ENOTSUP,
                       "%s: has internal snapshots of its size now; delete them first",
                       image->file.path);
    pthread_mutex_lock(&q->lock);
    rc = change_size(q, size);
    if (rc == 0)
        rc = clear_growth(q, before);
    if (rc == 0)
        rc = qcow2_flush_tables(q);
    pthread_mutex_unlock(&q->lock);
    if (rc < 0)
        return err_set(err, rc, "%s: its size cannot be changed: %s", image->file.path,
                       strerror(-rc));
    return 0;
}

const struct image_format qcow2_format = {
    .name = "qcow2",
    .open = qcow2_open,
    .close = qcow2_close,
    .map = qcow2_map,
    .read_packed = qcow2_read_packed,
    .write = qcow2_write,
    .write_zeroes = qcow2_write_zeroes,
    .discard = qcow2_discard,
    .flush = qcow2_flush,
    .resize = qcow2_resize,
};
