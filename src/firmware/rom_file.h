/* rom_file.h - files with the contents of ROMs: the firmware, and expansion ROMs of devices. Main
 * thread. */
#ifndef DOBLE_FIRMWARE_ROM_FILE_H
#define DOBLE_FIRMWARE_ROM_FILE_H

#include "base/err.h"
#include "mem/memory.h"

/* Reads a whole file of at most `max` bytes; *bytes is the caller's to free. `what` is for errors:
 * "firmware". */
int rom_file_read(const char *what, const char *path, uint64_t max, uint8_t **bytes, uint32_t *size,
                  struct err *err) MUST_USE;

/* Makes the file the ROM that ends at 4 GiB. */
int rom_file_add(struct memory *mem, const char *path, struct err *err) MUST_USE;

#endif
