/* input_file.c - see input_file.h. */
#include "firmware/input_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int input_open(struct input_file *file, const char *what, const char *path, struct err *err)
{
    struct stat st;

    *file = (struct input_file){.what = what, .path = path};
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0)
        return err_set(err, -errno, "cannot open the %s '%s': %s", what, path, strerror(errno));
    if (fstat(file->fd, &st) < 0)
        return err_set(err, -errno, "cannot examine the %s '%s': %s", what, path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EINVAL, "the %s '%s' is %s; a regular file is needed", what, path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a file");
    if (st.st_size == 0)
        return err_set(err, -EINVAL, "the %s '%s' is empty", what, path);
    file->size = (uint64_t)st.st_size;
    return 0;
}

void input_close(struct input_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

int input_read(const struct input_file *file, uint64_t offset, void *buf, uint64_t len,
               struct err *err)
{
    for (uint64_t done = 0; done < len;) {
        ssize_t n = pread(file->fd, (uint8_t *)buf + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, -errno, "cannot read the %s '%s': %s", file->what, file->path,
                           strerror(errno));
        if (n == 0)
            return err_set(err, -EIO, "the %s '%s' became shorter while it was read", file->what,
                           file->path);
        done += (uint64_t)n;
    }
    return 0;
}

int input_load(struct memory *mem, const struct input_file *file, uint64_t offset, uint64_t len,
               gpa_t gpa, struct err *err)
{
    void *host = memory_ram(mem, gpa, len);
    int r;

    if (!host)
        return err_set(err, -ENOMEM, "the %s '%s' does not fit into guest memory at %#llx",
                       file->what, file->path, (unsigned long long)gpa);
    r = input_read(file, offset, host, len, err);
    memory_touched(mem, gpa, len);
    return r;
}
