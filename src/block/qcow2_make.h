/* qcow2_make.h - new qcow2 images, another backing file's name, and compressed clusters. */
#ifndef DOBLE_BLOCK_QCOW2_MAKE_H
#define DOBLE_BLOCK_QCOW2_MAKE_H

#include "block/qcow2.h"

/* Writes an image of size 0 into an empty file: of `header`, what can be chosen. */
int qcow2_make_empty(struct file *file, const struct qcow2_header *header) MUST_USE;

/* Writes the header anew, with this backing file's name and format (NULL: none, not known). */
int qcow2_set_backing(struct image *image, const char *name, const char *format,
                      struct err *err) MUST_USE;

/* Writes clusters of the disk in compressed form, one after the other. */
struct qcow2_packer {
    struct qcow2 *q;
    uint8_t *bytes;
    uint64_t at; /* where the next one may begin; 0: in a new cluster */
};

int qcow2_packer_init(struct qcow2_packer *packer, struct image *image) MUST_USE;
/* A whole cluster that has none yet; one that does not get smaller is written as it is. */
int qcow2_packer_write(struct qcow2_packer *packer, uint64_t offset,
                       const uint8_t *cluster) MUST_USE;
/* Also after an error. */
int qcow2_packer_finish(struct qcow2_packer *packer);

#endif
