/* raw.c - see raw.h. A file whose size is no multiple of a sector reads as if zeros followed. */
#include "block/raw.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int raw_open(struct image *image, unsigned flags, struct err *err)
{
    const char *path = image->file.path;
    uint64_t size;
    int rc = file_size(&image->file, &size);

    (void)flags;
    if (rc < 0)
        return err_set(err, rc, "%s: its size cannot be read: %s", path, strerror(-rc));
    if (size > IMAGE_MAX_SIZE)
        return err_set(err, -EFBIG, "%s: %" PRIu64 " bytes are too many for a disk", path, size);
    image->size = (size + BLOCK_SECTOR - 1) / BLOCK_SECTOR * BLOCK_SECTOR;
    image->gives_back = true;
    return 0;
}

static void raw_close(struct image *image)
{
    (void)image;
}

static int raw_map(struct image *image, uint64_t offset, uint64_t length, unsigned flags,
                   struct extent *extent)
{
    bool hole = false;

    *extent =
        (struct extent){.kind = EXTENT_DATA, .length = length, .host = offset, .allocated = true};
    if (flags & MAP_HOLES) {
        file_map(&image->file, offset, length, &hole, &extent->length);
        if (hole)
            *extent = (struct extent){.kind = EXTENT_ZERO, .length = extent->length};
    }
    if (extent->kind == EXTENT_DATA)
        image_io_begin(image);
    return 0;
}

static int raw_write(struct image *image, uint64_t offset, uint64_t length, struct iov_walk *from)
{
    return file_writev(&image->file, offset, from, length);
}

static int raw_write_zeroes(struct image *image, uint64_t offset, uint64_t length, bool may_unmap)
{
    int rc = may_unmap ? file_punch(&image->file, offset, length) : -EOPNOTSUPP;

    return rc == -EOPNOTSUPP ? file_write_zeros(&image->file, offset, length) : rc;
}

static int raw_discard(struct image *image, uint64_t offset, uint64_t length)
{
    int rc = file_punch(&image->file, offset, length);

    return rc == -EOPNOTSUPP ? 0 : rc; /* it is only advice */
}

static int raw_flush(struct image *image)
{
    return file_sync(&image->file);
}

static int raw_resize(struct image *image, uint64_t size, struct err *err)
{
    int rc = image->file.is_device ? -ENOTSUP : file_truncate(&image->file, size);

    if (rc < 0)
        return err_set(err, rc, "%s: its size cannot be changed: %s", image->file.path,
                       image->file.is_device ? "it is a device" : strerror(-rc));
    image->size = size;
    return 0;
}

const struct image_format raw_format = {
    .name = "raw",
    .open = raw_open,
    .close = raw_close,
    .map = raw_map,
    .write = raw_write,
    .write_zeroes = raw_write_zeroes,
    .discard = raw_discard,
    .flush = raw_flush,
    .resize = raw_resize,
};
