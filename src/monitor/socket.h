/* socket.h - the monitor on Unix sockets: listeners, their clients, and what flows.
 *
 * A client sends lines. Each is run when the answer of the one before has been taken, so that a
 * client that does not read stops itself; one that lets events pile up beyond a limit is dropped.
 * Nothing that a client does concerns another. Main thread, called by the loop. */
#ifndef DOBLE_MONITOR_SOCKET_H
#define DOBLE_MONITOR_SOCKET_H

#include "base/err.h"
#include "base/loop.h"
#include "base/types.h"

#include <jansson.h>

#define SOCKET_MAX_LINE (64 * KIB)  /* of a request, without its end */
#define SOCKET_MAX_OUTPUT (4 * MIB) /* that waits for a client */
#define SOCKET_MAX_CLIENTS 32u

struct vm;
struct client;

struct server {
    struct vm *vm;
    bool json;
    char *path;
    struct loop_watch watch; /* the listener */
    int spare;               /* a descriptor to give up when there are no more */
    struct client *clients;
    unsigned client_count;
};

/* Listens at `path`. */
int server_open(struct server *server, struct vm *vm, const char *path, bool json,
                struct err *err) MUST_USE;
/* Drops all clients and removes the socket. What a client has not taken is lost. */
void server_close(struct server *server);

/* Sends an event to every client, if they are programs. */
void server_tell(struct server *server, const json_t *event);

#endif
