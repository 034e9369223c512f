/* commands.h - what one can ask of a running machine: one table of commands, used by every form.
 *
 * A row has the command's name, its arguments and their kinds, a line of help, and the function.
 * The text form (text.h) and the JSON form (json.h) only differ in how arguments come and how the
 * answer goes. A command that needs the vCPU to stand still says so in its row.
 *
 * Main thread. */
#ifndef DOBLE_MONITOR_COMMANDS_H
#define DOBLE_MONITOR_COMMANDS_H

#include "base/err.h"
#include "base/types.h"

#include <jansson.h>
#include <stdio.h>

struct vm;

#define COMMAND_MAX_ARGUMENTS 3

enum argument_kind {
    ARGUMENT_NONE,   /* the end of the list */
    ARGUMENT_STRING, /* text form: a word, or "several words" */
    ARGUMENT_NUMBER, /* text form and JSON strings: decimal or 0x..., JSON also an integer */
    ARGUMENT_FLAG,   /* text form: the argument's name; JSON: true or false */
    ARGUMENT_SWITCH, /* text form: on or off; JSON: true or false */
};

struct argument {
    const char *name;
    enum argument_kind kind;
    bool optional; /* all that follow are optional, too */
};

struct argument_value {
    bool given;
    bool on;            /* ARGUMENT_FLAG, ARGUMENT_SWITCH */
    uint64_t number;    /* ARGUMENT_NUMBER */
    const char *string; /* ARGUMENT_STRING; valid during the call */
};

/* One execution of a command. */
struct call {
    struct vm *vm;
    struct argument_value arguments[COMMAND_MAX_ARGUMENTS];
    bool was_paused; /* the machine stood still before the command came */
    FILE *out;       /* the answer as text */
    json_t *result;  /* the answer for programs; NULL: they get {"text": what is in `out`} */
    bool leave;      /* the client wants to go */
};

struct command {
    const char *name, *other_name; /* other_name may be NULL */
    struct argument arguments[COMMAND_MAX_ARGUMENTS];
    const char *help;
    int (*run)(struct call *call, struct err *err);
    bool stopped; /* runs with the vCPU parked */
};

/* The row with that name, or NULL. */
const struct command *command_find(const char *name);
/* The row at an index, NULL after the last. */
const struct command *command_at(size_t index);
/* Says in *err that there is no such command, and which one is nearest; returns -EINVAL. */
int command_unknown(const char *name, struct err *err);
/* How many arguments a command has. */
size_t command_argument_count(const struct command *command);
/* "memory ADDRESS LENGTH [phys]" */
void command_print_usage(const struct command *command, FILE *out);

/* A number as the user writes it: decimal, or hexadecimal with 0x. */
bool command_parse_number(const char *text, uint64_t *number) MUST_USE;

/* Runs a command whose arguments have been filled in; the caller frees call->result. */
int command_run(const struct command *command, struct call *call, struct err *err) MUST_USE;

/* The names of states and ends as programs see them: "running", "powered-off". */
const char *command_state_name(const struct vm *vm, bool paused);

#endif
