/* native_child.c - see native_child.h.
 *
 * This file has mutable globals: a signal handler gets no argument of ours, and there is one child
 * with one thread. */
#define _GNU_SOURCE
#include "native_child.h"
#include "segments.h"

/* <ucontext.h> has a REG_RIP of its own, which clashes with the one of cpu.h. */
#define REG_RIP HOST_REG_RIP
#include <signal.h>
#include <ucontext.h>
#undef REG_RIP

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

void native_entry(int sig, siginfo_t *info, void *context);

/* Of native_entry.S: what the last instruction left, what the next begins with. */
extern struct native_segments native_before, native_after;
extern uint64_t native_own_fs;
struct native_segments native_before, native_after;
uint64_t native_own_fs;

#define XSTATE_BV_OFFSET 512 /* of the XSAVE header, behind the FXSAVE image */
#define XSAVE_AVX_OFFSET 576 /* CPUID(0Dh, 2).EBX is 576 on every processor */
#define FX_XMM_OFFSET 160
#define FX_MXCSR_OFFSET 24
#define TICK_US 20000 /* what runs longer is a loop */

static struct {
    struct native_memory *memory;
    struct batch *batch; /* NULL: no batch runs */
    unsigned steps;
    uint32_t ticking; /* the case that ran when the timer went off */
    gregset_t gregs;  /* where the batch was started from */
    uint8_t code_bytes[16];
    uint16_t code_offset;
    uint8_t filler; /* as in engine_runner.c */
    _Alignas(64) uint8_t fpu[FX_XMM_OFFSET];
} child;

static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                    REG_R12, REG_R13, REG_R14, REG_R15};

static void load_fpu(uint8_t *fp, const struct state *s)
{
    uint64_t bv;

    memcpy(fp, s->fx, FX_MXCSR_OFFSET);
    memcpy(fp + FX_MXCSR_OFFSET, &s->mxcsr, 4);
    memcpy(fp + 32, s->fx + 32, FX_XMM_OFFSET - 32);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(fp + FX_XMM_OFFSET + 16 * i, &s->ymm[i], 16);
        memcpy(fp + XSAVE_AVX_OFFSET + 16 * i, s->ymm[i].b + 16, 16);
    }
    memcpy(&bv, fp + XSTATE_BV_OFFSET, 8);
    bv |= XCR0_X87 | XCR0_SSE | XCR0_AVX;
    memcpy(fp + XSTATE_BV_OFFSET, &bv, 8);
}

/* A part in its initial state is not in the frame; its bit in XSTATE_BV is clear. */
static void save_fpu(const uint8_t *fp, struct state *s)
{
    uint64_t bv;

    memcpy(&bv, fp + XSTATE_BV_OFFSET, 8);
    memset(s->fx, 0, sizeof(s->fx));
    s->fx[0] = 0x7f;
    s->fx[1] = 0x03;
    if (bv & XCR0_X87)
        memcpy(s->fx, fp, sizeof(s->fx));
    memset(s->fx + FX_MXCSR_OFFSET, 0, 8);
    memcpy(&s->mxcsr, fp + FX_MXCSR_OFFSET, 4);
    memset(s->ymm, 0, sizeof(s->ymm));
    for (unsigned i = 0; i < 16; i++) {
        if (bv & XCR0_SSE)
            memcpy(&s->ymm[i], fp + FX_XMM_OFFSET + 16 * i, 16);
        if (bv & XCR0_AVX)
            memcpy(s->ymm[i].b + 16, fp + XSAVE_AVX_OFFSET + 16 * i, 16);
    }
}

static void load_state(ucontext_t *uc, const struct test_case *c)
{
    const struct state *s = &c->init;
    greg_t *gregs = uc->uc_mcontext.gregs;
    uint64_t keep = (uint64_t)gregs[REG_CSGSFS] & UINT64_C(0x0000ffffffff0000);

    for (unsigned i = 0; i < 16; i++)
        gregs[greg_of[i]] = (greg_t)s->gpr[i];
    gregs[HOST_REG_RIP] = (greg_t)s->rip;
    gregs[REG_EFL] = (greg_t)(s->rflags | (c->code_len ? 0 : FLAG_TF));
    gregs[REG_CSGSFS] = (greg_t)(keep | s->sel[CS] | (uint64_t)s->sel[SS] << 48);
    native_before = (struct native_segments){.fs_base = s->fs_base,
                                             .gs_base = s->gs_base,
                                             .ds = s->sel[DS],
                                             .es = s->sel[ES],
                                             .fs = s->sel[FS],
                                             .gs = s->sel[GS]};
    load_fpu((uint8_t *)uc->uc_mcontext.fpregs, s);
}

