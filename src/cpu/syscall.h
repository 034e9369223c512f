/* syscall.h - fast system calls, and the bases of FS and GS (SDM vol. 2; vol. 3, 5.8.7).
 *
 * Helpers (see cpu.h) of the vCPU thread. Where Intel and AMD differ the CPU's model decides. */
#ifndef DOBLE_CPU_SYSCALL_H
#define DOBLE_CPU_SYSCALL_H

#include "cpu/insn.h"

helper_fn op_syscall, op_sysret, op_sysenter, op_sysexit;
helper_fn op_swapgs;
helper_fn op_rdfsbase, op_rdgsbase, op_wrfsbase, op_wrgsbase;

#endif
