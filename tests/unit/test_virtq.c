/* test_virtq.c - virtqueues and the life of a virtio device, driven rightly and wrongly. */
#include "../dev/virtio_rig.h"

#define BUFFER 0x200000u

struct device {
    struct virtio_device virtio;
    unsigned notified, reset, started;
    uint32_t config;
};

static void on_notify(void *opaque, unsigned queue)
{
    (void)queue;
    ((struct device *)opaque)->notified++;
}

static void on_reset(void *opaque)
{
    ((struct device *)opaque)->reset++;
}

static void on_started(void *opaque)
{
    ((struct device *)opaque)->started++;
}

struct fixture {
    struct vrig *rig;
    struct device device;
    struct virtq *queue;
    struct virtq_chain chain;
};

static int setup(void **state)
{
    static const struct virtio_ops ops = {
        .notify = on_notify, .reset = on_reset, .started = on_started};
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->rig = vrig_new();
    virtio_init(&f->device.virtio,
                &(struct virtio_type){.name = "test",
                                      .features = 1,
                                      .queue_count = 2,
                                      .queue_size = 64,
                                      .config = &f->device.config,
                                      .config_size = sizeof f->device.config,
                                      .ops = &ops,
                                      .opaque = &f->device},
                &f->rig->mem);
    f->queue = virtio_queue(&f->device.virtio, 0);
    vrig_attach(f->rig, &f->device.virtio, VIRTIO_F_INDIRECT_DESC);
    *state = f;
    return 0;
}

static int setup_started(void **state)
{
    setup(state);
    vrig_start(((struct fixture *)*state)->rig);
    return 0;
}

