/* file.h - a file or block device of the host that holds an image.
 *
 * Whole reads and writes by position, room given back, and the lock against a second writer. The
 * lock is QEMU's: record locks that belong to the open file (OFD), on bytes whose numbers say what
 * the holder does (100 + n) and what it lets nobody else do (200 + n). So qemu-img and Doble see
 * each other. Where a file system has no such locks, there is none.
 *
 * Results are 0 or a negative errno. Reads and writes are for any thread. */
#ifndef DOBLE_BLOCK_FILE_H
#define DOBLE_BLOCK_FILE_H

#include "base/err.h"
#include "block/iov.h"

struct file {
    int fd;
    char *path;
    bool read_only;
    bool is_device;
    uint64_t device, inode; /* which file it is, whatever its name */
};

enum file_flag {
    FILE_WRITE = 1,
    FILE_SHARED = 2, /* takes no lock */
};

/* Also after an error file_close() may be called. */
int file_open(struct file *file, const char *path, unsigned flags, struct err *err) MUST_USE;
/* Makes a file that holds nothing, or empties one that nobody uses. Open for writing. */
int file_create(struct file *file, const char *path, struct err *err) MUST_USE;
/* Takes the lock of a file that was opened with FILE_SHARED. */
int file_lock(const struct file *file, struct err *err) MUST_USE;
void file_close(struct file *file);

/* The same file, whatever its names are. */
bool file_is_same(const struct file *a, const struct file *b);

/* Bytes of the file now; 0 or a negative errno. */
int file_size(const struct file *file, uint64_t *size) MUST_USE;
/* Bytes that the host keeps for it. */
uint64_t file_allocated(const struct file *file);

/* What is beyond the end reads as zeros. */
int file_read(const struct file *file, uint64_t offset, void *to, uint64_t length) MUST_USE;
int file_write(const struct file *file, uint64_t offset, const void *from,
               uint64_t length) MUST_USE;
int file_readv(const struct file *file, uint64_t offset, struct iov_walk *to,
               uint64_t length) MUST_USE;
int file_writev(const struct file *file, uint64_t offset, struct iov_walk *from,
                uint64_t length) MUST_USE;

/* Everything that was written is on the disk. */
int file_sync(const struct file *file) MUST_USE;

/* Makes the bytes zero, and gives their room back (file_punch) or keeps it; -EOPNOTSUPP where the
 * file system cannot. */
int file_punch(const struct file *file, uint64_t offset, uint64_t length) MUST_USE;
int file_zero(const struct file *file, uint64_t offset, uint64_t length) MUST_USE;
/* The same in any case, by writing if it must be. */
int file_write_zeros(const struct file *file, uint64_t offset, uint64_t length) MUST_USE;
int file_truncate(const struct file *file, uint64_t size) MUST_USE;

/* Is there data at `offset` or a hole, and how far does that go (at most `length`)? */
void file_map(const struct file *file, uint64_t offset, uint64_t length, bool *hole,
              uint64_t *same);

#endif
