/* io.h - port input and output, and who may do it (SDM vol. 1, ch. 19).
 *
 * INS and OUTS with REP are interruptible: the helper does a bounded number of iterations, and when
 * the count isn't exhausted then it leaves cpu->rip on the instruction and returns true, so that
 * the engine looks at events and comes back. vCPU thread only. */
#ifndef DOBLE_CPU_IO_H
#define DOBLE_CPU_IO_H

#include "cpu/insn.h"

/* May the CPU access `size` (1, 2, 4) ports from `port` on? By IOPL and the TSS's I/O permission
 * bitmap. False: #GP(0), or the fault of reading the bitmap, was raised. */
bool io_allowed(struct cpu *cpu, uint16_t port, unsigned size) MUST_USE;

helper_fn op_in, op_out, op_ins, op_outs;

#endif
