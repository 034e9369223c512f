/* image_tool.h - making, copying and changing images when no machine runs: what `doble image` does.
 *
 * Main thread. Results are 0, or a negative errno with a sentence that names file and field. */
#ifndef DOBLE_BLOCK_IMAGE_TOOL_H
#define DOBLE_BLOCK_IMAGE_TOOL_H

#include "block/image.h"
#include "block/qcow2_header.h"

struct image_create {
    const char *path;
    enum block_format format;
    uint64_t size; /* bytes; 0 with a backing image: as large as that */
    bool size_given;
    const char *backing;              /* NULL: none; as it is written into the image */
    enum block_format backing_format; /* BLOCK_GUESS: by its first bytes */
    /* qcow2: */
    unsigned version; /* 2 or 3 */
    unsigned cluster_bits;
    unsigned refcount_order;
    bool lazy_refcounts;
    enum qcow2_compression compression;
};

/* What is usual: qcow2 of version 3, clusters of 64 KiB, refcounts of 16 bits, zlib. */
void image_create_defaults(struct image_create *create);

/* Settings as in QEMU: "cluster_size=64K,compat=1.1,refcount_bits=16,lazy_refcounts=on,
 * compression_type=zlib,backing_file=...,backing_fmt=...,size=...". The string is kept. */
int image_create_option(struct image_create *create, char *options, struct err *err) MUST_USE;

/* A size in bytes: a number and B, K, M, G, T, P or E, or none for bytes. */
bool image_parse_size(const char *text, uint64_t *bytes) MUST_USE;

int image_create(const struct image_create *create, struct err *err) MUST_USE;

struct image_convert {
    const char *from;
    enum block_format from_format;
    struct image_create to; /* .size is that of the source */
    bool compress;
};

int image_convert(const struct image_convert *convert, struct err *err) MUST_USE;

/* Gives an image another backing image (NULL: none). Unless `unsafe`, what the guest sees stays the
 * same: what differs is copied into the image; with it the new
 * one need not even be there. */
int image_rebase(const char *path, enum block_format format, const char *backing,
                 enum block_format backing_format, bool unsafe, struct err *err) MUST_USE;

#endif
