/* run.c - the engine `kvm`: when the guest runs under KVM, when it is interpreted, and how KVM_RUN
 * is interrupted.
 *
 * run() looks at what is wanted with the registers in struct cpu, lends them, and stays in
 * run_lent() until something is wanted that needs them back. Interpreted are: a debugger's single
 * steps, more breakpoints than the processor has, an address line 20 that is masked, and the
 * instructions at which KVM gives up.
 *
 * A kick must not get lost between the look at cpu->attention and KVM_RUN. Who kicks has set the
 * attention bit first, then sets immediate_exit, then sends the signal. immediate_exit is cleared
 * here before the look: so either the bit is seen, or KVM_RUN comes back at once, or the signal
 * finds the thread in it. */
#define _GNU_SOURCE
#include "engine/kvm/kvm.h"

#include "base/trace.h"
#include "cpu/cpu_timeline.h"
#include "cpu/debug.h"
#include "cpu/interrupt.h"
#include "cpu/tlb.h"
#include "engine/interpret/fault.h"
#include "engine/interpret/run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KICK_SIGNAL SIGRTMIN
/* KVM_RUN may come back for nothing, but not for ever. */
#define MAX_IDLE_RETURNS 100000u
#define MAX_STUCK 1000u

/* --- kicks --- */

static void ignore_signal(int number)
{
    (void)number;
}

/* The handler does nothing; that there is one makes KVM_RUN return. */
static int catch_kicks(struct err *err)
{
    struct sigaction action = {.sa_handler = ignore_signal};

    if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
        return err_set(err, -errno, "the signal %d cannot be used: %s", KICK_SIGNAL,
                       strerror(errno));
    return 0;
}

static void kvm_kick(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);
    const int thread = atomic_load(&k->thread);

    __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (thread && thread != gettid())
        (void)!syscall(SYS_tgkill, getpid(), thread, KICK_SIGNAL);
}

/* --- with the registers lent --- */

static enum kvm_next fail(struct kvm *k, const char *what)
{
    err_set(&k->failure, -EIO, "KVM %s; use '--engine translate'", what);
    return NEXT_FAIL;
}

/* What is wanted of a guest that runs; false: it needs the registers. */
static bool attend_lent(struct cpu *cpu)
{
    const uint32_t attention = atomic_load(&cpu->attention);

    if (attention & (ATTN_STOP | ATTN_INIT | ATTN_TIMER) ||
        (cpu->debug && cpu->debug->reason != DEBUG_NONE) || ~cpu->mem->a20_mask)
        return false;
    if (attention & ATTN_NMI) {
        cpu_unsignal(cpu, ATTN_NMI);
        (void)!ioctl(kvm_of(cpu)->vcpu_fd, KVM_NMI, 0);
    }
    if (attention & ATTN_CODE) {
        cpu_unsignal(cpu, ATTN_CODE);
        memory_dma_sync(cpu->mem);
    }
    cpu_unsignal(cpu, ATTN_SMI | ATTN_SHADOW);
    kvm_offer_extint(cpu);
    return true;
}

/* KVM_RUN returned an error. NEXT_RUN: nothing has happened, try again. */
static enum kvm_next not_run(struct kvm *k, unsigned *returns)
{
    if (errno == EINTR)
        k->count.kicks++;
    else if (errno != EAGAIN)
        return fail(k, strerror(errno));
    /* A signal that was not ours, or a vCPU that waits for its start: but not all the time. */
    if (!k->run->immediate_exit && ++*returns > MAX_IDLE_RETURNS)
        return fail(k, "returns again and again without executing the guest");
    return NEXT_RUN;
}

static enum kvm_next run_lent(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);
    enum kvm_next next = NEXT_RUN;
    unsigned returns = 0;

    while (next == NEXT_RUN) {
        __atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (!attend_lent(cpu))
            return NEXT_LOOK;
        if (kvm_update_memory(k, cpu->mem, &k->failure) < 0)
            return NEXT_FAIL;
        k->exited = ioctl(k->vcpu_fd, KVM_RUN, 0) == 0;
        if (!k->exited) {
            next = not_run(k, &returns);
            continue;
        }
        returns = 0;
        next = kvm_handle_exit(cpu);
    }
    return next;
}

/* KVM writes the result of an access to the registers when it is entered again. That may need
 * another exit, as a string instruction goes on or an access was cut in two. */
