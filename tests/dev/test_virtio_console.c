/* test_virtio_console.c - bytes through the console on virtio, more of them than are taken at once,
 * and interrupts that can wait. */
#include "virtio_rig.h"

#include "virtio/virtio_console.h"

#define BUFFER 0x200000u

enum { RECEIVE, TRANSMIT };

struct fixture {
    struct vrig *rig;
    struct clock clock;
    struct virtio_console console;
    unsigned ready, more;
    size_t sent;
    uint8_t bytes[256 * KIB];
};

static void on_transmit(void *opaque, const uint8_t *bytes, size_t count)
{
    struct fixture *f = opaque;

    assert_true(count <= sizeof f->bytes - f->sent);
    memcpy(f->bytes + f->sent, bytes, count);
    f->sent += count;
}

static void on_ready(void *opaque)
{
    ((struct fixture *)opaque)->ready++;
}

static void on_more(void *opaque)
{
    ((struct fixture *)opaque)->more++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->rig = vrig_new();
    clock_init(&f->clock, CLOCK_VIRTUAL);
    clock_start(&f->clock);
    virtio_console_init(&f->console, &f->rig->mem, &f->clock);
    f->console.transmit = on_transmit;
    f->console.ready = on_ready;
    f->console.more = on_more;
    f->console.opaque = f;
    vrig_attach(f->rig, &f->console.virtio, 5);
    vrig_start(f->rig);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    vrig_free(f->rig);
    free(f);
    return 0;
}

static void write_text(struct fixture *f, gpa_t at, uint32_t len)
{
    vrig_chain(f->rig, TRANSMIT, at, len, 0, 0);
    virtio_notify(&f->console.virtio, TRANSMIT);
}

static void pass(struct fixture *f, uint64_t ns)
{
    const uint64_t now = clock_now(&f->clock) + ns;

    clock_set(&f->clock, now, now);
    clock_run_timers(&f->clock);
}

static void output_arrives(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    memcpy(vrig_at(f->rig, BUFFER), "hello", 5);
    write_text(f, BUFFER, 5);
    assert_int_equal(f->sent, 5);
    assert_memory_equal(f->bytes, "hello", 5);
    assert_true(vrig_take(f->rig, TRANSMIT, &head, &len));
}

static void much_output_comes_in_pieces(void **state)
{
    struct fixture *f = *state;
    uint8_t *ram = vrig_at(f->rig, BUFFER);
    uint32_t head, len;

    for (unsigned i = 0; i < 100000; i++)
        ram[i] = (uint8_t)(i * 7 / 3);
    write_text(f, BUFFER, 100000);
    assert_true(f->sent > 0 && f->sent < 40000);
    assert_false(vrig_take(f->rig, TRANSMIT, &head, &len));
    for (unsigned i = 0; i < 10 && f->sent < 100000; i++) {
        assert_int_equal(f->more, i + 1);
        virtio_console_pump(&f->console);
    }
    assert_int_equal(f->sent, 100000);
    assert_memory_equal(f->bytes, ram, 100000);
    assert_true(vrig_take(f->rig, TRANSMIT, &head, &len));
}

static void a_reset_forgets_what_was_begun(void **state)
{
    struct fixture *f = *state;

    write_text(f, BUFFER, 100000);
    vrig_attach(f->rig, &f->console.virtio, 0);
    vrig_start(f->rig);
    f->sent = 0;
    write_text(f, BUFFER, 5);
    assert_int_equal(f->sent, 5);
    pass(f, 2 * VIRTIO_CONSOLE_DELAY);
    assert_int_equal(f->rig->interrupts[TRANSMIT], 1);
}

static void the_interrupt_waits_while_nobody_does(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 3; i++)
        write_text(f, BUFFER, 5);
    assert_int_equal(f->rig->interrupts[TRANSMIT], 0);
    pass(f, VIRTIO_CONSOLE_DELAY);
    assert_int_equal(f->rig->interrupts[TRANSMIT], 1);
    for (unsigned i = 0; i < f->rig->size / 2u; i++)
        write_text(f, BUFFER, 5);
    assert_int_equal(f->rig->interrupts[TRANSMIT], 2);
}

static void keys_arrive(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    assert_int_equal(virtio_console_receive(&f->console, (const uint8_t *)"abc", 3), 0);
    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER, 2);
    virtio_notify(&f->console.virtio, RECEIVE);
    assert_int_equal(f->ready, 1);
    assert_int_equal(virtio_console_receive(&f->console, (const uint8_t *)"abc", 3), 2);
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && len == 2);
    assert_memory_equal(vrig_at(f->rig, BUFFER), "ab\0", 3);
    assert_int_equal(f->rig->interrupts[RECEIVE], 1);
}

static void the_driver_is_told_of_another_size(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(virtio_config_read(&f->console.virtio, 0, 4), 80 | 25 << 16);
    virtio_console_resize(&f->console, 132, 43);
    virtio_console_resize(&f->console, 132, 43);
    assert_int_equal(f->rig->config_interrupts, 1);
    assert_int_equal(virtio_config_read(&f->console.virtio, 0, 4), 132 | 43 << 16);
}

static void a_character_without_queues(void **state)
{
    struct fixture *f = *state;

    virtio_config_write(&f->console.virtio, 8, '!', 4);
    virtio_config_write(&f->console.virtio, 0, '?', 4);
    assert_int_equal(f->sent, 1);
    assert_int_equal(f->bytes[0], '!');
}

static void a_saved_console_goes_on_in_the_middle(void **state)
{
    struct fixture *f = *state;
    struct state_list *list = state_list_new();
    uint8_t *data = NULL;
    size_t size = 0, before;
    struct err err = {0};

    virtio_add_state(&f->console.virtio, list, 0);
    state_add(list, &virtio_console_state_desc, 0, &f->console);
    memset(vrig_at(f->rig, BUFFER), 'x', 60000);
    write_text(f, BUFFER, 60000);
    before = f->sent;
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    virtio_reset(&f->console.virtio);
    assert_int_equal(state_load(list, data, size, &err), 0);
    virtio_console_pump(&f->console);
    assert_true(before < 60000);
    assert_int_equal(f->sent, 60000);
    pass(f, VIRTIO_CONSOLE_DELAY);
    assert_int_equal(f->rig->interrupts[TRANSMIT], 1);
    free(data);
    state_list_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define WITH_CONSOLE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        WITH_CONSOLE(output_arrives),
        WITH_CONSOLE(much_output_comes_in_pieces),
        WITH_CONSOLE(a_reset_forgets_what_was_begun),
        WITH_CONSOLE(the_interrupt_waits_while_nobody_does),
        WITH_CONSOLE(keys_arrive),
        WITH_CONSOLE(the_driver_is_told_of_another_size),
        WITH_CONSOLE(a_character_without_queues),
        WITH_CONSOLE(a_saved_console_goes_on_in_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