/* The same with the event index. */
static int setup_event_index(void **state)
{
    struct fixture *f;

    setup(state);
    f = *state;
    vrig_attach(f->rig, &f->device.virtio, VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
    vrig_start(f->rig);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    vrig_free(f->rig);
    free(f);
    return 0;
}

static bool is_broken(const struct fixture *f)
{
    return virtio_status(&f->device.virtio) & VIRTIO_NEEDS_RESET;
}

static struct vrig_desc *table(struct fixture *f)
{
    return vrig_table(f->rig, 0);
}

/* Offers head 0 and expects that taking it breaks the device, once. */
static void expect_broken(struct fixture *f)
{
    vrig_offer(f->rig, 0, 0);
    assert_false(virtq_pop(f->queue, &f->chain));
    assert_true(is_broken(f));
    assert_int_equal(f->rig->config_interrupts, 1);
    assert_false(virtq_pop(f->queue, &f->chain));
    assert_int_equal(f->rig->config_interrupts, 1);
    assert_int_equal(f->queue->taken, 0);
}

/* --- driven rightly --- */

static void a_chain_is_read_written_and_returned(void **state)
{
    struct fixture *f = *state;
    uint8_t *ram = vrig_at(f->rig, BUFFER);
    uint32_t head, len;
    char text[16] = {0};

    memcpy(ram, "hello", 5);
    vrig_chain(f->rig, 0, BUFFER, 5, BUFFER + 0x1000, 8);
    assert_true(virtq_pop(f->queue, &f->chain));
    assert_int_equal(virtq_readable(&f->chain), 5);
    assert_int_equal(virtq_writable(&f->chain), 8);
    assert_int_equal(virtq_read(&f->chain, text, 2), 2);
    assert_int_equal(virtq_read(&f->chain, text + 2, sizeof text - 2), 3);
    assert_string_equal(text, "hello");
    assert_int_equal(virtq_write(&f->chain, "abcdefghij", 3), 3);
    assert_int_equal(virtq_write(&f->chain, "defghij", 7), 5);
    assert_memory_equal(ram + 0x1000, "abcdefgh", 8);
    virtq_push(&f->chain, 8);
    virtq_signal(f->queue);
    assert_true(vrig_take(f->rig, 0, &head, &len));
    assert_int_equal(head, 0);
    assert_int_equal(len, 8);
    assert_int_equal(f->rig->interrupts[0], 1);
    assert_false(virtq_pop(f->queue, &f->chain));
    assert_false(is_broken(f));
}

static void direct_and_indirect_descriptors_make_one_chain(void **state)
{
    struct fixture *f = *state;
    struct vrig_desc *indirect = vrig_at(f->rig, BUFFER + 0x8000);
    struct iovec iov[VIRTQ_MAX_SEGMENTS];

    table(f)[0] = (struct vrig_desc){BUFFER, 10, VRIG_NEXT, 5};
    table(f)[5] = (struct vrig_desc){BUFFER + 0x8000, 3 * 16, VRIG_INDIRECT, 0};
    indirect[0] = (struct vrig_desc){BUFFER + 0x100, 20, VRIG_NEXT, 2};
    indirect[2] = (struct vrig_desc){BUFFER + 0x200, 0, VRIG_NEXT, 1}; /* empty: left out */
    indirect[1] = (struct vrig_desc){BUFFER + 0x300, 30, VRIG_WRITE, 0};
    vrig_offer(f->rig, 0, 0);
    assert_true(virtq_pop(f->queue, &f->chain));
    assert_int_equal(f->chain.readable, 30);
    assert_int_equal(f->chain.writable, 30);
    assert_int_equal(f->chain.read_count, 2);
    assert_int_equal(virtq_read_iov(&f->chain, 15, iov), 2);
    assert_ptr_equal(iov[0].iov_base, vrig_at(f->rig, BUFFER));
    assert_int_equal(iov[1].iov_len, 5);
    assert_int_equal(virtq_read_iov(&f->chain, 100, iov), 1);
    assert_ptr_equal(iov[0].iov_base, vrig_at(f->rig, BUFFER + 0x105));
    assert_int_equal(iov[0].iov_len, 15);
    assert_int_equal(virtq_write_iov(&f->chain, 100, iov), 1);
    assert_int_equal(iov[0].iov_len, 30);
    virtq_push(&f->chain, 30);
}

/* What was handed out for writing is announced to the engine, too. */
static void stores_drop_code(void **state)
{
    struct fixture *f = *state;
    struct iovec iov[VIRTQ_MAX_SEGMENTS];

    *memory_page_flags(&f->rig->mem, BUFFER) |= PAGE_CODE;
    vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
    assert_true(virtq_pop(f->queue, &f->chain));
    virtq_write_iov(&f->chain, 64, iov);
    virtq_push(&f->chain, 0);
    assert_int_equal(f->rig->mem.dma.count, 1);
    assert_int_equal(f->rig->mem.dma.spans[0].len, 64);
}

static void a_chain_can_be_put_back(void **state)
{
    struct fixture *f = *state;

    vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
    assert_true(virtq_pop(f->queue, &f->chain));
    assert_false(virtq_ready(f->queue));
    virtq_unpop(&f->chain);
    assert_int_equal(f->queue->taken, 0);
    assert_true(virtq_ready(f->queue));
    assert_true(virtq_pop(f->queue, &f->chain));
}

static void chains_end_in_any_order(void **state)
{
    struct fixture *f = *state;
    struct virtq_chain *first = malloc(sizeof *first);
    uint32_t head, len;

    vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
    vrig_chain(f->rig, 0, 0, 0, BUFFER + 64, 64);
    assert_true(virtq_pop(f->queue, first));
    assert_true(virtq_pop(f->queue, &f->chain));
    virtq_push(&f->chain, 2);
    virtq_push(first, 1);
    assert_true(vrig_take(f->rig, 0, &head, &len) && head == 1 && len == 2);
    assert_true(vrig_take(f->rig, 0, &head, &len) && head == 0 && len == 1);
    free(first);
}

/* More chains than the ring has entries and than an index has values. */
static void indexes_wrap(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    for (unsigned i = 0; i < 70000; i++) {
        vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
        assert_true(virtq_pop(f->queue, &f->chain));
        virtq_push(&f->chain, i & 63);
        assert_true(vrig_take(f->rig, 0, &head, &len) && len == (i & 63));
    }
    assert_false(is_broken(f));
}

static void several_chains_appear_at_once(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    for (unsigned i = 0; i < 2; i++) {
        vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
        assert_true(virtq_pop(f->queue, &f->chain));
        virtq_fill(&f->chain, 10 + i, i);
        assert_false(vrig_take(f->rig, 0, &head, &len));
    }
    virtq_flush(f->queue, 2);
    assert_true(vrig_take(f->rig, 0, &head, &len) && len == 10);
    assert_true(vrig_take(f->rig, 0, &head, &len) && len == 11);
}

/* --- notifications --- */

static void flags_switch_interrupts_and_notifications_off(void **state)
{
    struct fixture *f = *state;

    virtq_set_notify(f->queue, false);
    assert_int_equal(vrig_used(f->rig, 0)[0], 1);
    virtq_set_notify(f->queue, true);
    assert_int_equal(vrig_used(f->rig, 0)[0], 0);
    vrig_avail(f->rig, 0)[0] = 1;
    vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
    assert_true(virtq_pop(f->queue, &f->chain));
    virtq_push(&f->chain, 0);
    virtq_signal(f->queue);
    assert_int_equal(f->rig->interrupts[0], 0);
}

static void the_event_index_chooses_the_interrupt(void **state)
{
    struct fixture *f = *state;
    uint16_t *used_event = vrig_avail(f->rig, 0) + 2 + f->rig->size;

    *used_event = 2; /* when the third is used */
    for (unsigned i = 0; i < 5; i++) {
        vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
        assert_true(virtq_pop(f->queue, &f->chain));
        virtq_push(&f->chain, 0);
        virtq_signal(f->queue);
        assert_int_equal(f->rig->interrupts[0], i >= 2);
    }
}

static void nothing_new_is_no_reason_to_interrupt(void **state)
{
    struct fixture *f = *state;

    virtq_signal(f->queue);
    assert_int_equal(f->rig->interrupts[0], 0);
    vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
    assert_true(virtq_pop(f->queue, &f->chain));
    virtq_push(&f->chain, 0);
    virtq_signal(f->queue);
    virtq_signal(f->queue);
    assert_int_equal(f->rig->interrupts[0], 1);
}

static void avail_event_moves_when_the_queue_is_empty(void **state)
{
    struct fixture *f = *state;
    const uint16_t *avail_event = vrig_used(f->rig, 0) + 2 + 4 * f->rig->size;

    vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
    vrig_chain(f->rig, 0, 0, 0, BUFFER, 64);
    assert_true(virtq_pop(f->queue, &f->chain));
    assert_int_equal(*avail_event, 0);
    assert_true(virtq_pop(f->queue, &f->chain));
    assert_false(virtq_pop(f->queue, &f->chain));
    assert_int_equal(*avail_event, 2);
}

/* --- driven wrongly --- */

static void a_loop_breaks(void **state)
{
    struct fixture *f = *state;

    table(f)[0] = (struct vrig_desc){BUFFER, 1, VRIG_NEXT, 1};
    table(f)[1] = (struct vrig_desc){BUFFER, 1, VRIG_NEXT, 0};
    expect_broken(f);
}

static void a_descriptor_beyond_the_table_breaks(void **state)
{
    struct fixture *f = *state;

    table(f)[0] = (struct vrig_desc){BUFFER, 1, VRIG_NEXT, f->rig->size};
    expect_broken(f);
}

static void a_head_beyond_the_table_breaks(void **state)
{
    struct fixture *f = *state;

    vrig_offer(f->rig, 0, f->rig->size);
    assert_false(virtq_pop(f->queue, &f->chain));
    assert_true(is_broken(f));
}

static void a_buffer_outside_of_ram_breaks(void **state)
{
    static const uint64_t where[] = {VRIG_RAM, VRIG_RAM - 1, UINT64_MAX, UINT64_C(1) << 63};
    struct fixture *f = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
        f->rig->config_interrupts = 0;
        vrig_attach(f->rig, &f->device.virtio, VIRTIO_F_INDIRECT_DESC);
        vrig_start(f->rig);
        table(f)[0] = (struct vrig_desc){where[i], 2, 0, 0};
        expect_broken(f);
    }
}

