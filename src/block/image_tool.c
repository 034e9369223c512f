/* image_tool.c - see image_tool.h. */
#define _GNU_SOURCE
#include "block/image_tool.h"

#include "block/qcow2_make.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (2 * MIB)       /* that is copied at a time */
#define SPARSE UINT64_C(4096) /* zeros of this length are not written */

/* --- settings --- */

void image_create_defaults(struct image_create *create)
{
    *create = (struct image_create){
        .format = BLOCK_QCOW2, .version = 3, .cluster_bits = 16, .refcount_order = 4};
}

bool image_parse_size(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "BKMGTPE";
    char *end;
    const char *suffix;
    unsigned shift;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *bytes = strtoull(text, &end, 10);
    if (errno || (*end && end[1]))
        return false;
    suffix = *end ? strchr(suffixes, *end & ~0x20) : suffixes;
    if (!suffix || !*suffix)
        return false;
    shift = 10 * (unsigned)(suffix - suffixes);
    if (shift && *bytes > UINT64_MAX >> shift)
        return false;
    *bytes <<= shift;
    return *bytes <= IMAGE_MAX_SIZE;
}

static int log2_of(uint64_t value)
{
    return value && !(value & (value - 1)) ? __builtin_ctzll(value) : -1;
}

static bool parse_switch(const char *value, bool *on)
{
    *on = strcmp(value, "on") == 0;
    return *on || strcmp(value, "off") == 0;
}

static bool set_cluster_size(struct image_create *c, const char *value)
{
    uint64_t size;
    int bits = image_parse_size(value, &size) ? log2_of(size) : -1;

    c->cluster_bits = (unsigned)bits;
    return bits >= QCOW2_MIN_CLUSTER_BITS && bits <= QCOW2_MAX_CLUSTER_BITS;
}

static bool set_refcount_bits(struct image_create *c, const char *value)
{
    uint64_t bits;
    int order = image_parse_size(value, &bits) ? log2_of(bits) : -1;

    c->refcount_order = (unsigned)order;
    return order >= 0 && order <= 6;
}

static bool set_compat(struct image_create *c, const char *value)
{
    c->version = strcmp(value, "0.10") == 0 || strcmp(value, "v2") == 0 ? 2 : 3;
    return c->version == 2 || strcmp(value, "1.1") == 0 || strcmp(value, "v3") == 0;
}

static bool set_lazy(struct image_create *c, const char *value)
{
    return parse_switch(value, &c->lazy_refcounts);
}

static bool set_compression(struct image_create *c, const char *value)
{
    c->compression = strcmp(value, "zstd") == 0 ? QCOW2_ZSTD : QCOW2_ZLIB;
    return c->compression == QCOW2_ZSTD || strcmp(value, "zlib") == 0;
}

static bool set_backing(struct image_create *c, const char *value)
{
    c->backing = value;
    return *value;
}

static bool set_backing_format(struct image_create *c, const char *value)
{
    return image_format_parse(value, &c->backing_format);
}

static bool set_size(struct image_create *c, const char *value)
{
    c->size_given = true;
    return image_parse_size(value, &c->size);
}

static const struct {
    const char *name, *right;
    bool (*set)(struct image_create *create, const char *value);
} settings[] = {
    {"cluster_size", "a power of 2 between 512 and 2M", set_cluster_size},
    {"refcount_bits", "1, 2, 4, 8, 16, 32 or 64", set_refcount_bits},
    {"compat", "0.10 or 1.1", set_compat},
    {"lazy_refcounts", "on or off", set_lazy},
    {"compression_type", "zlib or zstd", set_compression},
    {"backing_file", "a file's name", set_backing},
    {"backing_fmt", "raw or qcow2", set_backing_format},
    {"size", "a size: a number and K, M, G or T", set_size},
};

int image_create_option(struct image_create *create, char *options, struct err *err)
{
    for (char *word; (word = strsep(&options, ","));) {
        char *value = strchr(word, '=');
        size_t i = 0;

        if (value)
            *value++ = 0;
        while (i < ARRAY_SIZE(settings) && strcmp(settings[i].name, word) != 0)
            i++;
        if (i == ARRAY_SIZE(settings))
            return err_set(err, -EINVAL,
                           "-o: there is no setting '%s'; there are cluster_size, refcount_bits, "
                           "compat, lazy_refcounts, compression_type, backing_file, backing_fmt "
                           "and size",
                           word);
        if (!value || !settings[i].set(create, value))
            return err_set(err, -EINVAL, "-o %s: '%s' is not %s", word, value ? value : "",
                           settings[i].right);
    }
    return 0;
}

