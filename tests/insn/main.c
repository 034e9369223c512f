/* main.c - insn-test: every instruction form, by the engine and by the processor (see
 * docs/testing).
 *
 *   insn-test [--forms N] [--random-bytes N] [--seed S] [--mode 64|32|16] [--filter REGEX]
 *             [--sequences N] [--engine interpret|translate] [--show N] [--cpu MODEL]
 *             [--table FILE] [--list]
 *
 * --forms has the interpreter make one step at a time; with --engine translate, the engine runs.
 * Without --forms, --random-bytes and --sequences: 60 states of every form and 30,000 random byte
 * strings in each mode by the interpreter, and then a part of it by the translator, and sequences
 * by both.
 *
 * Exit status: 0 no difference, 1 differences, 2 usage, 77 this host can't run it (SKIP). */
#include "report.h"
#include "run.h"
#include "sequence_run.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define EXIT_SKIP 77

struct settings {
    struct options options;
    const char *cpu, *table;
    bool list;
    bool chosen; /* what to run; else the default */
    regex_t regex;
};

/* For the timer's signal handler. */
static struct engine_runner *volatile ticking;

static int usage(void)
{
    fputs("usage: insn-test [--forms N] [--random-bytes N] [--seed S] [--mode 64|32|16]\n"
          "                 [--filter REGEX] [--sequences N] [--engine interpret|translate]\n"
          "                 [--show N] [--cpu MODEL] [--table FILE] [--list]\n",
          stderr);
    return 2;
}

static bool set_option(struct settings *s, int option)
{
    uint64_t n = strtoull(optarg ? optarg : "", NULL, 0);

    switch (option) {
    case 'n': s->options.states = n; return s->chosen = true;
    case 'r': s->options.random_bytes = n; return s->chosen = true;
    case 'q': s->options.sequences = n; return s->chosen = true;
    case 'e': s->options.engine = optarg; return engine_find(optarg) != NULL;
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
    static const struct option longs[] = {{"forms", required_argument, NULL, 'n'},
                                          {"random-bytes", required_argument, NULL, 'r'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"mode", required_argument, NULL, 'm'},
                                          {"sequences", required_argument, NULL, 'q'},
                                          {"engine", required_argument, NULL, 'e'},
                                          {"filter", required_argument, NULL, 'f'},
                                          {"show", required_argument, NULL, 'w'},
                                          {"cpu", required_argument, NULL, 'c'},
                                          {"table", required_argument, NULL, 't'},
                                          {"list", no_argument, NULL, 'l'},
                                          {NULL, 0, NULL, 0}};
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

/* The engine is another from now on. */
static int use_engine(struct run *run, const char *name, struct err *err)
{
    int ret;

    ticking = NULL;
    engine_runner_free(run->engine);
    run->engine = NULL;
    ret = engine_runner_new(run->model, engine_find(name), &run->engine, err);
    if (ret)
        return ret;
    memcpy(engine_runner_data(run->engine), run->expected, DATA_SIZE);
    run->whole = strcmp(name, "interpret") != 0;
    ticking = run->engine;
    return 0;
}

static int run_part(struct run *run, const char *engine, struct err *err)
{
    double start = now();
    int ret = use_engine(run, engine, err);

    if (ret)
        return ret;
    printf("%s: ", engine);
    fflush(stdout);
    run->states = 0;
    if (run->options.states)
        run_forms(run);
    if (run->options.random_bytes)
        run_random_bytes(run);
    if (run->options.sequences)
        run_sequences(run);
    if (report_summary(stdout, &run->forms, run->states, now() - start))
        run->differs = true;
    for (unsigned i = 0; i < run->forms.count; i++)
        run->forms.forms[i].differences = 0;
    return 0;
}

static int run_default(struct run *run, struct err *err)
{
    int ret;

    run->options.states = 60;
    run->options.random_bytes = 30000;
    run->options.sequences = 1000;
    ret = run_part(run, "interpret", err);
    if (ret)
        return ret;
    run->options.states = 4;
    run->options.random_bytes = 0;
    run->options.sequences = 5000;
    return run_part(run, "translate", err);
}

static int run_all(struct run *run, const struct settings *s, struct err *err)
{
    int ret = s->chosen ? run_part(run, s->options.engine, err) : run_default(run, err);

    if (ret)
        return ret;
    if (s->table && write_table(run, s->table))
        return 1;
    return run->differs ? 1 : 0;
}

static void on_tick(int sig)
{
    (void)sig;
    if (ticking)
        engine_runner_tick(ticking);
}

/* What runs for two ticks is a loop, and has to be stopped. */
static void start_timer(void)
{
    static const struct itimerval tick = {{0, 100000}, {0, 100000}};
    /* Translated code has the guest's values in RSP: the engine has a stack for signals. */
    struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART | SA_ONSTACK};

    sigaction(SIGVTALRM, &sa, NULL);
    setitimer(ITIMER_VIRTUAL, &tick, NULL);
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
    start_timer();
    return 0;
}

int main(int argc, char **argv)
{
    struct settings s = {.options = {.seed = 1, .show = 1, .engine = "interpret"}};
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
        ret = run_all(&run, &s, &err);
        if (ret < 0)
            fprintf(stderr, "insn-test: %s\n", err.text);
        ret = ret < 0 ? 1 : ret;
    }
    ticking = NULL;
    engine_runner_free(run.engine);
    native_free(run.native);
    forms_free(&run.forms);
    free(run.expected);
    cpu_model_free(model);
    if (s.options.filter)
        regfree(&s.regex);
    return ret;
}