static void save_state(const ucontext_t *uc, struct state *s)
{
    const greg_t *gregs = uc->uc_mcontext.gregs;
    uint64_t selectors = (uint64_t)gregs[REG_CSGSFS];

    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = (uint64_t)gregs[greg_of[i]];
    s->rip = (uint64_t)gregs[HOST_REG_RIP];
    s->rflags = (uint64_t)gregs[REG_EFL];
    s->sel[CS] = (uint16_t)selectors;
    s->sel[SS] = (uint16_t)(selectors >> 48);
    s->sel[DS] = native_after.ds;
    s->sel[ES] = native_after.es;
    s->sel[FS] = native_after.fs;
    s->sel[GS] = native_after.gs;
    s->fs_base = native_after.fs_base;
    s->gs_base = native_after.gs_base;
    save_fpu((const uint8_t *)uc->uc_mcontext.fpregs, s);
}

/* Notes the lines of the data pages that the case changed, and makes the shadow follow. */
static void save_data(struct result *r)
{
    const struct native_memory *m = child.memory;

    r->line_count = 0;
    for (unsigned page = 0; page < DATA_PAGES; page++) {
        if (memcmp(m->data + page * PAGE_SIZE, m->shadow + page * PAGE_SIZE, PAGE_SIZE) == 0)
            continue;
        for (unsigned at = page * PAGE_SIZE; at < (page + 1) * PAGE_SIZE; at += LINE_SIZE) {
            if (memcmp(m->data + at, m->shadow + at, LINE_SIZE) == 0)
                continue;
            memcpy(m->shadow + at, m->data + at, LINE_SIZE);
            if (r->line_count == MAX_LINES)
                continue;
            r->lines[r->line_count].index = (uint16_t)(at / LINE_SIZE);
            memcpy(r->lines[r->line_count++].bytes, m->data + at, LINE_SIZE);
        }
    }
}

static void apply_patches(const struct test_case *c)
{
    for (unsigned i = 0; i < c->patch_count; i++) {
        const struct patch *p = &c->patches[i];

        memcpy(child.memory->data + p->offset, c->pool + p->pool, p->len);
        memcpy(child.memory->shadow + p->offset, c->pool + p->pool, p->len);
    }
}

static void place_code(const struct test_case *c)
{
    uint8_t *code = child.memory->code;
    unsigned room = PAGE_SIZE - c->offset;
    unsigned len = c->whole ? c->len : 16;
    uint8_t filler = c->whole ? 0xcc : 0x90;

    if (child.code_offset == c->offset && memcmp(child.code_bytes, c->bytes, 16) == 0 &&
        child.filler == filler)
        return;
    if (child.filler != filler)
        memset(code, filler, PAGE_SIZE);
    memset(code + child.code_offset, filler,
           PAGE_SIZE - child.code_offset < 16 ? PAGE_SIZE - child.code_offset : 16);
    memcpy(code + c->offset, c->bytes, room < len ? room : len);
    child.filler = filler;
    memcpy(child.code_bytes, c->bytes, 16);
    child.code_offset = c->offset;
}

/* A sequence may have changed itself: the pages are looked at each time. */
static void place_sequence(const struct test_case *c)
{
    uint8_t image[SEQ_SIZE];

    case_make_image(c, image);
    if (memcmp(child.memory->sequence, image, sizeof(image)) != 0)
        memcpy(child.memory->sequence, image, sizeof(image));
    case_fill_data(c->number, child.memory->data);
    memcpy(child.memory->shadow, child.memory->data, DATA_SIZE);
}

static void begin_case(ucontext_t *uc)
{
    const struct test_case *c = &child.batch->cases[child.batch->current];

    child.steps = 0;
    if (c->code_len)
        place_sequence(c);
    else
        place_code(c);
    apply_patches(c);
    load_state(uc, c);
}

static void end_case(int sig, const ucontext_t *uc)
{
    struct result *r = &child.batch->results[child.batch->current];
    const greg_t *gregs = uc->uc_mcontext.gregs;

    save_state(uc, &r->after);
    r->vector = sig == SIGVTALRM ? NO_EXIT : (uint32_t)gregs[REG_TRAPNO];
    r->error = (uint32_t)gregs[REG_ERR];
    r->cr2 = (uint64_t)gregs[REG_CR2];
    save_data(r);
}

