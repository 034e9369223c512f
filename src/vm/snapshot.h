/* snapshot.h - a paused machine in a file, and back.
 *
 *   header | state of every device and of the CPU (base/state.h) | RAM: runs of pages | checksum
 *
 * A file may come from anybody: nothing in it is believed before it is checked. Main thread, with
 * the machine paused. */
#ifndef DOBLE_VM_SNAPSHOT_H
#define DOBLE_VM_SNAPSHOT_H

#include "base/err.h"
#include "machine/pc.h"

struct vm;

#define SNAPSHOT_CPU_LENGTH 256

/* What has to be known of a saved machine to make one that it can be loaded into. */
struct snapshot_info {
    uint64_t memory; /* bytes */
    enum clock_mode time;
    bool firmware;
    char cpu[SNAPSHOT_CPU_LENGTH]; /* as for --cpu */
};

/* Saves to a descriptor, or to a file that is there only if it is complete. */
int vm_save(struct vm *vm, int fd, struct err *err) MUST_USE;
int vm_save_file(struct vm *vm, const char *path, struct err *err) MUST_USE;

/* Reads the header at the start of a file (and leaves the position after it). */
int snapshot_read_info(int fd, struct snapshot_info *info, struct err *err) MUST_USE;

/* Loads a file, from its start, into a machine that has been made with what its header says, and
 * has not run yet. After an error the machine cannot be used. */
int vm_restore(struct vm *vm, int fd, struct err *err) MUST_USE;

/* Loads a file into a machine that has run. After an error the machine is as it was; or, if RAM
 * could not be read that was there a moment before, it has ended and the sentence says so. */
int vm_replace(struct vm *vm, int fd, struct err *err) MUST_USE;

#endif
