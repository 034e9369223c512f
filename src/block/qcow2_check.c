/* qcow2_check.c - see qcow2_check.h.
 *
 * Leaks are repaired where they are. For refcounts that are too low the whole structure of
 * refcounts is written anew, behind the end of the file, and the header then points to it: with
 * wrong refcounts no place in the file can be known to be free. */
#define _GNU_SOURCE
#include "block/qcow2_check.h"

#include "block/qcow2_packed.h"
#include "block/qcow2_refcount.h"
#include "block/qcow2_table.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often each cluster is used; in pieces, because a file may be huge and nearly empty. */
#define CHUNK_BITS 14
#define CHUNK (1u << CHUNK_BITS)

struct counts {
    uint64_t clusters; /* of the file */
    uint32_t **chunks;
};

/* Part of the file that nothing else may use. */
struct sole {
    const char *what;
    uint64_t offset, length;
};

struct walk {
    struct qcow2 *q;
    struct qcow2_check *result;
    struct counts counts;
    struct sole *soles;
    size_t sole_count, sole_room;
    bool low;  /* a refcount is too low: all have to be made anew */
    bool high; /* a leak */
};

static PRINTF_LIKE(2, 3) void corruption(struct walk *w, const char *fmt, ...)
{
    char text[256];
    va_list args;

    w->result->corruptions++;
    if (!w->result->report)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    w->result->report(w->result->opaque, text);
}

/* --- counting --- */

static uint64_t chunk_count(const struct counts *c)
{
    return (c->clusters >> CHUNK_BITS) + 1;
}

static int counts_init(struct counts *c, uint64_t clusters)
{
    c->clusters = clusters;
    c->chunks = calloc(chunk_count(c), sizeof c->chunks[0]);
    return c->chunks ? 0 : -ENOMEM;
}

static void walk_free(struct walk *w)
{
    struct counts *c = &w->counts;

    for (uint64_t i = 0; c->chunks && i < chunk_count(c); i++)
        free(c->chunks[i]);
    free(c->chunks);
    free(w->soles);
}

static uint32_t counted(const struct counts *c, uint64_t cluster)
{
    const uint32_t *chunk = cluster < c->clusters ? c->chunks[cluster >> CHUNK_BITS] : NULL;

    return chunk ? chunk[cluster % CHUNK] : 0;
}

static bool is_inside(const struct walk *w, uint64_t offset, uint64_t length)
{
    return offset + length <= w->counts.clusters << w->q->header.cluster_bits;
}

/* The clusters of `length` bytes at `offset` are used once more, by `what`. */
static int count(struct walk *w, const char *what, uint64_t offset, uint64_t length)
{
    const unsigned bits = w->q->header.cluster_bits;
    struct counts *c = &w->counts;

    if (!length)
        return 0;
    if (!is_inside(w, offset, length)) {
        corruption(w, "%s at %#" PRIx64 " is beyond the end of the file", what, offset);
        return 0;
    }
    for (uint64_t i = offset >> bits; i <= (offset + length - 1) >> bits; i++) {
        uint32_t **chunk = &c->chunks[i >> CHUNK_BITS];

        if (!*chunk)
            *chunk = calloc(CHUNK, sizeof **chunk);
        if (!*chunk)
            return -ENOMEM;
        if ((*chunk)[i % CHUNK] < UINT32_MAX)
            (*chunk)[i % CHUNK]++;
    }
    return 0;
}

/* The same for what describes the image, and so has its clusters to itself. */
static int count_sole(struct walk *w, const char *what, uint64_t offset, uint64_t length)
{
    if (w->sole_count == w->sole_room) {
        const size_t room = w->sole_room ? w->sole_room * 2 : 16;
        struct sole *more = realloc(w->soles, room * sizeof *more);

        if (!more)
            return -ENOMEM;
        w->soles = more;
        w->sole_room = room;
    }
    w->soles[w->sole_count++] = (struct sole){what, offset, length};
    return count(w, what, offset, length);
}

static void check_soles(struct walk *w)
{
    const unsigned bits = w->q->header.cluster_bits;

    for (size_t i = 0; i < w->sole_count; i++) {
        const struct sole *s = &w->soles[i];

        for (uint64_t c = s->offset >> bits; s->length && c <= (s->offset + s->length - 1) >> bits;
             c++)
            if (counted(&w->counts, c) > 1)
                corruption(w, "%s at %#" PRIx64 " is used for something else, too", s->what,
                           s->offset);
    }
}

