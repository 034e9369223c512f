/* test_virtio_blk.c - the disk, driven as a guest's driver does, well and badly. */
#define _GNU_SOURCE
#include "virtio_rig.h"

#include "block/image_tool.h"
#include "virtio/virtio_blk.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define SIZE (4 * MIB)
#define DATA 0x400000u
#define HEADER 0x300000u
#define STATUS 0x380000u

#define F_FLUSH (UINT64_C(1) << 9)
#define ALL                                                                                        \
    (~UINT64_C(0) & ~(UINT64_C(1) << 29)) /* without the event index: every interrupt counts */

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NONE = 0xee };

struct machine {
    struct vrig *rig;
    struct virtio_blk blk;
    struct block *block;
    pthread_mutex_t lock;
    unsigned headers; /* that were used; each request has its own */
};

static char path[64];

static void lock(void *opaque)
{
    pthread_mutex_lock(opaque);
}

static void unlock(void *opaque)
{
    pthread_mutex_unlock(opaque);
}

static void make_image(enum block_format format)
{
    struct image_create create;

    image_create_defaults(&create);
    create.path = path;
    create.format = format;
    create.size = SIZE;
    create.size_given = true;
    assert_int_equal(image_create(&create, NULL), 0);
}

/* With its lock held from the start. */
static struct machine *start(const struct block_config *config, uint64_t features, unsigned queues)
{
    struct machine *m = calloc(1, sizeof *m);
    const struct block_owner owner = {lock, unlock, &m->lock, false};

    m->rig = vrig_new();
    m->rig->size = 64;
    pthread_mutex_init(&m->lock, NULL);
    assert_int_equal(block_open(&m->block, config, NULL), 0);
    assert_int_equal(block_attach(m->block, &owner, NULL), 0);
    pthread_mutex_lock(&m->lock);
    virtio_blk_init(&m->blk, m->block, "a serial number of more than 20 letters", queues,
                    &m->rig->mem);
    vrig_attach(m->rig, &m->blk.virtio, features & m->blk.virtio.offered);
    vrig_start(m->rig);
    return m;
}

static struct machine *start_raw(uint64_t features)
{
    make_image(BLOCK_RAW);
    return start(&(struct block_config){path, BLOCK_RAW, false, false}, features, 1);
}

static void stop(struct machine *m)
{
    virtio_drain(&m->blk.virtio);
    pthread_mutex_unlock(&m->lock);
    block_close(m->block);
    virtio_blk_free(&m->blk);
    vrig_free(m->rig);
    free(m);
}

static void put_header(struct machine *m, uint32_t type, uint64_t sector)
{
    const uint32_t words[2] = {type, 0};
    uint8_t *at = vrig_at(m->rig, HEADER + 16 * (m->headers % 1024));

    memcpy(at, words, 8);
    memcpy(at + 8, &sector, 8);
}

/* Header, data, status: offers the chain and notifies. */
static void offer(struct machine *m, unsigned queue, uint32_t type, uint64_t sector, gpa_t data,
                  uint32_t length)
{
    struct vrig *rig = m->rig;
    struct vrig_desc *table = vrig_table(rig, queue);
    const bool write = type == IN || type == GET_ID;
    const unsigned slot = m->headers % 1024;
    uint16_t head = rig->next_desc[queue] % rig->size, d[3];

    put_header(m, type, sector);
    *(uint8_t *)vrig_at(rig, STATUS + slot) = NONE;
    for (unsigned i = 0; i < 3; i++)
        d[i] = (uint16_t)((head + i) % rig->size);
    table[d[0]] = (struct vrig_desc){HEADER + 16 * slot, 16, VRIG_NEXT, length ? d[1] : d[2]};
    table[d[1]] = (struct vrig_desc){data, length, VRIG_NEXT | (write ? VRIG_WRITE : 0), d[2]};
    table[d[2]] = (struct vrig_desc){STATUS + slot, 1, VRIG_WRITE, 0};
    rig->next_desc[queue] = (uint16_t)(rig->next_desc[queue] + 3);
    m->headers++;
    vrig_offer(rig, queue, head);
}

