/* thunk.h - native code that executes one copied instruction on the guest's register image.
 *
 * "To run x86 on x86, the same instruction simulates the instruction": a thunk loads the guest
 * registers and flags that the instruction uses, executes it, stores what it wrote, and jumps to
 * the next instruction's exec function. It is called as
 *
 *     thunk(struct cpu *cpu (RDI), const struct insn *in (RSI), void *mem (RDX))
 *
 * where mem is the host address of the memory operand, if there is one. RDI and RSI keep their
 * values throughout, so that a signal handler can tell where a native exception happened. Only
 * registers that the C calling convention lets a callee change are used: guest registers named by
 * ModRM, VEX or the opcode byte are renamed to R8-R11 (to RAX, RCX, RDX beside AH..DH); implicit
 * ones (RAX, RCX, RDX) keep their own. Code is shared between all instructions for which it would
 * be the same.
 *
 * While an engine runs, MXCSR is the guest's (C code does no floating point), and the upper halves
 * of the host's YMM registers hold rubbish.
 *
 * The cache is mapped twice, once writable and once executable (W^X). One per engine; vCPU thread.
 */
#ifndef DOBLE_ENGINE_INTERPRET_THUNK_H
#define DOBLE_ENGINE_INTERPRET_THUNK_H

#include "base/err.h"
#include "cpu/decode.h"

typedef void thunk_fn(struct cpu *cpu, const struct insn *in, void *mem);

struct thunk_cache;

struct thunk_cache *thunk_cache_new(struct err *err);
void thunk_cache_free(struct thunk_cache *cache);

/* The thunk for a decoded copy, into *thunk; NULL if its registers cannot be placed. False when the
 * cache is full: clear it, and all that refers to thunks, and ask again. */
bool thunk_get(struct thunk_cache *cache, const struct decoded *d, const void **thunk) MUST_USE;
void thunk_cache_clear(struct thunk_cache *cache);

/* Is this host address in the cache's code? Safe in signal handlers. */
bool thunk_contains(const struct thunk_cache *cache, uintptr_t rip);

#endif
