/* png.h - writes pictures as PNG files (W3C Portable Network Graphics, 2nd edition). */
#ifndef DOBLE_BASE_PNG_H
#define DOBLE_BASE_PNG_H

#include "base/err.h"
#include "base/types.h"

/* `rgb` is 3 bytes a pixel, lines from the top. A file that was there is replaced when the new one
 * is complete. */
int png_write(const char *path, const uint8_t *rgb, unsigned width, unsigned height,
              struct err *err) MUST_USE;

#endif
