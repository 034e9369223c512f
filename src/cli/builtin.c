/* builtin.c - finds the files of the built-in guest. */
#define _GNU_SOURCE
#include "cli/builtin.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* True if both files are in `folder`, which is then in the guest's paths. */
static bool try_folder(struct builtin *guest, const char *folder)
{
    if (asprintf(&guest->kernel, "%s/vmlinuz", folder) < 0)
        guest->kernel = NULL;
    if (asprintf(&guest->initrd, "%s/initrd.img", folder) < 0)
        guest->initrd = NULL;
    if (guest->kernel && guest->initrd && access(guest->kernel, R_OK) == 0 &&
        access(guest->initrd, R_OK) == 0)
        return true;
    builtin_free(guest);
    return false;
}

static bool try_beside_program(struct builtin *guest, const char *relative)
{
    char program[PATH_MAX], folder[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash;

    if (n <= 0)
        return false;
    program[n] = '\0';
    slash = strrchr(program, '/');
    if (!slash)
        return false;
    *slash = '\0';
    snprintf(folder, sizeof folder, "%s/%s", program, relative);
    return try_folder(guest, folder);
}

int builtin_find(struct builtin *guest, struct err *err)
{
    const char *chosen = getenv("DOBLE_GUEST");

    memset(guest, 0, sizeof *guest);
    if (chosen && *chosen) {
        if (try_folder(guest, chosen))
            return 0;
        return err_set(err, -ENOENT,
                       "DOBLE_GUEST is '%s', but there is no vmlinuz and initrd.img to read",
                       chosen);
    }
    if (try_beside_program(guest, "guest") || try_beside_program(guest, "../share/doble") ||
        try_folder(guest, DOBLE_PREFIX "/share/doble"))
        return 0;
    return err_set(err, -ENOENT,
                   "the built-in guest is not there; 'make guest' prepares it, or give a kernel "
                   "with --kernel");
}

void builtin_free(struct builtin *guest)
{
    free(guest->kernel);
    free(guest->initrd);
    guest->kernel = guest->initrd = NULL;
}

const char *builtin_append(bool terminal, bool virtio)
{
    if (virtio)
        return terminal ? "console=hvc0 quiet" : "console=hvc0 quiet doble.batch";
    return terminal ? "console=ttyS0 quiet" : "console=ttyS0 quiet doble.batch";
}
