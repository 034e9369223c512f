/* vm_fixture.h - a whole virtual machine without its threads, for the fuzzers of the monitor and of
 * saved states. There is one, which is kept. */
#ifndef DOBLE_TESTS_FUZZ_VM_FIXTURE_H
#define DOBLE_TESTS_FUZZ_VM_FIXTURE_H

#include "vm/vm.h"

#define VM_FIXTURE_RAM (1 * MIB)

/* Made on the first call; paused, as vm_init() leaves it. */
struct vm *vm_fixture(void);
/* As it was made: registers, devices, time, RAM; running state and requests. */
void vm_fixture_reset(struct vm *vm);

#endif
