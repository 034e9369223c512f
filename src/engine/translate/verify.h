/* verify.h - proof that a translation does nothing that it may not do.
 *
 * For tests: each block is decoded again when it has been emitted, and followed from its first byte
 * to its last. It passes if
 *
 * - every instruction is of a kind that the translator may emit: none that reads or changes the
 *   state of the system, and no system call;
 * - every access to memory is to a field of struct cpu that translated code may use, or within
 *   bytes that a check of the TLB or of the stack's window has shown to be the guest's, on every
 *   way that leads there, also by way of the interpreter;
 * - every jump leads to an instruction of the block, to one of the common stubs, or to where the
 *   jump cache says.
 *
 * The proof knows the byte sequences of the three checks (TLB, window, jump cache), which it takes
 * to be right, and follows addresses as sums of unknowns and a constant. Of the translator's
 * planning it shares the decoder and what is known of the stack's instructions (plan_is_push() and
 * its like), not the windows and groups that were found. vCPU thread only. */
#ifndef DOBLE_ENGINE_TRANSLATE_VERIFY_H
#define DOBLE_ENGINE_TRANSLATE_VERIFY_H

#include "engine/translate/translator.h"

/* One for a translator; NULL: out of memory. */
struct verifier *verifier_new(void);
void verifier_free(struct verifier *v);
/* Proves the code of a block from t->next up to `end` (writable addresses), which has just been
 * emitted. False: the proof fails; verifier_complaint() says where and why. */
bool verifier_accepts(struct verifier *v, struct cpu *cpu, const uint8_t *end);
const char *verifier_complaint(const struct verifier *v);

#endif
