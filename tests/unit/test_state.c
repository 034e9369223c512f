/* test_state.c - state tables: what is saved is loaded, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct thing {
    uint8_t byte;
    uint32_t words[3];
    uint64_t big;
    bool flag;
    uint8_t raw[40];
    unsigned saved, loaded; /* calls of the hooks; not state */
};

static void before_save(void *object)
{
    ((struct thing *)object)->saved++;
}

static int loaded(void *object, struct err *err)
{
    struct thing *t = object;

    t->loaded++;
    return t->byte > 100 ? err_set(err, -EINVAL, "byte is above 100") : 0;
}

static const struct field fields[] = {
    FIELD(struct thing, byte), FIELD_ARRAY(struct thing, words), FIELD(struct thing, big),
    FIELD(struct thing, flag), FIELD_BYTES(struct thing, raw),
};

static const struct state_desc desc = {"thing", 3, fields, ARRAY_SIZE(fields), before_save, loaded};

static const struct thing example = {
    .byte = 7, .words = {1, 2, 0xffffffff}, .big = UINT64_C(0x123456789abcdef0), .flag = true};

/* Two objects of one kind, and their saved bytes. */
struct fixture {
    struct state_list *list;
    struct thing a, b;
    uint8_t *data;
    size_t size;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;

    f->a = f->b = example;
    f->b.byte = 8;
    f->list = state_list_new();
    state_add(f->list, &desc, 0, &f->a);
    state_add(f->list, &desc, 1, &f->b);
    *state = f;
    return state_save(f->list, &f->data, &f->size, &err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    state_list_free(f->list);
    free(f->data);
    free(f);
    return 0;
}

static void what_is_saved_is_loaded(void **state)
{
    struct fixture *f = *state;
    struct err err;

    assert_int_equal(f->a.saved, 1);
    memset(&f->a, 0xff, sizeof f->a);
    memset(&f->b, 0xff, sizeof f->b);
    f->a.loaded = f->b.loaded = 0;
    assert_int_equal(state_load(f->list, f->data, f->size, &err), 0);
    assert_int_equal(f->a.byte, 7);
    assert_int_equal(f->b.byte, 8);
    assert_memory_equal(f->a.words, example.words, sizeof example.words);
    assert_true(f->a.big == example.big);
    assert_true(f->a.flag);
    assert_int_equal(f->a.loaded, 1);
    assert_int_equal(f->b.loaded, 1);
}

static void saving_appends(void **state)
{
    struct fixture *f = *state;
    size_t before = f->size;
    struct err err;

    assert_int_equal(state_save(f->list, &f->data, &f->size, &err), 0);
    assert_int_equal(f->size, 2 * before);
    assert_memory_equal(f->data, f->data + before, before);
}

static void every_shorter_state_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err;

    for (size_t size = 0; size < f->size; size++) {
        uint8_t *copy = malloc(size + !size); /* exactly as long: a sanitizer sees reads beyond */

        memcpy(copy, f->data, size);
        assert_int_not_equal(state_load(f->list, copy, size, &err), 0);
        free(copy);
    }
}

static void a_longer_state_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t *copy = calloc(1, f->size + 1);
    struct err err;

    memcpy(copy, f->data, f->size);
    assert_int_equal(state_load(f->list, copy, f->size + 1, &err), -EINVAL);
    free(copy);
}

/* Any byte with any one bit turned: loaded or refused, but a bool is a bool. */
static void damaged_states(void **state)
{
    struct fixture *f = *state;

    for (size_t at = 0; at < f->size; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct err err = {0};
            uint8_t flag;
            int rc;

            f->data[at] ^= (uint8_t)(1u << bit);
            rc = state_load(f->list, f->data, f->size, &err);
            f->data[at] ^= (uint8_t)(1u << bit);
            memcpy(&flag, &f->a.flag, 1);
            assert_true(flag <= 1);
            assert_true(rc == 0 || err.text[0]);
        }
}

static void a_hook_can_refuse(void **state)
{
    struct fixture *f = *state;
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err;

    f->b.byte = 101;
    assert_int_equal(state_save(f->list, &data, &size, &err), 0);
    assert_int_equal(state_load(f->list, data, size, &err), -EINVAL);
    assert_non_null(strstr(err.text, "thing.1"));
    assert_non_null(strstr(err.text, "above 100"));
    free(data);
}

static void another_version_is_refused(void **state)
{
    struct fixture *f = *state;
    struct state_desc newer = desc;
    struct state_list *list = state_list_new();
    struct err err;

    newer.version++;
    state_add(list, &newer, 0, &f->a);
    state_add(list, &newer, 1, &f->b);
    assert_int_equal(state_load(list, f->data, f->size, &err), -EINVAL);
    assert_non_null(strstr(err.text, "version"));
    state_list_free(list);
}

static void the_dump_can_be_read(void **state)
{
    struct fixture *f = *state;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    state_dump(f->list, "th*", out);
    state_dump(f->list, "other", out);
    fclose(out);
    assert_non_null(strstr(text, "thing.1\n  byte = 0x8\n  words = 0x1 0x2 0xffffffff\n"));
    assert_non_null(strstr(text, "  raw =\n    0000: 00 00"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_saved_is_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(saving_appends, setup, teardown),
        cmocka_unit_test_setup_teardown(every_shorter_state_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_longer_state_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_states, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hook_can_refuse, setup, teardown),
        cmocka_unit_test_setup_teardown(another_version_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_dump_can_be_read, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
