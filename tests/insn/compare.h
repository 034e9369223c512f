/* compare.h - do the processor and the engine agree on a case?
 *
 * Everything is compared, undefined flags too: both run on the same processor. What can't agree is
 * in a table, with the reason; the length of the instruction and its faults are compared even then.
 */
#ifndef DOBLE_TESTS_INSN_COMPARE_H
#define DOBLE_TESTS_INSN_COMPARE_H

#include "case.h"
#include "decoder.h"

#include <stdio.h>

/* `expected` are the data pages after the native run, `actual` the guest's. `d` may be NULL for
 * bytes that are no instruction. Differences are written to `out`, one a line, and counted. */
unsigned compare_results(const struct test_case *c, const struct decoded *d,
                         const struct result *native, const struct result *engine,
                         const uint8_t *expected, const uint8_t *actual, FILE *out);

/* Is all that the instruction leaves behind compared (but which of two faults comes)? */
bool compare_exactly(const struct decoded *d);

/* Writes the table of what is excluded, and why. */
void compare_write_exclusions(FILE *out);

#endif
