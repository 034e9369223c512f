/* console.h - the far end of a serial cable: standard input and output, a file, a socket, nothing.
 *
 * Output: the vCPU writes into a ring, and a thread of its own writes the ring to the descriptor
 * and may block there for as long as the reader likes. No byte is lost: when the ring fills, `flow`
 * asks the vCPU to wait. Without a peer (a socket that nobody has connected to) bytes fall on the
 * floor, as with an unplugged cable. Input: the main thread polls, reads and filters; the machine
 * takes bytes when its port has room.
 *
 * Threads: console_write() from any thread; `notify` and `flow` are called from any thread, with
 * the console's lock held; all other functions are for the main thread. */
#ifndef DOBLE_VM_CONSOLE_H
#define DOBLE_VM_CONSOLE_H

#include "base/err.h"
#include "base/types.h"

#include <poll.h>
#include <pthread.h>

/* The keys that the monitor keeps for itself; sets *quit when the user wants to leave. */
typedef size_t console_filter_fn(void *opaque, uint8_t *bytes, size_t count, bool *quit);

struct console {
    /* how it is connected */
    int in, out, listener;     /* -1: none */
    bool owned;                /* in and out are ours to close */
    bool keys;                 /* input is typed: read it even if the guest takes none */
    console_filter_fn *filter; /* may be NULL */
    void *filter_opaque;
    void (*notify)(void *opaque);          /* something for the main loop to look at; may be NULL */
    void (*flow)(void *opaque, bool full); /* the guest should wait, or go on; may be NULL */
    void *opaque;
    char *path; /* of the socket, to remove at the end */

    /* input: read, but not yet taken by the guest (main thread) */
    uint8_t input[4096];
    size_t input_at, input_count;
    bool quit;

    /* output; under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint8_t *ring;
    size_t head, used;
    bool running, writing, full, stop;
    bool draining; /* the main thread waits for the ring to be empty */
    int error;     /* errno of the write that failed for good; 0: none */
    pthread_t writer;
};

/* Where the cable ends. The descriptors 0 and 1 are borrowed; the terminal is not our business.
 * `keys` says that input comes from a keyboard. */
void console_init_none(struct console *c);
int console_init_stdio(struct console *c, bool keys, struct err *err);
int console_init_file(struct console *c, const char *path, struct err *err);
int console_init_unix(struct console *c, const char *path, struct err *err);
/* Starts the thread that writes; the caller has blocked the signals that it handles itself. */
int console_start(struct console *c, struct err *err);
/* What is still in the ring is lost: see console_drained(). */
void console_free(struct console *c);

/* Sends bytes of the guest. */
void console_write(struct console *c, const uint8_t *bytes, size_t count);
/* Everything sent has reached the descriptor (or never will). */
bool console_drained(struct console *c);
/* errno of the output if it failed for good, or 0. */
int console_error(struct console *c);

/* What to wait for (fd -1: nothing), and what to do when poll() has said something about it. */
struct pollfd console_poll(const struct console *c);
void console_handle(struct console *c, short revents);

/* Input that waits for the guest, and taking `count` bytes of it. */
size_t console_input(const struct console *c, const uint8_t **bytes);
void console_consume(struct console *c, size_t count);

#endif
