/* workers.c - see workers.h. */
#include "block/workers.h"

#include "base/thread.h"

#include <sys/eventfd.h>

void workers_init(struct workers *w, int event_fd, int (*execute)(struct block_request *request))
{
    *w = (struct workers){.execute = execute, .event_fd = event_fd};
    w->queue_end = &w->queue;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
}

void workers_free(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->count; i++)
        pthread_join(w->threads[i], NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->work);
}

/* With the lock held. NULL: the threads shall end. */
static struct block_request *wait_for_work(struct workers *w)
{
    struct block_request *request;

    w->idle++;
    while (!w->queue && !w->stop)
        pthread_cond_wait(&w->work, &w->lock);
    w->idle--;
    request = w->queue;
    if (request) {
        w->queue = request->next;
        if (!w->queue)
            w->queue_end = &w->queue;
    }
    return request;
}

static void finish(struct workers *w, struct block_request *request)
{
    const bool first = !w->done;

    request->next = w->done;
    w->done = request;
    if (first) /* whoever takes one takes all */
        eventfd_write(w->event_fd, 1);
}

static void *work(void *opaque)
{
    struct workers *w = opaque;
    struct block_request *request;

    pthread_mutex_lock(&w->lock);
    while ((request = wait_for_work(w))) {
        int result;

        pthread_mutex_unlock(&w->lock);
        result = w->execute(request);
        pthread_mutex_lock(&w->lock);
        request->result = result;
        finish(w, request);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void start_thread(struct workers *w)
{
    if (w->count < WORKERS_MAX && thread_start(&w->threads[w->count], "disk worker", work, w) == 0)
        w->count++;
}

void workers_add(struct workers *w, struct block_request *request)
{
    pthread_mutex_lock(&w->lock);
    request->next = NULL;
    if (!w->idle || w->queue)
        start_thread(w);
    if (w->count) {
        *w->queue_end = request;
        w->queue_end = &request->next;
        pthread_cond_signal(&w->work);
    } else { /* not one thread: it has to be done here */
        request->result = w->execute(request);
        finish(w, request);
    }
    pthread_mutex_unlock(&w->lock);
}

struct block_request *workers_next(struct workers *w)
{
    struct block_request *request;

    pthread_mutex_lock(&w->lock);
    request = w->done;
    if (request)
        w->done = request->next;
    pthread_mutex_unlock(&w->lock);
    return request;
}
