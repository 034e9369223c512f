/* encode.h - turns a variant of a form (forms.h) into bytes. */
#ifndef DOBLE_TESTS_INSN_ENCODE_H
#define DOBLE_TESTS_INSN_ENCODE_H

#include "forms.h"

#define MAX_INSN_BYTES 15

/* The plainest encoding with these fields of ModRM; what follows (immediates) is zero. VEX.vvvv is
 * 1111b. */
void encode_plain(const struct variant *v, unsigned mode, unsigned reg, unsigned rm,
                  uint8_t bytes[16]);

#endif