static bool is_aligned(struct walk *w, const char *what, uint64_t offset)
{
    if (!(offset & (w->q->cluster_size - 1)))
        return true;
    corruption(w, "%s at %#" PRIx64 " does not begin a cluster", what, offset);
    return false;
}

/* --- L1 and L2 --- */

/* Statistics are of the disk as it is now, not of snapshots. */
static void note_normal(struct walk *w, uint64_t offset, uint64_t *expected)
{
    w->result->allocated++;
    if (*expected && offset != *expected)
        w->result->fragmented++;
    *expected = offset + w->q->cluster_size;
}

static int walk_packed(struct walk *w, uint64_t entry, bool active)
{
    uint64_t offset, length;

    if (entry & QCOW2_COPIED)
        corruption(w, "a compressed cluster's entry %#" PRIx64 " says that it is not shared",
                   entry);
    qcow2_packed_place(w->q, entry, &offset, &length);
    w->result->allocated += active;
    w->result->compressed += active;
    w->result->fragmented += active;
    return count(w, "a compressed cluster", offset, length);
}

static int walk_l2(struct walk *w, const uint64_t *table, bool active)
{
    uint64_t expected = 0;
    int rc = 0;

    for (uint64_t i = 0; rc == 0 && i < UINT64_C(1) << w->q->l2_bits; i++) {
        const uint64_t entry = be64toh(table[i]), offset = entry & QCOW2_OFFSET;

        switch (qcow2_kind(w->q, entry)) {
        case QCOW2_COMPRESSED: rc = walk_packed(w, entry, active); break;
        case QCOW2_NORMAL:
        case QCOW2_ZERO_ALLOCATED:
            if (!is_aligned(w, "a data cluster", offset))
                break;
            if (active)
                note_normal(w, offset, &expected);
            rc = count(w, "a data cluster", offset, w->q->cluster_size);
            break;
        default: break;
        }
    }
    return rc;
}

static int walk_l1(struct walk *w, const uint64_t *l1, uint64_t entries, bool active)
{
    uint64_t *table = malloc(w->q->cluster_size);
    uint64_t tables = 0;
    int rc = table ? 0 : -ENOMEM;

    for (uint64_t i = 0; rc == 0 && i < entries; i++) {
        const uint64_t offset = l1[i] & QCOW2_OFFSET;

        if (!offset || !is_aligned(w, "an L2 table", offset))
            continue;
        if (++tables > w->counts.clusters) { /* looking at all of it could take for ever */
            corruption(w, "an L1 table has more L2 tables than the file has clusters");
            break;
        }
        rc = count(w, "an L2 table", offset, w->q->cluster_size);
        if (rc == 0 && offset >> w->q->header.cluster_bits < w->counts.clusters)
            rc = file_read(&w->q->image->file, offset, table, w->q->cluster_size);
        else
            continue;
        if (rc == 0)
            rc = walk_l2(w, table, active);
    }
    free(table);
    return rc;
}

/* --- snapshots and bitmaps --- */

struct snapshot_disk {
    uint64_t l1_offset;
    uint32_t l1_size;
    uint16_t id_length, name_length;
    uint32_t seconds, nanoseconds;
    uint64_t clock;
    uint32_t state_size, extra_length;
};
_Static_assert(sizeof(struct snapshot_disk) == 40, "layout of the file");

static int walk_snapshot(struct walk *w, const struct snapshot_disk *s)
{
    const uint64_t offset = be64toh(s->l1_offset), entries = be32toh(s->l1_size);
    uint64_t *l1;
    int rc;

    if (entries > QCOW2_MAX_L1_BYTES / 8) {
        corruption(w, "the L1 table of a snapshot has %" PRIu64 " entries", entries);
        return 0;
    }
    if (!is_aligned(w, "the L1 table of a snapshot", offset))
        return 0;
    if (!is_inside(w, offset, entries * 8))
        return count(w, "the L1 table of a snapshot", offset, entries * 8);
    l1 = calloc(entries + 1, 8);
    rc = l1 ? count_sole(w, "the L1 table of a snapshot", offset, entries * 8) : -ENOMEM;
    if (rc == 0)
        rc = file_read(&w->q->image->file, offset, l1, entries * 8);
    for (uint64_t i = 0; rc == 0 && i < entries; i++)
        l1[i] = be64toh(l1[i]);
    if (rc == 0)
        rc = walk_l1(w, l1, entries, false);
    free(l1);
    return rc;
}

