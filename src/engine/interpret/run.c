/* The interpreter's main loop: events between instructions, single steps, blocks. */
#include "cpu/debug.h"
#include "cpu/interrupt.h"
#include "engine/engine.h"
#include "engine/interpret/block.h"
#include "engine/interpret/exec.h"
#include "engine/interpret/fault.h"
#include "engine/interpret/run.h"

/* --- debug exceptions and single steps --- */

/* DR6 bits of the instruction breakpoints at this linear address. */
static uint64_t breakpoints_at(const struct cpu *cpu, gva_t gva)
{
    uint64_t hits = 0;

    for (unsigned i = 0; i < 4; i++)
        if ((cpu->dr[7] >> (2 * i) & 3) && (cpu->dr[7] >> (16 + 4 * i) & 3) == 0 &&
            cpu->dr[i] == gva)
            hits |= UINT64_C(1) << i;
    return hits;
}

/* Is there an instruction breakpoint, the guest's or the debugger's, at any of these bytes? */
static bool breakpoint_within(const struct cpu *cpu, gva_t gva, unsigned len)
{
    for (unsigned i = 0; i < 4; i++)
        if ((cpu->dr[7] >> (2 * i) & 3) && (cpu->dr[7] >> (16 + 4 * i) & 3) == 0 &&
            cpu->dr[i] - gva < len)
            return true;
    return cpu_debug_break_within(cpu, gva, len);
}

/* Must instructions be executed one by one just now? */
static bool must_step(const struct cpu *cpu)
{
    return (cpu->rflags & (FLAG_TF | FLAG_RF)) || cpu->interrupt_shadow || cpu->pending_db;
}

/* The shadow of STI and MOV SS, and RF, last for one instruction. They can go before it when
 * nothing could tell: no event waits, nothing is debugged, and events are not looked at again
 * before the instruction is done. */
static void end_shadow(struct cpu *cpu, uint32_t attention)
{
    const uint32_t events = ATTN_INTR | ATTN_NMI | ATTN_SMI | ATTN_INIT;

    if ((attention & events) || (cpu->rflags & FLAG_TF) || cpu->pending_db || (cpu->dr[7] & 0xff) ||
        cpu->debug)
        return;
    cpu->interrupt_shadow = cpu->shadow_ss = false;
    cpu->rflags &= ~(uint64_t)FLAG_RF;
}

/* Debug traps after an instruction (SDM vol. 3, 17.3.1); MOV SS holds them back. */
static void trap_after(struct cpu *cpu, bool single_step, bool ss_shadow)
{
    uint64_t bits = cpu->pending_db;

    if (ss_shadow)
        return;
    if (single_step)
        bits |= UINT64_C(1) << 14; /* BS */
    if (!bits)
        return;
    cpu->pending_db = 0;
    cpu_raise_db(cpu, bits);
    cpu_deliver_exception(cpu);
}

/* A software interrupt that was taken has cleared TF, and so has SYSCALL if FMASK says so: what
 * they enter begins without a trap. */
static bool entered_handler(const struct cpu *cpu, const struct insn *in)
{
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INTO:
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET: return !(cpu->rflags & FLAG_TF);
    default: return false;
    }
}

/* Executes exactly one instruction, with all that may happen before and after it. */
static void step_instruction(struct cpu *cpu)
{
    bool tf = cpu->rflags & FLAG_TF, shadow = cpu->interrupt_shadow, ss = cpu->shadow_ss;
    bool rf = cpu->rflags & FLAG_RF;
    uint64_t hits = rf ? 0 : breakpoints_at(cpu, cpu_debug_pc(cpu));
    struct block *b;

    if (hits && !ss) {
        cpu_raise_db(cpu, hits);
        cpu_deliver_exception(cpu);
        return;
    }
    b = block_single(cpu);
    if (b) {
        cpu->interrupt_shadow = cpu->shadow_ss = false;
        b->insns[0].exec(cpu, b->insns);
        tf = tf && !entered_handler(cpu, b->insns);
    }
    if (cpu->exc.pending) {
        cpu->interrupt_shadow = shadow;
        cpu->shadow_ss = ss;
        cpu_deliver_exception(cpu);
        cpu->interrupt_shadow = cpu->shadow_ss = false;
        return;
    }
    if (rf)
        cpu->rflags &= ~(uint64_t)FLAG_RF;
    trap_after(cpu, tf, cpu->shadow_ss);
}

/* --- the loop --- */

/* What to do after something other than the next block wanted attention. */
enum verdict {
    LEAVE, /* with *exit */
    AGAIN, /* something was executed or taken: look again */
    RUN,   /* the next block, if no breakpoint is in it */
};

/* What the debugger wants. RUN: nothing here. */
static enum verdict attend_debugger(struct cpu *cpu, enum cpu_exit *exit)
{
    switch (cpu_debug_next(cpu)) {
    case DEBUG_RUN: return RUN;
    case DEBUG_LEAVE: *exit = EXIT_DEBUG; return LEAVE;
    default: break;
    }
    if (!cpu_debug_takes_events(cpu) || !cpu_take_event(cpu))
        step_instruction(cpu);
    cpu_debug_stepped(cpu);
    return AGAIN;
}

/* The block that was running has been left; what a device's thread stored is dropped now. */
static void code_changed(struct cpu *cpu)
{
    cpu_unsignal(cpu, ATTN_CODE);
    memory_dma_sync(cpu->mem);
}

static enum verdict attend(struct cpu *cpu, enum cpu_exit *exit)
{
    uint32_t attention = atomic_load(&cpu->attention);

