/* gdb_server.h - where GDB connects: a TCP port or a Unix socket on the machine's main loop.
 *
 * One client at a time; another is told so and sent away. A client that goes, in whatever way,
 * takes its breakpoints with it, and the machine runs on. All functions are for the main thread. */
#ifndef DOBLE_DEBUG_GDB_SERVER_H
#define DOBLE_DEBUG_GDB_SERVER_H

#include "vm/vm.h"

struct gdb_server;

/* "ADDR:PORT" or "unix:PATH"? */
bool gdb_server_where_is_valid(const char *where) MUST_USE;

/* Listens. `wait`: the machine, which has not run yet, doesn't until a debugger lets it. NULL: an
 * error. */
struct gdb_server *gdb_server_new(struct vm *vm, const char *where, bool wait, struct err *err);
void gdb_server_free(struct gdb_server *server);

/* Where it listens, as GDB's `target remote` takes it. */
const char *gdb_server_address(const struct gdb_server *server);

#endif
