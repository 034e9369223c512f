/* qcow2_table.c - see qcow2_table.h. */
#include "block/qcow2_table.h"

#include "block/qcow2_refcount.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum qcow2_kind qcow2_kind(const struct qcow2 *q, uint64_t entry)
{
    const bool cluster = entry & QCOW2_OFFSET;

    if (entry & QCOW2_PACKED)
        return QCOW2_COMPRESSED;
    if (q->header.version >= 3 && entry & QCOW2_READS_ZERO)
        return cluster ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO;
    return cluster ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

/* The index into L1 of an offset, and its cluster's into the L2 table. */
static void indices(const struct qcow2 *q, uint64_t offset, uint32_t *l1, uint64_t *l2)
{
    *l1 = (uint32_t)(offset >> (q->header.cluster_bits + q->l2_bits));
    *l2 = offset >> q->header.cluster_bits & ((UINT64_C(1) << q->l2_bits) - 1);
}

static int get_slice(struct qcow2 *q, uint64_t table, uint64_t l2, bool try,
                     struct qcow2_place *place)
{
    const uint64_t size = qcow2_cache_slice_size(&q->l2), at = l2 * 8;

    place->index = (unsigned)(at % size / 8);
    place->count = (unsigned)(size / 8) - place->index;
    return qcow2_cache_get(&q->l2, table + (at & ~(size - 1)), try, &place->slice);
}

static int table_offset(struct qcow2 *q, uint32_t l1, uint64_t *offset)
{
    *offset = q->l1[l1] & QCOW2_OFFSET;
    if (*offset & (q->cluster_size - 1))
        return qcow2_corrupt(q, "an L2 table's offset", *offset);
    return 0;
}

int qcow2_find(struct qcow2 *q, uint64_t offset, bool try, struct qcow2_place *place)
{
    uint64_t l2, table;
    uint32_t l1;
    int rc;

    indices(q, offset, &l1, &l2);
    rc = table_offset(q, l1, &table);
    if (rc < 0)
        return rc;
    if (!table) {
        *place = (struct qcow2_place){.count = (unsigned)((UINT64_C(1) << q->l2_bits) - l2)};
        return 0;
    }
    return get_slice(q, table, l2, try, place);
}

/* --- new tables --- */

void qcow2_l1_changed(struct qcow2 *q, uint32_t index)
{
    if (!q->dirty_end || index < q->dirty_l1)
        q->dirty_l1 = index;
    if (index >= q->dirty_end)
        q->dirty_end = index + 1;
}

int qcow2_write_l1(struct qcow2 *q)
{
    int rc = 0;

    for (uint32_t i = q->dirty_l1; rc == 0 && i < q->dirty_end;) {
        uint64_t entries[512];
        uint32_t count = q->dirty_end - i < 512 ? q->dirty_end - i : 512;

        for (uint32_t n = 0; n < count; n++)
            entries[n] = htobe64(q->l1[i + n]);
        rc = file_write(&q->image->file, q->header.l1_offset + (uint64_t)i * 8, entries,
                        (uint64_t)count * 8);
        i += count;
    }
    if (rc == 0)
        q->dirty_end = 0;
    return rc;
}

/* A table of its own: zeros, or a copy of the one that a snapshot has, too. Nobody changes that
 * one, so what the file has of it is all. */
static int new_table(struct qcow2 *q, uint64_t old, uint64_t *table)
{
    uint8_t *bytes = calloc(1, q->cluster_size);
    uint64_t got;
    int rc = bytes ? qcow2_allocate(q, 1, table, &got) : -ENOMEM;

    if (rc == 0) {
        qcow2_cache_forget(&q->l2, *table, q->cluster_size);
        if (*table + q->cluster_size > q->file_end)
            q->file_end = *table + q->cluster_size;
        if (old)
            rc = file_read(&q->image->file, old, bytes, q->cluster_size);
        if (rc == 0)
            rc = file_write(&q->image->file, *table, bytes, q->cluster_size);
        if (rc < 0)
            qcow2_give_back(q, *table, 1);
    }
    free(bytes);
    return rc;
}

int qcow2_find_writable(struct qcow2 *q, uint64_t offset, struct qcow2_place *place)
{
    uint64_t l2, table, fresh;
    uint32_t l1;
    int rc;

    indices(q, offset, &l1, &l2);
    rc = table_offset(q, l1, &table);
    if (rc == 0 && !(table && q->l1[l1] & QCOW2_COPIED)) {
        rc = new_table(q, table, &fresh);
        if (rc < 0)
            return rc;
        q->l1[l1] = fresh | QCOW2_COPIED;
        qcow2_l1_changed(q, l1);
        if (table)
            rc = qcow2_free_later(q, table, 1);
        table = fresh;
    }
    return rc < 0 ? rc : get_slice(q, table, l2, false, place);
}

/* --- entries --- */

uint64_t qcow2_entry(const struct qcow2_place *place, unsigned i)
{
    uint64_t entry;

    if (!place->slice)
        return 0;
    memcpy(&entry, place->slice->data + (place->index + i) * 8, 8);
    return be64toh(entry);
}

void qcow2_set_entry(struct qcow2 *q, const struct qcow2_place *place, unsigned i, uint64_t entry)
{
    entry = htobe64(entry);
    memcpy(place->slice->data + (place->index + i) * 8, &entry, 8);
    qcow2_cache_dirty(&q->l2, place->slice);
}

int qcow2_free_entry(struct qcow2 *q, uint64_t entry)
{
    switch (qcow2_kind(q, entry)) {
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOCATED: return qcow2_free_later(q, entry & QCOW2_OFFSET, 1);
    case QCOW2_COMPRESSED: return qcow2_free_packed_later(q, entry);
    default: return 0;
    }
}
