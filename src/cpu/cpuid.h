/* cpuid.h - what the CPUID instruction says of a CPU and its model. Any thread may ask. */
#ifndef DOBLE_CPU_CPUID_H
#define DOBLE_CPU_CPUID_H

#include "cpu/insn.h"
#include "cpu/model.h"

/* What CPUID gives on this CPU now: EAX, EBX, ECX, EDX in out[0..3]. Includes the bits that follow
 * the CPU's state: OSXSAVE, the APIC's enable bit and ID, the XSAVE area's size. */
void cpu_model_cpuid(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

helper_fn op_cpuid;

#endif
