/* qcow2_header.c - see qcow2_header.h. */
#define _GNU_SOURCE
#include "block/qcow2_header.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct extension {
    uint32_t type, length;
};

static int refuse(const struct image *image, struct err *err, const char *field, uint64_t value,
                  const char *wrong)
{
    return err_set(err, -EINVAL, "%s: damaged qcow2 header: %s %" PRIu64 " %s", image->file.path,
                   field, value, wrong);
}

static int unsupported(const struct image *image, struct err *err, const char *what)
{
    return err_set(err, -ENOTSUP, "%s: uses the qcow2 feature '%s', which is not supported",
                   image->file.path, what);
}

/* --- fields --- */

static void decode(struct qcow2_header *h, const struct qcow2_header_disk *d)
{
    h->version = be32toh(d->version);
    h->cluster_bits = be32toh(d->cluster_bits);
    h->size = be64toh(d->size);
    h->l1_size = be32toh(d->l1_size);
    h->l1_offset = be64toh(d->l1_offset);
    h->reftable_offset = be64toh(d->reftable_offset);
    h->reftable_clusters = be32toh(d->reftable_clusters);
    h->snapshot_count = be32toh(d->snapshot_count);
    h->snapshots_offset = be64toh(d->snapshots_offset);
    h->refcount_order = 4;
    h->length = QCOW2_V2_LENGTH;
    if (h->version < 3)
        return;
    h->incompatible = be64toh(d->incompatible);
    h->compatible = be64toh(d->compatible);
    h->autoclear = be64toh(d->autoclear);
    h->refcount_order = be32toh(d->refcount_order);
    h->length = be32toh(d->length);
    if (h->length > offsetof(struct qcow2_header_disk, compression_type))
        h->compression = d->compression_type;
}

static int check_kind(const struct image *image, const struct qcow2_header *h,
                      const struct qcow2_header_disk *d, struct err *err)
{
    static const char *const ciphers[] = {"none", "AES encryption", "LUKS encryption"};
    uint32_t cipher = be32toh(d->crypt_method);

    if (be32toh(d->magic) != QCOW2_MAGIC)
        return err_set(err, -EINVAL, "%s: is no qcow2 image: its first bytes are not 'QFI' FBh",
                       image->file.path);
    if (h->version != 2 && h->version != 3)
        return err_set(err, -ENOTSUP,
                       "%s: is a qcow image of version %u; only 2 and 3 are supported",
                       image->file.path, h->version);
    if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
        return refuse(image, err, "cluster_bits", h->cluster_bits, "is not between 9 and 21");
    if (cipher)
        return unsupported(image, err,
                           cipher < ARRAY_SIZE(ciphers) ? ciphers[cipher] : "unknown encryption");
    return 0;
}

static int check_version3(const struct image *image, const struct qcow2_header *h, struct err *err)
{
    if (h->version < 3)
        return 0;
    if (h->length < offsetof(struct qcow2_header_disk, compression_type) || h->length % 8 ||
        h->length > UINT64_C(1) << h->cluster_bits)
        return refuse(image, err, "header_length", h->length,
                      "is less than 104, no multiple of 8, or more than a cluster");
    if (h->refcount_order > 6)
        return refuse(image, err, "refcount_order", h->refcount_order, "is more than 6");
    if (!(h->incompatible & QCOW2_COMPRESSION_TYPE) && h->compression != QCOW2_ZLIB)
        return refuse(image, err, "compression_type", h->compression,
                      "needs the incompatible feature of that name");
    if (h->compression > QCOW2_ZSTD)
        return unsupported(image, err, "unknown compression type");
    return 0;
}

static int check_tables(const struct image *image, const struct qcow2_header *h, unsigned flags,
                        struct err *err)
{
    const uint64_t cluster = UINT64_C(1) << h->cluster_bits, file_limit = UINT64_C(1) << 56;