/* --- making --- */

static int check_settings(const struct image_create *c, struct err *err)
{
    if (c->format == BLOCK_RAW && c->backing)
        return err_set(err, -EINVAL, "%s: a raw image has no backing file", c->path);
    if (c->version == 2 && (c->refcount_order != 4 || c->lazy_refcounts || c->compression))
        return err_set(err, -EINVAL,
                       "%s: compat 0.10 has neither other refcount_bits than 16 nor lazy_refcounts "
                       "nor a compression_type",
                       c->path);
    if (c->backing && !image_name_is_file(c->backing))
        return err_set(err, -ENOTSUP, "%s: the backing file '%s' is not a file's name", c->path,
                       c->backing);
    return 0;
}

/* Opens what an image at `path` names as its backing file. `overlay` is NULL if there is no image
 * yet. */
static int open_backing(struct image **backing, struct image *overlay, const char *path,
                        const char *name, enum block_format format, struct err *err)
{
    char *where = image_backing_path(path, name);
    const struct image_config config = {where, format, 0};
    int rc = where ? image_open_for(backing, overlay, &config, err) : -ENOMEM;

    free(where);
    return rc;
}

static int make_qcow2(const struct image_create *c, struct file *file)
{
    const struct qcow2_header header = {
        .version = c->version,
        .cluster_bits = c->cluster_bits,
        .refcount_order = c->refcount_order,
        .incompatible = c->compression == QCOW2_ZSTD ? QCOW2_COMPRESSION_TYPE : 0,
        .compatible = c->lazy_refcounts ? QCOW2_LAZY_REFCOUNTS : 0,
        .compression = c->compression,
    };

    return qcow2_make_empty(file, &header);
}

/* An image of size 0 is made, opened and grown. */
static int make(const struct image_create *c, uint64_t size, const char *backing_format,
                struct err *err)
{
    const struct image_config config = {c->path, c->format, IMAGE_WRITE};
    struct image *image = NULL;
    struct file file;
    int rc = file_create(&file, c->path, err);

    if (rc < 0)
        return rc;
    if (c->format == BLOCK_QCOW2)
        rc = make_qcow2(c, &file);
    file_close(&file);
    if (rc < 0)
        return err_set(err, rc, "%s: cannot be written: %s", c->path, strerror(-rc));
    rc = image_open(&image, &config, err);
    if (rc == 0 && !image->file.is_device)
        rc = image_resize(image, size, err);
    if (rc == 0 && c->backing)
        rc = qcow2_set_backing(image, c->backing, backing_format, err);
    image_close(image);
    return rc;
}

/* The backing image must be one that can be opened; its size and format are taken over. It stays
 * open meanwhile, so that its lock keeps an image from being made in its place. */
int image_create(const struct image_create *create, struct err *err)
{
    struct image *backing = NULL;
    uint64_t size = create->size;
    int rc = check_settings(create, err);

    if (rc == 0 && create->backing)
        rc = open_backing(&backing, NULL, create->path, create->backing, create->backing_format,
                          err);
    if (rc < 0)
        return rc;
    if (!create->size_given && backing)
        size = backing->size;
    else if (!create->size_given)
        return err_set(err, -EINVAL, "%s: which size? Give one, for example 10G", create->path);
    size = (size + BLOCK_SECTOR - 1) / BLOCK_SECTOR * BLOCK_SECTOR;
    rc = make(create, size, backing ? backing->format->name : NULL, err);
    image_close(backing);
    return rc;
}

/* --- copying --- */

static bool is_zero(const uint8_t *bytes, uint64_t length)
{
    return !bytes[0] && memcmp(bytes, bytes + 1, length - 1) == 0;
}

static int io_failed(const struct image *image, const char *what, int rc, struct err *err)
{
    return err_set(err, rc, "%s: cannot be %s: %s", image->file.path, what, strerror(-rc));
}