/* A repeated string instruction traps after each iteration. */
static bool repeats(const ucontext_t *uc)
{
    const struct test_case *c = &child.batch->cases[child.batch->current];
    const greg_t *gregs = uc->uc_mcontext.gregs;

    return gregs[REG_TRAPNO] == EXC_DB && (uint64_t)gregs[HOST_REG_RIP] == c->init.rip &&
           ++child.steps < c->max_steps;
}

/* Keeps the selectors and bases that the instruction left, for its next iteration. */
static void go_on(void)
{
    native_before = native_after;
}

/* The timer's signal: does a sequence run since the last one? */
static bool hangs(void)
{
    uint32_t before = child.ticking;

    child.ticking = child.batch ? child.batch->current : UINT32_MAX;
    return child.ticking != UINT32_MAX && child.ticking == before;
}

/* The first signal comes from native_child_run() itself: remember where to go back to. */
static void enter(ucontext_t *uc)
{
    memcpy(child.gregs, uc->uc_mcontext.gregs, sizeof(child.gregs));
    memcpy(child.fpu, uc->uc_mcontext.fpregs, sizeof(child.fpu));
    child.batch->current = 0;
    begin_case(uc);
}

static void leave(ucontext_t *uc)
{
    memcpy(uc->uc_mcontext.gregs, child.gregs, sizeof(child.gregs));
    memcpy(uc->uc_mcontext.fpregs, child.fpu, sizeof(child.fpu));
    uc->uc_mcontext.gregs[HOST_REG_RIP] += 2; /* over UD2 */
    native_before = (struct native_segments){.fs_base = native_own_fs};
    child.batch = NULL;
}

void native_signal(int sig, void *info, void *context)
{
    ucontext_t *uc = context;

    (void)info;
    if (sig == SIGVTALRM && !hangs()) {
        go_on();
        return;
    }
    if (!child.batch)
        _exit(99); /* a mistake of this program, not of a case */
    if (child.batch->current == UINT32_MAX) {
        enter(uc);
        return;
    }
    if (sig != SIGVTALRM && repeats(uc)) {
        go_on();
        return;
    }
    end_case(sig, uc);
    if (++child.batch->current < child.batch->count)
        begin_case(uc);
    else
        leave(uc);
}

static void map_at(uint64_t address, uint64_t size, int prot, int fd, uint64_t offset)
{
    void *at = mmap((void *)(uintptr_t)address, size, prot,
                    MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, (off_t)offset);

    if (at != (void *)(uintptr_t)address)
        _exit(98);
}

static void install_handlers(void)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGVTALRM};
    static const struct itimerval tick = {{0, TICK_US}, {0, TICK_US}};
    static uint8_t stack[64 * KIB];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_sigaction = native_entry,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART};

    sigemptyset(&sa.sa_mask);
    sigaddset(&sa.sa_mask, SIGVTALRM);
    sigaltstack(&ss, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &sa, NULL);
    setitimer(ITIMER_VIRTUAL, &tick, NULL);
}

/* The memfd: the code page first, then the data pages. */
int native_child_init(int fd, struct native_memory *memory)
{
    int ret = segments_load_ldt();

    if (ret)
        return ret;
    map_at(CODE_BASE, PAGE_SIZE, PROT_READ | PROT_EXEC, fd, 0);
    map_at(DATA_BASE, DATA_WRITABLE * PAGE_SIZE, PROT_READ | PROT_WRITE, fd, PAGE_SIZE);
    map_at(DATA_WRITABLE_END, DATA_END - DATA_WRITABLE_END, PROT_READ, fd,
           (1 + DATA_WRITABLE) * PAGE_SIZE);
    for (unsigned i = 0; i <= SEQ_PAGES; i++) /* the first page once more at the end */
        map_at(SEQ_BASE + i * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, fd,
               (1 + DATA_PAGES + i % SEQ_PAGES) * PAGE_SIZE);
    child.memory = memory;
    child.code_offset = 0;
    memset(memory->code, 0x90, PAGE_SIZE);
    child.filler = 0x90;
    memset(child.code_bytes, 0x90, sizeof(child.code_bytes));
    memcpy(memory->shadow, memory->data, DATA_SIZE);
    __asm__("rdfsbase %0" : "=r"(native_own_fs));
    install_handlers();
    return 0;
}

void native_child_run(struct batch *batch)
{
    if (batch->count == 0)
        return;
    child.batch = batch;
    batch->current = UINT32_MAX;
    __asm__ volatile("ud2" ::: "memory");
}
