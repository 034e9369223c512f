/* image.c - opening a chain of images, reading through it, and who is at work in its files. */
#define _GNU_SOURCE
#include "block/image.h"

#include "block/qcow2.h"
#include "block/raw.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHAIN 200 /* images; each keeps a file open */

/* --- formats --- */

const struct image_format *image_format_of(enum block_format format)
{
    switch (format) {
    case BLOCK_RAW: return &raw_format;
    case BLOCK_QCOW2: return &qcow2_format;
    default: return NULL;
    }
}

bool image_format_parse(const char *name, enum block_format *format)
{
    for (enum block_format f = BLOCK_RAW; f <= BLOCK_QCOW2; f++)
        if (strcmp(image_format_of(f)->name, name) == 0) {
            *format = f;
            return true;
        }
    return false;
}

/* Formats that are known by their first bytes. */
static const struct {
    enum block_format format;
    uint8_t at, length;
    const char *magic, *name;
} magics[] = {
    {BLOCK_QCOW2, 0, 4, "QFI\xfb", "qcow2"},
    {BLOCK_GUESS, 0, 4, "QED\0", "QED"},
    {BLOCK_GUESS, 0, 4, "KDMV", "VMDK"},
    {BLOCK_GUESS, 0, 4, "COWD", "VMDK"},
    {BLOCK_GUESS, 0, 21, "# Disk DescriptorFile", "VMDK"},
    {BLOCK_GUESS, 0, 8, "vhdxfile", "VHDX"},
    {BLOCK_GUESS, 0, 8, "conectix", "VHD"},
    {BLOCK_GUESS, 64, 4, "\x7f\x10\xda\xbe", "VDI"},
    {BLOCK_GUESS, 0, 16, "WithoutFreeSpace", "Parallels"},
    {BLOCK_GUESS, 0, 16, "WithouFreSpacExt", "Parallels"},
    {BLOCK_GUESS, 0, 6, "LUKS\xba\xbe", "LUKS"},
};

enum block_format image_guess(const uint8_t sector[BLOCK_SECTOR], const char **name)
{
    for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
        if (memcmp(sector + magics[i].at, magics[i].magic, magics[i].length) == 0) {
            *name = magics[i].name;
            return magics[i].format;
        }
    *name = raw_format.name;
    return BLOCK_RAW;
}

static int choose_format(struct image *image, enum block_format format, struct err *err)
{
    uint8_t sector[BLOCK_SECTOR];
    const char *name;
    int rc;

    if (format == BLOCK_GUESS) {
        image->guessed = true;
        rc = file_read(&image->file, 0, sector, sizeof sector);
        if (rc < 0)
            return err_set(err, rc, "%s: cannot be read: %s", image->file.path, strerror(-rc));
        format = image_guess(sector, &name);
        if (format == BLOCK_GUESS)
            return err_set(err, -ENOTSUP,
                           "%s: is a %s image, which is not supported; make it raw or qcow2",
                           image->file.path, name);
    }
    image->format = image_format_of(format);
    return 0;
}

/* --- backing images --- */

bool image_name_is_file(const char *name)
{
    size_t length = strcspn(name, ":/");

    return name[length] != ':' || strncmp(name, "file:", 5) == 0;
}

char *image_backing_path(const char *overlay, const char *name)
{
    const char *slash = strrchr(overlay, '/');
    char *path;

    if (strncmp(name, "file:", 5) == 0)
        name += 5;
    if (*name == '/' || !slash)
        return strdup(name);
    return asprintf(&path, "%.*s%s", (int)(slash + 1 - overlay), overlay, name) < 0 ? NULL : path;
}

static int open_image(struct image **image, struct image *overlay,
                      const struct image_config *config, struct err *err);

static int open_backing(struct image *image, unsigned flags, struct err *err)
{
    struct image_config config = {.format = image->backing_format, .flags = flags & IMAGE_SHARED};
    char *path;
    int rc;

    if (!image_name_is_file(image->backing_name))
        return err_set(err, -ENOTSUP,
                       "%s: its backing file '%s' is not a file's name; only files are supported",
                       image->file.path, image->backing_name);
    path = image_backing_path(image->file.path, image->backing_name);
    if (!path)
        return err_set(err, -ENOMEM, "%s: not enough memory", image->file.path);
    config.path = path;
    rc = open_image(&image->backing, image, &config, err);
    if (rc < 0)
        err_prefix(err, "%s: backing file", image->file.path);
    free(path);
    return rc;
}

