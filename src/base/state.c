/* state.c - saves, loads and prints machine state by the tables of fields that modules register.
 *
 * The saved form describes itself and is little-endian, as the only host is:
 *
 *   object:  u8 length, name | u32 instance | u32 version | u32 number of fields | field...
 *   field:   u8 length, name | u8 element size | u32 elements | data
 *   end:     u8 0
 *
 * Loading is strict: the same objects in the same order, each with the same version and the same
 * fields. So nothing in the bytes decides how much is read or where it goes; it is only compared
 * with the tables of this program. First all fields are loaded, then all hooks run, so that a hook
 * finds every other object loaded (a device that drives its interrupt line again, for one). */
#include "base/state.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    const struct state_desc *desc;
    unsigned instance;
    void *object;
};

struct state_list {
    struct entry *entries;
    size_t count, room;
    bool no_memory; /* an object could not be added: saving and loading fail */
};

struct state_list *state_list_new(void)
{
    return calloc(1, sizeof(struct state_list));
}

void state_list_free(struct state_list *list)
{
    if (!list)
        return;
    free(list->entries);
    free(list);
}

void state_add(struct state_list *list, const struct state_desc *desc, unsigned instance,
               void *object)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        struct entry *entries = realloc(list->entries, room * sizeof *entries);

        if (!entries) {
            list->no_memory = true;
            return;
        }
        list->entries = entries;
        list->room = room;
    }
    list->entries[list->count++] = (struct entry){desc, instance, object};
}

/* --- saving --- */

struct writer {
    uint8_t *data;
    size_t size, room;
    bool failed;
};

static void put(struct writer *w, const void *bytes, size_t size)
{
    if (size > w->room - w->size) {
        size_t room = 2 * w->room + size + 4096;
        uint8_t *data = w->failed ? NULL : realloc(w->data, room);

        if (!data) {
            w->failed = true;
            return;
        }
        w->data = data;
        w->room = room;
    }
    memcpy(w->data + w->size, bytes, size);
    w->size += size;
}

static void put_u32(struct writer *w, uint32_t v)
{
    put(w, &v, sizeof v);
}

static void put_name(struct writer *w, const char *name)
{
    uint8_t length = (uint8_t)strlen(name);

    put(w, &length, 1);
    put(w, name, length);
}

static void put_entry(struct writer *w, const struct entry *e)
{
    put_name(w, e->desc->name);
    put_u32(w, e->instance);
    put_u32(w, e->desc->version);
    put_u32(w, e->desc->field_count);
    for (uint32_t i = 0; i < e->desc->field_count; i++) {
        const struct field *f = &e->desc->fields[i];
        uint8_t size = (uint8_t)f->size;

        put_name(w, f->name);
        put(w, &size, 1);
        put_u32(w, f->count);
        put(w, (const uint8_t *)e->object + f->offset, (size_t)f->size * f->count);
    }
}

static int out_of_memory(struct err *err)
{
    return err_set(err, -ENOMEM, "the state of the machine does not fit in the host's memory");
}

int state_save(struct state_list *list, uint8_t **data, size_t *size, struct err *err)
{
    struct writer w = {.data = *data, .size = *size, .room = *size};

    /* All of them first: one may change another object, by an interrupt for instance. */
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].desc->before_save)
            list->entries[i].desc->before_save(list->entries[i].object);
    for (size_t i = 0; i < list->count; i++)
        put_entry(&w, &list->entries[i]);
    put(&w, "", 1);
    *data = w.data;
    *size = w.size;
    return w.failed || list->no_memory ? out_of_memory(err) : 0;
}

/* --- loading --- */

struct reader {
    const uint8_t *data;
    size_t left;
};

static bool get(struct reader *r, void *bytes, size_t size)
{
    if (size > r->left)
        return false;
    memcpy(bytes, r->data, size);
    r->data += size;
    r->left -= size;
    return true;
}

static bool expect(struct reader *r, const void *bytes, size_t size)
{
    if (size > r->left || memcmp(r->data, bytes, size) != 0)
        return false;
    r->data += size;
    r->left -= size;
    return true;
}

static bool expect_u32(struct reader *r, uint32_t v)
{
    return expect(r, &v, sizeof v);
}

static bool expect_name(struct reader *r, const char *name)
{
    uint8_t length = (uint8_t)strlen(name);

    return expect(r, &length, 1) && expect(r, name, length);
}

