#define _GNU_SOURCE
#include "engine/interpret/fault.h"

#include "engine/interpret/block.h"
#include "engine/interpret/exec.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

/* A signal handler has nothing but its thread. */
static __thread struct cpu *running;

void fault_set_cpu(struct cpu *cpu)
{
    running = cpu;
}

static bool record(struct cpu *cpu, const mcontext_t *m)
{
    switch (m->gregs[REG_TRAPNO]) {
    case EXC_DE: cpu_raise(cpu, EXC_DE); return true;
    case EXC_MF: cpu_raise(cpu, EXC_MF); return true;
    case EXC_XM: cpu_raise(cpu, EXC_XM); return true;
    case EXC_GP: cpu_raise_gp(cpu, 0); return true;
    case EXC_UD: cpu_raise_ud(cpu); return true;
    default: return false;
    }
}

static void handle(int sig, siginfo_t *info, void *context)
{
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    struct cpu *cpu = running;
    const struct interpreter *it = cpu ? cpu->engine : NULL;

    (void)info;
    if (!it || !thunk_contains(it->thunks, (uintptr_t)m->gregs[REG_RIP]) || !record(cpu, m)) {
        signal(sig, SIG_DFL); /* happens again on return, and ends the process */
        return;
    }
    m->gregs[REG_RIP] = (greg_t)exec_native_fault; /* RDI and RSI are cpu and in */
}

int fault_init(struct err *err)
{
    static const int signals[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_NODEFER};

    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        if (sigaction(signals[i], &action, NULL) < 0)
            return err_set(err, -errno, "cannot install a signal handler: %s", strerror(errno));
    return 0;
}
