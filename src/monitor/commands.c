/* commands.c - the table of commands, and what it takes to find and run one. */
#include "monitor/commands.h"

#include "base/nearest.h"
#include "monitor/control.h"
#include "monitor/display.h"
#include "monitor/inspect.h"
#include "monitor/tracing.h"
#include "vm/vm.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int help(struct call *call, struct err *err);

/* In the order of `help`. */
static const struct command table[] = {
    {"help", "?", {{"command", ARGUMENT_STRING, true}}, "list the commands", help, false},
    {"status", NULL, {{0}}, "say what the machine is and does", control_status, true},
    {"pause", "stop", {{0}}, "stop the machine; its time stands still", control_pause, false},
    {"resume", "cont", {{0}}, "let it go on", control_resume, false},
    {"reset", NULL, {{0}}, "press the reset button", control_reset, false},
    {"power", NULL, {{0}}, "press the power button (ACPI)", control_power, false},
    {"quit", NULL, {{0}}, "end the machine at once", control_quit, false},
    {"save",
     NULL,
     {{"file", ARGUMENT_STRING, false}},
     "save the machine to a file; it goes on",
     control_save,
     true},
    {"restore",
     NULL,
     {{"file", ARGUMENT_STRING, false}},
     "go on with a machine that was saved",
     control_restore,
     true},
    {"registers", "regs", {{0}}, "print the registers of the CPU", inspect_registers, true},
    {"memory",
     "x",
     {{"address", ARGUMENT_NUMBER, false},
      {"length", ARGUMENT_NUMBER, false},
      {"phys", ARGUMENT_FLAG, true}},
     "dump memory by linear address, or by physical",
     inspect_memory,
     true},
    {"translate",
     NULL,
     {{"address", ARGUMENT_NUMBER, false}},
     "say where a linear address is",
     inspect_translate,
     true},
    {"devices",
     NULL,
     {{"pattern", ARGUMENT_STRING, true}},
     "list devices, or print the state of those that match",
     inspect_devices,
     true},
    {"stats", NULL, {{0}}, "print counts, as --stats does", inspect_stats, true},
    {"screenshot",
     NULL,
     {{"file", ARGUMENT_STRING, false}},
     "write what the display shows to a PNG file",
     display_screenshot,
     true},
    {"trace",
     NULL,
     {{"pattern", ARGUMENT_STRING, true}, {"on", ARGUMENT_SWITCH, true}},
     "list trace events, or switch those that match on or off",
     tracing_trace,
     true},
    {"engine",
     NULL,
     {{"name", ARGUMENT_STRING, true}},
     "say which engine executes the machine and why, or change it",
     control_engine,
     true},
    {"leave", "exit", {{0}}, "leave the monitor; the machine stays as it is", control_leave, false},
};

const struct command *command_at(size_t index)
{
    return index < ARRAY_SIZE(table) ? &table[index] : NULL;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (strcmp(name, table[i].name) == 0 ||
            (table[i].other_name && strcmp(name, table[i].other_name) == 0))
            return &table[i];
    return NULL;
}

int command_unknown(const char *name, struct err *err)
{
    struct nearest near;

    nearest_init(&near, name);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        nearest_try(&near, table[i].name);
    if (near.best)
        return err_set(err, -EINVAL, "there is no command '%.40s'; did you mean '%s'?", name,
                       near.best);
    return err_set(err, -EINVAL, "there is no command '%.40s'; 'help' lists them", name);
}

size_t command_argument_count(const struct command *command)
{
    size_t n = 0;

    while (n < COMMAND_MAX_ARGUMENTS && command->arguments[n].kind != ARGUMENT_NONE)
        n++;
    return n;
}

static void print_argument(const struct argument *a, FILE *out)
{
    const char *open = a->optional ? "[" : "", *close = a->optional ? "]" : "";

    if (a->kind == ARGUMENT_FLAG) {
        fprintf(out, " %s%s%s", open, a->name, close);
    } else if (a->kind == ARGUMENT_SWITCH) {
        fprintf(out, " %son|off%s", open, close);
    } else {
        fprintf(out, " %s", open);
        for (const char *c = a->name; *c; c++)
            fputc(toupper((unsigned char)*c), out);
        fputs(close, out);
    }
}

void command_print_usage(const struct command *command, FILE *out)
{
    fputs(command->name, out);
    for (size_t i = 0; i < command_argument_count(command); i++)
        print_argument(&command->arguments[i], out);
}

bool command_parse_number(const char *text, uint64_t *number)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *digits = hex ? text + 2 : text;
    char *end;

    if (!(hex ? isxdigit((unsigned char)*digits) : isdigit((unsigned char)*digits)))
        return false; /* no sign, no blank */
    errno = 0;
    *number = strtoull(digits, &end, hex ? 16 : 10);
    return errno == 0 && !*end;
}

int command_run(const struct command *command, struct call *call, struct err *err)
{
    int rc;

    call->was_paused = call->vm->pauses > 0;
    if (command->stopped)
        vm_pause(call->vm);
    rc = command->run(call, err);
    if (command->stopped)
        vm_resume(call->vm);
    if (rc < 0) {
        json_decref(call->result);
        call->result = NULL;
    }
    return rc;
}

const char *command_state_name(const struct vm *vm, bool paused)
{
    static const char *const names[] = {
        [VM_POWERED_OFF] = "powered-off",
        [VM_DEBUG_EXIT] = "debug-exit",
        [VM_CRASHED] = "crashed",
        [VM_LIMIT] = "limit-reached",
        [VM_QUIT] = "quit",
        [VM_KILLED] = "killed",
        [VM_SAVED] = "saved",
        [VM_FAILED] = "failed",
    };

    if (vm->end == VM_RUNNING)
        return paused ? "paused" : "running";
    return names[vm->end];
}

/* --- help --- */

static char *usage_text(const struct command *command)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    command_print_usage(command, out);
    return fclose(out) == 0 ? text : NULL;
}

static int help_line(struct call *call, const struct command *command, struct err *err)
{
    char *usage = usage_text(command);
    json_t *line = usage ? json_pack("{s:s, s:s, s:s}", "command", command->name, "usage", usage,
                                     "help", command->help)
                         : NULL;
    int rc = line && json_array_append_new(call->result, line) == 0
                 ? 0
                 : err_set(err, -ENOMEM, "out of memory");

    if (rc == 0) {
        fprintf(call->out, "%-32s %s", usage, command->help);
        fprintf(call->out, command->other_name ? " (%s)\n" : "\n", command->other_name);
    }
    free(usage);
    return rc;
}

static int help(struct call *call, struct err *err)
{
    const char *name = call->arguments[0].string;
    int rc = 0;

    call->result = json_array();
    if (call->arguments[0].given) {
        const struct command *command = command_find(name);

        return command ? help_line(call, command, err) : command_unknown(name, err);
    }
    for (size_t i = 0; i < ARRAY_SIZE(table) && rc == 0; i++)
        rc = help_line(call, &table[i], err);
    return rc;
}