static void a_chain_of_4_gib_breaks(void **state)
{
    struct fixture *f = *state;
    struct vrig_desc *indirect = vrig_at(f->rig, BUFFER + 0x8000);

    table(f)[0] = (struct vrig_desc){BUFFER + 0x8000, 128 * 16, VRIG_INDIRECT, 0};
    for (unsigned i = 0; i < 128; i++)
        indirect[i] = (struct vrig_desc){0, VRIG_RAM, i < 127 ? VRIG_NEXT : 0, (uint16_t)(i + 1)};
    expect_broken(f);
}

static void a_readable_behind_a_writable_breaks(void **state)
{
    struct fixture *f = *state;

    table(f)[0] = (struct vrig_desc){BUFFER, 1, VRIG_NEXT | VRIG_WRITE, 1};
    table(f)[1] = (struct vrig_desc){BUFFER, 1, 0, 0};
    expect_broken(f);
}

static void odd_indirect_tables_break(void **state)
{
    static const struct vrig_desc odd[] = {
        {BUFFER, 0, VRIG_INDIRECT, 0},
        {BUFFER, 24, VRIG_INDIRECT, 0},
        {BUFFER, 257 * 16, VRIG_INDIRECT, 0},
        {BUFFER, 16, VRIG_INDIRECT | VRIG_NEXT, 1},
        {VRIG_RAM - 8, 16, VRIG_INDIRECT, 0},
        {VRIG_RINGS, 16, VRIG_INDIRECT, 0}, /* itself: indirect within indirect */
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
        f->rig->config_interrupts = 0;
        vrig_attach(f->rig, &f->device.virtio, VIRTIO_F_INDIRECT_DESC);
        vrig_start(f->rig);
        table(f)[0] = odd[i];
        expect_broken(f);
    }
}

