/* qcow2_cache.c - a set-associative cache; see qcow2_cache.h. */
#include "block/qcow2_cache.h"

#include <errno.h>
#include <stdlib.h>

#define WAYS 8u

int qcow2_cache_init(struct qcow2_cache *cache, struct file *file, unsigned slice_bits,
                     unsigned slices)
{
    *cache = (struct qcow2_cache){.file = file, .slice_bits = slice_bits, .sets = slices / WAYS};
    cache->slices = calloc(slices, sizeof cache->slices[0]);
    return cache->slices ? 0 : -ENOMEM;
}

void qcow2_cache_free(struct qcow2_cache *cache)
{
    for (unsigned i = 0; cache->slices && i < cache->sets * WAYS; i++)
        free(cache->slices[i].data);
    free(cache->slices);
    cache->slices = NULL;
}

static int write_slice(struct qcow2_cache *cache, struct qcow2_slice *slice)
{
    int rc = file_write(cache->file, slice->offset, slice->data, qcow2_cache_slice_size(cache));

    if (rc == 0) {
        slice->dirty = false;
        cache->dirty_count--;
    }
    return rc;
}

/* Tables lie one behind the other, and so do their pieces: a plain remainder spreads them well. */
static struct qcow2_slice *set_of(const struct qcow2_cache *cache, uint64_t offset)
{
    return &cache->slices[((offset >> cache->slice_bits) & (cache->sets - 1)) * WAYS];
}

static struct qcow2_slice *oldest(struct qcow2_slice *set)
{
    struct qcow2_slice *best = set;

    for (unsigned i = 1; i < WAYS; i++)
        if (set[i].used < best->used)
            best = &set[i];
    return best;
}

static int make_room(struct qcow2_cache *cache, struct qcow2_slice *slice)
{
    int rc = 0;

    if (slice->dirty && cache->before_write)
        rc = cache->before_write(cache->opaque);
    if (rc == 0 && slice->dirty)
        rc = write_slice(cache, slice);
    if (rc < 0)
        return rc;
    slice->offset = 0;
    if (!slice->data)
        slice->data = malloc(qcow2_cache_slice_size(cache));
    return slice->data ? 0 : -ENOMEM;
}

int qcow2_cache_get(struct qcow2_cache *cache, uint64_t offset, bool try,
                    struct qcow2_slice **slice)
{
    struct qcow2_slice *set = set_of(cache, offset);
    int rc;

    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].offset == offset) {
            set[i].used = ++cache->clock;
            *slice = &set[i];
            return 0;
        }
    if (try)
        return -EAGAIN;
    *slice = oldest(set);
    rc = make_room(cache, *slice);
    if (rc == 0)
        rc = file_read(cache->file, offset, (*slice)->data, qcow2_cache_slice_size(cache));
    if (rc < 0)
        return rc;
    (*slice)->offset = offset;
    (*slice)->used = ++cache->clock;
    return 0;
}

void qcow2_cache_dirty(struct qcow2_cache *cache, struct qcow2_slice *slice)
{
    if (!slice->dirty)
        cache->dirty_count++;
    slice->dirty = true;
}

int qcow2_cache_write(struct qcow2_cache *cache)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && cache->dirty_count && i < cache->sets * WAYS; i++)
        if (cache->slices[i].dirty)
            rc = write_slice(cache, &cache->slices[i]);
    return rc;
}

void qcow2_cache_forget(struct qcow2_cache *cache, uint64_t offset, uint64_t length)
{
    for (unsigned i = 0; i < cache->sets * WAYS; i++) {
        struct qcow2_slice *slice = &cache->slices[i];

        if (!slice->offset || slice->offset - offset >= length)
            continue;
        cache->dirty_count -= slice->dirty;
        slice->dirty = false;
        slice->offset = 0;
        slice->used = 0;
    }
}
