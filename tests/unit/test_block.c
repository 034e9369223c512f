/* test_block.c - requests of a device: each ends once, with the right result and the lock held. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/block.h"
#include "block/image_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define SIZE (8 * MIB)
#define REQUESTS 64
#define LONGEST (256 * KIB)

struct device {
    pthread_mutex_t lock;
    bool locked;
    struct block *block;
    unsigned submitted, ended;
};

static char path[64];

static void lock(void *opaque)
{
    struct device *d = opaque;

    pthread_mutex_lock(&d->lock);
    d->locked = true;
}

static void unlock(void *opaque)
{
    struct device *d = opaque;

    d->locked = false;
    pthread_mutex_unlock(&d->lock);
}

static void make(enum block_format format, const char *setting)
{
    struct image_create create;
    char copy[64];

    image_create_defaults(&create);
    create.path = path;
    create.format = format;
    create.size = SIZE;
    create.size_given = true;
    snprintf(copy, sizeof copy, "%s", setting);
    if (*setting)
        assert_int_equal(image_create_option(&create, copy, NULL), 0);
    assert_int_equal(image_create(&create, NULL), 0);
}

static void start(struct device *d, const struct block_config *config, bool synchronous)
{
    const struct block_owner owner = {lock, unlock, d, synchronous};
    struct err err = {0};

    memset(d, 0, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    if (block_open(&d->block, config, &err) < 0 || block_attach(d->block, &owner, &err) < 0)
        fail_msg("%s", err.text);
}

static void stop(struct device *d)
{
    block_close(d->block);
    assert_int_equal(d->ended, d->submitted);
    pthread_mutex_destroy(&d->lock);
}

/* --- one request and its buffers --- */

struct job {
    struct block_request request;
    struct device *device;
    struct iovec iov[3];
    uint8_t bytes[LONGEST];
    bool ended;
    int result;
};

static void done(struct block_request *request, int result)
{
    struct job *job = request->opaque;

    assert_true(job->device->locked);
    assert_false(job->ended);
    job->ended = true;
    job->result = result;
    job->device->ended++;
}

/* In three pieces, of which one is empty. */
static void submit(struct device *d, struct job *job, enum block_op op, uint64_t offset,
                   uint64_t length)
{
    const uint64_t half = length < LONGEST ? length / 2 : LONGEST / 2;

    job->device = d;
    job->ended = false;
    job->iov[0] = (struct iovec){job->bytes, half};
    job->iov[1] = (struct iovec){job->bytes, 0};
    job->iov[2] = (struct iovec){job->bytes + half, (length < LONGEST ? length : LONGEST) - half};
    job->request = (struct block_request){.op = op,
                                          .offset = offset,
                                          .length = length,
                                          .iov = job->iov,
                                          .iov_count = 3,
                                          .done = done,
                                          .opaque = job};
    d->submitted++;
    block_submit(d->block, &job->request);
}

static int run(struct device *d, struct job *job, enum block_op op, uint64_t offset,
               uint64_t length)
{
    lock(d);
    submit(d, job, op, offset, length);
    assert_false(job->ended);
    block_kick(d->block);
    block_drain(d->block);
    assert_true(job->ended);
    unlock(d);
    return job->result;
}

/* --- tests --- */

/* Each request has a part of the disk to itself; all are in flight together. */
static void exercise(enum block_format format, const char *setting, bool threads)
{
    const struct block_config config = {path, format, false, threads};
    struct job *jobs = calloc(REQUESTS, sizeof *jobs);
    struct device d;
    uint64_t part = SIZE / REQUESTS;

    make(format, setting);
    start(&d, &config, false);
    for (unsigned round = 1; round < 20; round++) {
        lock(&d);
        for (unsigned i = 0; i < REQUESTS; i++) {
            uint64_t length = 512 + (i * 7919 + round * 104729) % (part / 512) * 512;

            memset(jobs[i].bytes, (int)(i + round), length);
            submit(&d, &jobs[i], BLOCK_WRITE, i * part, length);
        }
        block_kick(d.block);
        unlock(&d);
        for (unsigned i = 0; i < REQUESTS; i++) { /* the disk's own thread calls done(), too */
            lock(&d);
            if (i % 2)
                block_drain(d.block);
            unlock(&d);
        }
        lock(&d);
        for (unsigned i = 0; i < REQUESTS; i++) {
            assert_true(jobs[i].ended);
            assert_int_equal(jobs[i].result, 0);
            memset(jobs[i].bytes, 0, part);
            submit(&d, &jobs[i], BLOCK_READ, i * part,
                   512 + (i * 7919 + round * 104729) % (part / 512) * 512);
        }
        block_kick(d.block);
        block_drain(d.block);
        unlock(&d);
        for (unsigned i = 0; i < REQUESTS; i++) {
            assert_int_equal(jobs[i].result, 0);
            for (uint64_t b = 0; b < jobs[i].request.length; b++)
                if (jobs[i].bytes[b] != (uint8_t)(i + round))
                    fail_msg("request %u: byte %llu", i, (unsigned long long)b);
        }
        assert_int_equal(run(&d, &jobs[0], BLOCK_FLUSH, 0, 0), 0);
        if (round % 4 == 0)
            assert_int_equal(
                run(&d, &jobs[0], round % 8 ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES, 0, SIZE), 0);
    }
    stop(&d);
    free(jobs);
}