static enum kvm_next complete(struct cpu *cpu, enum kvm_next next)
{
    struct kvm *k = kvm_of(cpu);

    while (k->exited && (next == NEXT_RUN || next == NEXT_LOOK)) {
        __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        k->exited = ioctl(k->vcpu_fd, KVM_RUN, 0) == 0;
        if (k->exited)
            next = kvm_handle_exit(cpu);
    }
    return next;
}

static enum kvm_next run_under_kvm(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);
    enum kvm_next next;

    if (kvm_lend(cpu, &k->failure) < 0 || kvm_debug_set(cpu, k) < 0)
        return NEXT_FAIL;
    timeline_state(TIMELINE_VIRTUAL, 0, 0);
    next = complete(cpu, run_lent(cpu));
    if (kvm_take_back(cpu, &k->failure) < 0)
        return NEXT_FAIL;
    cpu_timeline_mode(cpu);
    return next;
}

/* --- the interpreter --- */

/* Its caches are made when it is needed first, which on most machines is never. False: no memory.
 */
static bool interpreter_is_ready(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);

    return k->interp.once || interpreter_prepare(cpu, &k->interp, &k->failure) == 0;
}

/* What it has decoded before is void, because KVM's guest stores without telling. */
static enum cpu_exit interpret(struct cpu *cpu)
{
    if (!interpreter_is_ready(cpu))
        return EXIT_FAILED;
    interpreter_flush(cpu);
    return engine_interpret.run(cpu);
}

/* One instruction; nothing of it is kept. */
static enum cpu_exit interpret_one(struct cpu *cpu)
{
    return interpreter_is_ready(cpu) ? interpret_step(cpu) : EXIT_FAILED;
}

/* --- with the registers here --- */

/* Executes the instruction at which KVM gave up. If KVM never gets farther than that it is of no
 * use, though each instruction is done in the end. */
static enum kvm_next emulate(struct cpu *cpu, gva_t start)
{
    struct kvm *k = kvm_of(cpu);

    trace_kvm_emulate(cpu->rip, k->run->internal.suberror);
    k->count.emulated++;
    k->stuck_count = cpu->rip == start ? k->stuck_count + 1 : 0;
    if (k->stuck_count > MAX_STUCK) {
        err_set(&k->failure, -EIO,
                "KVM gives up at every instruction (internal error %u); use '--engine translate'",
                k->run->internal.suberror);
        return NEXT_FAIL;
    }
    return interpret_one(cpu) == EXIT_FAILED ? NEXT_FAIL : NEXT_LOOK;
}

/* Debug traps of an interpreted instruction. */
static void deliver_pending(struct cpu *cpu)
{
    const uint64_t bits = cpu->pending_db;

    cpu->pending_db = 0;
    cpu_raise_db(cpu, bits);
    cpu_deliver_exception(cpu);
}

enum verdict { GO, AGAIN, LEAVE };

static enum verdict attend_debugger(struct cpu *cpu, enum cpu_exit *exit)
{
    switch (cpu_debug_next(cpu)) {
    case DEBUG_RUN: return GO;
    case DEBUG_LEAVE: *exit = EXIT_DEBUG; return LEAVE;
    default: break;
    }
    if (cpu->debug->step) {
        *exit = interpret(cpu); /* one step */
        return LEAVE;
    }
    cpu->rflags |= FLAG_RF; /* the breakpoint here doesn't count */
    cpu_debug_stepped(cpu);
    return GO;
}

static enum verdict attend(struct cpu *cpu, enum cpu_exit *exit)
{
    const uint32_t attention = atomic_load(&cpu->attention);

    if (attention & ATTN_STOP) {
        cpu_unsignal(cpu, ATTN_STOP);
        *exit = EXIT_STOPPED;
        return LEAVE;
    }
    cpu_unsignal(cpu, ATTN_TIMER);
    if (cpu->activity == CPU_SHUTDOWN) {
        *exit = EXIT_SHUTDOWN;
        return LEAVE;
    }
    if (cpu->pending_db && !cpu->shadow_ss) {
        deliver_pending(cpu);
        return AGAIN;
    }
    if (!kvm_debug_fits(cpu)) {
        *exit = interpret(cpu);
        return LEAVE;
    }
    if (attention & ATTN_INIT && cpu_take_event(cpu))
        return AGAIN;
    if (cpu->pending_db || ~cpu->mem->a20_mask) {
        *exit = interpret_one(cpu);
        return *exit == EXIT_HALTED || *exit == EXIT_FAILED ? LEAVE : AGAIN;
    }
    return attention & ATTN_DEBUG ? attend_debugger(cpu, exit) : GO;
}

