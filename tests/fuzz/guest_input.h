/* guest_input.h - a guest from a fuzzer's bytes:
 *
 *   mode  cpl  CR0:2  CR4:2  RFLAGS:2  seed:8  entry  schedule  pokes  (address:2 value:8)...  code
 *
 * Pokes are written into descriptor tables, TSS and page tables before the start. `entry` says
 * where in a page the code begins. */
#ifndef DOBLE_TESTS_FUZZ_GUEST_INPUT_H
#define DOBLE_TESTS_FUZZ_GUEST_INPUT_H

#include "guest.h"
#include "input.h"
#include "machine/pc.h"

/* Puts a board that has been reset into that state; returns `schedule`. */
unsigned guest_from_input(struct pc *pc, struct input *in);

/* Something from outside, by three bits of the schedule: nothing, NMI, SMI, or an interrupt. */
void guest_event(struct pc *pc, unsigned which);

#endif