    if (h->size > IMAGE_MAX_SIZE)
        return refuse(image, err, "size", h->size, "is too large");
    if (h->l1_size > QCOW2_MAX_L1_BYTES / 8)
        return refuse(image, err, "l1_size", h->l1_size, "is more than 32 MiB of entries");
    if (h->l1_size < qcow2_l1_entries(h->size, h->cluster_bits))
        return refuse(image, err, "l1_size", h->l1_size, "is too small for the disk's size");
    if (h->l1_offset % cluster || h->l1_offset >= file_limit || (h->l1_size && !h->l1_offset))
        return refuse(image, err, "l1_table_offset", h->l1_offset, "is not a cluster's");
    if (h->reftable_clusters > QCOW2_MAX_REFTABLE_BYTES / cluster)
        return refuse(image, err, "refcount_table_clusters", h->reftable_clusters,
                      "is more than 8 MiB");
    if (!h->reftable_clusters && !(flags & IMAGE_REPAIR))
        return refuse(image, err, "refcount_table_clusters", 0, "is no table");
    if (h->reftable_offset % cluster || h->reftable_offset >= file_limit || !h->reftable_offset)
        return refuse(image, err, "refcount_table_offset", h->reftable_offset,
                      "is not a cluster's");
    if (h->snapshot_count > QCOW2_MAX_SNAPSHOTS)
        return refuse(image, err, "nb_snapshots", h->snapshot_count, "is more than 65536");
    if (h->snapshots_offset % cluster || h->snapshots_offset >= file_limit)
        return refuse(image, err, "snapshots_offset", h->snapshots_offset, "is not a cluster's");
    return 0;
}

/* The name that the image gives an incompatible feature, or ours. */
static const char *feature_name(unsigned bit, const uint8_t *table, uint32_t length, char name[47])
{
    static const char *const known[] = {[2] = "external data file", [4] = "extended L2 entries"};

    for (uint32_t i = 0; table && i + 48 <= length; i += 48)
        if (table[i] == 0 && table[i + 1] == bit && table[i + 2]) {
            memcpy(name, table + i + 2, 46);
            name[46] = 0;
            for (char *c = name; *c; c++)
                if (*c < ' ' || *c > '~')
                    *c = '?';
            return name;
        }
    return bit < ARRAY_SIZE(known) && known[bit] ? known[bit] : "one that has no name";
}

static int check_features(const struct image *image, const struct qcow2_header *h, unsigned flags,
                          const uint8_t *table, uint32_t length, struct err *err)
{
    const uint64_t known = QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_COMPRESSION_TYPE;
    uint64_t unknown = h->incompatible & ~known;
    char name[47];

    if (unknown)
        return unsupported(image, err,
                           feature_name((unsigned)__builtin_ctzll(unknown), table, length, name));
    if (h->incompatible & QCOW2_CORRUPT && flags & IMAGE_WRITE && !(flags & IMAGE_REPAIR))
        return err_set(err, -EUCLEAN,
                       "%s: is marked corrupt; it can be read, or repaired with 'doble image check "
                       "-r all'",
                       image->file.path);
    return 0;
}

/* --- extensions and the backing file's name --- */

static int read_backing_format(struct image *image, const char *data, uint32_t length,
                               struct err *err)
{
    char name[16];

    if (length >= sizeof name)
        return err_set(err, -ENOTSUP, "%s: the name of its backing file's format is too long",
                       image->file.path);
    memcpy(name, data, length);
    name[length] = 0;
    image->backing_format_known = true;
    if (image_format_parse(name, &image->backing_format))
        return 0;
    if (strcmp(name, "file") == 0 || strcmp(name, "host_device") == 0) {
        image->backing_format = BLOCK_RAW;
        return 0;
    }
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return err_set(err, -ENOTSUP,
                   "%s: its backing file's format is '%s'; raw and qcow2 are supported",
                   image->file.path, name);
}

