/* native_child.h - the child's side of native.h: everything here runs in the child process. */
#ifndef DOBLE_TESTS_INSN_NATIVE_CHILD_H
#define DOBLE_TESTS_INSN_NATIVE_CHILD_H

#include "native.h"

/* What native_entry.S saves on entry to the signal handler and loads before it returns. */
struct native_segments {
    uint64_t fs_base, gs_base;
    uint16_t ds, es, fs, gs;
};

struct native_memory {
    uint8_t *code; /* writable alias of the code page */
    uint8_t *data;
    uint8_t *sequence; /* writable alias of the pages at SEQ_BASE */
    uint8_t *shadow;   /* copy of the data pages as they were before the running case */
};

/* Maps the pages of the memfd at their fixed addresses and installs the handlers. */
int native_child_init(int fd, struct native_memory *memory);
void native_child_run(struct batch *batch);

/* For native_entry.S. */
void native_signal(int sig, void *info, void *context);

#endif
