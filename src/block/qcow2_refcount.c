/* qcow2_refcount.c - see qcow2_refcount.h.
 *
 * A refcount block that is missing is made in the first cluster of those that it describes, which
 * are all free, so it counts itself. It is in the file, and synced, before the table points to it.
 * A full table is copied to a larger one behind everything that the old one can describe, together
 * with the blocks that describe the new place. */
#include "block/qcow2_refcount.h"

#include "block/qcow2_packed.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MANY_FREED 4096 /* then memory and the file have waited long enough for a flush */

/* --- entries --- */

uint64_t qcow2_refcount_peek(const uint8_t *block, unsigned order, uint64_t index)
{
    const unsigned bits = 1u << order;
    uint64_t value = 0;

    if (order < 3)
        return block[index * bits / 8] >> index * bits % 8 & ((1u << bits) - 1);
    for (unsigned i = 0; i < bits / 8; i++)
        value = value << 8 | block[index * (bits / 8) + i];
    return value;
}

void qcow2_refcount_poke(uint8_t *block, unsigned order, uint64_t index, uint64_t value)
{
    const unsigned bits = 1u << order;

    if (order < 3) {
        uint8_t *byte = &block[index * bits / 8];
        const unsigned shift = index * bits % 8, mask = (1u << bits) - 1;

        *byte = (uint8_t)((*byte & ~(mask << shift)) | (value & mask) << shift);
        return;
    }
    for (unsigned i = bits / 8; i-- > 0; value >>= 8)
        block[index * (bits / 8) + i] = (uint8_t)value;
}

/* The piece of a block with a cluster's refcount, and its place there. NULL: there is no block. */
static int find_entry(struct qcow2 *q, uint64_t cluster, struct qcow2_slice **slice,
                      uint64_t *index)
{
    const unsigned order = q->header.refcount_order;
    const uint64_t entries = qcow2_block_entries(q), table = cluster / entries,
                   per_slice = qcow2_cache_slice_size(&q->refs) * 8 >> order;
    uint64_t block;

    *slice = NULL;
    if (table >= q->reftable_size || !q->reftable[table])
        return 0;
    block = q->reftable[table];
    if (block & (q->cluster_size - 1) || block >> 56)
        return qcow2_corrupt(q, "a refcount block's offset", block);
    *index = cluster % entries % per_slice;
    return qcow2_cache_get(&q->refs,
                           block + cluster % entries / per_slice * qcow2_cache_slice_size(&q->refs),
                           false, slice);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
    struct qcow2_slice *slice;
    uint64_t index;
    int rc = find_entry(q, cluster, &slice, &index);

    *count = 0;
    if (rc == 0 && slice)
        *count = qcow2_refcount_peek(slice->data, q->header.refcount_order, index);
    return rc;
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    struct qcow2_slice *slice;
    uint64_t index;
    int rc = find_entry(q, cluster, &slice, &index);

    if (rc < 0)
        return rc;
    if (!slice)
        return qcow2_corrupt(q, "a used cluster has no refcount block:", cluster);
    qcow2_refcount_poke(slice->data, q->header.refcount_order, index, count);
    qcow2_cache_dirty(&q->refs, slice);
    return 0;
}

/* --- what must not be overwritten --- */

static bool overlaps(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
    return a < b + b_length && b < a + a_length;
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset, uint64_t length)
{
    const struct qcow2_header *h = &q->header;

    if (overlaps(offset, length, 0, q->cluster_size) ||
        overlaps(offset, length, h->l1_offset, (uint64_t)h->l1_size * 8) ||
        overlaps(offset, length, h->reftable_offset,
                 (uint64_t)h->reftable_clusters << h->cluster_bits))
        return true;
    for (uint32_t i = 0; i < q->reftable_size; i++)
        if (q->reftable[i] && overlaps(offset, length, q->reftable[i], q->cluster_size))
            return true;
    for (uint32_t i = 0; i < h->l1_size; i++)
        if (q->l1[i] && overlaps(offset, length, q->l1[i] & QCOW2_OFFSET, q->cluster_size))
            return true;
    return false;
}

/* --- more refcount blocks, a larger table --- */