static int read_bitmaps(const struct image *image, struct qcow2_header *h, const uint8_t *data,
                        uint32_t length, struct err *err)
{
    uint32_t count;
    uint64_t size, offset;

    if (!(h->autoclear & QCOW2_BITMAPS))
        return 0; /* somebody who does not know them has written: they are worth nothing */
    if (length != 24)
        return refuse(image, err, "length of the bitmaps extension", length, "is not 24");
    memcpy(&count, data, 4);
    memcpy(&size, data + 8, 8);
    memcpy(&offset, data + 16, 8);
    h->bitmaps_count = be32toh(count);
    h->bitmaps_directory_size = be64toh(size);
    h->bitmaps_directory = be64toh(offset);
    if (h->bitmaps_count > 65535 || h->bitmaps_directory_size > 64 * MIB)
        return refuse(image, err, "bitmap_directory_size", h->bitmaps_directory_size,
                      "is too large");
    if (h->bitmaps_directory % (UINT64_C(1) << h->cluster_bits) ||
        h->bitmaps_directory >= UINT64_C(1) << 56)
        return refuse(image, err, "bitmap_directory_offset", h->bitmaps_directory,
                      "is not a cluster's");
    return 0;
}

/* From the header's end to the backing file's name or the cluster's end. */
static int read_extensions(struct image *image, struct qcow2_header *h, const uint8_t *cluster,
                           uint64_t end, unsigned flags, struct err *err)
{
    const uint8_t *features = NULL;
    uint32_t features_length = 0;
    uint64_t at = h->length;
    int rc = 0;

    while (rc == 0 && at + sizeof(struct extension) <= end) {
        struct extension e;

        memcpy(&e, cluster + at, sizeof e);
        e.type = be32toh(e.type);
        e.length = be32toh(e.length);
        at += sizeof e;
        if (e.type == QCOW2_EXT_END)
            break;
        if (e.length > end - at)
            return refuse(image, err, "length of a header extension", e.length,
                          "goes beyond its place");
        if (e.type == QCOW2_EXT_BACKING_FORMAT)
            rc = read_backing_format(image, (const char *)cluster + at, e.length, err);
        else if (e.type == QCOW2_EXT_BITMAPS)
            rc = read_bitmaps(image, h, cluster + at, e.length, err);
        else if (e.type == QCOW2_EXT_FEATURES)
            features = cluster + at, features_length = e.length;
        at += ((uint64_t)e.length + 7) & ~UINT64_C(7);
    }
    return rc < 0 ? rc : check_features(image, h, flags, features, features_length, err);
}

static int read_backing_name(struct image *image, const struct qcow2_header *h,
                             const struct qcow2_header_disk *d, const uint8_t *cluster,
                             struct err *err)
{
    const uint64_t offset = be64toh(d->backing_offset), length = be32toh(d->backing_size),
                   size = UINT64_C(1) << h->cluster_bits;

    if (!offset)
        return 0;
    if (length > QCOW2_MAX_NAME)
        return refuse(image, err, "backing_file_size", length, "is more than 1023");
    if (offset < h->length || offset > size || length > size - offset)
        return refuse(image, err, "backing_file_offset", offset, "is outside the first cluster");
    if (!length)
        return 0;
    image->backing_name = strndup((const char *)cluster + offset, length);
    if (!image->backing_name)
        return err_set(err, -ENOMEM, "%s: not enough memory", image->file.path);
    return 0;
}

int qcow2_header_read(struct image *image, struct qcow2_header *h, unsigned flags, struct err *err)
{
    struct qcow2_header_disk d;
    uint8_t *cluster = NULL;
    uint64_t end;
    int rc = file_read(&image->file, 0, &d, sizeof d);

    memset(h, 0, sizeof *h);
    if (rc < 0)
        return err_set(err, rc, "%s: its header cannot be read: %s", image->file.path,
                       strerror(-rc));
    decode(h, &d);
    rc = check_kind(image, h, &d, err);
    if (rc == 0)
        rc = check_version3(image, h, err);
    if (rc < 0)
        return rc;
    cluster = malloc(UINT64_C(1) << h->cluster_bits);
    if (!cluster)
        return err_set(err, -ENOMEM, "%s: not enough memory", image->file.path);
    rc = file_read(&image->file, 0, cluster, UINT64_C(1) << h->cluster_bits);
    if (rc < 0)
        err_set(err, rc, "%s: its header cannot be read: %s", image->file.path, strerror(-rc));
    if (rc == 0)
        rc = read_backing_name(image, h, &d, cluster, err);
    end = image->backing_name ? be64toh(d.backing_offset) : UINT64_C(1) << h->cluster_bits;
    if (rc == 0)
        rc = read_extensions(image, h, cluster, end, flags, err);
    if (rc == 0) /* after the features: an unknown one may change what the tables are */
        rc = check_tables(image, h, flags, err);
    free(cluster);
    return rc;
}

