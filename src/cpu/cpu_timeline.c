/* What a vCPU tells the timeline. CPL 3 is user time, everything else kernel time, as in the
 * kernels that use only two levels; real mode has CPL 0 and is kernel time, virtual-8086 mode is
 * user time. */
#include "cpu/cpu_timeline.h"

#define FIRST_EXTERNAL 32

static const char *const exception_names[FIRST_EXTERNAL] = {
    [EXC_DE] = "#DE", [EXC_DB] = "#DB", [EXC_NMI] = "NMI", [EXC_BP] = "#BP", [EXC_OF] = "#OF",
    [EXC_BR] = "#BR", [EXC_UD] = "#UD", [EXC_NM] = "#NM",  [EXC_DF] = "#DF", [EXC_TS] = "#TS",
    [EXC_NP] = "#NP", [EXC_SS] = "#SS", [EXC_GP] = "#GP",  [EXC_PF] = "#PF", [EXC_MF] = "#MF",
    [EXC_AC] = "#AC", [EXC_MC] = "#MC", [EXC_XM] = "#XM",
};

const char *cpu_timeline_vector_name(unsigned vector)
{
    const char *name = vector < FIRST_EXTERNAL ? exception_names[vector] : NULL;

    return name ? name : "interrupt";
}

void cpu_timeline_change(const struct cpu *cpu)
{
    timeline_state(cpu->cpl == 3 ? TIMELINE_USER : TIMELINE_KERNEL, cpu->rip, cpu->cr3);
}

void cpu_timeline_record_trap(const struct cpu *cpu, const struct exception *e)
{
    timeline_instant(TIMELINE_TRAP, cpu_timeline_vector_name(e->vector), e->vector,
                     e->has_error ? e->error : 0, cpu->rip, cpu->cr2);
}
