/* report.h - what is told about translations: trace events, listings, names for perf.
 *
 * A listing shows a block's guest code and what was made of it side by side. The file for perf
 * holds a line for each block in the code cache; the lines of blocks that are evicted are taken
 * out. vCPU thread. */
#ifndef DOBLE_ENGINE_TRANSLATE_REPORT_H
#define DOBLE_ENGINE_TRANSLATE_REPORT_H

#include "engine/translate/plan.h"
#include "engine/translate/translator.h"

/* A block was made of the code at RIP; `size` bytes of host code. */
void report_block(struct cpu *cpu, const struct tblock *b, const struct plan *plan, size_t size);
/* The blocks whose host code was here (executable address) have been evicted. */
void report_eviction(struct cpu *cpu, const uint8_t *start, size_t size);

#endif
