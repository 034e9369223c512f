/* case_memory.h - the memory operands of a case: where they are and what is there. */
#ifndef DOBLE_TESTS_INSN_CASE_MEMORY_H
#define DOBLE_TESTS_INSN_CASE_MEMORY_H

#include "cases.h"

/* Sets the part of a general register that the name says; the rest of it stays. */
void case_set_register(struct test_case *c, ZydisRegister reg, uint64_t value);

/* A linear address for an operand of `size` bytes. */
uint64_t case_pick_target(const struct test_case *c, unsigned size, struct rng *rng);

/* Gives each memory operand a target, sets registers so that it is reached, and fills it. */
void case_fill_memory(struct test_case *c, const struct decoded *d, struct rng *rng);

/* Does the instruction load a segment register or look at a descriptor? */
bool case_takes_selector(const struct decoded *d);
/* A selector that means the same natively and in the guest. */
uint16_t case_pick_selector(unsigned mode, struct rng *rng);

#endif
