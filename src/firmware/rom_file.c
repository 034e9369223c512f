#include "firmware/rom_file.h"

#include "firmware/input_file.h"

#include <errno.h>
#include <stdlib.h>

#define FIRMWARE_MAX (8 * MIB)

int rom_file_read(const char *what, const char *path, uint64_t max, uint8_t **bytes, uint32_t *size,
                  struct err *err)
{
    struct input_file file;
    int rc = input_open(&file, what, path, err);

    *bytes = NULL;
    if (rc == 0 && file.size > max)
        rc = err_set(err, -EFBIG, "the %s '%s' has %llu bytes; there is room for %llu", what, path,
                     (unsigned long long)file.size, (unsigned long long)max);
    if (rc == 0 && !(*bytes = malloc(file.size)))
        rc = err_set(err, -ENOMEM, "not enough memory for the %s '%s'", what, path);
    if (rc == 0)
        rc = input_read(&file, 0, *bytes, file.size, err);
    *size = rc == 0 ? (uint32_t)file.size : 0;
    input_close(&file);
    if (rc < 0) {
        free(*bytes);
        *bytes = NULL;
    }
    return rc;
}

int rom_file_add(struct memory *mem, const char *path, struct err *err)
{
    uint8_t *bytes;
    uint32_t size;
    int rc = rom_file_read("firmware", path, FIRMWARE_MAX, &bytes, &size, err);

    if (rc < 0)
        return rc;
    if (size % (64 * KIB))
        rc =
            err_set(err, -EINVAL,
                    "the firmware '%s' has %u bytes, which is no multiple of 64 KiB: it is no PC's "
                    "firmware",
                    path, size);
    else
        rc = memory_add_rom(mem, bytes, size, err);
    free(bytes);
    return rc;
}
