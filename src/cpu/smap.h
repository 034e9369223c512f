/* smap.h - CLAC and STAC (SDM vol. 2): RFLAGS.AC as the switch of supervisor-mode access
 * prevention. vCPU thread only. */
#ifndef DOBLE_CPU_SMAP_H
#define DOBLE_CPU_SMAP_H

#include "cpu/insn.h"

bool op_clac(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_stac(struct cpu *cpu, const struct insn *in) MUST_USE;

#endif
