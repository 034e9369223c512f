/* xsave.h - saving and restoring x87, SSE and AVX state: FXSAVE, the XSAVE family, MXCSR.
 *
 * SDM vol. 1, ch. 13. Helpers for engines, on the vCPU thread. */
#ifndef DOBLE_CPU_XSAVE_H
#define DOBLE_CPU_XSAVE_H

#include "cpu/insn.h"

/* Sizes of the parts of an XSAVE area. */
#define XSAVE_LEGACY_SIZE 512u
#define XSAVE_HEADER_SIZE 64u
#define XSAVE_AVX_OFFSET 576u
#define XSAVE_AVX_SIZE 256u

/* Bytes of an XSAVE area with the components of `xcr0`; the standard and the compacted format have
 * the same, as there is one extended component. */
uint32_t xsave_size(uint64_t xcr0);

/* State components that are not in their initial configuration (XINUSE). */
uint64_t xsave_in_use(struct cpu *cpu);

helper_fn op_fxsave, op_fxrstor, op_xsave, op_xsavec, op_xsaveopt, op_xsaves, op_xrstor, op_xrstors;
helper_fn op_ldmxcsr, op_stmxcsr;

#endif
