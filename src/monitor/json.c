/* json.c - reads requests strictly and answers each with a result or an error.
 *
 *   {"id": 1, "command": "status", "arguments": {...}}
 *   {"id": 1, "result": ...}
 *   {"id": 1, "error": {"code": "bad-argument", "message": "one sentence"}}
 *
 * Codes: bad-json (no JSON object), bad-request (an object, but no request), unknown-command,
 * bad-argument, failed (the command was understood, and could not be done). */
#include "monitor/json.h"

#include "monitor/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

json_t *json_any_string(const char *text)
{
    json_t *string = json_string(text);
    char *copy;

    if (string)
        return string;
    copy = strdup(text);
    if (!copy)
        return NULL;
    for (char *c = copy; *c; c++)
        if (*c & 0x80)
            *c = '?';
    string = json_string(copy);
    free(copy);
    return string;
}

json_t *json_error_answer(const char *code, const char *message)
{
    return json_pack("{s:n, s:{s:s, s:o}}", "id", "error", "code", code, "message",
                     json_any_string(message));
}

/* --- arguments --- */

static int wrong(const struct argument *a, const char *right, struct err *err)
{
    return err_set(err, -EINVAL, "the argument '%s' is not %s", a->name, right);
}

static int take_number(const struct argument *a, const json_t *json, uint64_t *number,
                       struct err *err)
{
    static const char right[] = "a number: an integer from 0, or a string like \"0x1000\"";

    if (json_is_string(json))
        return command_parse_number(json_string_value(json), number) ? 0 : wrong(a, right, err);
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return wrong(a, right, err);
    *number = (uint64_t)json_integer_value(json);
    return 0;
}

static int take_value(const struct argument *a, const json_t *json, struct argument_value *value,
                      struct err *err)
{
    value->given = true;
    switch (a->kind) {
    case ARGUMENT_NUMBER: return take_number(a, json, &value->number, err);
    case ARGUMENT_STRING:
        value->string = json_string_value(json);
        return value->string ? 0 : wrong(a, "a string", err);
    default:
        value->on = json_is_true(json);
        return json_is_boolean(json) ? 0 : wrong(a, "true or false", err);
    }
}

static bool takes_argument(const struct command *command, const char *name)
{
    for (size_t i = 0; i < command_argument_count(command); i++)
        if (strcmp(command->arguments[i].name, name) == 0)
            return true;
    return false;
}

static int check_names(const struct command *command, json_t *arguments, struct err *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(arguments, name, value) if (!takes_argument(command, name)) return err_set(
        err, -EINVAL, "'%s' takes no argument '%.60s'", command->name, name);
    return 0;
}

static int take_arguments(const struct command *command, json_t *arguments, struct call *call,
                          struct err *err)
{
    int rc = check_names(command, arguments, err);

    for (size_t i = 0; i < command_argument_count(command) && rc == 0; i++) {
        const struct argument *a = &command->arguments[i];
        const json_t *value = json_object_get(arguments, a->name);

        if (value)
            rc = take_value(a, value, &call->arguments[i], err);
        else if (!a->optional)
            rc = err_set(err, -EINVAL, "'%s' needs the argument '%s'", command->name, a->name);
    }
    return rc;
}

/* --- requests --- */

/* Runs with the text of the answer going to memory. */
static int run_command(const struct command *command, struct call *call, struct err *err)
{
    char *text = NULL;
    size_t size;
    int rc;

    call->out = open_memstream(&text, &size);
    if (!call->out)
        return err_set(err, -ENOMEM, "out of memory");
    rc = command_run(command, call, err);
    if (fclose(call->out) != 0 && rc == 0)
        rc = err_set(err, -ENOMEM, "out of memory");
    if (rc == 0 && !call->result)
        call->result = json_pack("{s:o}", "text", json_any_string(text));
    free(text);
    return rc;
}

/* Returns the code of an error, or NULL. */
static const char *run_request(json_t *request, struct call *call, struct err *err)
{
    json_t *arguments = json_object_get(request, "arguments");
    const char *name = json_string_value(json_object_get(request, "command")), *key;
    const struct command *command;
    json_t *value;

    err_set(err, -EINVAL, "a request is {\"id\": ..., \"command\": NAME, \"arguments\": {...}}");
    json_object_foreach(request, key,
                        value) if (strcmp(key, "id") != 0 && strcmp(key, "command") != 0 &&
                                   strcmp(key, "arguments") != 0) return "bad-request";
    if (!name || (arguments && !json_is_object(arguments)))
        return "bad-request";
    command = command_find(name);
    if (!command) {
        command_unknown(name, err);
        return "unknown-command";
    }
    if (take_arguments(command, arguments, call, err) < 0)
        return "bad-argument";
    return run_command(command, call, err) < 0 ? "failed" : NULL;
}

static json_t *answer(json_t *id, const char *code, json_t *result, const struct err *err)
{
    json_t *object = code ? json_error_answer(code, err->text) : json_pack("{s:n}", "id");

    if (object && id)
        json_object_set(object, "id", id);
    if (object && !code)
        json_object_set(object, "result", result);
    return object;
}

static bool id_is_valid(const json_t *id)
{
    return !id || json_is_string(id) || json_is_integer(id) || json_is_null(id);
}

json_t *json_run(struct vm *vm, const char *line, size_t length, bool *leave)
{
    struct call call = {.vm = vm};
    struct err err = {0};
    json_error_t parse;
    json_t *request = json_loadb(line, length, JSON_REJECT_DUPLICATES, &parse), *id, *object;
    const char *code;

    if (!request)
        return json_error_answer("bad-json", parse.text);
    id = json_object_get(request, "id");
    if (!json_is_object(request)) {
        code = "bad-json";
        err_set(&err, -EINVAL, "a request is a JSON object");
    } else if (id_is_valid(id)) {
        code = run_request(request, &call, &err);
    } else {
        id = NULL;
        code = "bad-request";
        err_set(&err, -EINVAL, "an id is a string, an integer or null");
    }
    object = answer(id, code, call.result, &err);
    *leave = call.leave;
    json_decref(call.result);
    json_decref(request);
    return object;
}
