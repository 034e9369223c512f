/* test_image.c - images against a model of what a disk is, at every size of cluster and refcount.
 *
 * The model is an array of bytes. After random requests the image must read as the model does and
 * be consistent. "Killed" means that what the file has at that moment is looked at by somebody
 * else: only leaks are allowed, and what was flushed must be there. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/image_tool.h"
#include "block/qcow2_check.h"
#include "block/qcow2_make.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (3 * MIB + 5 * 512)

static char folder[64], image_path[80], backing_path[80], copy_path[80];

static int make_folder(void **state)
{
    (void)state;
    /* In memory if possible: images are synced all the time. */
    snprintf(folder, sizeof folder, "%s/doble-image-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    snprintf(image_path, sizeof image_path, "%s/image", folder);
    snprintf(backing_path, sizeof backing_path, "%s/backing", folder);
    snprintf(copy_path, sizeof copy_path, "%s/copy", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(image_path);
    unlink(backing_path);
    unlink(copy_path);
    return rmdir(folder);
}

/* A sequence that is the same in every run. */
static uint64_t seed;

static uint64_t rnd(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 33) % below;
}

static void make(const char *path, enum block_format format, uint64_t size, const char *settings)
{
    struct image_create create;
    struct err err = {0};
    char copy[128];

    image_create_defaults(&create);
    create.path = path;
    create.format = format;
    create.size = size;
    create.size_given = size != 0;
    snprintf(copy, sizeof copy, "%s", settings);
    if (*settings)
        assert_int_equal(image_create_option(&create, copy, &err), 0);
    if (image_create(&create, &err) < 0)
        fail_msg("%s", err.text);
}

static struct image *open_flags(const char *path, unsigned flags)
{
    const struct image_config config = {path, BLOCK_GUESS, flags};
    struct image *image;
    struct err err = {0};

    if (image_open(&image, &config, &err) < 0)
        fail_msg("%s", err.text);
    return image;
}

static void expect_refused(const char *path, unsigned flags, int code, const char *words)
{
    const struct image_config config = {path, BLOCK_GUESS, flags};
    struct image *image;
    struct err err = {0};

    assert_int_equal(image_open(&image, &config, &err), code);
    assert_null(image);
    if (!strstr(err.text, words))
        fail_msg("'%s' does not say '%s'", err.text, words);
    assert_non_null(strstr(err.text, path));
}

static void expect_contents(struct image *image, const uint8_t *model, uint64_t size)
{
    uint8_t *bytes = malloc(size);

    assert_int_equal(image_read_bytes(image, 0, bytes, size), 0);
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] != model[i])
            fail_msg("byte %llu is %#x and not %#x", (unsigned long long)i, bytes[i], model[i]);
    free(bytes);
}

static struct qcow2_check check(const char *path, enum qcow2_fix fix)
{
    struct image *image =
        open_flags(path, IMAGE_ALONE | IMAGE_REPAIR | IMAGE_SHARED | (fix ? IMAGE_WRITE : 0));
    struct qcow2_check result = {0};
    struct err err = {0};

    if (qcow2_check(image, fix, &result, &err) < 0)
        fail_msg("%s", err.text);
    image_close(image);
    return result;
}

static void expect_sound(const char *path)
{
    struct qcow2_check result = check(path, QCOW2_FIX_NOTHING);

    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.leaks, 0);
}

static void copy_file(const char *from, const char *to)
{
    uint8_t *bytes;
    struct stat st;
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_int_equal(fstat(in, &st), 0);
    bytes = malloc((size_t)st.st_size + 1);
    assert_int_equal(read(in, bytes, (size_t)st.st_size), st.st_size);
    assert_int_equal(write(out, bytes, (size_t)st.st_size), st.st_size);
    free(bytes);
    close(in);
    close(out);
}

/* --- random requests --- */

struct disk {
    struct image *image;
    uint8_t *model;
    uint8_t *flushed;   /* the model at the last flush */
    uint8_t *uncertain; /* a flag for each sector that was changed since */
};

static void note(struct disk *d, uint64_t offset, uint64_t length)
{
    memset(d->uncertain + offset / 512, 1, length / 512);
}

