/* sequence_run.h - runs random sequences, and makes those that differ as small as it can. */
#ifndef DOBLE_TESTS_INSN_SEQUENCE_RUN_H
#define DOBLE_TESTS_INSN_SEQUENCE_RUN_H

#include "run.h"

/* As many as the options say, from `number` of the options on. */
void run_sequences(struct run *run);

#endif
