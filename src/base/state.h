/* state.h - machine state as tables of fields.
 *
 * Every device and the CPU describe what has to survive a save and restore as a table of fields.
 * From the table follow saving, restoring and the readable dump; a module writes no code for any of
 * them, except an optional hook that runs after its fields have been loaded (to recompute what
 * follows from them: timers, interrupt lines) and can refuse values that make no sense.
 *
 * A saved state is hostile input: state_load() checks every name, size and count, and a hook checks
 * every value that is used as an index, a shift or a divisor. */
#ifndef DOBLE_BASE_STATE_H
#define DOBLE_BASE_STATE_H

#include "base/err.h"
#include "base/types.h"

struct field {
    const char *name;
    uint32_t offset; /* in the object */
    uint32_t size;   /* of one element: 1, 2, 4 or 8 bytes */
    uint32_t count;  /* elements */
    bool is_bool;    /* only 0 and 1 may be loaded */
};

#define FIELD_IS_BOOL(element) _Generic((element), bool : true, default : false)

/* A scalar member, an array member, and raw bytes (any member, saved as bytes). */
#define FIELD(type, member)                                                                        \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member), 1,                           \
            FIELD_IS_BOOL(((type *)0)->member)                                                     \
    }
#define FIELD_ARRAY(type, member)                                                                  \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member[0]),                           \
            ARRAY_SIZE(((type *)0)->member), FIELD_IS_BOOL(((type *)0)->member[0])                 \
    }
#define FIELD_BYTES(type, member)                                                                  \
    {                                                                                              \
#member, offsetof(type, member), 1, sizeof(((type *)0)->member), false                     \
    }

/* What a module registers: an immutable description... */
struct state_desc {
    const char *name; /* e.g. "i8259" */
    uint32_t version;
    const struct field *fields;
    uint32_t field_count;
    void (*before_save)(void *object);            /* may be NULL: bring fields up to date */
    int (*loaded)(void *object, struct err *err); /* may be NULL: check and recompute */
};

/* ...and the list of objects of one machine that have such a description. */
struct state_list;

struct state_list *state_list_new(void);
void state_list_free(struct state_list *list);

/* Adds an object. `instance` tells objects of one description apart (0, 1, ...). Order of adding is
 * the order of saving and of the `loaded` hooks. */
void state_add(struct state_list *list, const struct state_desc *desc, unsigned instance,
               void *object);

/* Appends the state of every object to a growing buffer (malloc'ed, *data and *size updated). */
int state_save(struct state_list *list, uint8_t **data, size_t *size, struct err *err);

/* Loads what state_save() made. On an error nothing that was loaded may be used any more. */
int state_load(struct state_list *list, const uint8_t *data, size_t size, struct err *err);

/* Calls fn for each object whose name ("i8259", "i8259.0") matches the shell pattern, with its
 * fields brought up to date. It is given the long name. */
void state_for_each(struct state_list *list, const char *pattern,
                    void (*fn)(void *opaque, const char *name, const struct state_desc *desc,
                               const void *object),
                    void *opaque);

/* Element `index` of a field that is at `at`. */
uint64_t state_field_value(const struct field *field, const void *at, uint32_t index);

/* Writes "name.instance" and every field as readable text. `pattern` selects by shell pattern. */
#include <stdio.h>
void state_dump(struct state_list *list, const char *pattern, FILE *out);

#endif
