/* qcow2_header.h - the first cluster of a qcow2 image: header, extensions, the backing file's name.
 *
 * The layout is that of docs/interop/qcow2.txt of QEMU, versions 2 and 3; all numbers are
 * big-endian. Whoever wrote the file may have written anything: qcow2_header_read() accepts only
 * what the rest can rely on, and refuses by name what is not supported. */
#ifndef DOBLE_BLOCK_QCOW2_HEADER_H
#define DOBLE_BLOCK_QCOW2_HEADER_H

#include "block/image.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MAX_L1_BYTES (32 * MIB)
#define QCOW2_MAX_REFTABLE_BYTES (8 * MIB)
#define QCOW2_MAX_SNAPSHOTS 65536
#define QCOW2_MAX_NAME 1023 /* of the backing file */
#define QCOW2_V2_LENGTH 72

/* Incompatible features. */
#define QCOW2_DIRTY (UINT64_C(1) << 0)
#define QCOW2_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_COMPRESSION_TYPE (UINT64_C(1) << 3)
#define QCOW2_EXTENDED_L2 (UINT64_C(1) << 4)
/* Compatible, autoclear. */
#define QCOW2_LAZY_REFCOUNTS (UINT64_C(1) << 0)
#define QCOW2_BITMAPS (UINT64_C(1) << 0)

enum qcow2_compression { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

/* Header extensions. */
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u

struct qcow2_header_disk {
    uint32_t magic, version;
    uint64_t backing_offset;
    uint32_t backing_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_offset, reftable_offset;
    uint32_t reftable_clusters, snapshot_count;
    uint64_t snapshots_offset;
    /* version 3: */
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, length;
    uint8_t compression_type, padding[7];
};
_Static_assert(sizeof(struct qcow2_header_disk) == 112, "layout of the file");
_Static_assert(offsetof(struct qcow2_header_disk, incompatible) == QCOW2_V2_LENGTH, "layout");

/* The same in the host's order, checked; without version 3, with what version 2 means. */
struct qcow2_header {
    unsigned version, cluster_bits, refcount_order;
    uint64_t size;
    uint32_t l1_size;
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t snapshot_count;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t length;
    enum qcow2_compression compression;
    uint64_t bitmaps_directory; /* 0: none */
    uint64_t bitmaps_directory_size;
    uint32_t bitmaps_count;
};

/* Reads and checks. Stores the backing file's name and format in the image. */
int qcow2_header_read(struct image *image, struct qcow2_header *header, unsigned flags,
                      struct err *err) MUST_USE;

/* Entries of L1 that a disk of `size` bytes needs. */
uint64_t qcow2_l1_entries(uint64_t size, unsigned cluster_bits);

/* The whole first cluster of a new or changed header: the length of what was written, or -ENOSPC if
 * name and extensions do not fit. `old` extensions that we do not know are not kept. */
int qcow2_header_build(const struct qcow2_header *header, const char *backing_name,
                       const char *backing_format, uint8_t *cluster) MUST_USE;

#endif