/* An image that is its own backing image, directly or not, has no contents. */
static int check_chain(const struct image *image, struct err *err)
{
    unsigned depth = 0;

    for (const struct image *i = image->overlay; i; i = i->overlay) {
        if (file_is_same(&i->file, &image->file))
            return err_set(err, -ELOOP, "%s: is its own backing file, by way of %u others",
                           image->file.path, depth);
        if (++depth >= MAX_CHAIN)
            return err_set(err, -ELOOP, "%s: the chain of backing files is longer than %d",
                           image->file.path, MAX_CHAIN);
    }
    return 0;
}

/* --- opening and closing --- */

static int open_file(struct image *image, const struct image_config *config, struct err *err)
{
    /* Without a lock first: the lock would be our own if the file is in the chain already. */
    unsigned flags = (config->flags & IMAGE_WRITE ? FILE_WRITE : 0);
    int rc = file_open(&image->file, config->path, flags | FILE_SHARED, err);

    if (rc == 0)
        rc = check_chain(image, err);
    if (rc == 0 && !(config->flags & IMAGE_SHARED))
        rc = file_lock(&image->file, err);
    return rc;
}

static int open_image(struct image **out, struct image *overlay, const struct image_config *config,
                      struct err *err)
{
    struct image *image = *out = calloc(1, sizeof *image);
    int rc;

    if (!image)
        return err_set(err, -ENOMEM, "%s: not enough memory", config->path);
    image->file.fd = -1;
    image->overlay = overlay;
    image->read_only = !(config->flags & IMAGE_WRITE);
    pthread_mutex_init(&image->io_lock, NULL);
    pthread_cond_init(&image->io_idle, NULL);
    rc = open_file(image, config, err);
    if (rc == 0)
        rc = choose_format(image, config->format, err);
    if (rc == 0) {
        rc = image->format->open(image, config->flags, err);
        if (rc < 0)
            image->format = NULL;
    }
    if (rc == 0 && image->backing_name && !(config->flags & IMAGE_ALONE))
        rc = open_backing(image, config->flags, err);
    image->overlay = NULL;
    if (rc < 0) {
        image_close(image);
        *out = NULL;
    }
    return rc;
}

int image_open_for(struct image **image, struct image *overlay, const struct image_config *config,
                   struct err *err)
{
    return open_image(image, overlay, config, err);
}

int image_open(struct image **image, const struct image_config *config, struct err *err)
{
    return open_image(image, NULL, config, err);
}

void image_close(struct image *image)
{
    while (image) {
        struct image *backing = image->backing;

        if (image->format)
            image->format->close(image);
        file_close(&image->file);
        pthread_mutex_destroy(&image->io_lock);
        pthread_cond_destroy(&image->io_idle);
        free(image->backing_name);
        free(image);
        image = backing;
    }
}

/* --- who is at work in the file --- */

void image_io_begin(struct image *image)
{
    pthread_mutex_lock(&image->io_lock);
    image->io_count++;
    pthread_mutex_unlock(&image->io_lock);
}

void image_io_end(struct image *image)
{
    pthread_mutex_lock(&image->io_lock);
    if (--image->io_count == 0)
        pthread_cond_broadcast(&image->io_idle);
    pthread_mutex_unlock(&image->io_lock);
}

void image_io_wait(struct image *image)
{
    pthread_mutex_lock(&image->io_lock);
    while (image->io_count)
        pthread_cond_wait(&image->io_idle, &image->io_lock);
    pthread_mutex_unlock(&image->io_lock);
}

/* --- reading --- */

static int read_extent(struct image *image, uint64_t offset, const struct extent *extent,
                       struct iov_walk *to)
{
    int rc = 0;

