/* image.h - `doble image`: makes, describes, checks, copies and changes disk images.
 *
 * Main thread. */
#ifndef DOBLE_CLI_IMAGE_H
#define DOBLE_CLI_IMAGE_H

#include "base/err.h"

/* Leaks are harmless and have a status of their own. */
enum image_status_code { STATUS_LEAKS = 1, STATUS_DAMAGED = 4 };

/* `doble image ...`: returns the exit status; there is a sentence in *err if something failed. */
int image_command(int argc, char **argv, struct err *err);

#endif