/* Blocks that follow each other, from the one at `block` on, are entered into the table. */
static int write_table_entries(struct qcow2 *q, uint64_t index, uint64_t block, uint64_t count)
{
    int rc = file_sync(&q->image->file);

    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        const uint64_t entry = htobe64(block + (i << q->header.cluster_bits));

        rc = file_write(&q->image->file, q->header.reftable_offset + (index + i) * 8, &entry, 8);
    }
    if (rc == 0)
        rc = file_sync(&q->image->file);
    for (uint64_t i = 0; rc == 0 && i < count; i++)
        q->reftable[index + i] = block + (i << q->header.cluster_bits);
    return rc;
}

static void note_end(struct qcow2 *q, uint64_t end)
{
    if (end > q->file_end)
        q->file_end = end;
}

static int add_block(struct qcow2 *q, uint64_t table)
{
    const uint64_t offset = table * qcow2_block_entries(q) << q->header.cluster_bits;
    uint8_t *block;
    int rc;

    if (offset >> 56)
        return -EFBIG;
    if (qcow2_is_metadata(q, offset, q->cluster_size))
        return qcow2_corrupt(q, "metadata without a refcount at", offset);
    block = calloc(1, q->cluster_size);
    if (!block)
        return -ENOMEM;
    qcow2_refcount_poke(block, q->header.refcount_order, 0, 1);
    note_end(q, offset + q->cluster_size);
    qcow2_cache_forget(&q->refs, offset, q->cluster_size);
    rc = file_write(&q->image->file, offset, block, q->cluster_size);
    if (rc == 0)
        rc = write_table_entries(q, table, offset, 1);
    free(block);
    return rc;
}

/* How a larger table and the blocks for its own place are laid out, from the first cluster that the
 * old table cannot describe. */
struct new_table {
    uint64_t first;  /* cluster: the table, then the blocks */
    uint64_t tables; /* clusters */
    uint64_t blocks;
};

static struct new_table plan_table(const struct qcow2 *q)
{
    const uint64_t entries = qcow2_block_entries(q), per_cluster = q->cluster_size / 8,
                   old = q->header.reftable_clusters;
    struct new_table plan = {.first = q->reftable_size * entries, .tables = old + old / 2 + 1};

    for (uint64_t blocks = 1; plan.blocks != blocks;) {
        plan.blocks = blocks;
        blocks = (plan.tables + plan.blocks + entries - 1) / entries;
        while (plan.tables * per_cluster < q->reftable_size + blocks)
            plan.tables++;
    }
    return plan;
}

/* Writes blocks to `offset` that say: the first `used` clusters that they describe are used once.
 */
static int write_blocks(struct qcow2 *q, uint64_t offset, uint64_t blocks, uint64_t used)
{
    const uint64_t entries = qcow2_block_entries(q);
    uint8_t *block = malloc(q->cluster_size);
    int rc = block ? 0 : -ENOMEM;

    for (uint64_t b = 0; rc == 0 && b < blocks; b++) {
        memset(block, 0, q->cluster_size);
        for (uint64_t i = 0; i < entries && b * entries + i < used; i++)
            qcow2_refcount_poke(block, q->header.refcount_order, i, 1);
        rc = file_write(&q->image->file, offset + (b << q->header.cluster_bits), block,
                        q->cluster_size);
    }
    free(block);
    return rc;
}

static int write_new_table(struct qcow2 *q, const struct new_table *plan, const uint64_t *table)
{
    const unsigned bits = q->header.cluster_bits;
    const uint64_t count = plan->tables << (bits - 3);
    uint64_t *bytes = malloc(plan->tables << bits);
    int rc = bytes ? write_blocks(q, (plan->first + plan->tables) << bits, plan->blocks,
                                  plan->tables + plan->blocks)
                   : -ENOMEM;

    for (uint64_t i = 0; rc == 0 && i < count; i++)
        bytes[i] = htobe64(table[i]);
    if (rc == 0)
        rc = file_write(&q->image->file, plan->first << bits, bytes, count * 8);
    if (rc == 0)
        rc = file_sync(&q->image->file);
    free(bytes);
    return rc;
}

/* From here on the file has the new table; the old one is free with the next flush. */
static int switch_table(struct qcow2 *q, const struct new_table *plan, uint64_t *table)
{
    const uint64_t old = q->header.reftable_offset, clusters = q->header.reftable_clusters;
    int rc;

    q->header.reftable_offset = plan->first << q->header.cluster_bits;
    q->header.reftable_clusters = (uint32_t)plan->tables;
    rc = qcow2_write_header_fields(q, offsetof(struct qcow2_header_disk, reftable_offset), 12);
    if (rc < 0) { /* it is not known which one the file has now */
        q->corrupt = true;
        free(table);
        return rc;
    }
    free(q->reftable);
    q->reftable = table;
    q->reftable_size = (uint32_t)(plan->tables << (q->header.cluster_bits - 3));
    return qcow2_free_later(q, old, clusters);
}

