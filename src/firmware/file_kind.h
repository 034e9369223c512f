/* file_kind.h - says what a file is by its first bytes: which use a machine has for it, and for the
 * sentence of an error what it looks like if it has none. */
#ifndef DOBLE_FIRMWARE_FILE_KIND_H
#define DOBLE_FIRMWARE_FILE_KIND_H

#include "firmware/input_file.h"

/* `start` is the first `len` bytes of the file. The end of "it looks like ...", or NULL. */
const char *file_kind(const struct input_file *file, const uint8_t *start, size_t len);

/* What a machine would do with a file: start it as a kernel, or read it as a CD or a disk. */
enum file_use { FILE_USE_NONE, FILE_USE_KERNEL, FILE_USE_CD, FILE_USE_DISK };
#define FILE_USE_START 1024u /* how much of the file is looked at */

/* `start` is the first `len` bytes of the file, FILE_USE_START of them if it has as many. */
enum file_use file_use(const struct input_file *file, const uint8_t *start, size_t len);

#endif
