#include "cpu/smap.h"

#include "cpu/tlb.h"

static bool set_ac(struct cpu *cpu, bool on)
{
    if (cpu->cpl != 0 || (cpu->mode & MODE_VM86))
        return cpu_raise_ud(cpu);
    if (on)
        cpu->rflags |= FLAG_AC;
    else
        cpu->rflags &= ~(uint64_t)FLAG_AC;
    tlb_select(cpu);
    return true;
}

bool op_clac(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return set_ac(cpu, false);
}

bool op_stac(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return set_ac(cpu, true);
}
