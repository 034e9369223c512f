#define _GNU_SOURCE
#include "engine/code_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* Linux 6.3 */
#endif

static uint8_t *map(int fd, size_t size, int access)
{
    void *p = mmap(NULL, size, access, MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* A file in memory that nobody else can open. Hosts can refuse a memfd that may be executed
 * (vm.memfd_noexec), or know no MFD_EXEC yet; a file without a name in /dev/shm is the other way.
 */
static int open_memory(const char *name, bool memfd)
{
    int fd;

    if (!memfd)
        return open("/dev/shm", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0700);
    fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
    return fd < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC) : fd;
}

static int map_twice(struct code_memory *code, int fd, size_t size, struct err *err)
{
    *code = (struct code_memory){.size = size};
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return err_set(err, -errno, "no memory for code can be made: %s", strerror(errno));
    code->writable = map(fd, size, PROT_READ | PROT_WRITE);
    if (!code->writable)
        return err_set(err, -errno, "%zu MiB for code cannot be mapped: %s", size >> 20,
                       strerror(errno));
    code->executable = map(fd, size, PROT_READ | PROT_EXEC);
    if (!code->executable)
        return err_set(err, -errno,
                       "the host refuses an executable mapping of %zu MiB for code: %s", size >> 20,
                       strerror(errno));
    return 0;
}

static int try_memory(struct code_memory *code, int fd, size_t size, struct err *err)
{
    int ret = map_twice(code, fd, size, err);

    if (ret < 0)
        code_memory_free(code);
    if (fd >= 0)
        close(fd);
    return ret;
}

int code_memory_init(struct code_memory *code, const char *name, size_t size, struct err *err)
{
    int ret = try_memory(code, open_memory(name, true), size, err);

    if (ret < 0 && try_memory(code, open_memory(name, false), size, NULL) == 0)
        ret = 0;
    return ret; /* if both failed, with the sentence about the first */
}

void code_memory_free(struct code_memory *code)
{
    if (code->writable)
        munmap(code->writable, code->size);
    if (code->executable)
        munmap(code->executable, code->size);
    *code = (struct code_memory){0};
}
