/* file.c - see file.h. The numbers of the lock bytes are those of QEMU's block/file-posix.c. */
#define _GNU_SOURCE
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a program does with a file, and so may forbid others: bits of its permissions. */
enum { CAN_READ = 0, CAN_WRITE = 1, CAN_RESIZE = 3 };

#define DOES_BASE 100
#define FORBIDS_BASE 200
#define PIECES 64

/* --- the lock --- */

static int set_lock(int fd, int byte)
{
    struct flock lock = {
        .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1, .l_pid = 0};

    return fcntl(fd, F_OFD_SETLK, &lock);
}

static bool is_locked(int fd, int byte)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1, .l_pid = 0};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Locks first and looks then: of two that do so at once at least one sees the other. */
int file_lock(const struct file *file, struct err *err)
{
    const bool writes = !file->read_only;
    const int fd = file->fd;

    if (set_lock(fd, DOES_BASE + CAN_READ) < 0)
        return 0; /* a file system without such locks */
    if (set_lock(fd, FORBIDS_BASE + CAN_WRITE) < 0 || set_lock(fd, FORBIDS_BASE + CAN_RESIZE) < 0 ||
        (writes &&
         (set_lock(fd, DOES_BASE + CAN_WRITE) < 0 || set_lock(fd, DOES_BASE + CAN_RESIZE) < 0)))
        return err_set(err, -errno, "%s: the lock cannot be taken: %s", file->path,
                       strerror(errno));
    if (is_locked(fd, DOES_BASE + CAN_WRITE) || is_locked(fd, DOES_BASE + CAN_RESIZE)) {
        /* Our own locks do not count: they belong to the same open file. */
        return err_set(err, -EBUSY,
                       "%s: is being written by another program or disk; one at a time",
                       file->path);
    }
    if (is_locked(fd, FORBIDS_BASE + CAN_READ) ||
        (writes &&
         (is_locked(fd, FORBIDS_BASE + CAN_WRITE) || is_locked(fd, FORBIDS_BASE + CAN_RESIZE))))
        return err_set(err, -EBUSY,
                       "%s: is in use by another program or disk, which lets nobody write to it",
                       file->path);
    return 0;
}

/* --- opening --- */

