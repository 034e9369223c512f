/* listen.h - sockets that wait for a client. */
#ifndef DOBLE_BASE_LISTEN_H
#define DOBLE_BASE_LISTEN_H

#include "base/err.h"

/* A non-blocking listening socket at `path`, which only this user may connect to. A socket that a
 * dead process left behind is replaced; one that somebody listens on, or anything else that is
 * there, is not. The caller unlinks the path at the end. Returns the descriptor, or a negative
 * errno. */
int listen_unix(const char *path, int backlog, struct err *err) MUST_USE;

/* The same at "ADDR:PORT" ("[ADDR]:PORT" for IPv6; no ADDR: 127.0.0.1; PORT 0: any that is free).
 */
int listen_tcp(const char *where, int backlog, struct err *err) MUST_USE;
/* Does `where` have that form? */
bool listen_tcp_is_valid(const char *where) MUST_USE;

#endif
