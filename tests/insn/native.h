/* native.h - runs test cases on the real processor.
 *
 * A child process does it, so that neither its signal handlers nor a store that went astray touch
 * the engine under test. The child maps the code and data pages at their fixed addresses, and runs
 * each case with TF set: the state is loaded by the return from a signal handler, and saved by the
 * kernel when the trap (or the fault) of the instruction raises the next signal. So a case costs
 * one signal, and a batch is run without leaving the handler.
 *
 * The caller fills a batch, starts it, and does other work until native_wait(). */
#ifndef DOBLE_TESTS_INSN_NATIVE_H
#define DOBLE_TESTS_INSN_NATIVE_H

#include "case.h"

#include "base/err.h"

#define BATCH_CASES 256
#define BATCH_COUNT 2 /* one is run natively while the engine runs the other */

struct batch {
    uint32_t count;
    uint32_t current; /* the case that the child works on */
    struct test_case cases[BATCH_CASES];
    struct result results[BATCH_CASES];
};

struct native;

/* Starts the child. -ENOTSUP and a sentence where the host can't do it. */
int native_new(struct native **native, struct err *err);
void native_free(struct native *native);

struct batch *native_batch(struct native *native, unsigned index);
/* The child's data pages as they are while no batch runs. */
uint8_t *native_data(struct native *native);

void native_start(struct native *native, unsigned index);
/* False: the child died or hung in case `current` of its batch; a new one was started, and results
 * from `current` on are missing. */
bool native_wait(struct native *native);

#endif
