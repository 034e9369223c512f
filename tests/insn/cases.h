/* cases.h - random states for an encoding: registers, flags, memory, segments.
 *
 * Purely random registers would make nearly every memory operand fault. So for each memory operand
 * a target address is chosen first (mostly in the data pages, sometimes across a page, read-only,
 * unmapped, beyond a limit, not canonical), and a base or index register is set to reach it. */
#ifndef DOBLE_TESTS_INSN_CASES_H
#define DOBLE_TESTS_INSN_CASES_H

#include "case.h"
#include "decoder.h"
#include "random.h"

/* Once for each encoding, before the states: gives it a place in the code page, and repairs a
 * displacement that nothing else can make up for (RIP-relative, absolute). Then `d` is stale and
 * has to be decoded again. */
void case_place(struct test_case *c, const struct decoded *d, struct rng *rng);

/* Fills the state of `c`, whose mode, bytes, len and offset are there. */
/* Does it show TF, or what TF does? */
bool case_needs_trap(const struct decoded *d);
void case_randomize(struct test_case *c, const struct decoded *d, const struct cpu_model *model,
                    struct rng *rng);

#endif
