/* start.h - what starts the machine: a kernel, or firmware that looks for something on the disks. A
 * lone image is found out to be a kernel, a CD or a disk. Main thread. */
#ifndef DOBLE_CLI_START_H
#define DOBLE_CLI_START_H

#include "cli/options.h"
#include "vm/snapshot.h"

struct start {
    const char *kernel;   /* NULL: none */
    const char *firmware; /* file; NULL: none. Neither: the built-in guest, or a saved machine */
    const char *vga_bios; /* file; NULL: none */
    struct disk_options disks; /* all of them */
};

/* `saved`: it goes on, with firmware if it had one; NULL: a machine is started. */
int start_choose(struct start *start, const struct options *options,
                 const struct snapshot_info *saved, struct err *err) MUST_USE;

#endif
