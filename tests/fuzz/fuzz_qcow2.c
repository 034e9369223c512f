/* fuzz_qcow2.c - a qcow2 image of any content: opened, read, written, checked and repaired.
 *
 *   count  operations (count times: kind, sector:2, sectors)  the file
 *
 * kind, in its low three bits: read, write, flush, discard, write zeroes (bit 3: unmap), resize.
 * What must hold: an error has a sentence; what was written can be read; and an image that was
 * repaired without corruptions can be written, and no cluster of it is used more often than its
 * refcount says afterwards. The file lies in memory and cannot grow beyond 16 MiB. */
#define _GNU_SOURCE
#include "input.h"
#include "machine.h"

#include "block/image.h"
#include "block/qcow2_check.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MOST_SECTORS 128

static char path[40];
static int fd = -1;

static void make_file(const struct input *in)
{
    if (fd < 0) {
        const struct rlimit limit = {16 * MIB, RLIM_INFINITY};

        signal(SIGXFSZ, SIG_IGN);
        fd = memfd_create("image", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (fd < 0 || setrlimit(RLIMIT_FSIZE, &limit) < 0)
            fuzz_fail("no file in memory");
    }
    if (ftruncate(fd, 0) < 0 || pwrite(fd, in->bytes, in->left, 0) != (ssize_t)in->left)
        fuzz_fail("the file cannot be written");
}

static struct image *open_image(unsigned flags)
{
    const struct image_config config = {path, BLOCK_QCOW2, flags | IMAGE_SHARED};
    struct image *image = NULL;
    struct err err = {0};
    int rc = image_open(&image, &config, &err);

    if (rc < 0 && (!err.text[0] || image))
        fuzz_fail("error %d without a sentence", rc);
    return image;
}

/* The image must do what it says: what was written is there. */
static void write_and_read(struct image *image, uint64_t offset, uint64_t length, uint8_t kind)
{
    static uint8_t bytes[MOST_SECTORS * BLOCK_SECTOR], back[MOST_SECTORS * BLOCK_SECTOR];
    struct extent extent;

    memset(bytes, kind, length);
    if (image_write_bytes(image, offset, bytes, length) < 0 ||
        image_status(image, NULL, offset, length, &extent) < 0 || extent.kind != EXTENT_DATA ||
        extent.length < length)
        return;
    /* Entries of a damaged image may lead to one cluster twice. */
    if (image_read_bytes(image, offset, back, length) < 0)
        fuzz_fail("what was written cannot be read");
}

static void operate(struct image *image, struct input *in)
{
    static uint8_t bytes[MOST_SECTORS * BLOCK_SECTOR];
    const uint8_t kind = input_u8(in);
    const uint64_t sectors = image->size / BLOCK_SECTOR, at = input_u16(in);
    const uint64_t offset = sectors ? at % sectors * BLOCK_SECTOR : 0;
    uint64_t length = (input_u8(in) % MOST_SECTORS + 1) * BLOCK_SECTOR;
    struct err err = {0};

    if (length > image->size - offset)
        length = image->size - offset;
    switch (kind & 7) {
    case 0: (void)!image_read_bytes(image, offset, bytes, length); break;
    case 1: write_and_read(image, offset, length, kind); break;
    case 2: (void)!image_flush(image); break;
    case 3: (void)!image_discard(image, offset, length); break;
    case 4: (void)!image_write_zeroes(image, offset, length, kind & 8); break;
    case 5:
        if (image_resize(image, at * 4 * BLOCK_SECTOR, &err) < 0 && !err.text[0])
            fuzz_fail("resize without a sentence");
        break;
    default: break;
    }
}

static struct qcow2_check check(enum qcow2_fix fix, bool *done)
{
    struct image *image = open_image(IMAGE_ALONE | IMAGE_REPAIR | (fix ? IMAGE_WRITE : 0));
    struct qcow2_check result = {0};
    struct err err = {0};

    *done = image && qcow2_check(image, fix, &result, &err) == 0;
    if (image && !*done && !err.text[0])
        fuzz_fail("check without a sentence");
    image_close(image);
    return result;
}

static void repair(void)
{
    struct qcow2_check result;
    struct image *image;
    bool done;

    (void)check(QCOW2_FIX_NOTHING, &done);
    if (check(QCOW2_FIX_ALL, &done).corruptions || !done)
        return;
    image = open_image(IMAGE_WRITE | IMAGE_ALONE);
    if (!image)
        fuzz_fail("a repaired image cannot be written");
    if (image->size >= 4096)
        write_and_read(image, image->size / 8192 * 4096, 4096, 1);
    (void)!image_flush(image);
    image_close(image);
    /* Where a cluster had two places on the disk, one of them does not know that it has it alone
     * now.
     */
    result = check(QCOW2_FIX_NOTHING, &done);
    if (result.corruptions > result.wrong_flags)
        fuzz_fail("a repaired image that was written is corrupt");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size}, operations;
    unsigned count = input_u8(&in) % 32;
    struct image *image;

    operations = in;
    for (unsigned i = 0; i < count; i++) {
        uint8_t skipped[4];

        input_take(&in, skipped, sizeof skipped);
    }
    make_file(&in);
    image = open_image(IMAGE_ALONE);
    image_close(image);
    image = open_image(IMAGE_WRITE | IMAGE_ALONE);
    for (unsigned i = 0; image && i < count; i++)
        operate(image, &operations);
    image_close(image);
    repair();
    return 0;
}
