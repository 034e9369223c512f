/* engine_runner.h - runs test cases in a guest of the engine under test.
 *
 * The guest is a 64-bit kernel without code: page tables that map the addresses of case.h, GDT,
 * LDT, IDT, TSS and a kernel stack. A case runs at CPL 3; its exception is delivered through the
 * guest's IDT, so that vector, error code, RIP, flags and stack are read from the frame on the
 * kernel stack as a kernel would. Without TF and without an exception the state is read when the
 * step is done. */
#ifndef DOBLE_TESTS_INSN_ENGINE_RUNNER_H
#define DOBLE_TESTS_INSN_ENGINE_RUNNER_H

#include "case.h"

#include "base/err.h"
#include "cpu/cpuid.h"
#include "engine/engine.h"

struct engine_runner;

int engine_runner_new(const struct cpu_model *model, const struct engine_ops *ops,
                      struct engine_runner **runner, struct err *err);
void engine_runner_free(struct engine_runner *runner);

/* Empties the engine's caches. */
void engine_runner_flush(struct engine_runner *runner);

/* For a timer's signal handler: stops a run() that goes on since the last call. */
void engine_runner_tick(struct engine_runner *runner);

/* The guest's data pages. */
uint8_t *engine_runner_data(struct engine_runner *runner);

/* The guest's pages at SEQ_BASE. */
const uint8_t *engine_runner_sequence(struct engine_runner *runner);

/* Runs a case; fills everything of the result but the changed lines. */
void engine_runner_run(struct engine_runner *runner, const struct test_case *c,
                       struct result *result);

#endif