/* Writes what is not zero into an image that is zero. */
static int write_sparse(struct image *to, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    int rc = 0;

    while (rc == 0 && length) {
        uint64_t run = 0, first = length < SPARSE ? length : SPARSE;
        bool zero = is_zero(bytes, first);

        while (run < length) {
            uint64_t next = length - run < SPARSE ? length - run : SPARSE;

            if (is_zero(bytes + run, next) != zero)
                break;
            run += next;
        }
        if (!zero)
            rc = image_write_bytes(to, offset, bytes, run);
        bytes += run;
        offset += run;
        length -= run;
    }
    return rc;
}

static int write_packed(struct qcow2_packer *packer, uint64_t offset, uint8_t *bytes,
                        uint64_t length)
{
    const uint64_t size = packer->q->cluster_size;
    int rc = 0;

    memset(bytes + length, 0, (size - length % size) % size);
    for (uint64_t at = 0; rc == 0 && at < length; at += size)
        if (!is_zero(bytes + at, size))
            rc = qcow2_packer_write(packer, offset + at, bytes + at);
    return rc;
}

static int copy_piece(struct image *from, struct image *to, struct qcow2_packer *packer,
                      uint64_t offset, uint64_t length, uint8_t *bytes, struct err *err)
{
    int rc = image_read_bytes(from, offset, bytes, length);

    if (rc < 0)
        return io_failed(from, "read", rc, err);
    rc = packer->q ? write_packed(packer, offset, bytes, length)
                   : write_sparse(to, offset, bytes, length);
    return rc < 0 ? io_failed(to, "written", rc, err) : 0;
}

/* How much from `offset` on is known to be zeros; whole pieces of the copy. */
static int zeros_ahead(struct image *from, uint64_t offset, uint64_t *length, struct err *err)
{
    *length = 0;
    while (offset + *length < from->size) {
        struct extent extent;
        int rc = image_status(from, NULL, offset + *length, from->size - offset - *length, &extent);

        if (rc < 0)
            return io_failed(from, "read", rc, err);
        if (extent.kind != EXTENT_ZERO)
            break;
        *length += extent.length;
    }
    return 0;
}

static int copy_all(struct image *from, struct image *to, struct qcow2_packer *packer,
                    uint8_t *bytes, struct err *err)
{
    int rc = 0;

    for (uint64_t offset = 0, skip; rc == 0 && offset < from->size;) {
        uint64_t now;

        rc = zeros_ahead(from, offset, &skip, err);
        offset += skip / PIECE * PIECE;
        if (offset + skip % PIECE >= from->size || rc < 0)
            break;
        now = from->size - offset < PIECE ? from->size - offset : PIECE;
        rc = copy_piece(from, to, packer, offset, now, bytes, err);
        offset += now;
    }
    if (rc == 0) {
        rc = image_flush(to);
        if (rc < 0)
            io_failed(to, "written", rc, err);
    }
    return rc;
}

static int copy_image(struct image *from, struct image *to, bool compress, struct err *err)
{
    struct qcow2_packer packer = {0};
    uint8_t *bytes = malloc(PIECE);
    int rc = bytes ? 0 : err_set(err, -ENOMEM, "not enough memory to copy"), last;

    if (rc == 0 && compress)
        rc = qcow2_packer_init(&packer, to);
    if (rc == 0)
        rc = copy_all(from, to, &packer, bytes, err);
    if (packer.q) {
        last = qcow2_packer_finish(&packer);
        if (rc == 0 && last < 0)
            rc = io_failed(to, "written", last, err);
    }
    free(bytes);
    return rc;
}

/* A device that is written to may hold anything. */
static int clear_device(struct image *to, struct err *err)
{
    int rc = to->file.is_device && to->format == image_format_of(BLOCK_RAW)
                 ? image_write_zeroes(to, 0, to->size, true)
                 : 0;

    return rc < 0 ? io_failed(to, "written", rc, err) : 0;
}

