#define _GNU_SOURCE
#include "engine/interpret/fault.h"

#include "engine/interpret/block.h"
#include "engine/interpret/exec.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define FAULT_STACK_SIZE (64u * 1024) /* the frame has the vector state, up to 11 KiB with AMX */
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

/* A signal handler has nothing but its thread, and a process has one handler a signal. */
static __thread struct cpu *running;
static __thread stack_t before; /* the thread's own alternate stack */
static const int signals[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
static struct sigaction previous[ARRAY_SIZE(signals)];
static bool installed;

/* Native code of an engine may have anything in RSP. With SS_AUTODISARM the stack is used whatever
 * RSP is, even when it points into it. */
static void use_signal_stack(const struct interpreter *it)
{
    stack_t stack = {
        .ss_sp = it->signal_stack, .ss_size = FAULT_STACK_SIZE, .ss_flags = (int)SS_AUTODISARM};

    sigaltstack(&stack, &before);
}

void fault_set_cpu(struct cpu *cpu)
{
    const struct interpreter *it = cpu ? cpu->engine : running ? running->engine : NULL;

    if (it && it->signal_stack) {
        if (cpu)
            use_signal_stack(it);
        else
            sigaltstack(&before, NULL);
    }
    running = cpu;
}

int fault_new_stack(struct interpreter *it, struct err *err)
{
    uint8_t *p = mmap(NULL, FAULT_STACK_SIZE + PAGE_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return err_set(err, -errno, "cannot get memory for signals: %s", strerror(errno));
    mprotect(p, PAGE_SIZE, PROT_NONE); /* it grows down, to here at most */
    it->signal_stack = p + PAGE_SIZE;
    return 0;
}

void fault_free_stack(struct interpreter *it)
{
    if (it->signal_stack)
        munmap(it->signal_stack - PAGE_SIZE, FAULT_STACK_SIZE + PAGE_SIZE);
}

static bool record(struct cpu *cpu, const mcontext_t *m)
{
    switch (m->gregs[REG_TRAPNO]) {
    case EXC_DE: cpu_raise(cpu, EXC_DE); return true;
    case EXC_MF: cpu_raise(cpu, EXC_MF); return true;
    case EXC_XM: cpu_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD); return true;
    case EXC_GP: cpu_raise_gp(cpu, 0); return true;
    case EXC_UD: cpu_raise_ud(cpu); return true;
    default: return false;
    }
}

/* What was to happen before us (the terminal is restored) happens when the instruction faults again
 * on return; a signal that somebody sent has to be raised again for that. */
static void leave_to_previous(int sig, const siginfo_t *info)
{
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        if (signals[i] == sig)
            sigaction(sig, &previous[i], NULL);
    if (info->si_code <= 0)
        raise(sig);
}

static bool redirected(struct cpu *cpu, const struct interpreter *it, mcontext_t *m)
{
    struct native_context c = {
        .rip = (uint64_t *)&m->gregs[REG_RIP],
        .rcx = (uint64_t *)&m->gregs[REG_RCX],
        .r14 = (uint64_t *)&m->gregs[REG_R14],
        .r15 = (uint64_t *)&m->gregs[REG_R15],
    };

    return it->redirect(cpu, &c);
}

static void handle(int sig, siginfo_t *info, void *context)
{
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    struct cpu *cpu = running;
    const struct interpreter *it = cpu ? cpu->engine : NULL;

    if (it && it->redirect && redirected(cpu, it, m))
        return;
    if (!it || !thunk_contains(it->thunks, (uintptr_t)m->gregs[REG_RIP]) || !record(cpu, m)) {
        leave_to_previous(sig, info);
        return;
    }
    m->gregs[REG_RIP] = (greg_t)exec_native_fault; /* RDI and RSI are cpu and in */
}

int fault_init(struct err *err)
{
    struct sigaction action = {.sa_sigaction = handle,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

    if (installed)
        return 0;
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        if (sigaction(signals[i], &action, &previous[i]) < 0)
            return err_set(err, -errno, "cannot install a signal handler: %s", strerror(errno));
    installed = true;
    return 0;
}
