#define _GNU_SOURCE
#include "base/png.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static void put_be32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* A chunk: length, type, data, CRC of type and data. */
static bool put_chunk(FILE *file, const char *type, const uint8_t *data, size_t size)
{
    uint8_t head[8], tail[4];

    put_be32(head, (uint32_t)size);
    memcpy(head + 4, type, 4);
    put_be32(tail, (uint32_t)crc32(crc32(0, head + 4, 4), data, (uInt)size));
    return fwrite(head, sizeof head, 1, file) == 1 &&
           (size == 0 || fwrite(data, size, 1, file) == 1) &&
           fwrite(tail, sizeof tail, 1, file) == 1;
}

/* Every line begins with the number of its filter: 0, none. */
static uint8_t *pack(const uint8_t *rgb, unsigned width, unsigned height, uLongf *size)
{
    size_t line = 3 * (size_t)width, raw_size = (line + 1) * height;
    uint8_t *raw = malloc(raw_size), *packed;

    *size = compressBound(raw_size);
    packed = malloc(*size);
    for (unsigned y = 0; raw && y < height; y++) {
        raw[y * (line + 1)] = 0;
        memcpy(raw + y * (line + 1) + 1, rgb + y * line, line);
    }
    if (!raw || !packed || compress2(packed, size, raw, raw_size, 6) != Z_OK) {
        free(packed);
        packed = NULL;
    }
    free(raw);
    return packed;
}

static bool put_file(FILE *file, const uint8_t *packed, size_t size, unsigned width,
                     unsigned height)
{
    static const char signature[8] = {'\x89', 'P', 'N', 'G', '\r', '\n', '\x1a', '\n'};
    uint8_t header[13] = {[8] = 8, [9] = 2}; /* bits a sample; RGB */

    put_be32(header, width);
    put_be32(header + 4, height);
    return fwrite(signature, sizeof signature, 1, file) == 1 &&
           put_chunk(file, "IHDR", header, sizeof header) &&
           put_chunk(file, "IDAT", packed, size) && put_chunk(file, "IEND", NULL, 0);
}

static int write_file(const char *path, const uint8_t *packed, size_t size, unsigned width,
                      unsigned height)
{
    FILE *file = fopen(path, "we");
    bool ok;

    if (!file)
        return -errno;
    ok = put_file(file, packed, size, width, height);
    if (fclose(file) != 0 || !ok)
        return errno ? -errno : -EIO;
    return 0;
}

int png_write(const char *path, const uint8_t *rgb, unsigned width, unsigned height,
              struct err *err)
{
    uLongf size = 0;
    uint8_t *packed = pack(rgb, width, height, &size);
    char *temporary = NULL;
    int rc = packed && asprintf(&temporary, "%s.part", path) >= 0 ? 0 : -ENOMEM;

    if (rc == 0) {
        rc = write_file(temporary, packed, size, width, height);
        if (rc == 0 && rename(temporary, path) < 0)
            rc = -errno;
        if (rc < 0)
            unlink(temporary);
        free(temporary);
    }
    free(packed);
    if (rc < 0)
        return err_set(err, rc, "the picture '%s' cannot be written: %s", path, strerror(-rc));
    return 0;
}
