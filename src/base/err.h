/* err.h - errors of the first kind: the host or the user (a file, memory, an option).
 *
 * A function that can fail this way returns 0 or a negative errno and takes a `struct err *` last,
 * into which it writes one sentence: it names the thing, says what is wrong with it and what would
 * be right. Only main() prints it and exits. Guest faults and our own bugs never come this way. */
#ifndef DOBLE_BASE_ERR_H
#define DOBLE_BASE_ERR_H

#include "base/types.h"

struct err {
    int code;       /* negative errno; 0 = no error */
    char text[512]; /* one sentence, without a final newline */
};

/* Records `code` (a negative errno) and the sentence; returns `code`, so that a caller can write
 * `return err_set(err, -EINVAL, "...")`. `err` may be NULL. */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "prefix: " before the sentence that is there. Returns err->code. */
int err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
