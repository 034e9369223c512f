/* disk_options.h - -c FILE, and -d
 * FILE[,format=raw|qcow2][,if=virtio|ide][,readonly][,serial=TEXT][,queues=N]
 *    [,aio=io_uring|threads]
 *
 * Main thread. Strings are copies. */
#ifndef DOBLE_CLI_DISK_OPTIONS_H
#define DOBLE_CLI_DISK_OPTIONS_H

#include "machine/disks.h"

#define DISK_PATH_LENGTH 4096

struct disk_option {
    char path[DISK_PATH_LENGTH];
    enum block_format format;
    enum disk_interface interface;
    bool read_only, cdrom;
    char serial[VIRTIO_BLK_ID_LENGTH + 1];
    unsigned queues;
    bool threads;
};

struct disk_options {
    struct disk_option disks[DISKS_MAX];
    unsigned count;
};

/* Reads one more -d. -EINVAL: it makes no sense. */
int disk_options_add(struct disk_options *options, const char *value, struct err *err) MUST_USE;

/* Adds an image whose name is all of `path`; a CD is read-only, and in an IDE drive. */
int disk_options_add_file(struct disk_options *options, const char *path, bool cdrom,
                          struct err *err) MUST_USE;

/* Opens the images into config[]. After an error none is open. */
int disk_options_open(const struct disk_options *options, struct disk_config *config,
                      struct err *err) MUST_USE;
void disk_options_close(const struct disk_options *options, struct disk_config *config);

#endif
