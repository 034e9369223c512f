/* system.h - system instructions that don't fit elsewhere: halting, interrupt and other flags,
 * caches, random numbers. Helpers for engines, on the vCPU thread. */
#ifndef DOBLE_CPU_SYSTEM_H
#define DOBLE_CPU_SYSTEM_H

#include "cpu/insn.h"

helper_fn op_hlt, op_pause, op_monitor, op_mwait, op_invd, op_wbinvd;
helper_fn op_cli, op_sti, op_pushf, op_popf, op_rsm, op_rdrand, op_rdseed;

#endif
