/* text.c - cuts a line into words and gives them to a command as its table wants them.
 *
 * Words are separated by blanks. In quotes, single or double, a word may have blanks; in double
 * quotes a backslash takes the next character as it is: save "my machine". */
#include "monitor/text.h"

#include "monitor/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One more than any command takes. */
#define MAX_WORDS (COMMAND_MAX_ARGUMENTS + 2)

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes a word off *rest in place. NULL: a quote is not closed. */
static char *take_word(char **rest)
{
    char *from = *rest, *word = from, *to = from;
    char quote = '\0';

    for (; *from && (quote || !is_blank(*from)); from++) {
        if (quote ? *from == quote : *from == '"' || *from == '\'') {
            quote = quote ? '\0' : *from;
        } else {
            if (quote == '"' && *from == '\\' && from[1])
                from++;
            *to++ = *from;
        }
    }
    *rest = *from ? from + 1 : from;
    *to = '\0';
    return quote ? NULL : word;
}

/* Returns how many, MAX_WORDS at most; or a negative errno. */
static int split(char *line, char *words[MAX_WORDS], struct err *err)
{
    int count = 0;

    while (count < MAX_WORDS) {
        while (is_blank(*line))
            line++;
        if (!*line)
            break;
        words[count] = take_word(&line);
        if (!words[count++])
            return err_set(err, -EINVAL, "a quote is not closed");
    }
    return count;
}

static int wrong(const struct argument *a, const char *word, const char *right, struct err *err)
{
    return err_set(err, -EINVAL, "%s: '%.60s' is not %s", a->name, word, right);
}

static int take_value(const struct argument *a, const char *word, struct argument_value *value,
                      struct err *err)
{
    bool on = strcmp(word, "on") == 0;

    value->given = true;
    switch (a->kind) {
    case ARGUMENT_NUMBER:
        return command_parse_number(word, &value->number)
                   ? 0
                   : wrong(a, word, "a number: decimal, or hexadecimal with 0x", err);
    case ARGUMENT_FLAG:
        value->on = strcmp(word, a->name) == 0;
        return value->on ? 0 : err_set(err, -EINVAL, "'%.60s' is not '%s'", word, a->name);
    case ARGUMENT_SWITCH:
        value->on = on;
        return on || strcmp(word, "off") == 0 ? 0 : wrong(a, word, "on or off", err);
    default: value->string = word; return 0;
    }
}

static int usage_error(const struct command *command, const char *what, struct err *err)
{
    char usage[160] = "";
    FILE *out = fmemopen(usage, sizeof usage, "w");

    if (out) {
        command_print_usage(command, out);
        fclose(out);
    }
    return err_set(err, -EINVAL, "%s arguments; usage: %s", what, usage);
}

static int take_arguments(const struct command *command, char **words, size_t count,
                          struct call *call, struct err *err)
{
    size_t most = command_argument_count(command);
    int rc = 0;

    if (count > most)
        return usage_error(command, "too many", err);
    for (size_t i = 0; i < most && rc == 0; i++)
        if (i < count)
            rc = take_value(&command->arguments[i], words[i], &call->arguments[i], err);
        else if (!command->arguments[i].optional)
            rc = usage_error(command, "too few", err);
    return rc;
}

static int run_words(char **words, size_t count, struct call *call, struct err *err)
{
    const struct command *command = command_find(words[0]);
    int rc;

    if (!command)
        return command_unknown(words[0], err);
    rc = take_arguments(command, words + 1, count - 1, call, err);
    return rc < 0 ? rc : command_run(command, call, err);
}

bool text_run(struct vm *vm, const char *line, FILE *out)
{
    struct call call = {.vm = vm, .out = out};
    struct err err = {0};
    char *words[MAX_WORDS], *copy = strdup(line);
    int count = copy ? split(copy, words, &err) : err_set(&err, -ENOMEM, "out of memory");

    if (count > 0)
        count = run_words(words, (size_t)count, &call, &err);
    if (count < 0)
        fprintf(out, "error: %s\n", err.text);
    json_decref(call.result);
    free(copy);
    return !call.leave;
}