static int walk_snapshots(struct walk *w)
{
    const struct qcow2_header *h = &w->q->header;
    uint64_t at = h->snapshots_offset;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < h->snapshot_count; i++) {
        struct snapshot_disk s;

        if (at >> h->cluster_bits >= w->counts.clusters) {
            corruption(w, "the snapshot table goes beyond the end of the file");
            return 0;
        }
        rc = file_read(&w->q->image->file, at, &s, sizeof s);
        if (rc == 0)
            rc = walk_snapshot(w, &s);
        at += sizeof s + be32toh(s.extra_length) + be16toh(s.id_length) + be16toh(s.name_length);
        at = (at + 7) & ~UINT64_C(7);
    }
    return rc < 0
               ? rc
               : count_sole(w, "the snapshot table", h->snapshots_offset, at - h->snapshots_offset);
}

struct bitmap_disk {
    uint64_t table_offset;
    uint32_t table_size, flags;
    uint8_t type, granularity;
    uint16_t name_length;
    uint32_t extra_length;
};
_Static_assert(sizeof(struct bitmap_disk) == 24, "layout of the file");

static int walk_bitmap(struct walk *w, const struct bitmap_disk *b)
{
    const uint64_t offset = be64toh(b->table_offset), entries = be32toh(b->table_size);
    uint64_t *table;
    int rc;

    if (!entries || !is_aligned(w, "a bitmap's table", offset))
        return 0;
    if (entries > QCOW2_MAX_L1_BYTES / 8) {
        corruption(w, "a bitmap's table has %" PRIu64 " entries", entries);
        return 0;
    }
    if (!is_inside(w, offset, entries * 8))
        return count(w, "a bitmap's table", offset, entries * 8);
    table = calloc(entries, 8);
    rc = table ? count(w, "a bitmap's table", offset, entries * 8) : -ENOMEM;
    if (rc == 0)
        rc = file_read(&w->q->image->file, offset, table, entries * 8);
    for (uint64_t i = 0; rc == 0 && i < entries; i++)
        if (be64toh(table[i]) & QCOW2_OFFSET)
            rc = count(w, "a bitmap", be64toh(table[i]) & QCOW2_OFFSET, w->q->cluster_size);
    free(table);
    return rc;
}

static int walk_bitmaps(struct walk *w)
{
    const struct qcow2_header *h = &w->q->header;
    const uint64_t end = h->bitmaps_directory + h->bitmaps_directory_size;
    uint64_t at = h->bitmaps_directory;
    int rc = count_sole(w, "the directory of bitmaps", at, h->bitmaps_directory_size);

    for (uint32_t i = 0; rc == 0 && i < h->bitmaps_count; i++) {
        struct bitmap_disk b;

        if (at + sizeof b > end) {
            corruption(w, "the directory of bitmaps is too small for its entries");
            return 0;
        }
        rc = file_read(&w->q->image->file, at, &b, sizeof b);
        if (rc == 0)
            rc = walk_bitmap(w, &b);
        at += sizeof b + be32toh(b.extra_length) + be16toh(b.name_length);
        at = (at + 7) & ~UINT64_C(7);
    }
    return rc;
}

/* --- all of it --- */

static int count_contents(struct walk *w)
{
    const struct qcow2_header *h = &w->q->header;
    int rc = count_sole(w, "the header", 0, w->q->cluster_size);

    if (rc == 0)
        rc = count_sole(w, "the L1 table", h->l1_offset, (uint64_t)h->l1_size * 8);
    if (rc == 0)
        rc = walk_l1(w, w->q->l1, h->l1_size, true);
    if (rc == 0)
        rc = walk_snapshots(w);
    if (rc == 0)
        rc = walk_bitmaps(w);
    check_soles(w);
    return rc;
}

