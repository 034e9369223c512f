/* descriptor.h - instructions on segment registers, descriptors and descriptor tables.
 *
 * Helpers (see cpu.h) of the vCPU thread. For moves of segment registers in->reg is the segment
 * register. */
#ifndef DOBLE_CPU_DESCRIPTOR_H
#define DOBLE_CPU_DESCRIPTOR_H

#include "cpu/insn.h"

helper_fn op_mov_to_sreg, op_mov_from_sreg, op_push_sreg, op_pop_sreg, op_lxs;
helper_fn op_lar, op_lsl, op_verr, op_verw, op_arpl;
helper_fn op_lldt, op_ltr, op_sldt, op_str;
helper_fn op_lgdt, op_lidt, op_sgdt, op_sidt;

#endif
