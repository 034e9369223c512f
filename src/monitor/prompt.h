/* prompt.h - the monitor in the user's own terminal.
 *
 * While it is open the keys are edited to a line here and do not reach the guest, which goes on
 * (unless it is paused) and whose output goes on appearing. Main thread. */
#ifndef DOBLE_MONITOR_PROMPT_H
#define DOBLE_MONITOR_PROMPT_H

#include "base/types.h"

struct vm;

#define PROMPT_MAX_LINE 1023

struct prompt {
    struct vm *vm; /* NULL: there is no machine yet */
    bool open;
    char line[PROMPT_MAX_LINE + 1], last[PROMPT_MAX_LINE + 1];
    size_t length;
    unsigned sequence; /* how many keys of an escape sequence have come: ESC, [ */
};

/* Opens and closes it. */
void prompt_open(struct prompt *prompt);
void prompt_close(struct prompt *prompt);

/* Takes a key while it is open; the user may leave by it. */
void prompt_key(struct prompt *prompt, uint8_t key);

#endif
