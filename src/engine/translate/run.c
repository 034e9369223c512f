/* The translating engine: events between blocks, dispatch, and the interpreter for single
 * instructions. */
#define _GNU_SOURCE
#include "engine/translate/plan.h"
#include "engine/translate/translator.h"
#include "engine/translate/verify.h"

#include "cpu/interrupt.h"
#include "engine/engine.h"
#include "engine/interpret/exec.h"
#include "engine/interpret/fault.h"
#include "engine/interpret/run.h"

#include <asm/prctl.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INTERRUPTED 1000000 /* cycles for a block: the host took the processor away meanwhile */
#define MAX_BUDGET (UINT64_C(1) << 62) /* bit 63 tells that it is used up */

/* --- one instruction for translated code --- */

static void resume(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    cpu->native.resumed = true;
}

/* What emitted code has copies of, and instructions that end a block may have changed. */
static void refresh(struct cpu *cpu)
{
    cpu->native.tsc_offset = cpu->clock->tsc_offset + cpu->tsc_offset;
}

static bool translatable(const struct cpu *cpu)
{
    return cpu_is_64bit(cpu) ||
           ((cpu->mode & (MODE_FLAT | MODE_PROTECTED | MODE_CODE_MASK | MODE_SS32)) ==
            (MODE_FLAT | MODE_PROTECTED | MODE_CODE32 | MODE_SS32));
}

/* Virtual time, or a limit: instructions are counted. */
static bool must_count(const struct cpu *cpu)
{
    return cpu->clock->mode == CLOCK_VIRTUAL || cpu->icount_limit != UINT64_MAX;
}

static uint32_t counting_bit(const struct cpu *cpu)
{
    return must_count(cpu) ? MODE_COUNTING : 0;
}

static struct tblock *make_block(struct cpu *cpu, const uint8_t *code, unsigned avail,
                                 uint32_t extra)
{
    uint64_t start = __builtin_ia32_rdtsc();
    struct tblock *b = translate_block(cpu, code, avail, extra);
    uint64_t cycles = __builtin_ia32_rdtsc() - start;

    if (b && cycles < INTERRUPTED) {
        cpu->stats.translate.cycles += cycles;
        cpu->stats.translate.timed_insns += b->count;
    }
    return b;
}

/* The translation of the code at RIP; NULL: exception recorded, t->full set, or the interpreter
 * must do it. */
static struct tblock *find_block(struct cpu *cpu, uint32_t extra)
{
    struct tblock *b;
    unsigned avail;
    void *host;

    if (cpu_is_64bit(cpu) && !cpu_canonical(cpu, cpu->rip)) {
        cpu_raise_gp(cpu, 0);
        return NULL;
    }
    if (!lin_span(cpu, cpu->rip, ACCESS_FETCH, &host, &avail) || !host)
        return NULL;
    b = translate_find(cpu, host, extra);
    return b ? b : make_block(cpu, host, avail, extra);
}

/* Interrupts and other events come first; the page of a poll is a good one again until the next. */
static bool arm_poll(struct cpu *cpu)
{
    atomic_store(&cpu->native.poll, (uintptr_t)&cpu->native.self);
    return atomic_load(&cpu->attention) == 0;
}

/* The translation to go on with after an instruction that ended its block, if nothing else is to be
 * done first. */
static const uint8_t *after_branch(struct cpu *cpu)
{
    struct jump_cache *jumps;
    const uint8_t *entry;

    if (cpu->exc.pending || cpu->activity != CPU_ACTIVE || !translatable(cpu) ||
        cpu->icount >= cpu->icount_limit ||
        atomic_load_explicit(&cpu->attention, memory_order_relaxed))
        return NULL;
    refresh(cpu);
    jumps = translate_jumps(cpu);
    entry = translate_jump_find(jumps, cpu->rip);
    if (!entry) {
        struct tblock *b = find_block(cpu, counting_bit(cpu));

        cpu->stats.translate.jump_misses++;
        if (!b)
            return NULL;
        entry = b->entry;
        translate_jump_enter(cpu, b->entry);
    }
    cpu->native.page_base = cpu->rip & PAGE_MASK;
    return entry;
}

/* Instructions of the block that had been counted and are not executed yet are taken back, so that
 * the interpreter finds the right time. */
static void count_to(struct cpu *cpu, unsigned rest)
{
    if (must_count(cpu))
        cpu->icount = cpu->native.count_end - cpu->native.budget - rest;
}

