/* run.c - see run.h. */
#include "run.h"
#include "cases.h"
#include "compare.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATES_OF_ENCODING 16 /* at most; fewer is slower, because code has to be decoded again */

static ZydisDecoder *decoder_of(struct run *run, unsigned mode)
{
    return &run->decoders[mode == 64 ? 0 : mode == 32 ? 1 : 2];
}

/* The native run stored what the result says; what it couldn't know is in the patches. */
static void apply_native_data(struct run *run, const struct test_case *c, const struct result *r)
{
    if (c->code_len)
        case_fill_data(c->number, run->expected);
    for (unsigned i = 0; i < c->patch_count; i++)
        memcpy(run->expected + c->patches[i].offset, c->pool + c->patches[i].pool,
               c->patches[i].len);
    for (unsigned i = 0; i < r->line_count; i++)
        memcpy(run->expected + r->lines[i].index * LINE_SIZE, r->lines[i].bytes, LINE_SIZE);
}

static void show_difference(struct run *run, struct form *form, const struct test_case *c,
                            const struct decoded *d, const char *text)
{
    if (form->differences++ >= run->options.show)
        return;
    report_case(stdout, form, c, d, form->runs);
    fputs(text, stdout);
    fflush(stdout);
}

/* EVEX and XOP: the host's processor may have instructions there that Zydis doesn't know. */
static bool is_new_encoding(const struct test_case *c)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
                                       0x66, 0x67, 0xf0, 0xf2, 0xf3};
    unsigned i = 0;

    while (i < c->len && (memchr(prefixes, c->bytes[i], sizeof(prefixes)) ||
                          (c->mode == 64 && (c->bytes[i] & 0xf0) == 0x40)))
        i++;
    return i < c->len && (c->bytes[i] == 0x62 || c->bytes[i] == 0x8f);
}

static void compare_case(struct run *run, const struct test_case *c, const struct result *native,
                         const struct result *engine, const struct decoded *d)
{
    struct form *form = &run->forms.forms[c->form];
    uint8_t *actual = engine_runner_data(run->engine);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return;
    if (!d && native->vector == EXC_GP && engine->vector == EXC_UD) {
        /* an undefined opcode in more than 15 bytes: the processor sees the length first */
    } else if (d ? decoder_tested(run->model, d) == TESTED_ABSENT : is_new_encoding(c)) {
        if (engine->vector != EXC_UD)
            fprintf(out, "    not advertised, but vector %u and not #UD\n", engine->vector);
    } else {
        compare_results(c, d, native, engine, run->expected, actual, out);
    }
    fclose(out);
    if (size)
        show_difference(run, form, c, d, text);
    free(text);
    memcpy(actual, run->expected, DATA_SIZE);
}

/* A quick look, so that text is made only for what differs. */
static bool obviously_equal(const struct test_case *c, const struct result *n,
                            const struct result *e)
{
    uint64_t tf = c->trap || c->code_len ? 0 : FLAG_TF;

    return c->mode == 64 && n->vector == e->vector &&
           n->vector == (c->code_len ? EXC_BP : EXC_DB) &&
           memcmp(n->after.gpr, e->after.gpr, sizeof(n->after.gpr)) == 0 &&
           n->after.rip == e->after.rip && (n->after.rflags & ~tf) == e->after.rflags &&
           memcmp(&n->after.fs_base, &e->after.fs_base, 16 + sizeof(n->after.sel)) == 0 &&
           n->after.mxcsr == e->after.mxcsr &&
           memcmp(n->after.ymm, e->after.ymm, sizeof(n->after.ymm)) == 0 &&
           memcmp(n->after.fx, e->after.fx, 6) == 0 &&
           memcmp(n->after.fx + 32, e->after.fx + 32, 128) == 0;
}

/* The instruction that raised the exception, as the sequence has made it. */
static bool decode_fault(struct run *run, const struct test_case *c, const struct result *r,
                         struct decoded *d)
{
    uint64_t at = r->after.rip - SEQ_BASE;
    const uint8_t *pages = engine_runner_sequence(run->engine);
    uint8_t bytes[16] = {0};

    if (r->vector == EXC_BP || at >= SEQ_SIZE + PAGE_SIZE)
        return false;
    for (unsigned i = 0; i < MAX_INSN; i++)
        bytes[i] = pages[(at + i) % SEQ_SIZE];
    return decoder_decode(decoder_of(run, c->mode), bytes, MAX_INSN, d);
}

/* Can what run() does be compared with one native step? */
static bool fits_whole(const struct decoded *d)
{
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_IRET || d->insn.mnemonic == ZYDIS_MNEMONIC_IRETD ||
        d->insn.mnemonic == ZYDIS_MNEMONIC_IRETQ)
        return false;
    return !case_needs_trap(d) && d->insn.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
}

/* Accesses over the end of 4 GiB may fault or wrap around (SDM vol. 3, 6.3). */
static bool wraps_around(const struct test_case *c, const struct result *n, const struct result *e)
{
    return c->mode == 32 && (n->vector == EXC_GP || n->vector == EXC_SS) && n->error == 0 &&
           (e->vector == EXC_AC || (e->vector == EXC_PF && e->cr2 + 64 > UINT32_MAX));
}