int image_convert(const struct image_convert *convert, struct err *err)
{
    const struct image_config source = {convert->from, convert->from_format, 0},
                              target = {convert->to.path, convert->to.format, IMAGE_WRITE};
    struct image_create create = convert->to;
    struct image *from = NULL, *to = NULL;
    int rc = image_open(&from, &source, err);

    if (rc < 0)
        return rc;
    create.size = from->size;
    create.size_given = true;
    if (convert->compress && create.format != BLOCK_QCOW2)
        rc = err_set(err, -EINVAL, "%s: only qcow2 images can be compressed", create.path);
    if (rc == 0)
        rc = image_create(&create, err);
    if (rc == 0)
        rc = image_open(&to, &target, err);
    if (rc == 0 && to->size < from->size)
        rc = err_set(err, -ENOSPC, "%s: is smaller than %s", create.path, convert->from);
    if (rc == 0)
        rc = clear_device(to, err);
    if (rc == 0)
        rc = copy_image(from, to, convert->compress, err);
    image_close(to);
    image_close(from);
    return rc;
}

/* --- another backing image --- */

/* Both read as zeros beyond their ends. */
static int compare_and_keep(struct image *image, struct image *old, struct image *new,
                            uint64_t offset, uint64_t length, uint8_t *a, uint8_t *b,
                            struct err *err)
{
    int rc = old ? image_read_bytes(old, offset, a, length) : (memset(a, 0, length), 0);

    if (rc < 0)
        return io_failed(old, "read", rc, err);
    rc = new ? image_read_bytes(new, offset, b, length) : (memset(b, 0, length), 0);
    if (rc < 0)
        return io_failed(new, "read", rc, err);
    if (memcmp(a, b, length) == 0)
        return 0;
    rc = is_zero(a, length) ? image_write_zeroes(image, offset, length, true)
                            : image_write_bytes(image, offset, a, length);
    return rc < 0 ? io_failed(image, "written", rc, err) : 0;
}

static int keep_contents(struct image *image, struct image *new, uint8_t *bytes, struct err *err)
{
    const uint64_t piece = image->cluster;
    int rc = 0;

    for (uint64_t offset = 0, now; rc == 0 && offset < image->size; offset += now) {
        struct extent extent;

        now = image->size - offset < piece ? image->size - offset : piece;
        rc = image_status(image, image->backing, offset, now, &extent);
        if (rc < 0)
            return io_failed(image, "read", rc, err);
        if (extent.kind == EXTENT_BACKING ||
            (extent.kind == EXTENT_ZERO && !extent.allocated && !image->backing))
            rc = compare_and_keep(image, image->backing, new, offset, now, bytes, bytes + piece,
                                  err);
    }
    if (rc == 0) {
        rc = image_flush(image);
        if (rc < 0)
            io_failed(image, "written", rc, err);
    }
    return rc;
}

static int rebase_to(struct image *image, struct image *new, const char *backing,
                     const char *format, bool unsafe, struct err *err)
{
    uint8_t *bytes = malloc(2 * (size_t)image->cluster);
    int rc = bytes ? 0 : err_set(err, -ENOMEM, "%s: not enough memory", image->file.path);

    /* From now on what has no cluster is the new backing image's, and zeros have to be said. */
    if (rc == 0 && new && !image->backing_name && !(image->backing_name = strdup(backing)))
        rc = err_set(err, -ENOMEM, "%s: not enough memory", image->file.path);
    if (rc == 0 && !unsafe)
        rc = keep_contents(image, new, bytes, err);
    if (rc == 0)
        rc = qcow2_set_backing(image, backing, format, err);
    free(bytes);
    return rc;
}

int image_rebase(const char *path, enum block_format format, const char *backing,
                 enum block_format backing_format, bool unsafe, struct err *err)
{
    const struct image_config config = {path, format, IMAGE_WRITE | (unsafe ? IMAGE_ALONE : 0)};
    struct image *image = NULL, *new = NULL;
    int rc = image_open(&image, &config, err);

    if (rc < 0)
        return rc;
    if (image->format != image_format_of(BLOCK_QCOW2))
        rc =
            err_set(err, -EINVAL, "%s: is not a qcow2 image; only those have a backing file", path);
    if (rc == 0 && backing && !unsafe)
        rc = open_backing(&new, image, path, backing, backing_format, err);
    if (rc == 0)
        rc = rebase_to(image, new, backing,
                       new                        ? new->format->name
                       : backing &&backing_format ? image_format_of(backing_format)->name
                                                  : NULL,
                       unsafe, err);
    image_close(new);
    image_close(image);
    return rc;
}