static int count_refcounts(struct walk *w)
{
    struct qcow2 *q = w->q;
    int rc = count(w, "the refcount table", q->header.reftable_offset,
                   (uint64_t)q->header.reftable_clusters << q->header.cluster_bits);

    for (uint32_t i = 0; rc == 0 && i < q->reftable_size; i++) {
        const uint64_t block = q->reftable[i];

        if (!block)
            continue;
        if (!is_aligned(w, "a refcount block", block) ||
            block >> q->header.cluster_bits >= w->counts.clusters) {
            if (!(block & (q->cluster_size - 1)))
                corruption(w, "a refcount block at %#" PRIx64 " is beyond the end of the file",
                           block);
            w->low = true;
            q->reftable[i] = 0;
            continue;
        }
        rc = count(w, "a refcount block", block, q->cluster_size);
        if (rc == 0 && counted(&w->counts, block >> q->header.cluster_bits) != 1) {
            corruption(w, "the refcount block at %#" PRIx64 " is used for something else, too",
                       block);
            w->low = true;
        }
    }
    return rc;
}

static int compare_cluster(struct walk *w, uint64_t cluster, bool fix_leaks)
{
    const uint32_t used = counted(&w->counts, cluster);
    uint64_t said;
    int rc = qcow2_refcount_get(w->q, cluster, &said);

    if (rc < 0)
        return rc;
    if (said || used)
        w->result->image_end = (cluster + 1) << w->q->header.cluster_bits;
    if (said == used)
        return 0;
    if (said > used && fix_leaks) {
        w->result->leaks_fixed++;
        return qcow2_refcount_set(w->q, cluster, used);
    }
    if (said > used) {
        w->result->leaks++;
        w->high = true;
    } else {
        corruption(w, "cluster %" PRIu64 " is used %u times, and its refcount is %" PRIu64, cluster,
                   used, said);
        w->low = true;
    }
    return 0;
}

static int compare(struct walk *w, bool fix_leaks)
{
    const uint64_t entries = qcow2_block_entries(w->q);
    int rc = 0;

    for (uint64_t c = 0; rc == 0 && c < w->counts.clusters;) {
        const uint64_t table = c / entries;

        if ((table >= w->q->reftable_size || !w->q->reftable[table]) &&
            !w->counts.chunks[c >> CHUNK_BITS]) {
            uint64_t step = CHUNK - c % CHUNK, left = entries - c % entries;

            c += step < left ? step : left; /* nothing here, and nothing said */
            continue;
        }
        rc = compare_cluster(w, c++, fix_leaks);
    }
    return rc;
}

/* --- the flag that says that a cluster is used once --- */

/* The entry as it should be. */
static int right_flag(struct walk *w, uint64_t entry, uint64_t *right)
{
    uint64_t refcount;
    int rc =
        qcow2_refcount_get(w->q, (entry & QCOW2_OFFSET) >> w->q->header.cluster_bits, &refcount);

    *right = (entry & ~QCOW2_COPIED) | (refcount == 1 ? QCOW2_COPIED : 0);
    return rc;
}

static bool has_flag(const struct walk *w, uint64_t entry)
{
    const enum qcow2_kind kind = qcow2_kind(w->q, entry);

    return (kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOCATED) &&
           !(entry & QCOW2_OFFSET & (w->q->cluster_size - 1));
}

static int check_l2_flags(struct walk *w, uint64_t offset, bool fix)
{
    const uint64_t count_ = UINT64_C(1) << w->q->l2_bits;
    uint64_t *table = malloc(w->q->cluster_size), right;
    bool changed = false;
    int rc = table ? file_read(&w->q->image->file, offset, table, w->q->cluster_size) : -ENOMEM;

    for (uint64_t i = 0; rc == 0 && i < count_; i++) {
        const uint64_t entry = be64toh(table[i]);

        if (!has_flag(w, entry))
            continue;
        rc = right_flag(w, entry, &right);
        if (rc < 0 || right == entry)
            continue;
        if (fix) {
            w->result->corruptions_fixed++;
            table[i] = htobe64(right);
            changed = true;
        } else {
            w->result->wrong_flags++;
            corruption(w, "the entry %#" PRIx64 " says wrongly whether its cluster is shared",
                       entry);
        }
    }
    if (rc == 0 && changed)
        rc = file_write(&w->q->image->file, offset, table, w->q->cluster_size);
    free(table);
    return rc;
}