    if (extent->kind == EXTENT_DATA) {
        rc = file_readv(&image->file, extent->host, to, extent->length);
        image_io_end(image);
    } else if (extent->kind == EXTENT_PACKED) {
        rc = image->format->read_packed(image, offset, extent, to);
        image_io_end(image);
    } else if (extent->kind == EXTENT_BACKING && image->backing) {
        rc = image_read(image->backing, offset, extent->length, to);
    } else {
        iov_zero(to, extent->length);
    }
    return rc;
}

int image_read(struct image *image, uint64_t offset, uint64_t length, struct iov_walk *to)
{
    while (length && offset < image->size) {
        uint64_t inside = image->size - offset;
        struct extent extent;
        int rc = image->format->map(image, offset, length < inside ? length : inside, 0, &extent);

        if (rc == 0)
            rc = read_extent(image, offset, &extent, to);
        if (rc < 0)
            return rc;
        offset += extent.length;
        length -= extent.length;
    }
    iov_zero(to, length); /* a backing image that is smaller than what is over it */
    return 0;
}

int image_read_bytes(struct image *image, uint64_t offset, void *to, uint64_t length)
{
    const struct iovec iov = {to, length};
    struct iov_walk walk = iov_walk(&iov, 1);

    return image_read(image, offset, length, &walk);
}

/* --- changing --- */

int image_write(struct image *image, uint64_t offset, uint64_t length, struct iov_walk *from)
{
    return image->read_only ? -EROFS : image->format->write(image, offset, length, from);
}

int image_write_bytes(struct image *image, uint64_t offset, const void *from, uint64_t length)
{
    const struct iovec iov = {(void *)(uintptr_t)from, length};
    struct iov_walk walk = iov_walk(&iov, 1);

    return image_write(image, offset, length, &walk);
}

int image_write_zeroes(struct image *image, uint64_t offset, uint64_t length, bool may_unmap)
{
    return image->read_only ? -EROFS
                            : image->format->write_zeroes(image, offset, length, may_unmap);
}

int image_discard(struct image *image, uint64_t offset, uint64_t length)
{
    return image->read_only ? -EROFS : image->format->discard(image, offset, length);
}

int image_flush(struct image *image)
{
    return image->read_only ? 0 : image->format->flush(image);
}

int image_resize(struct image *image, uint64_t size, struct err *err)
{
    if (size > IMAGE_MAX_SIZE)
        return err_set(err, -EFBIG, "%s: %" PRIu64 " bytes are too many for a disk",
                       image->file.path, size);
    return image->format->resize(image, size, err);
}

/* --- looking --- */

int image_status(struct image *image, const struct image *below, uint64_t offset, uint64_t length,
                 struct extent *extent)
{
    uint64_t inside;
    int rc;

    *extent = (struct extent){.kind = EXTENT_ZERO, .length = length};
    if (offset >= image->size)
        return 0;
    inside = image->size - offset;
    rc = image->format->map(image, offset, length < inside ? length : inside, MAP_HOLES, extent);
    if (rc < 0)
        return rc;
    if (extent->kind == EXTENT_DATA || extent->kind == EXTENT_PACKED) {
        image_io_end(image);
    } else if (extent->kind == EXTENT_BACKING) {
        if (!image->backing)
            extent->kind = EXTENT_ZERO;
        else if (image->backing != below)
            return image_status(image->backing, below, offset, extent->length, extent);
    }
    return 0;
}

bool image_find(struct image *image, bool write, uint64_t offset, uint64_t length,
                struct image **owner, uint64_t *host)
{
    const unsigned flags = MAP_TRY | (write ? MAP_WRITE : 0);

    for (; image && offset <= image->size && length <= image->size - offset;
         image = image->backing) {
        struct extent extent;

        if (image->format->map(image, offset, length, flags, &extent) < 0)
            return false;
        if (extent.kind == EXTENT_DATA && extent.length == length) {
            *owner = image;
            *host = extent.host;
            return true;
        }
        if (extent.kind == EXTENT_DATA || extent.kind == EXTENT_PACKED)
            image_io_end(image);
        if (write || extent.kind != EXTENT_BACKING || extent.length < length)
            return false;
    }
    return false;
}
