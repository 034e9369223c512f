#define _GNU_SOURCE
#include "engine/code_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* Linux 6.3 */
#endif

static void *mapped(void *p)
{
    return p == MAP_FAILED ? NULL : p;
}

static int out_of_memory(size_t size, struct err *err)
{
    return err_set(err, -errno, "%zu MiB for code cannot be mapped: %s", size >> 20,
                   strerror(errno));
}

static int no_execution(size_t size, struct err *err)
{
    return err_set(err, -errno, "the host refuses an executable mapping of %zu MiB for code: %s",
                   size >> 20, strerror(errno));
}

static int map_file(struct code_memory *code, int fd, struct err *err)
{
    if (fd < 0 || ftruncate(fd, (off_t)code->size) < 0)
        return err_set(err, -errno, "no memory for code can be made: %s", strerror(errno));
    code->writable = mapped(mmap(NULL, code->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    if (!code->writable)
        return out_of_memory(code->size, err);
    code->executable = mapped(mmap(NULL, code->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
    return code->executable ? 0 : no_execution(code->size, err);
}

static int make_memfd(struct code_memory *code, const char *name, struct err *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC), ret;

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC);
    ret = map_file(code, fd, err);
    if (fd >= 0)
        close(fd);
    return ret;
}

/* Shared memory without a file; mremap() of no bytes makes another mapping of the same pages. */
static int make_anonymous(struct code_memory *code, struct err *err)
{
    code->writable = mapped(mmap(NULL, code->size, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (!code->writable)
        return out_of_memory(code->size, err);
    code->executable = mapped(mremap(code->writable, 0, code->size, MREMAP_MAYMOVE));
    if (!code->executable)
        return out_of_memory(code->size, err);
    if (mprotect(code->executable, code->size, PROT_READ | PROT_EXEC) < 0)
        return no_execution(code->size, err);
    return 0;
}

int code_memory_init(struct code_memory *code, const char *name, size_t size, struct err *err)
{
    int ret = 0;

    *code = (struct code_memory){.size = size};
    if (name)
        ret = make_memfd(code, name, err);
    if (name && ret == 0)
        return 0;
    code_memory_free(code);
    code->size = size;
    if (make_anonymous(code, name ? NULL : err) == 0)
        return 0;
    if (!name)
        ret = err->code;
    code_memory_free(code);
    return ret; /* if both ways failed, with the sentence about the first */
}

void code_memory_free(struct code_memory *code)
{
    if (code->writable)
        munmap(code->writable, code->size);
    if (code->executable)
        munmap(code->executable, code->size);
    *code = (struct code_memory){0};
}