static int check_flags(struct walk *w, bool fix)
{
    struct qcow2 *q = w->q;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < q->header.l1_size; i++) {
        const uint64_t offset = q->l1[i] & QCOW2_OFFSET;
        uint64_t right;

        if (!offset || offset & (q->cluster_size - 1) ||
            offset >> q->header.cluster_bits >= w->counts.clusters)
            continue;
        rc = right_flag(w, q->l1[i], &right);
        if (rc == 0 && right != q->l1[i] && fix) {
            w->result->corruptions_fixed++;
            q->l1[i] = right;
            qcow2_l1_changed(q, i);
        } else if (rc == 0 && right != q->l1[i]) {
            w->result->wrong_flags++;
            corruption(w, "L1 entry %u says wrongly whether its table is shared", i);
        }
        if (rc == 0)
            rc = check_l2_flags(w, offset, fix);
    }
    return rc;
}

/* --- new refcounts --- */

struct rebuild {
    uint64_t first;          /* cluster of the new table */
    uint64_t tables, blocks; /* clusters */
    uint64_t *table;
};

static uint32_t new_count(const struct walk *w, const struct rebuild *r, uint64_t cluster)
{
    if (cluster >= r->first)
        return cluster < r->first + r->tables + r->blocks;
    return counted(&w->counts, cluster);
}

static bool needs_block(const struct walk *w, const struct rebuild *r, uint64_t index)
{
    const uint64_t entries = qcow2_block_entries(w->q);

    for (uint64_t c = index * entries; c < (index + 1) * entries; c++)
        if (new_count(w, r, c))
            return true;
    return false;
}

