/* engine.h - what every way of executing a vCPU offers: one table of operations.
 *
 * Nothing under dev/, bus/ or machine/ knows which engine runs. run(), step() and the others are
 * for the vCPU thread; a running engine is stopped from any thread with cpu_signal(cpu, ATTN_STOP).
 */
#ifndef DOBLE_ENGINE_ENGINE_H
#define DOBLE_ENGINE_ENGINE_H

#include "base/err.h"
#include "cpu/cpu.h"
#include "cpu/model.h"

#include <stdio.h>

enum cpu_exit {
    EXIT_STOPPED,  /* ATTN_STOP was set (run() clears it) */
    EXIT_HALTED,   /* cpu->activity is CPU_HALTED or CPU_WAIT_SIPI and nothing is pending: wait */
    EXIT_SHUTDOWN, /* triple fault: cpu->activity is CPU_SHUTDOWN */
    EXIT_DEADLINE, /* virtual time: cpu->icount reached cpu->icount_limit: run the timers */
    EXIT_STEPPED,  /* step() is done */
    EXIT_DEBUG,    /* the debugger's: cpu->debug->reason says why; until cpu_debug_resume() */
    EXIT_FAILED,   /* the host doesn't let the engine go on: failure() has the sentence */
};

/* What an engine is told besides its CPU; cpu->engine_config, NULL: defaults. */
struct engine_config {
    uint64_t code_cache; /* bytes for translations and all that belongs to them; 0: the default */
    FILE *dump_blocks;   /* takes a listing of each translation; NULL: none */
    FILE *perf_map;      /* names translations for perf; readable, too; NULL: none */
    bool verify;         /* tests: prove each translation (translate/verify.h), or abort */
};

#define CODE_CACHE_DEFAULT (128 * MIB)
#define CODE_CACHE_MIN (4 * MIB)
#define CODE_CACHE_MAX GIB

struct engine_ops {
    const char *name;
    /* Allocates cpu->engine. */
    int (*init)(struct cpu *cpu, struct err *err);
    void (*free)(struct cpu *cpu);
    /* Executes until there is a reason to leave. The CPU state is complete when it returns. */
    enum cpu_exit (*run)(struct cpu *cpu);
    /* Executes one instruction, or takes one event; for debuggers and tests. */
    enum cpu_exit (*step)(struct cpu *cpu);
    /* All code and translations that the engine caches are void (state was loaded, memory map
     * changed). */
    void (*flush)(struct cpu *cpu);

    bool cannot_count; /* the instructions that it executes */

    /* The rest may be NULL. */

    /* After cpu_signal(): brings run() to look at cpu->attention, if it doesn't do so by itself.
     * Any thread. */
    void (*kick)(struct cpu *cpu);
    /* After EXIT_FAILED. */
    void (*failure)(struct cpu *cpu, struct err *err);
    /* Which features a CPU model may have; NULL: all. An error: the engine doesn't work here. */
    int (*features)(bool has[FEAT_COUNT], struct err *err);
    /* Lines of its own for --stats. */
    void (*print_stats)(const struct cpu *cpu, FILE *out);
};

extern const struct engine_ops engine_interpret, engine_translate, engine_kvm;

/* The engine of that name, or NULL. */
const struct engine_ops *engine_find(const char *name);

#endif