static void test_raw(void **state)
{
    (void)state;
    exercise(BLOCK_RAW, "", false);
}

static void test_raw_by_threads(void **state)
{
    (void)state;
    exercise(BLOCK_RAW, "", true);
}

static void test_qcow2(void **state)
{
    (void)state;
    exercise(BLOCK_QCOW2, "", false);
    exercise(BLOCK_QCOW2, "cluster_size=4K", false);
}

static void test_qcow2_by_threads(void **state)
{
    (void)state;
    exercise(BLOCK_QCOW2, "", true);
}

static void test_bad_requests(void **state)
{
    const struct block_config config = {path, BLOCK_RAW, false, false};
    struct job *job = calloc(1, sizeof *job);
    struct device d;

    (void)state;
    make(BLOCK_RAW, "");
    start(&d, &config, false);
    assert_int_equal(run(&d, job, BLOCK_READ, SIZE, 512), -EINVAL);
    assert_int_equal(run(&d, job, BLOCK_READ, SIZE - 512, 1024), -EINVAL);
    assert_int_equal(run(&d, job, BLOCK_WRITE, UINT64_MAX & ~UINT64_C(511), 512), -EINVAL);
    assert_int_equal(run(&d, job, BLOCK_DISCARD, 512, UINT64_MAX & ~UINT64_C(511)), -EINVAL);
    assert_int_equal(run(&d, job, BLOCK_READ, 1, 512), -EINVAL);
    assert_int_equal(run(&d, job, BLOCK_READ, 0, 513), -EINVAL);
    assert_int_equal(run(&d, job, BLOCK_READ, 0, 2 * LONGEST),
                     -EINVAL); /* not what the buffers have */
    assert_int_equal(run(&d, job, BLOCK_READ, SIZE, 0), 0);
    assert_int_equal(run(&d, job, BLOCK_READ, SIZE - 512, 512), 0);
    stop(&d);
    free(job);
}

static void test_read_only(void **state)
{
    const struct block_config config = {path, BLOCK_RAW, true, false};
    struct job *job = calloc(1, sizeof *job);
    struct device d;

    (void)state;
    make(BLOCK_RAW, "");
    start(&d, &config, false);
    assert_true(block_info(d.block)->read_only);
    assert_int_equal(run(&d, job, BLOCK_WRITE, 0, 512), -EROFS);
    assert_int_equal(run(&d, job, BLOCK_DISCARD, 0, 512), -EROFS);
    assert_int_equal(run(&d, job, BLOCK_WRITE_ZEROES, 0, 512), -EROFS);
    assert_int_equal(run(&d, job, BLOCK_READ, 0, 512), 0);
    assert_int_equal(run(&d, job, BLOCK_FLUSH, 0, 0), 0);
    stop(&d);
    free(job);
}

/* A file that ends within a sector; and one that somebody has cut off. */
static void test_short_file(void **state)
{
    for (int threads = 0; threads < 2; threads++) {
        const struct block_config config = {path, BLOCK_RAW, false, threads};
        struct job *job = calloc(1, sizeof *job);
        struct device d;

        (void)state;
        make(BLOCK_RAW, "");
        assert_int_equal(truncate(path, 1000), 0);
        start(&d, &config, false);
        assert_int_equal(block_info(d.block)->size, 1024);
        memset(job->bytes, 1, 1024);
        assert_int_equal(run(&d, job, BLOCK_READ, 0, 1024), 0);
        assert_int_equal(job->bytes[1023], 0);
        assert_int_equal(truncate(path, 100), 0);
        assert_int_equal(run(&d, job, BLOCK_READ, 512, 512), 0);
        stop(&d);
        free(job);
    }
}

