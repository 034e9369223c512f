/* choose.h - which engine is to execute a machine: the one that was asked for, or the quickest.
 *
 * `auto` measures: a tiny guest does what kernels do all the time (measure.h), once under KVM and
 * once translated. It never fails because of KVM: where that is absent, forbidden, broken or slow,
 * the machine is translated, and interpreted where even that isn't possible.
 *
 * Main thread, before there is a machine. */
#ifndef DOBLE_ENGINE_CHOOSE_H
#define DOBLE_ENGINE_CHOOSE_H

#include "engine/engine.h"

#define ENGINE_CPU_LENGTH 256

struct engine_wish {
    const char *name;  /* "auto", or an engine */
    bool must_count;   /* instructions have to be counted */
    const char *cpu;   /* as for cpu_model_new(); NULL: the default */
    bool cpu_is_fixed; /* a guest knows its CPU already: no feature may go */
};

struct engine_choice {
    const struct engine_ops *engine;
    const struct engine_ops *fallbacks[2]; /* what to try next; NULL: nothing */
    char why[512];                         /* a sentence without a final full stop */
    char cpu[ENGINE_CPU_LENGTH];           /* the CPU model, without what the engine cannot do */
};

/* An error: the engine that was asked for does not exist, or not with such a CPU. */
int engine_choose(struct engine_choice *choice, const struct engine_wish *wish,
                  struct err *err) MUST_USE;

/* The same for a machine that exists, of which everything is fixed. `model` is its CPU. */
int engine_choose_again(struct engine_choice *choice, const char *name, bool must_count,
                        const struct cpu_model *model, struct err *err) MUST_USE;

#endif