static unsigned finish(struct machine *m, unsigned queue, uint32_t *length)
{
    uint32_t head;

    virtio_notify(&m->blk.virtio, queue);
    block_drain(m->block);
    assert_true(vrig_take(m->rig, queue, &head, length));
    return *(uint8_t *)vrig_at(m->rig, STATUS + (m->headers - 1) % 1024);
}

static unsigned request(struct machine *m, uint32_t type, uint64_t sector, uint32_t length)
{
    uint32_t used;
    unsigned status;

    offer(m, 0, type, sector, DATA, length);
    status = finish(m, 0, &used);
    if (status == OK)
        assert_int_equal(used, type == IN       ? length + 1
                               : type == GET_ID ? (length < 20 ? length : 20) + 1
                                                : 1);
    return status;
}

static unsigned range(struct machine *m, uint32_t type, uint64_t sector, uint32_t sectors,
                      uint32_t flags)
{
    const uint32_t words[2] = {sectors, flags};

    memcpy(vrig_at(m->rig, DATA), &sector, 8);
    memcpy(vrig_at(m->rig, DATA + 8), words, 8);
    return request(m, type, 0, 16);
}

static void file_bytes(uint64_t offset, void *bytes, size_t length)
{
    int fd = open(path, O_RDONLY);

    assert_int_equal(pread(fd, bytes, length, (off_t)offset), length);
    close(fd);
}

/* --- tests --- */

static void test_read_write(void **state)
{
    struct machine *m = start_raw(ALL);
    uint8_t *data = vrig_at(m->rig, DATA), bytes[3 * 512];

    (void)state;
    memset(data, 0x5a, sizeof bytes);
    assert_int_equal(request(m, OUT, 7, sizeof bytes), OK);
    file_bytes(7 * 512, bytes, sizeof bytes);
    assert_memory_equal(bytes, data, sizeof bytes);
    memset(data, 0, sizeof bytes);
    assert_int_equal(request(m, IN, 7, sizeof bytes), OK);
    assert_memory_equal(bytes, data, sizeof bytes);
    assert_int_equal(request(m, FLUSH, 0, 0), OK);
    assert_int_equal(m->rig->interrupts[0], 3);
    stop(m);
}

static void test_configuration(void **state)
{
    struct machine *m = start_raw(ALL);

    (void)state;
    assert_int_equal(virtio_config_read(&m->blk.virtio, 0, 4), SIZE / 512);
    assert_int_equal(virtio_config_read(&m->blk.virtio, 4, 4), 0);
    assert_int_equal(virtio_config_read(&m->blk.virtio, 12, 4), 254);
    assert_int_equal(virtio_config_read(&m->blk.virtio, 20, 4), 512);
    assert_int_equal(virtio_config_read(&m->blk.virtio, 34, 2), 1);
    assert_int_equal(virtio_config_read(&m->blk.virtio, 40, 4), 1);
    assert_int_equal(virtio_config_read(&m->blk.virtio, 52, 4), 1);
    stop(m);
}

static void test_get_id(void **state)
{
    struct machine *m = start_raw(ALL);
    char *data = vrig_at(m->rig, DATA);

    (void)state;
    assert_int_equal(request(m, GET_ID, 0, 20), OK);
    assert_memory_equal(data, "a serial number of m", 20);
    memset(data, 'x', 32);
    assert_int_equal(request(m, GET_ID, 0, 32), OK);
    assert_memory_equal(data, "a serial number of mxxxxxxxxxxxx", 32);
    assert_int_equal(request(m, GET_ID, 0, 3), OK);
    stop(m);
}

