/* run.h - the test itself: makes cases, has both runners run them, compares.
 *
 * While the engine runs one batch, the native child runs the next. */
#ifndef DOBLE_TESTS_INSN_RUN_H
#define DOBLE_TESTS_INSN_RUN_H

#include "engine_runner.h"
#include "forms.h"
#include "native.h"

#include <regex.h>

#define MAX_FAILED 8

struct options {
    uint64_t states; /* of each form */
    uint64_t random_bytes;
    uint64_t sequences;
    const char *engine; /* name */
    uint64_t seed;
    unsigned mode;   /* 64, 32, 16; 0: all */
    unsigned show;   /* differences printed of each form */
    regex_t *filter; /* of form names; NULL: all */
};

struct run {
    struct options options;
    const struct cpu_model *model;
    struct form_list forms;
    ZydisDecoder decoders[3]; /* 64, 32, 16 */
    struct native *native;
    struct engine_runner *engine;
    uint8_t *expected; /* the data pages after the native run */
    uint64_t states;
    uint64_t endless; /* cases that a timer stopped */
    bool differs;
    bool whole; /* the engine's run() executes the forms, not its step() */
    /* sequences that differ, to be made smaller */
    uint64_t failed[MAX_FAILED];
    unsigned failed_count;
    /* the batches: which one is being filled, and is another one on its way natively? */
    unsigned filling;
    bool running;
};

/* Adds a case to the batch, and waits for a former one when that is full. */
void run_add_case(struct run *run, const struct test_case *c);
/* Waits for all. */
void run_finish(struct run *run);
/* Has the engine run a case, and compares; differences are written to `out`. */
void run_compare_sequence(struct run *run, const struct test_case *c, const struct result *native,
                          FILE *out);

/* All forms that the options select. False: the native runner could not be restarted. */
void run_forms(struct run *run);
/* Random byte strings, in each mode: lengths and #UD. */
void run_random_bytes(struct run *run);

#endif
