/* The timeline's file is JSON whatever happens: load, limits, strange names, full disks. */
#include "base/timeline.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    struct timeline_config config;
    struct timeline *timeline;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    int fd;

    strcpy(f->config.path, "/tmp/doble-timeline-XXXXXX");
    fd = mkstemp(f->config.path);
    if (fd < 0)
        return -1;
    close(fd);
    f->config.to = UINT64_MAX;
    f->config.limit = TIMELINE_DEFAULT_LIMIT;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    unlink(f->config.path);
    free(f);
    return 0;
}

static void open_it(struct fixture *f)
{
    struct err err;

    assert_int_equal(timeline_open(&f->timeline, &f->config, "machine", &err), 0);
    timeline_attach(f->timeline, "guest", "monitor");
}

static void close_it(struct fixture *f)
{
    struct err err;

    assert_int_equal(timeline_close(f->timeline, &err), 0);
    assert_null(timeline_here);
}

/* The events of the file, which must be JSON. */
static json_t *load(const struct fixture *f)
{
    json_error_t error;
    json_t *root = json_load_file(f->config.path, JSON_REJECT_DUPLICATES, &error), *events;

    if (!root)
        fail_msg("line %d: %s", error.line, error.text);
    events = json_incref(json_object_get(root, "traceEvents"));
    assert_true(json_is_array(events));
    json_decref(root);
    return events;
}

static const char *string_of(const json_t *event, const char *key)
{
    return json_string_value(json_object_get(event, key));
}

static unsigned count(const json_t *events, const char *name)
{
    unsigned n = 0;

    for (size_t i = 0; i < json_array_size(events); i++)
        n += strcmp(string_of(json_array_get(events, i), "name"), name) == 0;
    return n;
}

static const json_t *first(const json_t *events, const char *name)
{
    for (size_t i = 0; i < json_array_size(events); i++)
        if (strcmp(string_of(json_array_get(events, i), "name"), name) == 0)
            return json_array_get(events, i);
    fail_msg("no event %s", name);
    return NULL;
}

static void record(unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        timeline_slice(TIMELINE_PORT_READ, "uart", timeline_start(), i, 1, UINT64_MAX);
}

/* --- tests --- */

static void test_without_a_timeline_nothing_happens(void **state)
{
    (void)state;
    timeline_attach(NULL, "row", NULL);
    assert_null(timeline_here);
    assert_int_equal(timeline_start(), 0);
    record(10);
    timeline_state(TIMELINE_USER, 1, 2);
    timeline_instant(TIMELINE_TRAP, "#DE", 0, 0, 0, 0);
    timeline_rest();
    assert_int_equal(timeline_close(NULL, NULL), 0);
}

static void test_says_what_happened(void **state)
{
    struct fixture *f = *state;
    json_t *events;
    const json_t *e, *args;

    open_it(f);
    timeline_instant(TIMELINE_TRAP, "#PF", 14, 7, 0xffffffff80000000, 0x1000);
    record(1);
    close_it(f);
    events = load(f);
    e = first(events, "#PF");
    args = json_object_get(e, "args");
    assert_string_equal(string_of(e, "ph"), "i");
    assert_int_equal(json_integer_value(json_object_get(args, "vector")), 14);
    assert_string_equal(string_of(args, "error"), "0x7");
    assert_string_equal(string_of(args, "rip"), "0xffffffff80000000");
    assert_string_equal(string_of(args, "cr2"), "0x1000");
    e = first(events, "uart");
    assert_string_equal(string_of(e, "cat"), "port read");
    assert_string_equal(string_of(json_object_get(e, "args"), "value"), "0xffffffffffffffff");
    assert_int_equal(count(events, "thread_name"), 2);
    json_decref(events);
}

static void test_states_follow_each_other_without_a_gap(void **state)
{
    static const char *const names[] = {"guest kernel", "guest user", "halted"};
    struct fixture *f = *state;
    double end = 0;
    json_t *events;

    open_it(f);
    timeline_state(TIMELINE_KERNEL, 1, 2);
    timeline_state(TIMELINE_KERNEL, 3, 4); /* the same: no event */
    usleep(1000);
    timeline_state(TIMELINE_USER, 5, 6);
    timeline_state(TIMELINE_HALTED, 0, 0);
    close_it(f);
    events = load(f);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        const json_t *e = first(events, names[i]);
        double start = json_real_value(json_object_get(e, "ts"));

        assert_int_equal(count(events, names[i]), 1);
        if (i)
            assert_float_equal(start, end, 0.002);
        end = start + json_real_value(json_object_get(e, "dur"));
    }
    json_decref(events);
}

static void test_the_file_is_complete_while_it_grows(void **state)
{
    struct fixture *f = *state;
    size_t before = 0;

    open_it(f);
    for (unsigned i = 0; i < 5; i++) {
        json_t *events;

        record(3000);
        events = load(f);
        assert_true(json_array_size(events) > before);
        before = json_array_size(events);
        json_decref(events);
    }
    close_it(f);
}

#define LOAD_EVENTS 30000

static void *load_thread(void *opaque)
{
    timeline_attach(opaque, "other", NULL);
    record(LOAD_EVENTS);
    return NULL;
}

static void test_no_event_of_several_threads_is_lost(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[3];
    json_t *events;

    open_it(f);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_create(&threads[i], NULL, load_thread, f->timeline);
    record(LOAD_EVENTS);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    close_it(f);
    events = load(f);
    assert_int_equal(count(events, "uart"), 4 * LOAD_EVENTS);
    json_decref(events);
}