static void test_discard_and_zeroes(void **state)
{
    struct machine *m = start_raw(ALL);
    uint8_t *data = vrig_at(m->rig, DATA), byte;

    (void)state;
    memset(data, 1, 64 * KIB);
    assert_int_equal(request(m, OUT, 0, 64 * KIB), OK);
    assert_int_equal(range(m, WRITE_ZEROES, 8, 8, 0), OK);
    file_bytes(8 * 512, &byte, 1);
    assert_int_equal(byte, 0);
    assert_int_equal(range(m, WRITE_ZEROES, 24, 8, 1), OK);
    file_bytes(24 * 512, &byte, 1);
    assert_int_equal(byte, 0);
    assert_int_equal(range(m, DISCARD, 16, 8, 0), OK);
    file_bytes(32 * 512, &byte, 1);
    assert_int_equal(byte, 1);
    assert_int_equal(range(m, DISCARD, 0, 8, 1), UNSUPP); /* a discard has no unmap */
    assert_int_equal(range(m, WRITE_ZEROES, 0, 8, 2), UNSUPP);
    assert_int_equal(range(m, DISCARD, SIZE / 512, 1, 0), IOERR);
    assert_int_equal(range(m, DISCARD, UINT64_MAX, 1, 0), IOERR);
    assert_int_equal(range(m, WRITE_ZEROES, 0, UINT32_MAX, 0), IOERR);
    assert_int_equal(request(m, DISCARD, 0, 15), IOERR);
    assert_int_equal(request(m, DISCARD, 0, 32), IOERR); /* more ranges than we take */
    stop(m);
}

static void test_bad_requests(void **state)
{
    struct machine *m = start_raw(ALL);

    (void)state;
    assert_int_equal(request(m, IN, SIZE / 512, 512), IOERR);
    assert_int_equal(request(m, IN, SIZE / 512 - 1, 1024), IOERR);
    assert_int_equal(request(m, OUT, UINT64_MAX, 512), IOERR);
    assert_int_equal(request(m, OUT, UINT64_MAX / 512, 512), IOERR);
    assert_int_equal(request(m, IN, 0, 511), IOERR);
    assert_int_equal(request(m, 99, 0, 512), UNSUPP);
    assert_int_equal(request(m, IN, 0, 512), OK);
    assert_true(virtio_running(&m->blk.virtio));
    stop(m);
}

/* A header that is too short is an error; without a status byte nobody can be told. */
static void test_bad_chains(void **state)
{
    struct machine *m = start_raw(ALL);
    uint32_t head, length;

    (void)state;
    vrig_chain(m->rig, 0, HEADER, 15, STATUS, 1);
    virtio_notify(&m->blk.virtio, 0);
    assert_true(vrig_take(m->rig, 0, &head, &length));
    assert_int_equal(*(uint8_t *)vrig_at(m->rig, STATUS), IOERR);
    vrig_chain(m->rig, 0, HEADER, 16, 0, 0);
    virtio_notify(&m->blk.virtio, 0);
    assert_false(virtio_running(&m->blk.virtio));
    assert_int_equal(m->rig->config_interrupts, 1);
    stop(m);
}

/* A driver that does not know flushing is told of a write when it is on the disk. */
static void test_write_through(void **state)
{
    struct machine *m = start_raw(ALL & ~F_FLUSH);

    (void)state;
    memset(vrig_at(m->rig, DATA), 3, 512);
    assert_int_equal(request(m, OUT, 0, 512), OK);
    assert_int_equal(request(m, IN, 0, 512), OK);
    assert_int_equal(range(m, DISCARD, 0, 8, 0), OK);
    stop(m);
}

static void test_read_only(void **state)
{
    struct machine *m;

    (void)state;
    make_image(BLOCK_QCOW2);
    m = start(&(struct block_config){path, BLOCK_QCOW2, true, false}, ALL, 1);
    assert_true(m->blk.virtio.features & UINT64_C(1) << 5);
    assert_int_equal(request(m, OUT, 0, 512), IOERR);
    assert_int_equal(request(m, IN, 0, 512), OK);
    assert_int_equal(request(m, FLUSH, 0, 0), OK);
    stop(m);
}

