/* image.h - an image: a virtual disk's bytes, kept in a file in some format, over a backing image.
 *
 * Everything here waits for the host; block.c calls it on threads of its own, and the image tool
 * directly. An image is for any number of threads at once, but opening and closing it for one.
 *
 *   image_read()   asks the format where the bytes are (map), and fetches them itself: from the
 * file, from the backing image, as zeros, or from the format if they are packed image_write()  is
 * the format's; so are zeroing, discarding, flushing and resizing
 *
 * A writable format that moves clusters about must know which parts of its file are being read or
 * written outside its lock, so that it does not give them away: map() begins such an access and
 * image_io_end() ends it. image_io_wait() waits until there is none.
 *
 * Results are 0 or a negative errno; opening also gives a sentence. */
#ifndef DOBLE_BLOCK_IMAGE_H
#define DOBLE_BLOCK_IMAGE_H

#include "block/block.h"
#include "block/file.h"

#include <pthread.h>

#define IMAGE_MAX_SIZE (UINT64_C(1) << 62)

enum extent_kind {
    EXTENT_DATA,    /* in the file, at `host` */
    EXTENT_ZERO,    /* reads as zeros */
    EXTENT_BACKING, /* whatever the backing image has; zeros without one */
    EXTENT_PACKED,  /* compressed; `host` is the format's */
};

/* Bytes that follow each other and are of one kind. */
struct extent {
    enum extent_kind kind;
    uint64_t length;
    uint64_t host;
    bool allocated; /* the file has room for it, also if it reads as zeros */
};

enum map_flag {
    MAP_WRITE = 1, /* EXTENT_DATA only if it may be overwritten where it is */
    MAP_TRY = 2,   /* -EAGAIN rather than wait */
    MAP_HOLES = 4, /* tell holes of the file from data, where that takes a system call */
};

enum image_flag {
    IMAGE_WRITE = 1,
    IMAGE_ALONE = 2,  /* without its backing images: those parts read as zeros */
    IMAGE_SHARED = 4, /* takes no lock */
    IMAGE_REPAIR = 8, /* to check it: one that is marked corrupt, too, and nothing is done to it */
};

struct image;

struct image_format {
    const char *name;
    int (*open)(struct image *image, unsigned flags, struct err *err);
    void (*close)(struct image *image);
    /* What is at `offset`, for at most `length` bytes, which are inside the image. */
    int (*map)(struct image *image, uint64_t offset, uint64_t length, unsigned flags,
               struct extent *extent);
    /* extent->length bytes of an EXTENT_PACKED that map() found at `offset`; NULL: there is none */
    int (*read_packed)(struct image *image, uint64_t offset, const struct extent *extent,
                       struct iov_walk *to);
    int (*write)(struct image *image, uint64_t offset, uint64_t length, struct iov_walk *from);
    int (*write_zeroes)(struct image *image, uint64_t offset, uint64_t length, bool may_unmap);
    int (*discard)(struct image *image, uint64_t offset, uint64_t length);
    int (*flush)(struct image *image);
    int (*resize)(struct image *image, uint64_t size, struct err *err);
};

struct image {
    const struct image_format *format;
    void *state; /* the format's */
    struct file file;
    uint64_t size; /* bytes, a multiple of BLOCK_SECTOR */
    bool read_only;
    bool guessed;     /* nobody said which format it has */
    uint32_t cluster; /* bytes that are allocated at a time; 0: any */
    bool gives_back;  /* discarded room is free for others */

    struct image *backing; /* NULL: none */
    struct image *overlay; /* of which this is the backing image; while it is being opened */
    char *backing_name;    /* as the file has it; NULL: none */
    enum block_format backing_format;
    bool backing_format_known; /* the file says it */

    pthread_mutex_t io_lock;
    pthread_cond_t io_idle;
    unsigned io_count; /* accesses to the file outside the format's lock */
};

struct image_config {
    const char *path;
    enum block_format format;
    unsigned flags; /* enum image_flag */
};

int image_open(struct image **image, const struct image_config *config, struct err *err) MUST_USE;
/* The same for an image that is to become the backing image of `overlay`, which must not be in it.
 */
int image_open_for(struct image **image, struct image *overlay, const struct image_config *config,
                   struct err *err) MUST_USE;
/* What was not flushed may be lost. NULL is allowed. */
void image_close(struct image *image);

int image_read(struct image *image, uint64_t offset, uint64_t length, struct iov_walk *to) MUST_USE;
int image_write(struct image *image, uint64_t offset, uint64_t length,
                struct iov_walk *from) MUST_USE;
int image_write_zeroes(struct image *image, uint64_t offset, uint64_t length,
                       bool may_unmap) MUST_USE;
int image_discard(struct image *image, uint64_t offset, uint64_t length) MUST_USE;
int image_flush(struct image *image) MUST_USE;
int image_resize(struct image *image, uint64_t size, struct err *err) MUST_USE;

/* The same with one buffer. */
int image_read_bytes(struct image *image, uint64_t offset, void *to, uint64_t length) MUST_USE;
int image_write_bytes(struct image *image, uint64_t offset, const void *from,
                      uint64_t length) MUST_USE;

/* What the guest sees at `offset`, through the whole chain down to (not including) `below`: data,
 * or zeros; EXTENT_BACKING: it is `below` that has it. */
int image_status(struct image *image, const struct image *below, uint64_t offset, uint64_t length,
                 struct extent *extent) MUST_USE;

/* One piece of a file that holds all these bytes, if that can be said without waiting; the access
 * has begun then, and image_io_end(*owner) ends it. */
bool image_find(struct image *image, bool write, uint64_t offset, uint64_t length,
                struct image **owner, uint64_t *host);

void image_io_begin(struct image *image);
void image_io_end(struct image *image);
void image_io_wait(struct image *image);

/* The format that the first sector of a file speaks of; BLOCK_GUESS: one that is not supported,
 * whose name is stored. */
enum block_format image_guess(const uint8_t sector[BLOCK_SECTOR], const char **name);

/* Where a backing image is: relative to its overlay's folder. malloc'ed; NULL: no memory. */
char *image_backing_path(const char *overlay, const char *name);
/* Can that be the name of a file? Others (nbd://..., json:...) are not supported. */
bool image_name_is_file(const char *name);

/* NULL: "raw" and "qcow2" are the names. BLOCK_GUESS has none. */
const struct image_format *image_format_of(enum block_format format);
bool image_format_parse(const char *name, enum block_format *format);

#endif