/* A repeated store over the sequence itself may go on, or be fetched again as what it is then. */
static bool overwrites_itself(const struct result *n, const struct result *e)
{
    return n->after.gpr[RDI] != e->after.gpr[RDI] &&
           n->after.gpr[RDI] + PAGE_SIZE - SEQ_BASE <= SEQ_SIZE + 2 * PAGE_SIZE;
}

void run_compare_sequence(struct run *run, const struct test_case *c, const struct result *native,
                          FILE *out)
{
    uint8_t *actual = engine_runner_data(run->engine);
    struct result engine;
    struct decoded d;
    bool known;

    engine_runner_run(run->engine, c, &engine);
    apply_native_data(run, c, native);
    known = decode_fault(run, c, native, &d);
    if (native->vector == NO_EXIT || engine.vector == NO_EXIT)
        run->endless++;
    else if (!wraps_around(c, native, &engine) && !(known && !fits_whole(&d)) &&
             !overwrites_itself(native, &engine) &&
             !(obviously_equal(c, native, &engine) &&
               memcmp(run->expected, actual, DATA_SIZE) == 0))
        compare_results(c, known ? &d : NULL, native, &engine, run->expected, actual, out);
    memcpy(actual, run->expected, DATA_SIZE);
}

static void check_sequence(struct run *run, const struct test_case *c, const struct result *native)
{
    struct form *form = &run->forms.forms[c->form];
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return;
    run_compare_sequence(run, c, native, out);
    fclose(out);
    form->runs++;
    run->states++;
    form->faults += native->vector != EXC_BP;
    if (size) {
        form->differences++;
        if (run->failed_count < MAX_FAILED &&
            (!run->failed_count || run->failed[run->failed_count - 1] != c->number))
            run->failed[run->failed_count++] = c->number;
    }
    free(text);
}

static void check_case(struct run *run, const struct test_case *c, const struct result *native)
{
    struct form *form = &run->forms.forms[c->form];
    struct result engine;
    struct decoded d;
    bool known;

    if (c->code_len) {
        check_sequence(run, c, native);
        return;
    }
    engine_runner_run(run->engine, c, &engine);
    apply_native_data(run, c, native);
    form->runs++;
    run->states++;
    form->faults += native->vector != EXC_DB;
    if (c->whole && native->after.rip - c->init.rip < c->len && native->vector == EXC_DB) {
        /* a branch into itself, where the engine went on */
        memcpy(engine_runner_data(run->engine), run->expected, DATA_SIZE);
        return;
    }
    if (obviously_equal(c, native, &engine) &&
        memcmp(run->expected, engine_runner_data(run->engine), DATA_SIZE) == 0)
        return;
    known = decoder_decode(decoder_of(run, c->mode), c->bytes, MAX_INSN, &d);
    compare_case(run, c, native, &engine, known ? &d : NULL);
}

static void check_batch(struct run *run, const struct batch *batch, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        check_case(run, &batch->cases[i], &batch->results[i]);
}

/* The child died in a case: says which, and takes the child's memory for both sides. */
static void native_died(struct run *run, const struct batch *batch)
{
    const struct test_case *c = &batch->cases[batch->current];
    struct form *form = &run->forms.forms[c->form];
    struct decoded d;
    bool known = decoder_decode(decoder_of(run, c->mode), c->bytes, MAX_INSN, &d);

    show_difference(run, form, c, known ? &d : NULL, "    the native run did not end\n");
    memcpy(run->expected, native_data(run->native), DATA_SIZE);
    memcpy(engine_runner_data(run->engine), run->expected, DATA_SIZE);
}

/* Waits for the batch that runs natively, starts the one that was filled (if any), and meanwhile
 * checks the former. */
static void turn(struct run *run)
{
    unsigned done = !run->filling;
    struct batch *batch = native_batch(run->native, done);
    struct batch *next = native_batch(run->native, run->filling);
    bool alive = true;

    if (run->running)
        alive = native_wait(run->native);
    if (!alive) { /* the child's memory must not change meanwhile */
        check_batch(run, batch, batch->current < batch->count ? batch->current : 0);
        native_died(run, batch);
    }
    if (next->count)
        native_start(run->native, run->filling);
    if (run->running && alive)
        check_batch(run, batch, batch->count);
    batch->count = 0;
    run->running = next->count != 0;
    run->filling = done;
}

void run_finish(struct run *run)
{
    turn(run);
    turn(run);
}

void run_add_case(struct run *run, const struct test_case *c)
{
    struct batch *batch = native_batch(run->native, run->filling);

    batch->cases[batch->count++] = *c;
    if (batch->count == BATCH_CASES)
        turn(run);
}