    if (attention & ATTN_STOP) {
        cpu_unsignal(cpu, ATTN_STOP);
        *exit = EXIT_STOPPED;
        return LEAVE;
    }
    if (attention & ATTN_TIMER) {
        cpu_unsignal(cpu, ATTN_TIMER);
        *exit = EXIT_DEADLINE;
        return LEAVE;
    }
    if (attention & ATTN_CODE)
        code_changed(cpu);
    if (cpu->pending_db && !cpu->shadow_ss) {
        trap_after(cpu, false, false); /* of an instruction inside a block */
        return AGAIN;
    }
    if (attention & ATTN_DEBUG) {
        enum verdict verdict = attend_debugger(cpu, exit);

        if (verdict != RUN)
            return verdict;
    }
    if (cpu_take_event(cpu))
        return AGAIN;
    end_shadow(cpu, attention);
    if (must_step(cpu)) {
        step_instruction(cpu);
        return AGAIN;
    }
    if ((attention & ATTN_SHADOW) && !(cpu->dr[7] & 0xff))
        cpu_unsignal(cpu, ATTN_SHADOW);
    return RUN;
}

/* A vCPU that doesn't execute. True: something woke it. */
static bool idle(struct cpu *cpu, enum cpu_exit *exit)
{
    uint32_t attention = atomic_load(&cpu->attention);

    *exit = EXIT_HALTED;
    if (cpu->activity == CPU_SHUTDOWN) {
        *exit = EXIT_SHUTDOWN;
        return false;
    }
    if (attention & ATTN_STOP) {
        cpu_unsignal(cpu, ATTN_STOP);
        *exit = EXIT_STOPPED;
        return false;
    }
    if (cpu->debug && cpu->debug->reason != DEBUG_NONE) {
        *exit = EXIT_DEBUG;
        return false;
    }
    cpu_unsignal(cpu, ATTN_TIMER);
    if (!cpu_take_event(cpu))
        return false;
    if (cpu->debug)
        cpu_debug_stepped(cpu); /* a step of a halted CPU is what wakes it */
    return true;
}

static inline __attribute__((always_inline)) void execute_block(struct cpu *cpu, bool look)
{
    struct block *b = block_find(cpu);

    if (unlikely(!b)) {
        if (cpu->exc.pending)
            cpu_deliver_exception(cpu);
        return;
    }
    if (unlikely(cpu->icount + b->count > cpu->icount_limit ||
                 (look && breakpoint_within(cpu, cpu_debug_pc(cpu), b->len)))) {
        step_instruction(cpu);
        return;
    }
    b->insns[0].exec(cpu, b->insns);
    if (unlikely(cpu->exc.pending))
        cpu_deliver_exception(cpu);
}

/* Between enter() and leave() the guest's MXCSR is in the processor. */
static void enter(struct cpu *cpu)
{
    fault_set_cpu(cpu);
    __builtin_ia32_ldmxcsr(cpu->mxcsr);
}

static void leave(struct cpu *cpu)
{
    cpu->mxcsr = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(cpu->host_mxcsr);
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroupper" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                               "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                               "xmm15");
    cpu_x87_sync(cpu);
    fault_set_cpu(NULL);
    cpu_publish_time(cpu);
}

void interpret_block(struct cpu *cpu)
{
    execute_block(cpu, false);
}

static inline __attribute__((always_inline)) enum cpu_exit loop(struct cpu *cpu,
                                                                interpret_execute_fn *execute)
{
    enum cpu_exit exit = EXIT_STOPPED;

    enter(cpu);
    for (;;) {
        if (unlikely(cpu->activity != CPU_ACTIVE)) {
            if (!idle(cpu, &exit))
                break;
            continue;
        }
        if (unlikely(cpu->icount >= cpu->icount_limit)) {
            exit = EXIT_DEADLINE;
            break;
        }
        if (unlikely(atomic_load_explicit(&cpu->attention, memory_order_relaxed))) {
            enum verdict verdict = attend(cpu, &exit);

            if (verdict == LEAVE)
                break;
            if (verdict != RUN)
                continue;
            if (atomic_load_explicit(&cpu->attention, memory_order_relaxed)) {
                execute_block(cpu, true);
                continue;
            }
        }
        execute(cpu);
    }
    leave(cpu);
    return exit;
}

enum cpu_exit interpret_loop(struct cpu *cpu, interpret_execute_fn *execute)
{
    return loop(cpu, execute);
}

static enum cpu_exit interpret_run(struct cpu *cpu)
{
    return loop(cpu, interpret_block);
}

enum cpu_exit interpret_step(struct cpu *cpu)
{
    enum cpu_exit exit = EXIT_STEPPED;

    enter(cpu);
    if (cpu->activity != CPU_ACTIVE) {
        if (idle(cpu, &exit))
            exit = EXIT_STEPPED;
    } else if (!cpu_take_event(cpu)) {
        code_changed(cpu);
        step_instruction(cpu);
    }
    leave(cpu);
    return exit;
}

static int interpret_init(struct cpu *cpu, struct err *err)
{
    int ret = fault_init(err);

    if (ret)
        return ret;
    cpu->host_mxcsr = __builtin_ia32_stmxcsr();
    return interpreter_new(cpu, err);
}

const struct engine_ops engine_interpret = {
    .name = "interpret",
    .init = interpret_init,
    .free = interpreter_free,
    .run = interpret_run,
    .step = interpret_step,
    .flush = interpreter_flush,
};