static void random_write(struct disk *d, uint64_t offset, uint64_t length)
{
    uint8_t *bytes = malloc(length + 1);

    for (uint64_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)rnd(256);
    assert_int_equal(image_write_bytes(d->image, offset, bytes, length), 0);
    memcpy(d->model + offset, bytes, length);
    note(d, offset, length);
    free(bytes);
}

static void flush(struct disk *d)
{
    assert_int_equal(image_flush(d->image), 0);
    memcpy(d->flushed, d->model, SIZE);
    memset(d->uncertain, 0, SIZE / 512);
}

/* Discarded bytes are zeros or what they were; nothing else can be said before they are read. */
static void random_discard(struct disk *d, uint64_t offset, uint64_t length)
{
    uint8_t *bytes = malloc(length + 1);

    assert_int_equal(image_discard(d->image, offset, length), 0);
    assert_int_equal(image_read_bytes(d->image, offset, bytes, length), 0);
    for (uint64_t i = 0; i < length; i++)
        assert_true(bytes[i] == 0 || bytes[i] == d->model[offset + i]);
    memcpy(d->model + offset, bytes, length);
    note(d, offset, length);
    free(bytes);
}

static void random_request(struct disk *d)
{
    const uint64_t most = rnd(4) ? 16 : 1024, sectors = 1 + rnd(most),
                   first = rnd(SIZE / 512 - sectors + 1), offset = first * 512,
                   length = sectors * 512;

    switch (rnd(8)) {
    case 0: random_discard(d, offset, length); break;
    case 1:
        assert_int_equal(image_write_zeroes(d->image, offset, length, rnd(2)), 0);
        memset(d->model + offset, 0, length);
        note(d, offset, length);
        break;
    case 2: flush(d); break;
    case 3: {
        uint8_t *bytes = malloc(length);

        assert_int_equal(image_read_bytes(d->image, offset, bytes, length), 0);
        assert_memory_equal(bytes, d->model + offset, length);
        free(bytes);
        break;
    }
    default: random_write(d, offset, length); break;
    }
}

/* What somebody finds who looks at the file now. */
static void kill_and_look(const struct disk *d)
{
    struct image *image;
    uint8_t *bytes = malloc(SIZE);

    copy_file(image_path, copy_path);
    assert_int_equal(check(copy_path, QCOW2_FIX_NOTHING).corruptions, 0);
    image = open_flags(copy_path, IMAGE_WRITE | IMAGE_SHARED);
    assert_int_equal(image_read_bytes(image, 0, bytes, SIZE), 0);
    for (uint64_t i = 0; i < SIZE; i++)
        if (!d->uncertain[i / 512] && bytes[i] != d->flushed[i])
            fail_msg("byte %llu was flushed and is lost", (unsigned long long)i);
    image_close(image);
    free(bytes);
}

static void run_random(const char *settings, bool backing, unsigned requests)
{
    struct disk d = {
        .model = calloc(1, SIZE), .flushed = calloc(1, SIZE), .uncertain = calloc(1, SIZE)};

    seed = 1;
    if (backing) {
        make(backing_path, BLOCK_RAW, SIZE - 512 * 700, "");
        d.image = open_flags(backing_path, IMAGE_WRITE);
        random_write(&d, 512 * 10, 512 * 4000);
        image_close(d.image);
    }
    make(image_path, BLOCK_QCOW2, SIZE, settings);
    d.image = open_flags(image_path, IMAGE_WRITE);
    flush(&d);
    for (unsigned i = 0; i < requests; i++) {
        random_request(&d);
        if (i % 64 == 63)
            kill_and_look(&d);
    }
    expect_contents(d.image, d.model, SIZE);
    flush(&d);
    image_close(d.image);
    expect_sound(image_path);
    d.image = open_flags(image_path, 0);
    expect_contents(d.image, d.model, SIZE);
    image_close(d.image);
    free(d.model);
    free(d.flushed);
    free(d.uncertain);
}

