#define _GNU_SOURCE
#include "engine/code_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint8_t *map(int fd, size_t size, int access)
{
    void *p = mmap(NULL, size, access, MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

int code_memory_init(struct code_memory *code, const char *name, size_t size, struct err *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    int ret = 0;

    *code = (struct code_memory){.size = size};
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        ret = err_set(err, -errno, "cannot make the code cache: %s", strerror(errno));
        goto out;
    }
    code->writable = map(fd, size, PROT_READ | PROT_WRITE);
    if (code->writable)
        code->executable = map(fd, size, PROT_READ | PROT_EXEC);
    if (!code->executable)
        ret = err_set(err, -errno, "the host refuses an executable mapping for the code cache: %s",
                      strerror(errno));
out:
    if (fd >= 0)
        close(fd);
    if (ret < 0)
        code_memory_free(code);
    return ret;
}

void code_memory_free(struct code_memory *code)
{
    if (code->writable)
        munmap(code->writable, code->size);
    if (code->executable)
        munmap(code->executable, code->size);
    *code = (struct code_memory){0};
}