static enum cpu_exit run(struct cpu *cpu)
{
    enum cpu_exit exit = EXIT_STOPPED;

    for (;;) {
        const enum verdict verdict = attend(cpu, &exit);
        const gva_t start = cpu->rip;
        enum kvm_next next;

        if (verdict == LEAVE)
            return exit;
        if (verdict == AGAIN)
            continue;
        next = run_under_kvm(cpu);
        if (next == NEXT_EMULATE)
            next = emulate(cpu, start);
        if (next == NEXT_DEBUG)
            kvm_debug_exit(cpu);
        if (next == NEXT_SHUTDOWN)
            cpu->activity = CPU_SHUTDOWN;
        if (next == NEXT_FAIL)
            return EXIT_FAILED;
    }
}

static enum cpu_exit kvm_run_engine(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);
    enum cpu_exit exit;

    cpu->icount_partial = true;
    atomic_store(&k->thread, gettid());
    exit = run(cpu);
    atomic_store(&k->thread, 0);
    return exit;
}

/* --- the engine --- */

static void kvm_failure(struct cpu *cpu, struct err *err)
{
    *err = kvm_of(cpu)->failure;
}

static void kvm_free(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);

    if (!k)
        return;
    kvm_free_machine(k);
    memory_set_code_listener(cpu->mem, NULL, NULL);
    interpreter_release(&k->interp);
    free(k->routes);
    free(k->xsave);
    free(k);
    cpu->engine = NULL;
}

/* Every feature of the model must be one that KVM has, because the guest may rely on it already. */
static int check_model(const struct cpu *cpu, const struct kvm *k, struct err *err)
{
    bool has[FEAT_COUNT];
    int rc = kvm_get_features(k->system_fd, has, err);

    for (unsigned f = 0; rc == 0 && f < FEAT_COUNT; f++)
        if (cpu_model_has(cpu->model, f) && !has[f])
            rc = err_set(err, -ENOTSUP,
                         "the machine's CPU model has the feature '%s', which KVM on this host "
                         "hasn't; start it with '--cpu ...,-%s', or use '--engine translate'",
                         cpu_feature_name(f), cpu_feature_name(f));
    return rc;
}

static int set_up(struct cpu *cpu, struct kvm *k, struct err *err)
{
    int rc = kvm_open(&k->system_fd, err);

    if (rc == 0)
        rc = check_model(cpu, k, err);
    if (rc == 0)
        rc = catch_kicks(err);
    if (rc == 0)
        rc = fault_init(err);
    if (rc == 0)
        rc = kvm_make_machine(cpu, k, err);
    return rc;
}

static int kvm_init(struct cpu *cpu, struct err *err)
{
    struct kvm *k = calloc(1, sizeof *k);
    int rc;

    if (!k)
        return err_set(err, -ENOMEM, "not enough memory for the engine 'kvm'");
    k->system_fd = k->vm_fd = k->vcpu_fd = -1;
    cpu->engine = k;
    k->xsave = calloc(1, sizeof *k->xsave);
    rc = k->xsave ? set_up(cpu, k, err)
                  : err_set(err, -ENOMEM, "not enough memory for the engine 'kvm'");
    if (rc < 0)
        kvm_free(cpu);
    return rc;
}

static void kvm_flush(struct cpu *cpu)
{
    if (kvm_of(cpu)->interp.once)
        interpreter_flush(cpu);
    tlb_flush_all(cpu);
}

static int kvm_features(bool has[FEAT_COUNT], struct err *err)
{
    int fd, rc = kvm_open(&fd, err);

    if (rc < 0)
        return rc;
    rc = kvm_get_features(fd, has, err);
    close(fd);
    return rc;
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .init = kvm_init,
    .free = kvm_free,
    .run = kvm_run_engine,
    .step = interpret_one,
    .flush = kvm_flush,
    .cannot_count = true,
    .kick = kvm_kick,
    .failure = kvm_failure,
    .features = kvm_features,
    .print_stats = kvm_print_stats,
};
