/* The translating engine: events between blocks, dispatch, and the interpreter for single
 * instructions. */
#define _GNU_SOURCE
#include "engine/translate/translator.h"

#include "cpu/interrupt.h"
#include "engine/engine.h"
#include "engine/interpret/exec.h"
#include "engine/interpret/fault.h"
#include "engine/interpret/run.h"

#include <asm/prctl.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* The translation of the code at RIP; NULL: exception recorded, or the interpreter must do it. */
static struct tblock *find_block(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);
    struct tblock *b;
    unsigned avail;
    void *host;

    if (cpu_is_64bit(cpu) && !cpu_canonical(cpu, cpu->rip)) {
        cpu_raise_gp(cpu, 0);
        return NULL;
    }
    if (!lin_span(cpu, cpu->rip, ACCESS_FETCH, &host, &avail) || !host)
        return NULL;
    b = translate_find(cpu, host);
    if (b)
        return b;
    b = translate_block(cpu, host, avail);
    if (t->full) {
        translate_cache_flush(cpu);
        b = translate_block(cpu, host, avail);
    }
    if (b)
        translate_enter_block(cpu, b);
    return b;
}

/* The translation to go on with after an instruction that ended its block, if nothing else is to be
 * done first. */
static const uint8_t *after_branch(struct cpu *cpu)
{
    struct jump_cache *jumps;
    const uint8_t *entry;

    if (cpu->exc.pending || cpu->activity != CPU_ACTIVE || !translatable(cpu) ||
        atomic_load_explicit(&cpu->attention, memory_order_relaxed))
        return NULL;
    refresh(cpu);
    jumps = translate_jumps(cpu);
    entry = translate_jump_find(jumps, cpu->rip);
    if (!entry) {
        struct tblock *b = find_block(cpu);

        if (!b)
            return NULL;
        entry = b->entry;
        translate_jump_enter(translate_jumps(cpu), cpu->rip, b->entry);
    }
    cpu->native.page_base = cpu->rip & PAGE_MASK;
    return entry;
}

const uint8_t *translate_interpret(struct cpu *cpu, const struct insn *in, uint64_t page_offset,
                                   const uint8_t *behind)
{
    struct insn chain[2] = {*in, {.exec = resume}};

    cpu->native.resumed = false;
    cpu->rip = cpu->native.page_base + page_offset;
    chain[0].exec(cpu, chain);
    if (cpu->native.resumed && !cpu->exc.pending)
        return behind;
    return after_branch(cpu);
}

/* --- native exceptions in translated code --- */

