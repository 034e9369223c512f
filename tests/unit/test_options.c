/* test_options.c - the command line: what is understood, and what is answered otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/options.h"

#include <errno.h>
#include <string.h>

#define MAX_WORDS 16

/* Parses "doble run WORD..."; the last word is NULL. */
static int parse(struct options *o, struct err *err, ...)
{
    char *argv[MAX_WORDS] = {(char *)"doble", (char *)"run"};
    int argc = 2;
    va_list args;
    char *word;

    memset(err, 0, sizeof *err);
    va_start(args, err);
    while ((word = va_arg(args, char *)) && argc < MAX_WORDS)
        argv[argc++] = word;
    va_end(args);
    return options_parse(o, argc, argv, err);
}

static void lone_run(void **state)
{
    struct options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(&o, &err, NULL), 0);
    assert_int_equal(o.command, COMMAND_RUN);
    assert_null(o.kernel);
    assert_int_equal(o.memory, OPTIONS_DEFAULT_MEMORY);
    assert_string_equal(o.engine, "auto");
    assert_int_equal(o.serial, SERIAL_STDIO);
    assert_int_equal(o.debug_exit, -1);
}

static void every_way_to_write_a_value(void **state)
{
    struct options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(&o, &err, "-k", "a", "--initrd", "b", "--append=c d", "-m2G", NULL), 0);
    assert_string_equal(o.kernel, "a");
    assert_string_equal(o.initrd, "b");
    assert_string_equal(o.append, "c d");
    assert_int_equal(o.memory, 2 * GIB);
}

static void the_rest_of_the_values(void **state)
{
    struct options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(&o, &err, "--serial", "unix:/s", "--time=virtual", "--debug-exit",
                           "0xf4", "--stats", "--name", "x", "--max-instructions", "12", "-v",
                           "--code-cache", "64M", NULL),
                     0);
    assert_int_equal(o.serial, SERIAL_UNIX);
    assert_string_equal(o.serial_path, "/s");
    assert_int_equal(o.time, CLOCK_VIRTUAL);
    assert_int_equal(o.debug_exit, 0xf4);
    assert_true(o.stats && o.verbose);
    assert_int_equal(o.max_instructions, 12);
    assert_int_equal(o.code_cache, 64 * MIB);
}

static void sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},        {"4096", 4096},     {"4k", 4 * KIB},
                {"3M", 3 * MIB}, {"1T", 1024 * GIB}, {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",         "M",    "-1M",  "+1",
                                      " 1",       "1 M",  "1Q",   "1MB",
                                      "1M ",      "0x10", "1.5G", "18446744073709551616",
                                      "16777216T"};
    uint64_t bytes;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(options_parse_size(good[i].text, &bytes));
        assert_true(bytes == good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(options_parse_size(bad[i], &bytes));
}

/* Option and value that are refused, and a word that the sentence must have. */
static void refused(void **state)
{
    static const struct {
        const char *option, *value, *word;
    } cases[] = {
        {"-m", "0", "1M"},
        {"-m", "1", "1M"},
        {"-m", "12Q", "12Q"},
        {"-m", "1048577", "4K"},
        {"--serial", "file:", "stdio"},
        {"--time", "never", "virtual"},
        {"--engine", "warp", "interpret"},
        {"--code-cache", "4095K", "from 4M to 1G"},
        {"--code-cache", "2G", "from 4M to 1G"},
        {"--code-cache", "64Q", "from 4M to 1G"},
        {"--debug-exit", "65536", "0xffff"},
        {"--debug-exit", "-1", "0xffff"},
        {"--max-instructions", "0", "above 0"},
        {"--name", "", "1 to 64"},
        {"--memroy", "1G", "did you mean --memory?"},
        {"--kernal=x", "1", "did you mean --kernel?"},
        {"--init", "x", "did you mean --initrd?"},
        {"--zzzzzz", "x", "lists the options"},
        {"-q", "x", "unknown option -q"},
        {"disk.img", "x", "one file more"},
        {"-", "x", "not an option"},
        {"--boot", "floppy", "cd,disk"},
        {"--boot", "cd,disk,net,cd", "cd,disk"},
        {"--boot", "cd,", "cd,disk"},
        {"--display", "gtk", "none or text"},
        {"--initrd", "x", "--kernel"},
    };
    struct options o;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(parse(&o, &err, cases[i].option, cases[i].value, NULL), -EINVAL);
        if (!strstr(err.text, cases[i].word))
            fail_msg("%s %s: %s", cases[i].option, cases[i].value, err.text);
    }
}

static void values_that_are_missing_or_too_many(void **state)
{
    struct options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(&o, &err, "--kernel", NULL), -EINVAL);
    assert_non_null(strstr(err.text, "needs a value"));
    assert_int_equal(parse(&o, &err, "--stats=1", NULL), -EINVAL);
    assert_non_null(strstr(err.text, "takes no value"));
}

static void restored_machines_bring_their_memory(void **state)
{
    struct options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(&o, &err, "--restore", "f", "-m", "1G", NULL), -EINVAL);
    assert_int_equal(parse(&o, &err, "--restore", "f", "--cpu", "host", NULL), -EINVAL);
    assert_int_equal(parse(&o, &err, "--restore", "f", NULL), 0);
}

static void commands(void **state)
{
    static const struct {
        const char *word;
        int result, command;
    } cases[] = {{"--help", 0, COMMAND_HELP},
                 {"-h", 0, COMMAND_HELP},
                 {"--version", 0, COMMAND_VERSION},
                 {"rnu", -EINVAL, 0},
                 {"", -EINVAL, 0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char *argv[] = {(char *)"doble", (char *)cases[i].word, NULL};
        struct options o;
        struct err err;

        assert_int_equal(options_parse(&o, 2, argv, &err), cases[i].result);
        if (cases[i].result == 0)
            assert_int_equal(o.command, cases[i].command);
    }
}

static void help_words(void **state)
{
    struct options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(&o, &err, "--cpu", "help", "--nonsense", NULL), 0);
    assert_int_equal(o.command, COMMAND_CPU_HELP);
    assert_int_equal(parse(&o, &err, "--trace=help", NULL), 0);
    assert_int_equal(o.command, COMMAND_TRACE_HELP);
    assert_int_equal(parse(&o, &err, "-h", NULL), 0);
    assert_int_equal(o.command, COMMAND_RUN_HELP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lone_run),
        cmocka_unit_test(every_way_to_write_a_value),
        cmocka_unit_test(the_rest_of_the_values),
        cmocka_unit_test(sizes),
        cmocka_unit_test(refused),
        cmocka_unit_test(values_that_are_missing_or_too_many),
        cmocka_unit_test(restored_machines_bring_their_memory),
        cmocka_unit_test(commands),
        cmocka_unit_test(help_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
