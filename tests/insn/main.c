/* main.c - insn-test: every instruction form, by the engine and by the processor (see
 * docs/testing).
 *
 *   insn-test [--forms N] [--random-bytes N] [--seed S] [--mode 64|32|16] [--filter REGEX]
 *             [--show N] [--cpu MODEL] [--table FILE] [--list]
 *
 * Without options: 60 states of every form and 30,000 random byte strings in each mode.
 *
 * Exit status: 0 no difference, 1 differences, 2 usage, 77 this host can't run it (SKIP). */
#include "report.h"
#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXIT_SKIP 77

struct settings {
    struct options options;
    const char *cpu, *table;
    bool list;
    regex_t regex;
};

static int usage(void)
{
    fputs("usage: insn-test [--forms N] [--random-bytes N] [--seed S] [--mode 64|32|16]\n"
          "                 [--filter REGEX] [--show N] [--cpu MODEL] [--table FILE] [--list]\n",
          stderr);
    return 2;
}

static bool set_option(struct settings *s, int option)
{
    uint64_t n = strtoull(optarg ? optarg : "", NULL, 0);

    switch (option) {
    case 'n': s->options.states = n; return true;
    case 'r': s->options.random_bytes = n; return true;
    case 's': s->options.seed = n; return true;
    case 'm': s->options.mode = (unsigned)n; return n == 64 || n == 32 || n == 16;
    case 'w': s->options.show = (unsigned)n; return true;
    case 'c': s->cpu = optarg; return true;
    case 't': s->table = optarg; return true;
    case 'l': s->list = true; return true;
    case 'f':
        s->options.filter = &s->regex;
        return regcomp(&s->regex, optarg, REG_EXTENDED | REG_NOSUB) == 0;
    default: return false;
    }
}

static bool parse(struct settings *s, int argc, char **argv)
{
    static const struct option longs[] = {
        {"forms", required_argument, NULL, 'n'},  {"random-bytes", required_argument, NULL, 'r'},
        {"seed", required_argument, NULL, 's'},   {"mode", required_argument, NULL, 'm'},
        {"filter", required_argument, NULL, 'f'}, {"show", required_argument, NULL, 'w'},
        {"cpu", required_argument, NULL, 'c'},    {"table", required_argument, NULL, 't'},
        {"list", no_argument, NULL, 'l'},         {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
        if (!set_option(s, option))
            return false;
    return optind == argc;
}

static bool enumerate(struct run *run)
{
    static const uint8_t modes[] = {64, 32, 16};

    for (unsigned i = 0; i < 3; i++) {
        decoder_init(&run->decoders[i], run->model, modes[i]);
        if (!forms_enumerate(&run->forms, run->model, modes[i]))
            return false;
    }
    return true;
}

static void list_forms(const struct form_list *list)
{
    for (unsigned i = 0; i < list->count; i++)
        printf("%u-bit %s\n", list->forms[i].mode, list->forms[i].name);
}

static int write_table(const struct run *run, const char *path)
{
    FILE *out = fopen(path, "w");

    if (!out) {
        fprintf(stderr, "insn-test: %s: %s\n", path, strerror(errno));
        return 1;
    }
    report_table(out, &run->forms, run->options.seed);
    return fclose(out) ? 1 : 0;
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int run_all(struct run *run, const char *table)
{
    double start = now();
    unsigned bad;

    if (run->options.states)
        run_forms(run);
    if (run->options.random_bytes)
        run_random_bytes(run);
    bad = report_summary(stdout, &run->forms, run->states, now() - start);
    if (table && write_table(run, table))
        return 1;
    return bad ? 1 : 0;
}

static int start(struct run *run, const char *cpu, struct cpu_model **model, struct err *err)
{
    int ret = cpu_model_new(cpu, model, err);

    if (ret)
        return ret;
    run->model = *model;
    run->expected = calloc(1, DATA_SIZE);
    if (!run->expected || !enumerate(run))
        return err_set(err, -ENOMEM, "out of memory");
    /* the child first: it must not inherit the engine's mappings */
    ret = native_new(&run->native, err);
    if (ret)
        return ret;
    return engine_runner_new(run->model, &engine_interpret, &run->engine, err);
}

int main(int argc, char **argv)
{
    struct settings s = {.options = {.states = 60, .random_bytes = 30000, .seed = 1, .show = 1}};
    struct cpu_model *model = NULL;
    struct run run = {0};
    struct err err = {0};
    int ret;

    if (!parse(&s, argc, argv))
        return usage();
    run.options = s.options;
    ret = start(&run, s.cpu, &model, &err);
    if (ret) {
        fprintf(stderr, "%s%s\n", ret == -ENOTSUP ? "SKIP: " : "insn-test: ", err.text);
        ret = ret == -ENOTSUP ? EXIT_SKIP : 1;
    } else if (s.list) {
        list_forms(&run.forms);
    } else {
        ret = run_all(&run, s.table);
    }
    engine_runner_free(run.engine);
    native_free(run.native);
    forms_free(&run.forms);
    free(run.expected);
    cpu_model_free(model);
    if (s.options.filter)
        regfree(&s.regex);
    return ret;
}
