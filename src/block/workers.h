/* workers.h - threads that do what has to wait: a few for each disk, made when they are needed.
 *
 * A request is executed on one of them, stored with its result in a list, and announced by the
 * event descriptor. All functions are for any thread, but making and freeing. */
#ifndef DOBLE_BLOCK_WORKERS_H
#define DOBLE_BLOCK_WORKERS_H

#include "block/block.h"

#include <pthread.h>

#define WORKERS_MAX 4

struct workers {
    int (*execute)(struct block_request *request); /* 0 or a negative errno */
    int event_fd;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct block_request *queue, **queue_end; /* to be executed, in order */
    struct block_request *done;               /* the last first */
    unsigned count, idle;                     /* threads */
    pthread_t threads[WORKERS_MAX];
    bool stop;
};

void workers_init(struct workers *workers, int event_fd,
                  int (*execute)(struct block_request *request));
/* Waits for all that was begun. */
void workers_free(struct workers *workers);

void workers_add(struct workers *workers, struct block_request *request);
/* Takes a request that has been executed; NULL: there is none. */
struct block_request *workers_next(struct workers *workers);

#endif
