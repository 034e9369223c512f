/* vecmem.h - vector instructions that access memory element by element: masked moves and gathers.
 *
 * Helpers (see cpu.h) of the vCPU thread. #UD and #NM that follow from the mode were checked by the
 * engine. op_vmaskmov is VMASKMOVPS/PD and VPMASKMOVD/Q, loads and stores; op_gather is all of
 * VPGATHERxx and VGATHERxxx; op_maskmovdqu includes VMASKMOVDQU. */
#ifndef DOBLE_CPU_VECMEM_H
#define DOBLE_CPU_VECMEM_H

#include "cpu/insn.h"

bool op_maskmovq(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_maskmovdqu(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_vmaskmov(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_gather(struct cpu *cpu, const struct insn *in) MUST_USE;

#endif