uint64_t qcow2_l1_entries(uint64_t size, unsigned cluster_bits)
{
    const unsigned shift = 2 * cluster_bits - 3;

    return (size >> shift) + !!(size & ((UINT64_C(1) << shift) - 1));
}

/* --- making one --- */

struct feature {
    uint8_t type, bit;
    char name[46];
};
_Static_assert(sizeof(struct feature) == 48, "layout of the file");

static const struct feature feature_table[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

static bool add_extension(uint8_t *cluster, uint64_t size, uint64_t *at, uint32_t type,
                          const void *data, uint32_t length)
{
    const struct extension e = {htobe32(type), htobe32(length)};

    if (*at + sizeof e + length + 8 > size)
        return false;
    memcpy(cluster + *at, &e, sizeof e);
    if (length)
        memcpy(cluster + *at + sizeof e, data, length);
    *at += sizeof e + ((length + 7) & ~7u);
    return true;
}

static void encode(const struct qcow2_header *h, struct qcow2_header_disk *d)
{
    *d = (struct qcow2_header_disk){
        .magic = htobe32(QCOW2_MAGIC),
        .version = htobe32(h->version),
        .cluster_bits = htobe32(h->cluster_bits),
        .size = htobe64(h->size),
        .l1_size = htobe32(h->l1_size),
        .l1_offset = htobe64(h->l1_offset),
        .reftable_offset = htobe64(h->reftable_offset),
        .reftable_clusters = htobe32(h->reftable_clusters),
        .snapshot_count = htobe32(h->snapshot_count),
        .snapshots_offset = htobe64(h->snapshots_offset),
        .incompatible = htobe64(h->incompatible),
        .compatible = htobe64(h->compatible),
        .autoclear = htobe64(h->autoclear),
        .refcount_order = htobe32(h->refcount_order),
        .length = htobe32(sizeof *d),
        .compression_type = (uint8_t)h->compression,
    };
}

int qcow2_header_build(const struct qcow2_header *h, const char *backing_name,
                       const char *backing_format, uint8_t *cluster)
{
    const uint64_t size = UINT64_C(1) << h->cluster_bits;
    struct qcow2_header_disk d;
    uint64_t at = h->version < 3 ? QCOW2_V2_LENGTH : sizeof d;
    size_t name = backing_name ? strlen(backing_name) : 0;

    memset(cluster, 0, size);
    encode(h, &d);
    if (backing_format && !add_extension(cluster, size, &at, QCOW2_EXT_BACKING_FORMAT,
                                         backing_format, (uint32_t)strlen(backing_format)))
        return -ENOSPC;
    /* The names of features are a help for others, and left out if there is no room for them. */
    if (h->version >= 3 && at + sizeof feature_table + 16 + name <= size &&
        !add_extension(cluster, size, &at, QCOW2_EXT_FEATURES, feature_table, sizeof feature_table))
        return -ENOSPC;
    at += sizeof(struct extension); /* the end: zeros */
    if (name > QCOW2_MAX_NAME || at + name > size)
        return -ENOSPC;
    if (name) {
        memcpy(cluster + at, backing_name, name);
        d.backing_offset = htobe64(at);
        d.backing_size = htobe32((uint32_t)name);
    }
    memcpy(cluster, &d, h->version < 3 ? QCOW2_V2_LENGTH : sizeof d);
    return (int)(at + name);
}
