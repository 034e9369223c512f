/* signals.h - signals as things to read: what the user and the system want from the process.
 *
 * They are blocked in every thread and read from a descriptor by the main loop, so that no code has
 * to be safe for signal handlers. */
#ifndef DOBLE_VM_SIGNALS_H
#define DOBLE_VM_SIGNALS_H

#include "base/err.h"

enum signal_request {
    SIGNAL_NONE,      /* nothing more to read */
    SIGNAL_TERMINATE, /* SIGTERM */
    SIGNAL_END,       /* SIGINT, SIGHUP, SIGQUIT */
    SIGNAL_SAVE,      /* SIGUSR1 */
    SIGNAL_STOP,      /* SIGTSTP */
    SIGNAL_CONTINUED, /* SIGCONT */
    SIGNAL_RESIZED,   /* the window of the terminal has another size */
};

/* Blocks the signals, and gives a descriptor to poll for them. Before any thread is started. */
int signals_open(struct err *err) MUST_USE;

/* The next one, and its number. */
enum signal_request signals_read(int fd, unsigned *number);

/* Stops the process, as SIGTSTP would have; returns when it is continued. */
void signals_stop_process(void);

/* "SIGTERM" for 15. */
const char *signals_name(unsigned number);

#endif