static void test_more_threads_than_tracks_are_an_error_at_the_end(void **state)
{
    struct fixture *f = *state;
    struct err err;

    open_it(f);
    for (unsigned i = 0; i < 40; i++) {
        pthread_t thread;

        pthread_create(&thread, NULL, load_thread, f->timeline);
        pthread_join(thread, NULL);
    }
    assert_int_equal(timeline_close(f->timeline, &err), -ENOMEM);
    json_decref(load(f));
}

static void test_the_limit_is_kept_and_said(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    json_t *events;

    f->config.limit = TIMELINE_MIN_LIMIT;
    open_it(f);
    record(100000);
    close_it(f);
    assert_int_equal(stat(f->config.path, &st), 0);
    assert_in_range(st.st_size, TIMELINE_MIN_LIMIT - 1024, TIMELINE_MIN_LIMIT);
    events = load(f);
    assert_int_equal(count(events, "the limit of the file was reached"), 1);
    json_decref(events);
}

static void test_only_the_window_is_kept(void **state)
{
    struct fixture *f = *state;
    json_t *events;

    f->config.from = 50000000;
    open_it(f);
    timeline_slice(TIMELINE_TIMERS, "before", timeline_start(), 0, 0, 0);
    usleep(60000);
    timeline_slice(TIMELINE_TIMERS, "within", timeline_start(), 0, 0, 0);
    close_it(f);
    events = load(f);
    assert_int_equal(count(events, "before"), 0);
    assert_int_equal(count(events, "within"), 1);
    json_decref(events);

    f->config.from = 0;
    f->config.to = 1000000;
    open_it(f);
    usleep(5000);
    timeline_slice(TIMELINE_TIMERS, "after", timeline_start(), 0, 0, 0);
    close_it(f);
    events = load(f);
    assert_int_equal(count(events, "after"), 0);
    json_decref(events);
}

static void test_short_slices_can_be_left_out(void **state)
{
    struct fixture *f = *state;
    json_t *events;

    f->config.shortest = 1000000000;
    open_it(f);
    timeline_slice(TIMELINE_HELPER, "cpuid", timeline_start(), 0, 0, 0);
    record(1);
    close_it(f);
    events = load(f);
    assert_int_equal(count(events, "cpuid"), 0);
    assert_int_equal(count(events, "uart"), 1);
    json_decref(events);
}

static void test_any_name_is_json(void **state)
{
    static const char *const names[] = {
        "\"},{\"", "back\\slash", "\x01\x1f\x7f\n", "\xff\xfe",         "\xc3", "\xc0\x80",
        "",        "ok \xc3\xa4", "\xed\xa0\x80",   "\xf4\x90\x80\x80",
    };
    struct fixture *f = *state;
    char longest[5000];
    json_t *events;

    memset(longest, '\x02', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    open_it(f);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        timeline_instant(TIMELINE_TRAP, names[i], 255, UINT64_MAX, UINT64_MAX, UINT64_MAX);
    timeline_instant(TIMELINE_TRAP, longest, 0, 0, 0, 0);
    memset(longest, '\xe2', sizeof longest - 1); /* sequences that are cut off by the length */
    timeline_instant(TIMELINE_TRAP, longest, 0, 0, 0, 0);
    close_it(f);
    events = load(f);
    assert_int_equal(count(events, "\"},{\""), 1);
    assert_int_equal(count(events, "back\\slash"), 1);
    assert_int_equal(count(events, "ok \xc3\xa4"), 1);
    assert_int_equal(count(events, "\xef\xbf\xbd\xef\xbf\xbd"), 2); /* FF FE, C0 80 */
    json_decref(events);
}

static void test_a_full_disk_is_said_at_the_end(void **state)
{
    struct fixture *f = *state;
    struct fixture full = {.config = f->config};
    struct err err;

    strcpy(full.config.path, "/dev/full");
    open_it(&full);
    record(5000);
    assert_int_equal(timeline_close(full.timeline, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "not complete"));
}

static void test_a_file_that_cannot_be_made(void **state)
{
    struct fixture *f = *state;
    struct err err;

    strcpy(f->config.path + strlen(f->config.path), "/no/such");
    assert_int_equal(timeline_open(&f->timeline, &f->config, "m", &err), -ENOTDIR);
    assert_non_null(strstr(err.text, "/no/such"));
    f->config.path[strlen(f->config.path) - strlen("/no/such")] = 0;
}

static void *copy_pipe(void *opaque)
{
    const struct fixture *f = opaque;
    FILE *in = fopen(f->config.path, "r");
    json_error_t error;
    json_t *root = json_loadf(in, 0, &error);

    fclose(in);
    return root;
}

static void test_a_pipe_gets_json_too(void **state)
{
    struct fixture *f = *state;
    pthread_t reader;
    void *root;

    unlink(f->config.path);
    assert_int_equal(mkfifo(f->config.path, 0600), 0);
    pthread_create(&reader, NULL, copy_pipe, f);
    open_it(f);
    record(5000);
    close_it(f);
    pthread_join(reader, &root);
    assert_non_null(root);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_timeline_nothing_happens),
        cmocka_unit_test_setup_teardown(test_says_what_happened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_states_follow_each_other_without_a_gap, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_file_is_complete_while_it_grows, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_no_event_of_several_threads_is_lost, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_more_threads_than_tracks_are_an_error_at_the_end,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_limit_is_kept_and_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_the_window_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_short_slices_can_be_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_name_is_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_disk_is_said_at_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_pipe_gets_json_too, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
