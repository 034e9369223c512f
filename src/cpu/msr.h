/* msr.h - model-specific registers, the time-stamp counter, and the instructions that reach them.
 *
 * SDM vol. 4 and AMD APM vol. 2, appendix A. vCPU thread only; the registers of the local APIC are
 * passed on to it under the bus lock. */
#ifndef DOBLE_CPU_MSR_H
#define DOBLE_CPU_MSR_H

#include "cpu/insn.h"

/* AMD HWCR: the TSC counts at the frequency of P0. Always set: the TSC is invariant. */
#define MSR_HWCR_TSC_FREQ_SEL (UINT64_C(1) << 24)
/* AMD EFER: automatic IBRS. */
#define EFER_AUTOIBRS (1u << 21)

/* Read and write a register as RDMSR and WRMSR do. False: #GP(0) is due (nothing is raised here).
 */
bool msr_read(struct cpu *cpu, uint32_t msr, uint64_t *v) MUST_USE;
bool msr_write(struct cpu *cpu, uint32_t msr, uint64_t v) MUST_USE;

/* Could EFER have this value, LMA included, on this model? */
bool msr_efer_is_valid(const struct cpu *cpu, uint64_t efer);
/* Could the other registers have been written by WRMSR? For saved states. */
bool msr_state_is_valid(const struct cpu *cpu);
/* IA32_MISC_ENABLE after RESET. */
uint64_t msr_misc_enable_reset(void);

helper_fn op_rdmsr, op_wrmsr, op_rdtsc, op_rdtscp, op_rdpmc, op_rdpid;

#endif
