/* Raising exceptions: a helper records one in cpu->exc and returns false. Nothing else happens
 * here; delivery is in interrupt.c. */
#include "cpu/cpu.h"

bool cpu_raise(struct cpu *cpu, enum vector vector)
{
    cpu->exc = (struct exception){.vector = (uint8_t)vector, .pending = true};
    return false;
}

bool cpu_raise_error(struct cpu *cpu, enum vector vector, uint32_t error)
{
    cpu_raise(cpu, vector);
    cpu->exc.has_error = true;
    cpu->exc.error = error;
    return false;
}

bool cpu_raise_pf(struct cpu *cpu, gva_t address, uint32_t error)
{
    cpu_raise_error(cpu, EXC_PF, error);
    cpu->exc.cr2 = address;
    return false;
}

bool cpu_raise_db(struct cpu *cpu, uint64_t dr6_bits)
{
    cpu_raise(cpu, EXC_DB);
    cpu->exc.dr6 = dr6_bits;
    return false;
}
