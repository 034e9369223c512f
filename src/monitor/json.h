/* json.h - commands and answers for programs: one JSON object on a line. docs/monitor.md describes
 * them. Main thread. */
#ifndef DOBLE_MONITOR_JSON_H
#define DOBLE_MONITOR_JSON_H

#include "base/types.h"

#include <jansson.h>

struct vm;

/* Runs one request, which may be any bytes, and returns its answer (never NULL unless out of
 * memory), with its own reference. *leave: the client wants to leave. */
json_t *json_run(struct vm *vm, const char *line, size_t length, bool *leave);

/* An answer that is an error, without an id: what came is no request. */
json_t *json_error_answer(const char *code, const char *message);

/* A string of any bytes: what is not UTF-8 becomes question marks. */
json_t *json_any_string(const char *text);

#endif
