/* sequence_run.c - see sequence_run.h. */
#include "sequence_run.h"
#include "report.h"
#include "sequence.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

static void add_sequence(struct run *run, const struct sequence *s, const unsigned forms[2])
{
    struct test_case c;

    for (unsigned i = 0; i < SEQ_STATES; i++) {
        if (!sequence_case(s, i, &c))
            return;
        c.form = forms[s->mode != 64];
        run_add_case(run, &c);
    }
}

/* --- making a sequence that differs smaller --- */

/* Runs all states, in the order of the campaign, with empty caches at first. Returns the first that
 * differs, or SEQ_STATES; `text`, if not NULL, gets how. */
static unsigned first_difference(struct run *run, const struct sequence *s, char **text)
{
    struct batch *batch = native_batch(run->native, 0);
    unsigned differs = SEQ_STATES;

    for (unsigned i = 0; i < SEQ_STATES; i++)
        if (!sequence_case(s, i, &batch->cases[i]))
            return SEQ_STATES;
    batch->count = SEQ_STATES;
    native_start(run->native, 0);
    if (native_wait(run->native)) {
        engine_runner_flush(run->engine);
        for (unsigned i = 0; i < SEQ_STATES && differs == SEQ_STATES; i++) {
            char *found = NULL;
            size_t size = 0;
            FILE *out = open_memstream(&found, &size);

            run_compare_sequence(run, &batch->cases[i], &batch->results[i], out);
            fclose(out);
            if (size)
                differs = i;
            if (size && text)
                *text = found;
            else
                free(found);
        }
    }
    batch->count = 0;
    return differs;
}

static void make_smaller(struct run *run, struct sequence *s)
{
    bool smaller = true;

    while (smaller) {
        smaller = false;
        for (unsigned i = s->count; i-- > 0;) {
            struct sequence less = *s;

            sequence_drop(&less, i);
            if (less.count == 0 || first_difference(run, &less, NULL) == SEQ_STATES)
                continue;
            *s = less;
            smaller = true;
        }
    }
}

static void print_code(struct run *run, const struct test_case *c)
{
    const ZydisDecoder *decoder = &run->decoders[c->mode != 64];
    char line[128];
    struct decoded d;

    for (unsigned at = 0; at < c->code_len; at += d.insn.length) {
        uint8_t bytes[16] = {0};
        unsigned left = c->code_len - at;

        memcpy(bytes, c->code + at, left < 15 ? left : 15);
        if (!decoder_decode(decoder, bytes, MAX_INSN, &d)) {
            d.insn.length = 1;
            strcpy(line, "?");
        } else {
            decoder_text(&d, line, sizeof(line));
        }
        printf("    %llx  %-44s", (ull)(SEQ_BASE + c->offset + at), line);
        for (unsigned i = 0; i < d.insn.length; i++)
            printf(" %02x", bytes[i]);
        printf("\n");
    }
}

static void show_sequence(struct run *run, const struct sequence_maker *m, uint64_t number)
{
    struct sequence *s = calloc(1, sizeof(*s));
    struct test_case c;
    char *text = NULL;
    unsigned state;

    if (!s)
        return;
    sequence_make(m, number, s);
    if (first_difference(run, s, NULL) == SEQ_STATES) {
        printf("DIFFERENCE in sequence %llu, but only behind others\n", (ull)number);
        free(s);
        return;
    }
    make_smaller(run, s);
    state = first_difference(run, s, &text);
    sequence_case(s, state < SEQ_STATES ? state : 0, &c);
    printf("DIFFERENCE in sequence %llu of seed %llu, %u-bit, state %u\n", (ull)number,
           (ull)run->options.seed, s->mode, state);
    print_code(run, &c);
    report_state(stdout, &c);
    fputs(text ? text : "", stdout);
    fflush(stdout);
    free(text);
    free(s);
}

/* --- the campaign --- */

static void show_progress(uint64_t n, uint64_t total)
{
    if (n % 1000 == 0 && isatty(STDERR_FILENO))
        fprintf(stderr, "\r%llu of %llu sequences ", (ull)n, (ull)total);
}

static bool add_forms(struct run *run, unsigned forms[2])
{
    static const uint8_t modes[] = {64, 32};

    for (unsigned i = 0; i < 2; i++) {
        struct form *form = forms_add(&run->forms, "(sequences)", modes[i]);

        if (!form)
            return false;
        forms[i] = (unsigned)(form - run->forms.forms);
    }
    return true;
}

void run_sequences(struct run *run)
{
    struct sequence_maker m = {.model = run->model,
                               .forms = &run->forms,
                               .decoders = run->decoders,
                               .seed = run->options.seed};
    struct sequence *s = calloc(1, sizeof(*s));
    unsigned forms[2];

    if (s && add_forms(run, forms) && sequence_maker_init(&m)) {
        run->failed_count = 0;
        for (uint64_t n = 0; n < run->options.sequences; n++) {
            show_progress(n, run->options.sequences);
            sequence_make(&m, n, s);
            if (s->count)
                add_sequence(run, s, forms);
        }
        run_finish(run);
        if (run->endless)
            printf("%llu runs were stopped by the timer, and are not compared\n",
                   (ull)run->endless);
        for (unsigned i = 0; i < run->failed_count; i++)
            show_sequence(run, &m, run->failed[i]);
    }
    sequence_maker_free(&m);
    free(s);
}