static void indirect_that_was_not_agreed_breaks(void **state)
{
    struct fixture *f = *state;

    vrig_attach(f->rig, &f->device.virtio, 0);
    vrig_start(f->rig);
    table(f)[0] = (struct vrig_desc){BUFFER, 16, VRIG_INDIRECT, 0};
    expect_broken(f);
}

static void an_index_that_runs_away_breaks(void **state)
{
    struct fixture *f = *state;

    vrig_avail(f->rig, 0)[1] = (uint16_t)(f->rig->size + 1);
    assert_false(virtq_ready(f->queue));
    assert_true(is_broken(f));
}

static void rings_outside_of_ram_break(void **state)
{
    static const gpa_t bad[] = {VRIG_RAM, VRIG_RAM - 16, UINT64_MAX - 15, 0x100001};
    struct fixture *f = *state;

    for (unsigned i = 0; i < 3 * ARRAY_SIZE(bad); i++) {
        gpa_t rings[3] = {0x1000, 0x2000, 0x3000};

        rings[i % 3] = bad[i / 3];
        vrig_attach(f->rig, &f->device.virtio, 0);
        virtio_queue_set_rings(&f->device.virtio, 0, rings[0], rings[1], rings[2]);
        virtio_queue_enable(&f->device.virtio, 0);
        assert_true(is_broken(f));
        assert_false(f->queue->enabled);
    }
}

