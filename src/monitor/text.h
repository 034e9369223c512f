/* text.h - commands as people type them: words on a line, and an answer to read. Main thread. */
#ifndef DOBLE_MONITOR_TEXT_H
#define DOBLE_MONITOR_TEXT_H

#include "base/types.h"

#include <stdio.h>

struct vm;

#define TEXT_PROMPT "(doble) "

/* Runs one line (without its end) and writes the answer: lines, or "error: " and a sentence.
 * Nothing for an empty line. False: the client wants to leave. */
bool text_run(struct vm *vm, const char *line, FILE *out);

#endif