static void count_from(struct cpu *cpu, unsigned rest)
{
    uint64_t left = cpu->icount_limit - cpu->icount;

    left = left < MAX_BUDGET ? left : MAX_BUDGET;
    cpu->native.count_end = cpu->icount + left;
    cpu->native.budget = left - rest;
}

const uint8_t *translate_interpret(struct cpu *cpu, uint64_t insn, const uint8_t *behind)
{
    struct tinsn *record = tinsn_at(translator_of(cpu), insn);
    const struct insn *in = translate_prepare(cpu, record, resume);
    unsigned rest = record->rest;
    const uint8_t *on;

    cpu->rip = cpu->native.page_base + record->page_offset;
    count_to(cpu, rest);
    cpu->native.resumed = cpu->native.forgotten = false;
    in->exec(cpu, in);
    if (cpu->native.resumed && !cpu->exc.pending) {
        cpu->icount++;
        if (!(record->holds && cpu->native.forgotten) && !exec_must_leave(cpu)) {
            count_from(cpu, rest - 1);
            return behind;
        }
        cpu->rip = rip_plus(cpu, record->len);
    }
    on = after_branch(cpu);
    count_from(cpu, 0);
    return on;
}

/* --- native exceptions in translated code --- */

static uint64_t executable(const struct translator *t, const uint8_t *writable)
{
    return (uintptr_t)writable + (uintptr_t)(t->executable - t->writable);
}

/* Signal handler: has the interpreter execute the instruction again, which raises the exception; or
 * leaves, when it was a poll. */
static bool redirect(struct cpu *cpu, struct native_context *c)
{
    struct translator *t = translator_of(cpu);
    const struct fault_site *fault;
    const struct tinsn *in;

    if (*c->rip - (uintptr_t)t->executable >= t->size)
        return false;
    fault = translate_find_fault_site(t, *c->rip - (uintptr_t)t->executable);
    if (!fault)
        return false;
    in = tinsn_at(t, fault->insn);
    if (fault->poll) {
        cpu->native.budget += in->rest;
        *c->r14 = in->page_offset;
        *c->rip = executable(t, t->stub_leave);
        return true;
    }
    *c->rcx = fault->insn;
    *c->r15 = (uintptr_t)t->executable + in->resume;
    *c->rip = executable(t, t->stub_interpret);
    return true;
}

/* --- dispatch --- */

static void run_translated(struct cpu *cpu, struct tblock *b)
{
    struct translator *t = translator_of(cpu);
    uint64_t generation = t->generation;
    struct tlink *link;

    cpu->native.link = NULL;
    if (!arm_poll(cpu))
        return;
    if (b->mode & MODE_CAREFUL)
        translate_jumps(cpu);
    else
        translate_jump_enter(cpu, b->entry);
    cpu->native.page_base = cpu->rip & PAGE_MASK;
    refresh(cpu);
    count_from(cpu, 0);
    if (!cpu->x87_live)
        cpu_x87_load(cpu);
    t->enter(cpu, b->entry);
    if (must_count(cpu))
        cpu->icount = cpu->native.count_end - cpu->native.budget;
    link = cpu->native.link;
    if (!link)
        return;
    cpu->rip = cpu->native.page_base + ((uintptr_t)link->target & ~(uintptr_t)PAGE_MASK);
    cpu->native.link_rip = cpu->rip;
    if (t->generation != generation)
        cpu->native.link = NULL;
}

/* After an exit through a link: makes it lead to its target for good, if that is where execution
 * went on (an interrupt may have come between). */
static void follow_link(struct cpu *cpu, struct tblock *b)
{
    struct tlink *link = cpu->native.link;

    if (link && link->target == b->code && link->mode == b->mode)
        translate_link(translator_of(cpu), link, b);
}

/* What else than cpu->mode chooses the block. An exit to a careful one counts if it is there that
 * execution goes on (an interrupt may have come between). */
static uint32_t extra_bits(const struct cpu *cpu)
{
    const struct tlink *link = cpu->native.link;
    bool careful = link && cpu->rip == cpu->native.link_rip && (link->mode & MODE_CAREFUL);

    return counting_bit(cpu) | (careful ? MODE_CAREFUL : 0);
}

/* No translated code is on the stack here: what is full can be emptied. */
static struct tblock *find_or_make_room(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);
    uint32_t extra = extra_bits(cpu);
    struct tblock *b = find_block(cpu, extra);

    if (b || !t->full || cpu->exc.pending)
        return b;
    translate_make_room(cpu);
    return find_block(cpu, extra);
}

