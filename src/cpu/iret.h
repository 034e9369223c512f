/* iret.h - IRET, from every mode to every mode (SDM vol. 2, IRET/IRETD/IRETQ).
 *
 * A helper (see cpu.h) of the vCPU thread. in->osize is 2, 4 or 8. */
#ifndef DOBLE_CPU_IRET_H
#define DOBLE_CPU_IRET_H

#include "cpu/insn.h"

helper_fn op_iret;

#endif
