/* thread.h - threads of the monitor's own. */
#ifndef DOBLE_BASE_THREAD_H
#define DOBLE_BASE_THREAD_H

#include <pthread.h>

/* Starts a thread that takes no signals: they are the main thread's, which reads them from a
 * descriptor. `name` has at most 15 characters. Returns 0 or an errno, as pthread_create(). */
int thread_start(pthread_t *thread, const char *name, void *(*run)(void *opaque), void *opaque);

#endif
