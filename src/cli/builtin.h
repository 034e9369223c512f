/* builtin.h - the built-in guest: the kernel and initrd that `make guest` prepares.
 *
 * Looked for in $DOBLE_GUEST, in guest/ beside the program (a build directory), in ../share/doble
 * from the program, and in share/doble of the prefix that it was built for. */
#ifndef DOBLE_CLI_BUILTIN_H
#define DOBLE_CLI_BUILTIN_H

#include "base/err.h"
#include "base/types.h"

struct builtin {
    char *kernel, *initrd;
};

/* Finds both files; -ENOENT: the sentence says how to get them. */
int builtin_find(struct builtin *guest, struct err *err) MUST_USE;
void builtin_free(struct builtin *guest);

/* Its kernel's command line. Without a terminal the guest shows that it works and powers off. */
const char *builtin_append(bool terminal, bool virtio);

#endif
