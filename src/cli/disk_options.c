/* disk_options.c - see disk_options.h. */
#include "cli/disk_options.h"

#include "block/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool set_interface(struct disk_option *disk, const char *value)
{
    disk->interface = strcmp(value, "ide") == 0 ? DISK_IDE : DISK_VIRTIO;
    return disk->interface == DISK_IDE || strcmp(value, "virtio") == 0;
}

static bool set_serial(struct disk_option *disk, const char *value)
{
    for (const char *c = value; *c; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    return *value &&
           (size_t)snprintf(disk->serial, sizeof disk->serial, "%s", value) < sizeof disk->serial;
}

static bool set_queues(struct disk_option *disk, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    disk->queues = (unsigned)n;
    return *value >= '1' && *value <= '9' && !*end && n <= VIRTIO_BLK_MAX_QUEUES;
}

static bool set_aio(struct disk_option *disk, const char *value)
{
    disk->threads = strcmp(value, "threads") == 0;
    return disk->threads || strcmp(value, "io_uring") == 0;
}

static int take_setting(struct disk_option *disk, const char *word, struct err *err)
{
    bool ok;

    if (strncmp(word, "format=", 7) == 0)
        ok = image_format_parse(word + 7, &disk->format);
    else if (strncmp(word, "if=", 3) == 0)
        ok = set_interface(disk, word + 3);
    else if (strncmp(word, "serial=", 7) == 0)
        ok = set_serial(disk, word + 7);
    else if (strncmp(word, "queues=", 7) == 0)
        ok = set_queues(disk, word + 7);
    else if (strncmp(word, "aio=", 4) == 0)
        ok = set_aio(disk, word + 4);
    else
        ok = disk->read_only = strcmp(word, "readonly") == 0;
    if (ok)
        return 0;
    return err_set(err, -EINVAL,
                   "--disk: '%s' is not format=raw|qcow2, if=virtio|ide, readonly, serial=TEXT (at "
                   "most %d letters), queues=N (1 to %d) or aio=io_uring|threads, which may follow "
                   "the file's name after "
                   "commas",
                   word, VIRTIO_BLK_ID_LENGTH, VIRTIO_BLK_MAX_QUEUES);
}

/* Adds a disk with a name of `length` bytes. NULL: there is none, or no more room. */
static struct disk_option *add(struct disk_options *options, const char *name, size_t length,
                               struct err *err)
{
    struct disk_option *disk = &options->disks[options->count];

    if (options->count == DISKS_MAX) {
        err_set(err, -EINVAL, "--disk: a machine has at most %d disks", DISKS_MAX);
        return NULL;
    }
    if (length == 0 || length >= sizeof disk->path) {
        err_set(err, -EINVAL, "--disk: '%s' does not begin with a file's name", name);
        return NULL;
    }
    *disk = (struct disk_option){.queues = 1};
    memcpy(disk->path, name, length);
    return disk;
}

int disk_options_add(struct disk_options *options, const char *value, struct err *err)
{
    size_t length = strcspn(value, ",");
    struct disk_option *disk = add(options, value, length, err);
    char word[64];

    if (!disk)
        return -EINVAL;
    for (value += length; *value; value += length) {
        length = strcspn(++value, ",");
        snprintf(word, sizeof word, "%.*s", (int)length, value);
        if (take_setting(disk, word, err) < 0)
            return -EINVAL;
    }
    options->count++;
    return 0;
}

int disk_options_add_file(struct disk_options *options, const char *path, bool cdrom,
                          struct err *err)
{
    struct disk_option *disk = add(options, path, strlen(path), err);

    if (!disk)
        return -EINVAL;
    if (cdrom) {
        disk->cdrom = disk->read_only = true;
        disk->interface = DISK_IDE;
        disk->format = BLOCK_RAW;
    }
    options->count++;
    return 0;
}

int disk_options_open(const struct disk_options *options, struct disk_config *config,
                      struct err *err)
{
    int rc = 0;

    for (unsigned i = 0; i < options->count; i++)
        config[i].block = NULL;
    for (unsigned i = 0; rc == 0 && i < options->count; i++) {
        const struct disk_option *disk = &options->disks[i];
        const struct block_config block = {disk->path, disk->format, disk->read_only,
                                           disk->threads};

        config[i] = (struct disk_config){.interface = disk->interface,
                                         .cdrom = disk->cdrom,
                                         .serial = disk->serial[0] ? disk->serial : NULL,
                                         .queues = disk->queues};
        rc = block_open(&config[i].block, &block, err);
    }
    if (rc < 0)
        disk_options_close(options, config);
    return rc;
}

void disk_options_close(const struct disk_options *options, struct disk_config *config)
{
    for (unsigned i = 0; i < options->count; i++) {
        block_close(config[i].block);
        config[i].block = NULL;
    }
}