/* How many clusters table and blocks need, which they have to count themselves. */
static int plan_rebuild(const struct walk *w, struct rebuild *r)
{
    const uint64_t entries = qcow2_block_entries(w->q), per_cluster = w->q->cluster_size / 8;
    uint64_t blocks, tables;

    do {
        const uint64_t regions = (r->first + r->tables + r->blocks + entries - 1) / entries;

        tables = r->tables;
        blocks = r->blocks;
        r->tables = (regions + per_cluster - 1) / per_cluster;
        if (r->tables << w->q->header.cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
            return -EFBIG;
        r->blocks = 0;
        for (uint64_t i = 0; i < regions; i++)
            r->blocks += needs_block(w, r, i);
        if (r->blocks < blocks)
            r->blocks = blocks; /* never fewer: a block too many is no error */
    } while (r->tables != tables || r->blocks != blocks);
    return 0;
}

static int write_block(const struct walk *w, const struct rebuild *r, uint64_t index, uint64_t at,
                       uint8_t *block)
{
    const uint64_t entries = qcow2_block_entries(w->q);

    memset(block, 0, w->q->cluster_size);
    for (uint64_t i = 0; i < entries; i++) {
        const uint32_t value = new_count(w, r, index * entries + i);

        if (value > qcow2_refcount_max(w->q))
            return -ERANGE;
        qcow2_refcount_poke(block, w->q->header.refcount_order, i, value);
    }
    return file_write(&w->q->image->file, at << w->q->header.cluster_bits, block,
                      w->q->cluster_size);
}

static int write_rebuilt(struct walk *w, struct rebuild *r)
{
    struct qcow2 *q = w->q;
    const uint64_t entries = qcow2_block_entries(q),
                   regions = (r->first + r->tables + r->blocks + entries - 1) / entries;
    uint64_t at = r->first + r->tables;
    uint8_t *block = malloc(q->cluster_size);
    int rc = block ? 0 : -ENOMEM;

    for (uint64_t i = 0; rc == 0 && i < regions; i++) {
        if (!needs_block(w, r, i))
            continue;
        r->table[i] = htobe64(at << q->header.cluster_bits);
        rc = write_block(w, r, i, at++, block);
    }
    free(block);
    if (rc == 0)
        rc = file_write(&q->image->file, r->first << q->header.cluster_bits, r->table,
                        r->tables << q->header.cluster_bits);
    return rc < 0 ? rc : file_sync(&q->image->file);
}

static int rebuild(struct walk *w)
{
    struct qcow2 *q = w->q;
    struct rebuild r = {.first = w->counts.clusters};
    int rc = plan_rebuild(w, &r);

    if (rc < 0)
        return rc;
    r.table = calloc(r.tables, q->cluster_size);
    rc = r.table ? write_rebuilt(w, &r) : -ENOMEM;
    free(r.table);
    if (rc < 0)
        return rc;
    q->header.reftable_offset = r.first << q->header.cluster_bits;
    q->header.reftable_clusters = (uint32_t)r.tables;
    rc = qcow2_write_header_fields(q, offsetof(struct qcow2_header_disk, reftable_offset), 12);
    return rc < 0 ? rc : qcow2_load_tables(q);
}

/* --- the calls --- */

static int walk_init(struct walk *w, struct qcow2 *q, struct qcow2_check *result)
{
    uint64_t size;
    int rc = file_size(&q->image->file, &size);

    *w = (struct walk){.q = q, .result = result};
    return rc < 0 ? rc : counts_init(&w->counts, qcow2_clusters(q, size));
}

static int look(struct qcow2 *q, struct qcow2_check *result, bool fix_leaks, struct walk *w)
{
    int rc = walk_init(w, q, result);

    if (rc == 0)
        rc = count_contents(w);
    if (rc == 0)
        rc = count_refcounts(w);
    if (rc == 0)
        rc = compare(w, fix_leaks);
    if (rc == 0)
        rc = check_flags(w, false);
    return rc;
}

/* New refcounts, flags that agree with them, and the header says that all is well. */
static int make_right(struct qcow2 *q, struct qcow2_check *result)
{
    struct walk w;
    int rc = walk_init(&w, q, result);

    if (rc == 0)
        rc = count_contents(&w);
    if (rc == 0)
        rc = rebuild(&w);
    if (rc == 0)
        rc = check_flags(&w, true);
    if (rc == 0)
        rc = qcow2_flush_tables(q);
    walk_free(&w);
    return rc;
}

static int clear_marks(struct qcow2 *q, uint64_t marks)
{
    q->corrupt = false;
    if (!(q->header.incompatible & marks))
        return 0;
    q->header.incompatible &= ~marks;
    return qcow2_write_header_fields(q, offsetof(struct qcow2_header_disk, incompatible), 8);
}

static int check_and_fix(struct qcow2 *q, enum qcow2_fix fix, struct qcow2_check *result)
{
    const uint64_t wanted = q->header.size;
    struct qcow2_check before = *result;
    struct walk w;
    int rc;

    rc = look(q, result, false, &w);
    walk_free(&w);
    if (rc == 0 && fix == QCOW2_FIX_ALL && result->corruptions) {
        struct qcow2_check repair = {0};

        before.corruptions_fixed = result->corruptions;
        before.leaks_fixed = result->leaks;
        *result = before;
        rc = make_right(q, &repair);
        if (rc == 0)
            rc = look(q, result, false, &w), walk_free(&w);
        result->corruptions_fixed -= result->corruptions < result->corruptions_fixed
                                         ? result->corruptions
                                         : result->corruptions_fixed;
    } else if (rc == 0 && fix != QCOW2_FIX_NOTHING && result->leaks) {
        const uint64_t corruptions = result->corruptions;

        *result = before;
        result->report = NULL; /* they were told already */
        rc = look(q, result, true, &w);
        walk_free(&w);
        result->corruptions = corruptions;
        if (rc == 0)
            rc = qcow2_flush_tables(q);
    }
    if (rc == 0 && fix == QCOW2_FIX_ALL && !result->corruptions)
        rc = clear_marks(q, QCOW2_DIRTY | QCOW2_CORRUPT);
    result->total = (wanted + q->cluster_size - 1) >> q->header.cluster_bits;
    return rc;
}

int qcow2_check(struct image *image, enum qcow2_fix fix, struct qcow2_check *result,
                struct err *err)
{
    struct qcow2 *q = qcow2_of(image);
    int rc;

    pthread_mutex_lock(&q->lock);
    rc = check_and_fix(q, fix, result);
    pthread_mutex_unlock(&q->lock);
    return rc < 0
               ? err_set(err, rc, "%s: could not be checked: %s", image->file.path, strerror(-rc))
               : 0;
}

int qcow2_repair_dirty(struct qcow2 *q, struct err *err)
{
    struct qcow2_check result = {0};
    int rc = make_right(q, &result);

    if (rc == 0 && result.corruptions)
        return err_set(err, -EUCLEAN,
                       "%s: was not closed by its last writer and is damaged; 'doble image check' "
                       "says where",
                       q->image->file.path);
    if (rc == 0)
        rc = clear_marks(q, QCOW2_DIRTY);
    return rc < 0 ? err_set(err, rc, "%s: cannot be repaired after a crash of its last writer: %s",
                            q->image->file.path, strerror(-rc))
                  : 0;
}
