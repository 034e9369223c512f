/* run.h - `doble run`: makes the machine that the options describe, runs it, and says how it ended.
 *
 * Main thread. */
#ifndef DOBLE_CLI_RUN_H
#define DOBLE_CLI_RUN_H

#include "cli/options.h"

enum exit_status {
    STATUS_POWERED_OFF = 0,
    STATUS_USAGE = 2,
    STATUS_HOST_ERROR = 3,
    STATUS_CRASHED = 4,
    STATUS_LIMIT = 5,
    STATUS_SIGNAL = 128 /* plus its number, as shells have it */
};

/* Checks the names that the user gave and that are known elsewhere: CPU models and features, and
 * trace events, which it switches on. -EINVAL: the command line makes no sense. */
int run_check_names(const struct options *options, struct err *err) MUST_USE;

/* Returns the exit status, or a negative errno with the sentence in *err. */
int run_machine(const struct options *options, struct err *err) MUST_USE;

#endif