static int grow_table(struct qcow2 *q)
{
    const struct new_table plan = plan_table(q);
    const unsigned bits = q->header.cluster_bits;
    const uint64_t end = (plan.first + plan.tables + plan.blocks) << bits;
    uint64_t *table;
    int rc;

    if (plan.tables << bits > QCOW2_MAX_REFTABLE_BYTES || end >> 56)
        return -EFBIG;
    if (qcow2_is_metadata(q, plan.first << bits, end - (plan.first << bits)))
        return qcow2_corrupt(q, "metadata without a refcount near", plan.first << bits);
    table = calloc(plan.tables, q->cluster_size);
    if (!table)
        return -ENOMEM;
    memcpy(table, q->reftable, (uint64_t)q->reftable_size * 8);
    for (uint64_t b = 0; b < plan.blocks; b++)
        table[q->reftable_size + b] = (plan.first + plan.tables + b) << bits;
    note_end(q, end);
    qcow2_cache_forget(&q->refs, plan.first << bits, end - (plan.first << bits));
    rc = write_new_table(q, &plan, table);
    if (rc < 0) {
        free(table);
        return rc;
    }
    return switch_table(q, &plan, table);
}

/* --- finding free clusters --- */

/* Is the cluster free? Makes the block that counts it, if there is none. */
static int is_free(struct qcow2 *q, uint64_t cluster, bool *free_)
{
    const uint64_t table = cluster / qcow2_block_entries(q);
    uint64_t count;
    int rc = 0;

    if (table >= q->reftable_size)
        rc = grow_table(q);
    if (rc == 0 && !q->reftable[table])
        rc = add_block(q, table);
    if (rc == 0)
        rc = qcow2_refcount_get(q, cluster, &count);
    *free_ = rc == 0 && count == 0;
    return rc;
}