/* A bool that holds anything but 0 and 1 would be undefined behaviour to read. */
static bool bools_valid(const struct reader *r, const struct field *f)
{
    if (!f->is_bool)
        return true;
    for (uint32_t i = 0; i < f->count; i++)
        if (i >= r->left || r->data[i] > 1)
            return false;
    return true;
}

static bool get_field(struct reader *r, const struct field *f, void *object)
{
    uint8_t size = (uint8_t)f->size;

    return expect_name(r, f->name) && expect(r, &size, 1) && expect_u32(r, f->count) &&
           bools_valid(r, f) && get(r, (uint8_t *)object + f->offset, (size_t)f->size * f->count);
}

static int get_entry(struct reader *r, const struct entry *e, struct err *err)
{
    const struct state_desc *d = e->desc;

    if (!expect_name(r, d->name) || !expect_u32(r, e->instance))
        return err_set(err, -EINVAL, "the saved state has no %s.%u where this machine has one",
                       d->name, e->instance);
    if (!expect_u32(r, d->version) || !expect_u32(r, d->field_count))
        return err_set(err, -EINVAL, "the saved state of %s.%u is of another version (here: %u)",
                       d->name, e->instance, d->version);
    for (uint32_t i = 0; i < d->field_count; i++)
        if (!get_field(r, &d->fields[i], e->object))
            return err_set(err, -EINVAL, "the saved state of %s.%u is damaged at its field %s",
                           d->name, e->instance, d->fields[i].name);
    return 0;
}

int state_load(struct state_list *list, const uint8_t *data, size_t size, struct err *err)
{
    struct reader r = {.data = data, .left = size};

    if (list->no_memory)
        return out_of_memory(err);
    for (size_t i = 0; i < list->count; i++) {
        int rc = get_entry(&r, &list->entries[i], err);

        if (rc < 0)
            return rc;
    }
    if (!expect(&r, "", 1) || r.left)
        return err_set(err, -EINVAL, "the saved state holds more than this machine has");
    for (size_t i = 0; i < list->count; i++) {
        const struct entry *e = &list->entries[i];
        int rc = e->desc->loaded ? e->desc->loaded(e->object, err) : 0;

        if (rc < 0) {
            err_prefix(err, "the saved state of %s.%u makes no sense", e->desc->name, e->instance);
            return rc;
        }
    }
    return 0;
}

/* --- printing --- */

static void print_bytes(const uint8_t *bytes, uint32_t count, FILE *out)
{
    for (uint32_t i = 0; i < count; i++) {
        if (count > 32 && i % 32 == 0)
            fprintf(out, "\n    %04" PRIx32 ":", i);
        fprintf(out, " %02x", bytes[i]);
    }
}

uint64_t state_field_value(const struct field *field, const void *at, uint32_t index)
{
    uint64_t v = 0;

    memcpy(&v, (const uint8_t *)at + (size_t)index * field->size,
           field->size <= sizeof v ? field->size : sizeof v);
    return v;
}

static void print_field(const struct field *f, const uint8_t *at, FILE *out)
{
    fprintf(out, "  %s =", f->name);
    if (f->size == 1 && f->count > 1) {
        print_bytes(at, f->count, out);
    } else {
        for (uint32_t i = 0; i < f->count; i++)
            fprintf(out, " %#" PRIx64, state_field_value(f, at, i));
    }
    fputc('\n', out);
}

static void print_object(void *opaque, const char *name, const struct state_desc *desc,
                         const void *object)
{
    FILE *out = opaque;

    fprintf(out, "%s\n", name);
    for (uint32_t k = 0; k < desc->field_count; k++)
        print_field(&desc->fields[k], (const uint8_t *)object + desc->fields[k].offset, out);
}

void state_for_each(struct state_list *list, const char *pattern,
                    void (*fn)(void *opaque, const char *name, const struct state_desc *desc,
                               const void *object),
                    void *opaque)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct entry *e = &list->entries[i];
        char name[64];

        snprintf(name, sizeof name, "%s.%u", e->desc->name, e->instance);
        if (fnmatch(pattern, e->desc->name, 0) != 0 && fnmatch(pattern, name, 0) != 0)
            continue;
        if (e->desc->before_save)
            e->desc->before_save(e->object);
        fn(opaque, name, e->desc, e->object);
    }
}

void state_dump(struct state_list *list, const char *pattern, FILE *out)
{
    state_for_each(list, pattern, print_object, out);
}