static void a_queue_cannot_be_changed_while_enabled(void **state)
{
    struct fixture *f = *state;

    virtio_queue_set_size(&f->device.virtio, 0, 8);
    virtio_queue_set_rings(&f->device.virtio, 0, 0, 0, 0);
    assert_int_equal(f->queue->size, 16);
    assert_int_equal(f->queue->desc, VRIG_RINGS);
    virtio_queue_set_size(&f->device.virtio, 99, 8);
    virtio_queue_enable(&f->device.virtio, 99);
    virtio_notify(&f->device.virtio, 99);
    assert_int_equal(f->device.notified, 0);
    virtio_notify(&f->device.virtio, 1);
    assert_int_equal(f->device.notified, 1);
}

static void odd_sizes_are_ignored(void **state)
{
    struct fixture *f = *state;
    static const uint16_t odd[] = {0, 3, 65, 128, 0x8000};

    virtio_queue_set_size(&f->device.virtio, 0, 32);
    for (unsigned i = 0; i < ARRAY_SIZE(odd); i++)
        virtio_queue_set_size(&f->device.virtio, 0, odd[i]);
    assert_int_equal(f->queue->size, 32);
}

/* --- the life of a device --- */

static void features_are_checked(void **state)
{
    struct fixture *f = *state;
    struct virtio_device *device = &f->device.virtio;

    virtio_set_status(device, 0);
    virtio_set_status(device, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    virtio_accept(device, 0, UINT32_MAX);
    virtio_accept(device, 7, UINT32_MAX);
    virtio_set_status(device, VIRTIO_FEATURES_OK);
    assert_false(virtio_status(device) & VIRTIO_FEATURES_OK); /* without VERSION_1 */
    virtio_set_status(device, VIRTIO_DRIVER_OK);
    assert_false(virtio_status(device) & VIRTIO_DRIVER_OK);
    virtio_accept(device, 1, UINT32_MAX);
    virtio_set_status(device, VIRTIO_FEATURES_OK);
    assert_true(virtio_status(device) & VIRTIO_FEATURES_OK);
    assert_true(device->features == device->offered);
    virtio_accept(device, 0, 0);
    assert_true(device->features == device->offered);
}

static void nothing_works_before_the_driver_is_ready(void **state)
{
    struct fixture *f = *state;

    vrig_queue(f->rig, 0);
    vrig_chain(f->rig, 0, BUFFER, 1, 0, 0);
    virtio_notify(&f->device.virtio, 0);
    assert_int_equal(f->device.notified, 0);
    assert_false(virtq_pop(f->queue, &f->chain));
    virtio_set_status(&f->device.virtio, VIRTIO_DRIVER_OK);
    assert_int_equal(f->device.started, 1);
    virtio_set_dma(&f->device.virtio, false);
    assert_false(virtq_pop(f->queue, &f->chain));
    virtio_set_dma(&f->device.virtio, true);
    assert_true(virtq_pop(f->queue, &f->chain));
}

static void a_reset_waits_for_what_is_out(void **state)
{
    struct fixture *f = *state;
    struct virtio_device *device = &f->device.virtio;
    uint32_t head, len;

    vrig_chain(f->rig, 0, BUFFER, 1, BUFFER, 1);
    assert_true(virtq_pop(f->queue, &f->chain));
    virtio_set_status(device, 0);
    assert_int_not_equal(virtio_status(device), 0);
    virtio_set_status(device, VIRTIO_ACKNOWLEDGE); /* too early */
    assert_int_not_equal(virtio_status(device), VIRTIO_ACKNOWLEDGE);
    virtq_push(&f->chain, 1);
    assert_int_equal(virtio_status(device), 0);
    assert_false(vrig_take(f->rig, 0, &head, &len));
    assert_false(f->queue->enabled);
}

/* A chain of before a reset that comes back when the queue is in use again. */
static void an_old_chain_does_not_end_a_new_one(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    vrig_chain(f->rig, 0, BUFFER, 1, BUFFER, 1);
    assert_true(virtq_pop(f->queue, &f->chain));
    f->chain.generation--;
    vrig_chain(f->rig, 0, BUFFER, 1, BUFFER, 1);
    virtq_push(&f->chain, 1);
    virtq_signal(f->queue);
    assert_false(vrig_take(f->rig, 0, &head, &len));
}

static void the_configuration_is_bounded(void **state)
{
    struct fixture *f = *state;

    f->device.config = 0x44332211;
    assert_int_equal(virtio_config_read(&f->device.virtio, 0, 4), 0x44332211);
    assert_int_equal(virtio_config_read(&f->device.virtio, 3, 4), 0x44);
    assert_int_equal(virtio_config_read(&f->device.virtio, 4, 4), 0);
    assert_int_equal(virtio_config_read(&f->device.virtio, UINT32_MAX, 4), 0);
    virtio_config_write(&f->device.virtio, 0, 0, 4);
    assert_int_equal(f->device.config, 0x44332211);
}

static void state_is_saved_and_checked(void **state)
{
    struct fixture *f = *state;
    struct state_list *list = state_list_new();
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err = {0};

    virtio_add_state(&f->device.virtio, list, 0);
    vrig_chain(f->rig, 0, BUFFER, 1, BUFFER, 1);
    assert_true(virtq_pop(f->queue, &f->chain));
    virtq_push(&f->chain, 0);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    virtio_set_status(&f->device.virtio, 0);
    assert_int_equal(state_load(list, data, size, &err), 0);
    vrig_chain(f->rig, 0, BUFFER, 1, BUFFER, 1);
    assert_true(virtq_pop(f->queue, &f->chain));
    assert_int_equal(f->chain.head, 2);
    for (size_t i = 0; i < size; i++) {
        data[i] ^= 0xff;
        if (state_load(list, data, size, &err) == 0 && virtq_pop(f->queue, &f->chain))
            virtq_push(&f->chain, 0);
        data[i] ^= 0xff;
    }
    free(data);
    state_list_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define STARTED(test) cmocka_unit_test_setup_teardown(test, setup_started, teardown)
#define FRESH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define EVENTS(test) cmocka_unit_test_setup_teardown(test, setup_event_index, teardown)
        STARTED(a_chain_is_read_written_and_returned),
        STARTED(direct_and_indirect_descriptors_make_one_chain),
        STARTED(stores_drop_code),
        STARTED(a_chain_can_be_put_back),
        STARTED(chains_end_in_any_order),
        STARTED(indexes_wrap),
        STARTED(several_chains_appear_at_once),
        STARTED(flags_switch_interrupts_and_notifications_off),
        EVENTS(the_event_index_chooses_the_interrupt),
        STARTED(nothing_new_is_no_reason_to_interrupt),
        EVENTS(avail_event_moves_when_the_queue_is_empty),
        STARTED(a_loop_breaks),
        STARTED(a_descriptor_beyond_the_table_breaks),
        STARTED(a_head_beyond_the_table_breaks),
        STARTED(a_buffer_outside_of_ram_breaks),
        STARTED(a_chain_of_4_gib_breaks),
        STARTED(a_readable_behind_a_writable_breaks),
        STARTED(odd_indirect_tables_break),
        STARTED(indirect_that_was_not_agreed_breaks),
        STARTED(an_index_that_runs_away_breaks),
        FRESH(rings_outside_of_ram_break),
        STARTED(a_queue_cannot_be_changed_while_enabled),
        FRESH(odd_sizes_are_ignored),
        FRESH(features_are_checked),
        FRESH(nothing_works_before_the_driver_is_ready),
        STARTED(a_reset_waits_for_what_is_out),
        STARTED(an_old_chain_does_not_end_a_new_one),
        STARTED(the_configuration_is_bounded),
        STARTED(state_is_saved_and_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