/* One encoding of a form, and up to `states` states of it. Returns how many. */
static uint64_t add_encoding(struct run *run, unsigned index, struct rng *rng, uint64_t states)
{
    const struct form *form = &run->forms.forms[index];
    ZydisDecoder *decoder = decoder_of(run, form->mode);
    struct test_case c = {.mode = form->mode, .form = index, .whole = run->whole};
    struct decoded d;
    uint64_t count = 1 + rng_below(rng, STATES_OF_ENCODING);

    if (count > states)
        count = states;
    if (!form_encode(form, decoder, rng, c.bytes, &d))
        return states;
    case_place(&c, &d, rng);
    if (!decoder_decode(decoder, c.bytes, MAX_INSN, &d) ||
        decoder_tested(run->model, &d) == TESTED_NOT)
        return 0;
    if (run->whole && !fits_whole(&d))
        return states;
    c.len = d.insn.length;
    for (uint64_t i = 0; i < count; i++) {
        case_randomize(&c, &d, run->model, rng);
        run_add_case(run, &c);
    }
    return count;
}

static bool selected(const struct run *run, const struct form *form)
{
    if (run->options.mode && run->options.mode != form->mode)
        return false;
    return !run->options.filter || regexec(run->options.filter, form->name, 0, NULL, 0) == 0;
}

static void show_progress(const struct run *run, unsigned form)
{
    if (form % 100 == 0 && isatty(STDERR_FILENO))
        fprintf(stderr, "\r%u of %u forms, %llu states ", form, run->forms.count,
                (unsigned long long)run->states);
}

void run_forms(struct run *run)
{
    for (unsigned i = 0; i < run->forms.count; i++) {
        const struct form *form = &run->forms.forms[i];
        struct rng rng;

        if (!selected(run, form))
            continue;
        show_progress(run, i);
        rng_init(&rng, run->options.seed + form->mode, form->name);
        for (uint64_t done = 0; done < run->options.states;)
            done += add_encoding(run, i, &rng, run->options.states - done);
    }
    run_finish(run);
}

/* Bytes that look like code more often than random ones do. */
static void random_bytes(struct rng *rng, uint8_t bytes[16])
{
    static const uint8_t likely_bytes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x64, 0x48,
                                           0x4f, 0x41, 0xc5, 0xc4, 0x62, 0x0f, 0x8f, 0x44};
    uint64_t any[2] = {rng_u64(rng), rng_u64(rng)};
    unsigned at = 0;

    memcpy(bytes, any, 16);
    while (at < 6 && rng_one_in(rng, 2))
        bytes[at++] = likely_bytes[rng_below(rng, ARRAY_SIZE(likely_bytes))];
    if (rng_one_in(rng, 2))
        bytes[at++] = 0x0f;
    if (at && bytes[at - 1] == 0x0f && rng_one_in(rng, 3))
        bytes[at] = rng_one_in(rng, 2) ? 0x38 : 0x3a;
}

/* Does anything in these bytes enter the host's kernel or hypervisor? */
static bool may_run_natively(const uint8_t bytes[16])
{
    for (unsigned i = 0; i < 15; i++) {
        if (bytes[i] == 0x0f && (bytes[i + 1] == 0x05 || bytes[i + 1] == 0x34))
            return false;
        if (bytes[i] == 0x0f && bytes[i + 1] == 0x01 && i < 14 && bytes[i + 2] >= 0xc0)
            return false;
        if (bytes[i] == 0xcd && bytes[i + 1] == 0x80)
            return false;
        if (bytes[i] == 0xc7 && bytes[i + 1] == 0xf8) /* XBEGIN */
            return false;
    }
    return true;
}

static void add_random(struct run *run, unsigned index, struct rng *rng)
{
    struct test_case c = {.mode = run->forms.forms[index].mode, .form = index, .len = MAX_INSN};
    struct decoded d;
    bool known;

    random_bytes(rng, c.bytes);
    if (!may_run_natively(c.bytes))
        return;
    known = decoder_decode(decoder_of(run, c.mode), c.bytes, MAX_INSN, &d);
    if (!known) {
        memset(&d, 0, sizeof(d));
        d.insn.length = MAX_INSN;
    }
    c.offset = 0x100;
    if (known) {
        case_place(&c, &d, rng);
        c.offset = 0x100;
        known = decoder_decode(decoder_of(run, c.mode), c.bytes, MAX_INSN, &d);
        memset(c.bytes + d.insn.length, 0x90, 16 - d.insn.length);
        c.len = d.insn.length;
    }
    if (known && decoder_tested(run->model, &d) == TESTED_NOT)
        return;
    c.whole = run->whole && (!known || fits_whole(&d));
    case_randomize(&c, &d, run->model, rng);
    run_add_case(run, &c);
}

void run_random_bytes(struct run *run)
{
    static const uint8_t modes[] = {64, 32, 16};

    for (unsigned i = 0; i < 3; i++) {
        struct form *form;
        struct rng rng;

        if (run->options.mode && run->options.mode != modes[i])
            continue;
        form = forms_add(&run->forms, "(random bytes)", modes[i]);
        if (!form)
            return;
        rng_init(&rng, run->options.seed + modes[i], form->name);
        for (uint64_t n = 0; n < run->options.random_bytes; n++)
            add_random(run, (unsigned)(form - run->forms.forms), &rng);
    }
    run_finish(run);
}