/* Nobody said that it is raw: the guest must not turn it into an image that names files. */
static void test_guessed_raw_stays_raw(void **state)
{
    struct block_config config = {path, BLOCK_GUESS, false, false};
    struct job *job = calloc(1, sizeof *job);
    struct device d;

    (void)state;
    make(BLOCK_RAW, "");
    for (int said = 0; said < 2; said++) {
        config.format = said ? BLOCK_RAW : BLOCK_GUESS;
        start(&d, &config, false);
        memset(job->bytes, 0, 1024);
        memcpy(job->bytes, "QFI\xfb", 4);
        assert_int_equal(run(&d, job, BLOCK_WRITE, 0, 1024), said ? 0 : -EPERM);
        memset(job->bytes, 0, 4);
        assert_int_equal(run(&d, job, BLOCK_WRITE, 0, 1024), 0);
        stop(&d);
    }
    free(job);
}

/* Virtual time: nothing is left to be done when a kick returns. */
static void test_synchronous(void **state)
{
    const struct block_config config = {path, BLOCK_QCOW2, false, false};
    struct job *job = calloc(1, sizeof *job);
    struct device d;

    (void)state;
    make(BLOCK_QCOW2, "");
    start(&d, &config, true);
    lock(&d);
    submit(&d, job, BLOCK_WRITE, 0, LONGEST);
    block_kick(d.block);
    assert_true(job->ended);
    unlock(&d);
    stop(&d);
    free(job);
}

/* done() submits the next one, many times: neither the stack nor a request may be lost. */
static struct job *chained;
static unsigned links;

static void done_chained(struct block_request *request, int result)
{
    struct device *d = chained->device;

    d->ended++;
    assert_int_equal(result, 0);
    if (++links == 20000)
        return;
    d->submitted++;
    block_submit(d->block, request);
    block_kick(d->block);
}

static void test_done_submits(void **state)
{
    const struct block_config config = {path, BLOCK_RAW, false, false};
    struct device d;

    (void)state;
    chained = calloc(1, sizeof *chained);
    links = 0;
    make(BLOCK_RAW, "");
    start(&d, &config, false);
    lock(&d);
    submit(&d, chained, BLOCK_READ, 0, 512);
    chained->request.done = done_chained;
    block_kick(d.block);
    block_drain(d.block);
    assert_int_equal(links, 20000);
    unlock(&d);
    stop(&d);
    free(chained);
}

/* The host's disk is full (here: a file may not grow). The guest gets an error, and when there is
 * room again all goes on. */
static void test_full_disk(void **state)
{
    const struct block_config config = {path, BLOCK_QCOW2, false, false};
    struct job *job = calloc(1, sizeof *job);
    struct rlimit old, limit;
    struct image *image;
    struct device d;
    unsigned failed = 0;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    make(BLOCK_QCOW2, "cluster_size=4K");
    start(&d, &config, false);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = (struct rlimit){MIB, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    memset(job->bytes, 5, LONGEST);
    for (uint64_t at = 0; at < SIZE; at += LONGEST)
        failed += run(&d, job, BLOCK_WRITE, at, LONGEST) < 0;
    (void)run(&d, job, BLOCK_FLUSH, 0, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_true(failed > 0 && failed < SIZE / LONGEST);
    for (uint64_t at = 0; at < SIZE; at += LONGEST)
        assert_int_equal(run(&d, job, BLOCK_WRITE, at, LONGEST), 0);
    assert_int_equal(run(&d, job, BLOCK_FLUSH, 0, 0), 0);
    stop(&d);
    assert_int_equal(image_open(&image, &(struct image_config){path, BLOCK_QCOW2, 0}, NULL), 0);
    for (uint64_t at = 0; at < SIZE; at += LONGEST) {
        assert_int_equal(image_read_bytes(image, at, job->bytes, LONGEST), 0);
        assert_true(job->bytes[0] == 5 && memcmp(job->bytes, job->bytes + 1, LONGEST - 1) == 0);
    }
    image_close(image);
    free(job);
}

static int make_path(void **state)
{
    int fd;

    (void)state;
    snprintf(path, sizeof path, "%s/doble-block-XXXXXX",
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
        cmocka_unit_test(test_raw),          cmocka_unit_test(test_raw_by_threads),
        cmocka_unit_test(test_qcow2),        cmocka_unit_test(test_qcow2_by_threads),
        cmocka_unit_test(test_bad_requests), cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_short_file),   cmocka_unit_test(test_guessed_raw_stays_raw),
        cmocka_unit_test(test_synchronous),  cmocka_unit_test(test_done_submits),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
