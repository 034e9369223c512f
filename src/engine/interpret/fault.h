/* fault.h - native exceptions in thunks become the guest's.
 *
 * A real #DE, #MF, #XM or #GP in a thunk wakes the monitor as a signal; the handler records it as
 * the guest's exception and lets the thread go on in exec_native_fault(). A signal anywhere else is
 * a bug or the host's business, and goes to the handler that was there before (cli/terminal.c). */
#ifndef DOBLE_ENGINE_INTERPRET_FAULT_H
#define DOBLE_ENGINE_INTERPRET_FAULT_H

#include "base/err.h"
#include "cpu/cpu.h"

/* Installs the handlers, once for the process. */
int fault_init(struct err *err);

/* A stack for the handlers, for an engine whose native code has the guest's values in RSP. */
struct interpreter;
int fault_new_stack(struct interpreter *it, struct err *err);
void fault_free_stack(struct interpreter *it);

/* Tells the handler whose thunks this thread is about to run; NULL: none. */
void fault_set_cpu(struct cpu *cpu);

#endif