static int find_free(struct qcow2 *q, uint64_t wanted, uint64_t *first, uint64_t *got)
{
    bool is = false;
    int rc;

    for (*first = q->free_hint; !is; *first += !is) {
        rc = is_free(q, *first, &is);
        if (rc < 0)
            return rc;
    }
    for (*got = 1; *got < wanted && is; *got += is) {
        rc = is_free(q, *first + *got, &is);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take(struct qcow2 *q, uint64_t first, uint64_t count, uint64_t *offset)
{
    int rc = 0;

    *offset = first << q->header.cluster_bits;
    if ((first + count) << q->header.cluster_bits >> 56)
        return -EFBIG;
    if (qcow2_is_metadata(q, *offset, count << q->header.cluster_bits))
        return qcow2_corrupt(q, "metadata has a refcount of 0 at", *offset);
    for (uint64_t i = 0; rc == 0 && i < count; i++)
        rc = qcow2_refcount_set(q, first + i, 1);
    return rc;
}

int qcow2_allocate(struct qcow2 *q, uint64_t wanted, uint64_t *offset, uint64_t *got)
{
    uint64_t first;
    int rc = q->corrupt ? -EIO : find_free(q, wanted, &first, got);

    if (rc == 0)
        rc = take(q, first, *got, offset);
    if (rc == 0)
        q->free_hint = first + *got;
    return rc;
}

/* More clusters in a row than a block describes: blocks in the first clusters of what they describe
 * would always be in between. Here all of them come first, behind everything that is described. */
static int allocate_many(struct qcow2 *q, uint64_t wanted, uint64_t *offset)
{
    const uint64_t entries = qcow2_block_entries(q);
    const unsigned bits = q->header.cluster_bits;
    uint64_t blocks = 0, table = q->reftable_size, start, used;
    int rc = 0;

    for (uint64_t last = 1; blocks != last; blocks = (blocks + wanted + entries - 1) / entries)
        last = blocks;
    while (table > 0 && !q->reftable[table - 1])
        table--;
    while (rc == 0 && table + blocks > q->reftable_size) {
        rc = grow_table(q);
        table = q->reftable_size;
        while (rc == 0 && table > 0 && !q->reftable[table - 1])
            table--;
    }
    start = table * entries << bits;
    used = blocks + wanted;
    if (rc == 0 && (table * entries + used) << bits >> 56)
        rc = -EFBIG;
    if (rc == 0 && qcow2_is_metadata(q, start, used << bits))
        rc = qcow2_corrupt(q, "metadata without a refcount near", start);
    if (rc < 0)
        return rc;
    note_end(q, start + (used << bits));
    qcow2_cache_forget(&q->refs, start, blocks << bits);
    rc = write_blocks(q, start, blocks, used);
    *offset = start + (blocks << bits);
    return rc < 0 ? rc : write_table_entries(q, table, start, blocks);
}

int qcow2_allocate_all(struct qcow2 *q, uint64_t wanted, uint64_t *offset)
{
    uint64_t first = q->free_hint, got = 0;
    int rc = q->corrupt ? -EIO : 0;

    if (rc == 0 && wanted >= qcow2_block_entries(q))
        return allocate_many(q, wanted, offset);
    while (rc == 0 && got < wanted) {
        bool is;

        rc = is_free(q, first + got, &is);
        if (is)
            got++;
        else
            first += got + 1, got = 0;
    }
    return rc < 0 ? rc : take(q, first, wanted, offset);
}

void qcow2_give_back(struct qcow2 *q, uint64_t offset, uint64_t clusters)
{
    const uint64_t first = offset >> q->header.cluster_bits;

    for (uint64_t i = 0; i < clusters; i++)
        if (qcow2_refcount_set(q, first + i, 0) < 0)
            return; /* a leak */
    if (first < q->free_hint)
        q->free_hint = first;
}

/* --- giving clusters back --- */

int qcow2_free_later(struct qcow2 *q, uint64_t offset, uint64_t clusters)
{
    struct qcow2_freed *last = q->freed_count ? &q->freed[q->freed_count - 1] : NULL;

    if (last && last->offset + (last->clusters << q->header.cluster_bits) == offset) {
        last->clusters += clusters;
        return 0;
    }
    if (q->freed_count == q->freed_room) {
        unsigned room = q->freed_room ? q->freed_room * 2 : 64;
        struct qcow2_freed *more = realloc(q->freed, room * sizeof *more);

        if (!more)
            return -ENOMEM;
        q->freed = more;
        q->freed_room = room;
    }
    q->freed[q->freed_count++] = (struct qcow2_freed){offset, clusters};
    return q->freed_count < MANY_FREED ? 0 : qcow2_flush_tables(q);
}

int qcow2_free_packed_later(struct qcow2 *q, uint64_t entry)
{
    uint64_t offset, length, first, last;

    qcow2_packed_place(q, entry, &offset, &length);
    first = offset & ~(q->cluster_size - 1);
    last = (offset + length - 1) & ~(q->cluster_size - 1);
    return qcow2_free_later(q, first, ((last - first) >> q->header.cluster_bits) + 1);
}

/* One use less. A cluster that is free then loses its contents, too. */
static int count_down(struct qcow2 *q, uint64_t cluster, uint64_t *hole, uint64_t *hole_end)
{
    const uint64_t offset = cluster << q->header.cluster_bits;
    uint64_t count;
    int rc = qcow2_refcount_get(q, cluster, &count);

    if (rc == 0 && !count)
        rc = qcow2_corrupt(q, "a used cluster has a refcount of 0:", cluster);
    if (rc == 0)
        rc = qcow2_refcount_set(q, cluster, count - 1);
    if (rc < 0 || count > 1)
        return rc;
    if (cluster < q->free_hint)
        q->free_hint = cluster;
    qcow2_cache_forget(&q->l2, offset, q->cluster_size);
    if (*hole_end != offset) {
        (void)!file_punch(&q->image->file, *hole, *hole_end - *hole);
        *hole = offset;
    }
    *hole_end = offset + q->cluster_size;
    return 0;
}

int qcow2_free_now(struct qcow2 *q)
{
    uint64_t hole = 0, hole_end = 0;
    int rc = 0;

    if (!q->freed_count)
        return 0;
    image_io_wait(q->image);
    for (unsigned i = 0; rc == 0 && i < q->freed_count; i++)
        for (uint64_t c = 0; rc == 0 && c < q->freed[i].clusters; c++)
            rc =
                count_down(q, (q->freed[i].offset >> q->header.cluster_bits) + c, &hole, &hole_end);
    q->freed_count = 0; /* what is left after an error leaks */
    (void)!file_punch(&q->image->file, hole, hole_end - hole); /* room: if it works, it works */
    return rc;
}