static void execute(struct cpu *cpu)
{
    struct tblock *b = translatable(cpu) ? find_or_make_room(cpu) : NULL;

    if (b && !(must_count(cpu) && b->count > cpu->icount_limit - cpu->icount)) {
        follow_link(cpu, b);
        run_translated(cpu, b);
    } else {
        cpu->native.link = NULL;
        if (!cpu->exc.pending)
            interpret_block(cpu);
    }
    if (cpu->exc.pending)
        cpu_deliver_exception(cpu);
}

/* --- the engine --- */

static enum cpu_exit translate_run(struct cpu *cpu)
{
    enum cpu_exit exit;

    syscall(SYS_arch_prctl, ARCH_SET_GS, cpu);
    cpu->icount_partial = !must_count(cpu);
    cpu->native.self = cpu;
    cpu->native.link = NULL;
    cpu->native.if_mask = ~(uint64_t)FLAG_IF;
    cpu->native.ac_mask = ~(uint64_t)FLAG_AC;
    cpu->native.status_mask = FLAGS_STATUS | FLAG_FIXED;
    cpu->native.image_mask = ~(uint64_t)(FLAGS_STATUS | FLAG_FIXED | FLAG_VM | FLAG_RF);
    cpu->native.segment_ones = UINT32_MAX | (uint64_t)(SEG_P | SEG_S | SEG_WRITABLE) << 48;
    cpu->native.segment_zeros = (uint64_t)(SEG_CODE | SEG_EXPAND_DOWN) << 48;
    cpu->native.bit_mask32 = 31;
    cpu->native.bit_mask64 = 63;
    cpu->native.index_mask = (uint64_t)(TLB_SIZE - 1) << PAGE_SHIFT;
    cpu->native.page_mask = PAGE_MASK;
    cpu->native.sign_mask = UINT64_C(1) << 63;
    tlb_forget_stack(cpu);
    exit = interpret_loop(cpu, execute);
    cpu->native.link = NULL;
    translate_note_usage(cpu);
    return exit;
}

static void translate_free(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);

    if (!t)
        return;
    translate_cache_free(t);
    free(t->plan);
    verifier_free(t->verifier);
    fault_free_stack(&t->interp);
    interpreter_release(&t->interp);
    memory_set_code_listener(cpu->mem, NULL, NULL);
    free(t);
    cpu->engine = NULL;
}

static uint64_t code_cache_size(const struct cpu *cpu)
{
    uint64_t size = cpu->engine_config ? cpu->engine_config->code_cache : 0;

    return size ? size : CODE_CACHE_DEFAULT;
}

/* In a build for that, or where a test asks for it, each translation is proved. */
static bool must_verify(const struct cpu *cpu)
{
#ifdef DOBLE_VERIFY_CODE
    (void)cpu;
    return true;
#else
    return cpu->engine_config && cpu->engine_config->verify;
#endif
}

static int translate_init(struct cpu *cpu, struct err *err)
{
    struct translator *t = calloc(1, sizeof *t);
    int ret;

    if (!t)
        return err_set(err, -ENOMEM, "not enough memory for the translator");
    cpu->engine = t;
    t->plan = calloc(1, sizeof *t->plan);
    if (must_verify(cpu))
        t->verifier = verifier_new();
    if (!t->plan || (must_verify(cpu) && !t->verifier))
        ret = err_set(err, -ENOMEM, "not enough memory for the translator");
    else if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("avx"))
        ret = err_set(err, -ENOTSUP, "the host's processor lacks BMI2 or AVX, which it needs");
    else
        ret = fault_init(err);
    if (ret == 0)
        ret = fault_new_stack(&t->interp, err);
    if (ret == 0)
        ret = interpreter_prepare(cpu, &t->interp, err);
    if (getrandom(&t->jump_seed, sizeof t->jump_seed, 0) < 0)
        t->jump_seed = (uintptr_t)t ^ __builtin_ia32_rdtsc();
    if (ret == 0)
        ret = translate_cache_init(cpu, t, code_cache_size(cpu), err);
    t->interp.redirect = redirect;
    if (ret)
        translate_free(cpu);
    return ret;
}

const struct engine_ops engine_translate = {
    .name = "translate",
    .init = translate_init,
    .free = translate_free,
    .run = translate_run,
    .step = interpret_step,
    .flush = translate_cache_flush,
};
