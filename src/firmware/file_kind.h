/* file_kind.h - says what a file that cannot be started looks like, for the sentence of an error.
 */
#ifndef DOBLE_FIRMWARE_FILE_KIND_H
#define DOBLE_FIRMWARE_FILE_KIND_H

#include "firmware/input_file.h"

/* `start` is the first `len` bytes of the file. The end of "it looks like ...", or NULL. */
const char *file_kind(const struct input_file *file, const uint8_t *start, size_t len);

#endif
