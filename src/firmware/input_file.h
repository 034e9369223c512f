/* input_file.h - a file that the user gives to the machine: a kernel, an initrd, a module.
 *
 * Only regular files are taken, so that nothing blocks and the size is known. Each error is a
 * sentence that names the kind of the file and its path. For the main thread. */
#ifndef DOBLE_FIRMWARE_INPUT_FILE_H
#define DOBLE_FIRMWARE_INPUT_FILE_H

#include "base/err.h"
#include "mem/memory.h"

struct input_file {
    const char *what, *path; /* "kernel" and where it is; both stay the caller's */
    int fd;                  /* -1: not open */
    uint64_t size;           /* bytes, at least one */
};

/* Opens the file. Whatever it returns, input_close() may follow. */
int input_open(struct input_file *file, const char *what, const char *path, struct err *err);
void input_close(struct input_file *file);

/* Reads exactly `len` bytes. */
int input_read(const struct input_file *file, uint64_t offset, void *buf, uint64_t len,
               struct err *err);

/* Reads exactly `len` bytes straight into guest RAM. */
int input_load(struct memory *mem, const struct input_file *file, uint64_t offset, uint64_t len,
               gpa_t gpa, struct err *err);

#endif
