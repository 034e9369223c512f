/* report.h - what the instruction test prints: differences, a summary, and the table of coverage.
 */
#ifndef DOBLE_TESTS_INSN_REPORT_H
#define DOBLE_TESTS_INSN_REPORT_H

#include "case.h"
#include "forms.h"

#include <stdio.h>

/* The head of a difference: bytes, text, and the registers before. */
void report_case(FILE *out, const struct form *form, const struct test_case *c,
                 const struct decoded *d, uint64_t number);
/* The registers before. */
void report_state(FILE *out, const struct test_case *c);
/* Forms with differences, then totals. Returns the number of such forms. */
unsigned report_summary(FILE *out, const struct form_list *list, uint64_t states, double seconds);
/* A Markdown table: for each mnemonic the forms in each mode, and how often they ran. */
void report_table(FILE *out, const struct form_list *list, uint64_t seed);

#endif
