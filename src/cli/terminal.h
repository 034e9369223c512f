/* terminal.h - the user's terminal: raw while the guest has it, and restored whatever happens.
 *
 * Main thread. Restored are the normal end (terminal_stop(), and once more at exit()), and a crash
 * of the monitor itself (fatal signals). A standard input that is no terminal is left alone. */
#ifndef DOBLE_CLI_TERMINAL_H
#define DOBLE_CLI_TERMINAL_H

#include "base/err.h"
#include "base/types.h"
#include "monitor/prompt.h"

struct terminal {
    bool is_terminal; /* standard input is one */
    bool escape;      /* Ctrl-] was the last key */
    struct prompt prompt;
};

/* Remembers the settings, and has them restored at exit() and on fatal signals. */
int terminal_init(struct terminal *terminal, struct err *err);

/* Raw mode: every key goes to the guest. Again after a stop. */
void terminal_raw(struct terminal *terminal);
/* The settings of before. */
void terminal_restore(struct terminal *terminal);

/* How large its window is; false: it has none. */
bool terminal_size(const struct terminal *terminal, uint16_t *columns, uint16_t *rows);

/* Takes the Ctrl-] commands and what is typed to the monitor out of `bytes` in place and returns
 * how many bytes are left for the guest; sets *quit when the user wants to leave. */
size_t terminal_filter(struct terminal *terminal, uint8_t *bytes, size_t count, bool *quit);

#endif