/* Many requests in flight on several queues, each in a sector of its own. */
static void test_queues(void **state)
{
    const unsigned queues = 4, each = 20; /* 3 descriptors of 64 for each request */
    uint32_t head, length;
    struct machine *m;

    (void)state;
    make_image(BLOCK_QCOW2);
    m = start(&(struct block_config){path, BLOCK_QCOW2, false, false}, ALL, queues);
    for (unsigned i = 0; i < queues * each; i++) {
        memset(vrig_at(m->rig, DATA + 512 * i), (int)i + 1, 512);
        offer(m, i % queues, OUT, 100 * i, DATA + 512 * i, 512);
    }
    for (unsigned q = 0; q < queues; q++)
        virtio_notify(&m->blk.virtio, q);
    block_drain(m->block);
    for (unsigned q = 0; q < queues; q++) {
        for (unsigned i = 0; i < each; i++)
            assert_true(vrig_take(m->rig, q, &head, &length));
        assert_false(vrig_take(m->rig, q, &head, &length));
        assert_true(m->rig->interrupts[q] > 0);
    }
    for (unsigned i = 0; i < queues * each; i++) {
        assert_int_equal(request(m, IN, 100 * i, 512), OK);
        assert_int_equal(*(uint8_t *)vrig_at(m->rig, DATA), i + 1);
    }
    stop(m);
}

/* A reset while requests are in flight: the driver sees it complete when they have ended, and
 * nothing of them reaches the new rings. */
static void test_reset_in_flight(void **state)
{
    struct machine *m;
    uint32_t head, length;

    (void)state;
    make_image(BLOCK_QCOW2);
    m = start(&(struct block_config){path, BLOCK_QCOW2, false, true}, ALL, 1);
    for (unsigned i = 0; i < 20; i++)
        offer(m, 0, OUT, 1000 * (i % 8), DATA, 64 * KIB);
    virtio_notify(&m->blk.virtio, 0);
    virtio_set_status(&m->blk.virtio, 0);
    block_drain(m->block);
    assert_int_equal(virtio_status(&m->blk.virtio), 0);
    vrig_attach(m->rig, &m->blk.virtio, ALL & m->blk.virtio.offered);
    vrig_start(m->rig);
    assert_false(vrig_take(m->rig, 0, &head, &length));
    assert_int_equal(request(m, IN, 0, 512), OK);
    stop(m);
}

static void expect_load(struct machine *m, const uint8_t *data, size_t size, const char *words)
{
    struct state_list *list = state_list_new();
    struct err err = {0};

    virtio_add_state(&m->blk.virtio, list, 0);
    state_add(list, &virtio_blk_state_desc, 0, &m->blk);
    if (words) {
        assert_true(state_load(list, data, size, &err) < 0);
        assert_non_null(strstr(err.text, words));
    } else {
        assert_int_equal(state_load(list, data, size, &err), 0);
    }
    state_list_free(list);
}

/* What is in flight ends before the state is saved; and the disk must be the same afterwards. */
static void test_save(void **state)
{
    struct machine *m = start_raw(ALL), *other;
    struct state_list *list = state_list_new();
    uint8_t *data = NULL;
    size_t size = 0;
    uint32_t head, length;

    (void)state;
    virtio_add_state(&m->blk.virtio, list, 0);
    state_add(list, &virtio_blk_state_desc, 0, &m->blk);
    for (unsigned i = 0; i < 10; i++)
        offer(m, 0, OUT, i, DATA, 512);
    virtio_notify(&m->blk.virtio, 0);
    assert_int_equal(state_save(list, &data, &size, NULL), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_true(vrig_take(m->rig, 0, &head, &length));
    state_list_free(list);
    expect_load(m, data, size, NULL);
    assert_int_equal(request(m, IN, 0, 512), OK);
    stop(m);
    assert_int_equal(truncate(path, SIZE * 2), 0);
    other = start(&(struct block_config){path, BLOCK_RAW, false, false}, ALL, 1);
    expect_load(other, data, size, "bytes");
    stop(other);
    assert_int_equal(truncate(path, SIZE), 0);
    other =
        start(&(struct block_config){path, BLOCK_RAW, true, false}, ALL & ~(UINT64_C(0x6020)), 1);
    expect_load(other, data, size, "");
    stop(other);
    free(data);
}

static int make_path(void **state)
{
    int fd;

    (void)state;
    snprintf(path, sizeof path, "%s/doble-blk-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_write),    cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_get_id),        cmocka_unit_test(test_discard_and_zeroes),
        cmocka_unit_test(test_bad_requests),  cmocka_unit_test(test_bad_chains),
        cmocka_unit_test(test_write_through), cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_queues),        cmocka_unit_test(test_reset_in_flight),
        cmocka_unit_test(test_save),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