static int examine(struct file *file, struct err *err)
{
    struct stat st;

    if (fstat(file->fd, &st) < 0)
        return err_set(err, -errno, "%s: %s", file->path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(err, -EINVAL, "%s: is no file and no block device", file->path);
    file->is_device = S_ISBLK(st.st_mode);
    file->device = file->is_device ? st.st_rdev : st.st_dev;
    file->inode = file->is_device ? 0 : st.st_ino;
    return 0;
}

static int open_with(struct file *file, const char *path, int how, bool lock, struct err *err)
{
    int rc;

    *file =
        (struct file){.fd = -1, .path = strdup(path), .read_only = (how & O_ACCMODE) == O_RDONLY};
    if (!file->path)
        return err_set(err, -ENOMEM, "%s: not enough memory", path);
    /* O_NONBLOCK: a pipe must not make us wait for its other end. */
    file->fd = open(path, how | O_CLOEXEC | O_NONBLOCK, 0666);
    if (file->fd < 0)
        rc = err_set(err, -errno, "%s: cannot be opened%s: %s", path,
                     file->read_only ? "" : " for writing", strerror(errno));
    else
        rc = examine(file, err);
    if (rc == 0 && lock)
        rc = file_lock(file, err);
    if (rc < 0)
        file_close(file);
    return rc;
}

int file_open(struct file *file, const char *path, unsigned flags, struct err *err)
{
    return open_with(file, path, flags & FILE_WRITE ? O_RDWR : O_RDONLY, !(flags & FILE_SHARED),
                     err);
}

int file_create(struct file *file, const char *path, struct err *err)
{
    int rc = open_with(file, path, O_RDWR | O_CREAT, true, err);

    if (rc == 0 && !file->is_device && ftruncate(file->fd, 0) < 0) {
        rc = err_set(err, -errno, "%s: cannot be emptied: %s", path, strerror(errno));
        file_close(file);
    }
    return rc;
}

void file_close(struct file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    file->fd = -1;
    file->path = NULL;
}

bool file_is_same(const struct file *a, const struct file *b)
{
    return a->device == b->device && a->inode == b->inode && a->is_device == b->is_device;
}

int file_size(const struct file *file, uint64_t *size)
{
    off_t end = lseek(file->fd, 0, SEEK_END);

    if (end < 0)
        return -errno;
    *size = (uint64_t)end;
    return 0;
}

uint64_t file_allocated(const struct file *file)
{
    struct stat st;

    return fstat(file->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* --- reading and writing --- */

/* One call of the system: bytes moved, or a negative errno. */
static ssize_t transfer(const struct file *file, bool write, uint64_t offset,
                        const struct iov_walk *walk, uint64_t length)
{
    struct iov_walk ahead = *walk;
    struct iovec pieces[PIECES];
    uint64_t taken;
    int count = (int)iov_take(&ahead, length, pieces, PIECES, &taken);
    ssize_t moved;

    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return -EFBIG;
    do
        moved = write ? pwritev(file->fd, pieces, count, (off_t)offset)
                      : preadv(file->fd, pieces, count, (off_t)offset);
    while (moved < 0 && errno == EINTR);
    return moved < 0 ? -errno : moved;
}

int file_readv(const struct file *file, uint64_t offset, struct iov_walk *to, uint64_t length)
{
    while (length) {
        ssize_t moved = transfer(file, false, offset, to, length);

        if (moved < 0)
            return (int)moved;
        if (moved == 0) { /* the end of the file */
            iov_zero(to, length);
            return 0;
        }
        iov_skip(to, (uint64_t)moved);
        offset += (uint64_t)moved;
        length -= (uint64_t)moved;
    }
    return 0;
}

int file_writev(const struct file *file, uint64_t offset, struct iov_walk *from, uint64_t length)
{
    while (length) {
        ssize_t moved = transfer(file, true, offset, from, length);

        if (moved <= 0)
            return moved < 0 ? (int)moved : -ENOSPC;
        iov_skip(from, (uint64_t)moved);
        offset += (uint64_t)moved;
        length -= (uint64_t)moved;
    }
    return 0;
}

int file_read(const struct file *file, uint64_t offset, void *to, uint64_t length)
{
    const struct iovec iov = {to, length};
    struct iov_walk walk = iov_walk(&iov, 1);

    return file_readv(file, offset, &walk, length);
}

int file_write(const struct file *file, uint64_t offset, const void *from, uint64_t length)
{
    const struct iovec iov = {(void *)(uintptr_t)from, length};
    struct iov_walk walk = iov_walk(&iov, 1);

    return file_writev(file, offset, &walk, length);
}

int file_sync(const struct file *file)
{
    return fdatasync(file->fd) < 0 ? -errno : 0;
}

/* --- room --- */

static int allocate(const struct file *file, int mode, uint64_t offset, uint64_t length)
{
    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return -EFBIG;
    if (!length)
        return 0;
    while (fallocate(file->fd, mode, (off_t)offset, (off_t)length) < 0)
        if (errno != EINTR)
            return errno == ENODEV || errno == ENOSYS || errno == EINVAL ? -EOPNOTSUPP : -errno;
    return 0;
}

int file_punch(const struct file *file, uint64_t offset, uint64_t length)
{
    return allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int file_zero(const struct file *file, uint64_t offset, uint64_t length)
{
    return allocate(file, FALLOC_FL_ZERO_RANGE, offset, length);
}

int file_write_zeros(const struct file *file, uint64_t offset, uint64_t length)
{
    static const uint8_t zeros[65536];
    int rc = length >= sizeof zeros ? file_zero(file, offset, length) : -EOPNOTSUPP;

    if (rc != -EOPNOTSUPP)
        return rc;
    for (rc = 0; rc == 0 && length;) {
        uint64_t now = length < sizeof zeros ? length : sizeof zeros;

        rc = file_write(file, offset, zeros, now);
        offset += now;
        length -= now;
    }
    return rc;
}

int file_truncate(const struct file *file, uint64_t size)
{
    return ftruncate(file->fd, (off_t)size) < 0 ? -errno : 0;
}

void file_map(const struct file *file, uint64_t offset, uint64_t length, bool *hole, uint64_t *same)
{
    off_t at = (off_t)offset, data = lseek(file->fd, at, SEEK_DATA), end;

    *hole = data < 0 ? errno == ENXIO : data > at;
    if (data < 0)
        *same = length; /* no data up to the end, or a file system that cannot tell */
    else if (data > at)
        *same = (uint64_t)(data - at);
    else
        *same = (end = lseek(file->fd, at, SEEK_HOLE)) > at ? (uint64_t)(end - at) : length;
    if (*same > length)
        *same = length;
}
