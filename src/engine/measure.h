/* measure.h - is KVM quicker here than translation? A trial, in less than 10 ms.
 *
 * There are hosts whose KVM executes the guest's kernel by software, instruction by instruction; a
 * feature bit doesn't tell. So a tiny guest in long mode, in ring 0, stores to memory, changes
 * mappings, takes page faults and reads a port, under both engines. Which of them was quicker is
 * what counts, and so it doesn't matter how fast the host is.
 *
 * Main thread, before there is a machine. */
#ifndef DOBLE_ENGINE_MEASURE_H
#define DOBLE_ENGINE_MEASURE_H

#include "base/err.h"
#include "base/types.h"

struct engine_times {
    uint64_t kvm_ns, translate_ns;
};

/* `cpu` is a CPU model that both engines can give a guest. An error: KVM doesn't work, or wasn't
 * done in time; the sentence says what was wrong. */
int engine_measure(const char *cpu, struct engine_times *times, struct err *err) MUST_USE;

#endif
