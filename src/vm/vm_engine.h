/* vm_engine.h - which engine executes a machine: it is started, changed, and replaced if it fails.
 *
 * All engines work on the same struct cpu, so that a machine can change engine whenever its vCPU is
 * parked. What the guest was told of its processor holds for the machine's life: an engine that
 * cannot give it all features of its CPU model is refused. Main thread, but for vm_engine_kick().
 */
#ifndef DOBLE_VM_VM_ENGINE_H
#define DOBLE_VM_VM_ENGINE_H

#include "engine/choose.h"
#include "vm/vm.h"

/* Starts config.engine, or the first of config.fallbacks that works. Before the machine runs. */
int vm_engine_start(struct vm *vm, struct err *err) MUST_USE;
void vm_engine_free(struct vm *vm);

/* Goes on with another engine, and with the fallbacks that it comes with. After an error the
 * machine has what it had. */
int vm_engine_change(struct vm *vm, const struct engine_choice *choice, struct err *err) MUST_USE;

/* The engine has returned EXIT_FAILED: goes on with the next of config.fallbacks, or ends the
 * machine. */
void vm_engine_failed(struct vm *vm);

/* cpu->attention has changed. Any thread, with vm->lock held. */
void vm_engine_kick(struct vm *vm);

#endif