static void test_random(void **state)
{
    static const char *const kinds[] = {
        "compat=0.10",
        "cluster_size=64K",
        "cluster_size=512,refcount_bits=64",
        "cluster_size=2M",
        "cluster_size=1K",
        "cluster_size=4K,refcount_bits=1",
        "refcount_bits=2",
        "cluster_size=512",
        "cluster_size=4K,refcount_bits=8",
        "compat=0.10,cluster_size=4K",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        run_random(kinds[i], false, 512);
}

static void test_random_over_backing(void **state)
{
    static const char *const kinds[] = {"", "compat=0.10", "cluster_size=512", "cluster_size=4K"};
    char settings[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        snprintf(settings, sizeof settings, "backing_file=backing,backing_fmt=raw%s%s",
                 *kinds[i] ? "," : "", kinds[i]);
        run_random(settings, true, 512);
    }
}

/* --- room --- */

static uint64_t file_bytes(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

/* What was discarded is used again, so the file does not grow without an end. */
static void test_discarded_room_is_used_again(void **state)
{
    struct image *image;
    uint8_t *bytes = calloc(1, MIB);

    (void)state;
    memset(bytes, 1, MIB);
    make(image_path, BLOCK_QCOW2, 64 * MIB, "");
    image = open_flags(image_path, IMAGE_WRITE);
    for (uint64_t i = 0; i < 64; i++) {
        assert_int_equal(image_write_bytes(image, i * MIB, bytes, MIB), 0);
        assert_int_equal(image_flush(image), 0);
        assert_int_equal(image_discard(image, i * MIB, MIB), 0);
        assert_int_equal(image_flush(image), 0);
    }
    image_close(image);
    assert_true(file_bytes(image_path) < 4 * MIB);
    expect_sound(image_path);
    free(bytes);
}

/* With clusters of 512 bytes the refcount table has to grow several times. */
static void test_refcount_table_grows(void **state)
{
    struct image *image;
    uint8_t *bytes = malloc(MIB);

    (void)state;
    make(image_path, BLOCK_QCOW2, 96 * MIB, "cluster_size=512,refcount_bits=64");
    image = open_flags(image_path, IMAGE_WRITE);
    for (uint64_t i = 0; i < 48; i++) {
        memset(bytes, (int)i + 1, MIB);
        assert_int_equal(image_write_bytes(image, 2 * i * MIB, bytes, MIB), 0);
    }
    assert_int_equal(image_flush(image), 0);
    image_close(image);
    expect_sound(image_path);
    image = open_flags(image_path, 0);
    for (uint64_t i = 0; i < 48; i++) {
        assert_int_equal(image_read_bytes(image, 2 * i * MIB, bytes, MIB), 0);
        assert_true(bytes[0] == i + 1 && memcmp(bytes, bytes + 1, MIB - 1) == 0);
    }
    image_close(image);
    free(bytes);
}

/* The L1 table needs more clusters in a row than a refcount block describes. */
static void test_large_l1_table(void **state)
{
    struct image *image;
    uint8_t bytes[512] = {1};

    (void)state;
    make(image_path, BLOCK_QCOW2, 4 * GIB, "cluster_size=512,refcount_bits=64");
    expect_sound(image_path);
    image = open_flags(image_path, IMAGE_WRITE);
    assert_int_equal(image_write_bytes(image, 4 * GIB - 512, bytes, sizeof bytes), 0);
    assert_int_equal(image_resize(image, 8 * GIB, NULL), 0);
    assert_int_equal(image_flush(image), 0);
    image_close(image);
    expect_sound(image_path);
}

static void test_resize(void **state)
{
    struct image *image;
    uint8_t bytes[4096];

    (void)state;
    make(image_path, BLOCK_QCOW2, 100 * KIB, "cluster_size=64K");
    image = open_flags(image_path, IMAGE_WRITE);
    memset(bytes, 7, sizeof bytes);
    assert_int_equal(image_write_bytes(image, 96 * KIB, bytes, sizeof bytes), 0);
    assert_int_equal(image_resize(image, 98 * KIB, NULL), 0);
    assert_int_equal(image_resize(image, 20 * GIB, NULL), 0);
    assert_int_equal(image_read_bytes(image, 96 * KIB, bytes, sizeof bytes), 0);
    assert_true(bytes[0] == 7 && bytes[2047] == 7 && bytes[2048] == 0 && bytes[4095] == 0);
    memset(bytes, 9, sizeof bytes);
    assert_int_equal(image_write_bytes(image, 20 * GIB - 4096, bytes, sizeof bytes), 0);
    assert_int_equal(image_flush(image), 0);
    assert_int_equal(image->size, 20 * GIB);
    image_close(image);
    expect_sound(image_path);
}

/* --- files that are not what they should be --- */

static void poke(const char *path, uint64_t offset, const void *bytes, size_t length)
{
    int fd = open(path, O_WRONLY);

    assert_int_equal(pwrite(fd, bytes, length, (off_t)offset), length);
    close(fd);
}

static void poke32(uint64_t offset, uint32_t value)
{
    value = htobe32(value);
    poke(image_path, offset, &value, 4);
}

static void poke64(uint64_t offset, uint64_t value)
{
    value = htobe64(value);
    poke(image_path, offset, &value, 8);
}

static void test_headers(void **state)
{
    static const struct {
        uint64_t offset;
        unsigned bytes;
        uint64_t value;
        int code;
        const char *words;
    } cases[] = {
        {4, 4, 1, -ENOTSUP, "version 1"},
        {4, 4, 4, -ENOTSUP, "version 4"},
        {16, 4, 2000, -EINVAL, "backing_file_size 2000"},
        {20, 4, 8, -EINVAL, "cluster_bits 8"},
        {20, 4, 22, -EINVAL, "cluster_bits 22"},
        {20, 4, UINT32_MAX, -EINVAL, "cluster_bits"},
        {24, 8, UINT64_MAX, -EINVAL, "size"},
        {24, 8, UINT64_C(1) << 60, -EINVAL, "l1_size"},
        {32, 4, 1, -ENOTSUP, "AES"},
        {32, 4, 2, -ENOTSUP, "LUKS"},
        {36, 4, 0, -EINVAL, "l1_size"},
        {36, 4, UINT32_MAX, -EINVAL, "l1_size"},
        {40, 8, 512, -EINVAL, "l1_table_offset"},
        {40, 8, UINT64_C(1) << 63, -EINVAL, "l1_table_offset"},
        {48, 8, 1, -EINVAL, "refcount_table_offset"},
        {56, 4, 0, -EINVAL, "refcount_table_clusters"},
        {56, 4, UINT32_MAX, -EINVAL, "refcount_table_clusters"},
        {60, 4, UINT32_MAX, -EINVAL, "nb_snapshots"},
        {64, 8, 77, -EINVAL, "snapshots_offset"},
        {72, 8, 4, -ENOTSUP, "external data file"},
        {72, 8, 16, -ENOTSUP, "extended L2 entries"},
        {72, 8, UINT64_C(1) << 63, -ENOTSUP, "feature"},
        {96, 4, 7, -EINVAL, "refcount_order"},
        {100, 4, 96, -EINVAL, "header_length"},
        {100, 4, UINT32_MAX & ~7u, -EINVAL, "header_length"},
        {104, 1, 1, -EINVAL, "compression_type"},
        {116, 4, UINT32_MAX, -EINVAL, "extension"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const uint8_t byte = (uint8_t)cases[i].value;

        make(image_path, BLOCK_QCOW2, GIB, "");
        if (cases[i].bytes == 8)
            poke64(cases[i].offset, cases[i].value);
        else if (cases[i].bytes == 4)
            poke32(cases[i].offset, (uint32_t)cases[i].value);
        else
            poke(image_path, cases[i].offset, &byte, 1);
        if (cases[i].offset == 16)
            poke64(8, 200);
        expect_refused(image_path, 0, cases[i].code, cases[i].words);
        expect_refused(image_path, IMAGE_WRITE, cases[i].code, cases[i].words);
    }
}

static void test_unknown_backing_format(void **state)
{
    (void)state;
    make(backing_path, BLOCK_RAW, MIB, "");
    make(image_path, BLOCK_QCOW2, 0, "backing_file=backing,backing_fmt=raw");
    poke(image_path, 112 + 8, "vdi", 3);
    expect_refused(image_path, 0, -ENOTSUP, "'vdi'");
}

static void test_other_formats(void **state)
{
    (void)state;
    make(image_path, BLOCK_RAW, MIB, "");
    poke(image_path, 0, "KDMV", 4);
    expect_refused(image_path, 0, -ENOTSUP, "VMDK");
    poke(image_path, 0, "vhdxfile", 8);
    expect_refused(image_path, 0, -ENOTSUP, "VHDX");
    assert_int_equal(truncate(image_path, 0), 0);
    image_close(open_flags(image_path, 0)); /* an empty disk */
    expect_refused("/dev/null", 0, -EINVAL, "no file");
    expect_refused(folder, 0, -EINVAL, "no file");
}

static void test_truncated(void **state)
{
    const uint64_t lengths[] = {3, 4, 71, 104, 65536, 2 * 65536, 3 * 65536};
    uint8_t bytes[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        const struct image_config config = {image_path, BLOCK_QCOW2, IMAGE_WRITE};
        struct image *image;
        struct err err = {0};

        make(image_path, BLOCK_QCOW2, GIB, "");
        assert_int_equal(truncate(image_path, (off_t)lengths[i]), 0);
        if (image_open(&image, &config, &err) < 0) {
            assert_true(err.text[0]);
            continue;
        }
        (void)!image_read_bytes(image, 0, bytes, sizeof bytes);
        (void)!image_write_bytes(image, 0, bytes, sizeof bytes);
        (void)!image_flush(image);
        image_close(image);
    }
}

static void test_cycles(void **state)
{
    (void)state;
    make(backing_path, BLOCK_QCOW2, MIB, "");
    make(image_path, BLOCK_QCOW2, 0, "backing_file=backing,backing_fmt=qcow2");
    assert_int_equal(image_rebase(backing_path, BLOCK_GUESS, "image", BLOCK_QCOW2, false, NULL),
                     -ELOOP);
    unlink(copy_path);
    make(copy_path, BLOCK_QCOW2, 0, "backing_file=backing,backing_fmt=qcow2");
    unlink(backing_path);
    assert_int_equal(rename(copy_path, backing_path), 0); /* is its own backing file now */
    expect_refused(backing_path, 0, -ELOOP, "its own backing file");
    expect_refused(image_path, 0, -ELOOP, "its own backing file");
}

/* A missing backing file names both. */
static void test_missing_backing(void **state)
{
    (void)state;
    make(backing_path, BLOCK_RAW, MIB, "");
    make(image_path, BLOCK_QCOW2, 0, "backing_file=backing");
    unlink(backing_path);
    expect_refused(image_path, 0, -ENOENT, "/backing: cannot be opened");
}

static void test_lock(void **state)
{
    struct image *image, *second;

    (void)state;
    make(image_path, BLOCK_RAW, MIB, "");
    image = open_flags(image_path, IMAGE_WRITE);
    expect_refused(image_path, IMAGE_WRITE, -EBUSY, "written by another");
    expect_refused(image_path, 0, -EBUSY, "written by another");
    image_close(image);
    image = open_flags(image_path, 0);
    second = open_flags(image_path, 0);
    image_close(second);
    expect_refused(image_path, IMAGE_WRITE, -EBUSY, "in use");
    image_close(image);
    image_close(open_flags(image_path, IMAGE_WRITE));
}

/* --- marks, and repairing --- */

#define L2_OF_TEST (4 * 65536u) /* header, table, block, L1, and then the first L2 table */

/* One cluster is written; its L2 table is where such images have it. */
static void make_written(void)
{
    struct image *image;
    uint8_t bytes[512] = {1, 2, 3};

    make(image_path, BLOCK_QCOW2, 100 * MIB, "lazy_refcounts=on");
    image = open_flags(image_path, IMAGE_WRITE);
    assert_int_equal(image_write_bytes(image, 0, bytes, sizeof bytes), 0);
    assert_int_equal(image_flush(image), 0);
    image_close(image);
    expect_sound(image_path);
}

/* QEMU leaves refcounts behind when it is killed with an image that has lazy ones. */
static void test_dirty_is_repaired(void **state)
{
    struct image *image;
    uint8_t bytes[512];

    (void)state;
    make_written();
    poke64(2 * 65536 + 8, 0); /* the refcounts of clusters 4 to 7 */
    poke64(72, QCOW2_DIRTY);
    assert_true(check(image_path, QCOW2_FIX_NOTHING).corruptions > 0);
    image_close(open_flags(image_path, 0)); /* reading needs no refcounts, and changes nothing */
    assert_true(check(image_path, QCOW2_FIX_NOTHING).corruptions > 0);
    image = open_flags(image_path, IMAGE_WRITE);
    assert_int_equal(image_read_bytes(image, 0, bytes, sizeof bytes), 0);
    assert_int_equal(bytes[2], 3);
    assert_int_equal(qcow2_of(image)->header.incompatible, 0);
    image_close(image);
    assert_int_equal(check(image_path, QCOW2_FIX_NOTHING).corruptions, 0);
}

static void test_corrupt_mark(void **state)
{
    (void)state;
    make_written();
    poke64(72, QCOW2_CORRUPT);
    expect_refused(image_path, IMAGE_WRITE, -EUCLEAN, "marked corrupt");
    image_close(open_flags(image_path, 0));
    assert_int_equal(check(image_path, QCOW2_FIX_ALL).corruptions, 0);
    image_close(open_flags(image_path, IMAGE_WRITE));
}

/* An entry that leads to metadata: the guest gets an error, and the image a mark. */
static void test_write_to_metadata(void **state)
{
    const uint64_t places[] = {0, 65536, 2 * 65536, 3 * 65536, L2_OF_TEST};
    uint8_t bytes[512] = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct image *image;

        make_written();
        poke64(L2_OF_TEST + 8, places[i] ? places[i] | QCOW2_COPIED : 512 | QCOW2_COPIED);
        image = open_flags(image_path, IMAGE_WRITE);
        assert_int_equal(image_write_bytes(image, 65536, bytes, sizeof bytes), -EIO);
        assert_int_equal(image_write_bytes(image, 0, bytes, sizeof bytes), -EIO);
        image_close(image);
        expect_refused(image_path, IMAGE_WRITE, -EUCLEAN, "marked corrupt");
    }
}

/* With refcounts of 0 the next cluster to be given out is the header's. */
static void test_free_metadata_is_not_used(void **state)
{
    struct image *image;
    uint8_t bytes[512] = {0};

    (void)state;
    make_written();
    poke64(2 * 65536, 0);
    image = open_flags(image_path, IMAGE_WRITE);
    assert_int_equal(image_write_bytes(image, MIB, bytes, sizeof bytes), -EIO);
    image_close(image);
    assert_true(check(image_path, QCOW2_FIX_NOTHING).corruptions > 0);
    assert_int_equal(check(image_path, QCOW2_FIX_ALL).corruptions, 0);
    expect_sound(image_path);
}

static void test_leaks_are_repaired(void **state)
{
    struct qcow2_check result;

    (void)state;
    make_written();
    poke64(2 * 65536 + 8, UINT64_C(0x0001000100010001)); /* clusters 4 to 7: 6 and 7 are not used */
    result = check(image_path, QCOW2_FIX_NOTHING);
    assert_int_equal(result.leaks, 0); /* the file has no such clusters */
    assert_int_equal(truncate(image_path, 8 * 65536), 0);
    result = check(image_path, QCOW2_FIX_NOTHING);
    assert_int_equal(result.leaks, 2);
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(check(image_path, QCOW2_FIX_LEAKS).leaks_fixed, 2);
    expect_sound(image_path);
}

/* A snapshot table in the place of the L1 table: no refcount makes that right. */
static void test_shared_metadata(void **state)
{
    (void)state;
    make_written();
    poke32(60, 1);
    poke64(64, UINT64_C(3) * 65536);
    assert_true(check(image_path, QCOW2_FIX_NOTHING).corruptions > 0);
    assert_true(check(image_path, QCOW2_FIX_ALL).corruptions > 0);
    assert_true(check(image_path, QCOW2_FIX_NOTHING).corruptions > 0);
}

/* --- the tools --- */

static void test_rebase_keeps_contents(void **state)
{
    uint8_t *model = calloc(1, SIZE);
    struct disk d = {.model = model, .flushed = calloc(1, SIZE), .uncertain = calloc(1, SIZE)};

    (void)state;
    seed = 5;
    make(backing_path, BLOCK_RAW, SIZE, "");
    d.image = open_flags(backing_path, IMAGE_WRITE);
    random_write(&d, 512 * 100, MIB);
    image_close(d.image);
    make(image_path, BLOCK_QCOW2, 0, "backing_file=backing,backing_fmt=raw,cluster_size=4K");
    d.image = open_flags(image_path, IMAGE_WRITE);
    random_write(&d, 512 * 300, 512 * 100);
    flush(&d);
    image_close(d.image);
    assert_int_equal(image_rebase(image_path, BLOCK_GUESS, NULL, BLOCK_GUESS, false, NULL), 0);
    unlink(backing_path);
    d.image = open_flags(image_path, 0);
    expect_contents(d.image, model, SIZE);
    image_close(d.image);
    make(backing_path, BLOCK_RAW, SIZE, "");
    d.image = open_flags(backing_path, IMAGE_WRITE);
    d.model = calloc(1, SIZE); /* of the new backing image, which shall not be seen */
    random_write(&d, 0, 2 * MIB);
    free(d.model);
    image_close(d.image);
    assert_int_equal(image_rebase(image_path, BLOCK_GUESS, "backing", BLOCK_RAW, false, NULL), 0);
    d.image = open_flags(image_path, 0);
    assert_non_null(d.image->backing);
    expect_contents(d.image, model, SIZE);
    image_close(d.image);
    expect_sound(image_path);
    free(model);
    free(d.flushed);
    free(d.uncertain);
}

static void test_compressed(void **state)
{
    static const char *const kinds[] = {"", "compression_type=zstd",
                                        "cluster_size=512,refcount_bits=1",
                                        "cluster_size=4K,refcount_bits=2"};

    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct image_convert convert = {.from = backing_path, .compress = true};
        struct disk d = {
            .model = calloc(1, SIZE), .flushed = calloc(1, SIZE), .uncertain = calloc(1, SIZE)};
        char settings[64];
        struct err err = {0};

        make(backing_path, BLOCK_RAW, SIZE, "");
        d.image = open_flags(backing_path, IMAGE_WRITE);
        seed = 9;
        random_write(&d, 512, 512 * 1000);
        for (uint64_t i = MIB; i < 2 * MIB; i++)
            d.model[i] = (uint8_t)(i / 1000);
        assert_int_equal(image_write_bytes(d.image, MIB, d.model + MIB, MIB), 0);
        image_close(d.image);
        image_create_defaults(&convert.to);
        convert.to.path = image_path;
        snprintf(settings, sizeof settings, "%s", kinds[k]);
        if (*settings)
            assert_int_equal(image_create_option(&convert.to, settings, &err), 0);
        if (image_convert(&convert, &err) < 0)
            fail_msg("%s", err.text);
        expect_sound(image_path);
        assert_true(check(image_path, QCOW2_FIX_NOTHING).compressed > 0);
        d.image = open_flags(image_path, IMAGE_WRITE);
        expect_contents(d.image, d.model, SIZE);
        for (unsigned i = 0; i < 200; i++)
            random_request(&d);
        expect_contents(d.image, d.model, SIZE);
        flush(&d);
        image_close(d.image);
        expect_sound(image_path);
        free(d.model);
        free(d.flushed);
        free(d.uncertain);
    }
}

/* An image is not made in the place of what it needs. */
static void test_not_over_its_source(void **state)
{
    struct image_create create;
    struct image_convert convert = {.from = backing_path};

    (void)state;
    make(backing_path, BLOCK_QCOW2, MIB, "");
    image_create_defaults(&create);
    create.path = create.backing = backing_path;
    assert_int_equal(image_create(&create, NULL), -EBUSY);
    convert.to = create;
    convert.to.backing = NULL;
    assert_int_equal(image_convert(&convert, NULL), -EBUSY);
    expect_sound(backing_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_random_over_backing),
        cmocka_unit_test(test_discarded_room_is_used_again),
        cmocka_unit_test(test_refcount_table_grows),
        cmocka_unit_test(test_large_l1_table),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_unknown_backing_format),
        cmocka_unit_test(test_other_formats),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_missing_backing),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_dirty_is_repaired),
        cmocka_unit_test(test_corrupt_mark),
        cmocka_unit_test(test_write_to_metadata),
        cmocka_unit_test(test_free_metadata_is_not_used),
        cmocka_unit_test(test_leaks_are_repaired),
        cmocka_unit_test(test_shared_metadata),
        cmocka_unit_test(test_rebase_keeps_contents),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_not_over_its_source),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
