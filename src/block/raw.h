/* raw.h - the format without a format: the file's bytes are the disk's. A hole is zeros. */
#ifndef DOBLE_BLOCK_RAW_H
#define DOBLE_BLOCK_RAW_H

#include "block/image.h"

extern const struct image_format raw_format;

#endif