/* The site of a native instruction, by its address. */
static const struct fault_site *find_site(const struct translator *t, uintptr_t rip)
{
    uint32_t offset = (uint32_t)(rip - (uintptr_t)t->executable);
    size_t low = 0, high = t->fault_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (t->faults[middle].offset == offset)
            return &t->faults[middle];
        if (t->faults[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Signal handler: has the interpreter execute the instruction again, which raises the exception. */
static bool redirect(struct cpu *cpu, struct native_context *c)
{
    struct translator *t = translator_of(cpu);
    const struct fault_site *site;

    if (*c->rip - (uintptr_t)t->executable >= t->size)
        return false;
    site = find_site(t, *c->rip);
    if (!site)
        return false;
    *c->rcx = (uintptr_t)site->in;
    *c->r14 = site->page_offset;
    *c->rsp -= 8;
    *(uint64_t *)*c->rsp = (uint64_t)(uintptr_t)(t->executable + site->resume);
    *c->rip = (uintptr_t)t->stub_interpret + (uintptr_t)(t->executable - t->writable);
    return true;
}

/* --- dispatch --- */

static void run_translated(struct cpu *cpu, struct tblock *b)
{
    struct translator *t = translator_of(cpu);
    uint64_t page = cpu->rip & PAGE_MASK;
    struct tlink *link;

    translate_jump_enter(translate_jumps(cpu), cpu->rip, b->entry);
    cpu->native.page_base = page;
    refresh(cpu);
    cpu->native.link = NULL;
    if (!cpu->x87_live)
        cpu_x87_load(cpu);
    t->enter(cpu, b->entry);
    link = cpu->native.link;
    if (!link)
        return;
    cpu->rip = cpu->native.page_base + ((uintptr_t)link->target & ~(uintptr_t)PAGE_MASK);
}

/* After an exit through a link: makes it lead to its target for good, if that is where execution
 * went on (an interrupt may have come between). */
static void follow_link(struct cpu *cpu, struct tblock *b)
{
    struct translator *t = translator_of(cpu);
    struct tlink *link = cpu->native.link;

    cpu->native.link = NULL;
    if (link && link->target == b->code && link->mode == b->mode)
        translate_link(t, link, b);
}

static void execute(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);
    struct tlink *link = cpu->native.link;
    size_t flushed = t->meta_used;
    struct tblock *b;

    if (!translatable(cpu)) {
        interpret_block(cpu);
        return;
    }
    b = find_block(cpu);
    if (t->meta_used < flushed)
        cpu->native.link = link = NULL; /* the cache was emptied, and the link with it */
    if (cpu->exc.pending) {
        cpu->native.link = NULL;
        cpu_deliver_exception(cpu);
        return;
    }
    if (!b) {
        cpu->native.link = NULL;
        interpret_block(cpu);
        return;
    }
    if (link)
        follow_link(cpu, b);
    run_translated(cpu, b);
    if (cpu->exc.pending)
        cpu_deliver_exception(cpu);
}

/* --- the engine --- */

/* Translated code doesn't count instructions. */
static bool must_count(const struct cpu *cpu)
{
    return cpu->clock->mode == CLOCK_VIRTUAL || cpu->icount_limit != UINT64_MAX;
}

static enum cpu_exit translate_run(struct cpu *cpu)
{
    enum cpu_exit exit;

    if (must_count(cpu))
        return engine_interpret.run(cpu);
    syscall(SYS_arch_prctl, ARCH_SET_GS, cpu);
    cpu->icount_partial = true;
    cpu->native.self = cpu;
    cpu->native.link = NULL;
    cpu->native.if_mask = ~(uint64_t)FLAG_IF;
    for (unsigned i = 0; i < ARRAY_SIZE(cpu->native.aligned_mask); i++)
        cpu->native.aligned_mask[i] = PAGE_MASK | ((1u << i) - 1);
    cpu->native.index_mask = (uint64_t)(TLB_SIZE - 1) << PAGE_SHIFT;
    cpu->native.page_mask = PAGE_MASK;
    cpu->native.jump_mask = ((UINT64_C(1) << JUMP_CACHE_BITS) - 1) << JUMP_CACHE_SHIFT;
    exit = interpret_loop(cpu, execute);
    cpu->native.link = NULL;
    return exit;
}

static void translate_free(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);

    if (!t)
        return;
    translate_cache_free(t);
    interpreter_release(&t->interp);
    memory_set_code_listener(cpu->mem, NULL, NULL);
    free(t);
    cpu->engine = NULL;
}

static int translate_init(struct cpu *cpu, struct err *err)
{
    struct translator *t = calloc(1, sizeof *t);
    int ret;

    if (!t)
        return err_set(err, -ENOMEM, "not enough memory for the translator");
    cpu->engine = t;
    if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("avx"))
        ret = err_set(err, -ENOTSUP,
                      "the host's processor lacks BMI2 or AVX, which the engine "
                      "'translate' needs; use '--engine interpret'");
    else
        ret = fault_init(err);
    if (ret == 0)
        ret = interpreter_prepare(cpu, &t->interp, err);
    if (ret == 0)
        ret = translate_cache_init(cpu, t, err);
    if (ret)
        translate_free(cpu);
    t->interp.redirect = redirect;
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
