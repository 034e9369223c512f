#define _GNU_SOURCE
#include "debug/gdb_server.h"

#include "base/listen.h"
#include "base/trace.h"
#include "debug/gdb_commands.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REFUSED_MAX 4096 /* bytes that a client which is sent away may say first */
#define LAST_WORDS 64    /* times that a client which has gone is read */

struct gdb_server {
    struct vm *vm;
    struct vm_watcher watcher;
    struct loop_watch listener;
    bool deaf; /* accept() failed: tried again when a client goes */
    char *unix_path;
    char address[256];
    bool waiting; /* the machine is paused until somebody attaches */

    struct loop_watch client; /* fd -1: none */
    struct gdb_session session;
    uint8_t in[4096]; /* received; what the session had no room for stays */
    size_t in_length;

    struct loop_watch refused; /* fd -1: none */
    size_t refused_heard;
};

bool gdb_server_where_is_valid(const char *where)
{
    if (strncmp(where, "unix:", 5) == 0)
        return where[5];
    return listen_tcp_is_valid(where);
}

/* --- what the session asks of the machine --- */

static void control_pause(void *opaque)
{
    vm_pause(opaque);
}

static void control_resume(void *opaque)
{
    vm_resume(opaque);
}

static void control_end(void *opaque)
{
    vm_end(opaque, VM_QUIT, 0);
}

/* --- the client --- */

static void drop(struct gdb_server *server, struct loop_watch *watch)
{
    if (watch->fd < 0)
        return;
    loop_remove(&server->vm->loop, watch);
    close(watch->fd);
    watch->fd = -1;
    if (server->deaf)
        loop_change(&server->vm->loop, &server->listener, EPOLLIN);
    server->deaf = false;
}

static void close_client(struct gdb_server *server)
{
    if (server->client.fd < 0)
        return;
    trace_gdb_detach();
    gdb_session_close(&server->session);
    drop(server, &server->client);
}

/* Sends what can be sent now. False: the client has gone. */
static bool flush(struct gdb_server *server)
{
    struct gdb_session *s = &server->session;

    while (s->out_length) {
        ssize_t n = send(server->client.fd, s->out, s->out_length, MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        gdb_session_sent(s, (size_t)n);
    }
    return true;
}

/* Gives the session what has been received, as long as its answers can be sent. */
static bool process(struct gdb_server *server)
{
    size_t taken;

    do {
        taken = gdb_session_receive(&server->session, server->in, server->in_length);
        server->in_length -= taken;
        memmove(server->in, server->in + taken, server->in_length);
        if (!flush(server))
            return false;
    } while (taken && server->in_length);
    return !server->session.finished && !server->session.failed;
}

/* False: it has gone. */
static bool receive(struct gdb_server *server)
{
    ssize_t n = recv(server->client.fd, server->in + server->in_length,
                     sizeof server->in - server->in_length, 0);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    server->in_length += (size_t)n;
    return n > 0;
}

static void client_ready(void *opaque, unsigned revents)
{
    struct gdb_server *server = opaque;
    bool ok = true;

    if ((revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) && server->in_length < sizeof server->in)
        ok = receive(server);
    if (!ok || !process(server)) {
        close_client(server);
        return;
    }
    loop_change(&server->vm->loop, &server->client,
                (server->in_length < sizeof server->in ? EPOLLIN : 0u) |
                    (server->session.out_length ? EPOLLOUT : 0u));
}

static void open_client(struct gdb_server *server, int fd)
{
    const struct pc *pc = &server->vm->pc;
    struct gdb_machine machine = {server->vm->pc.cpu, pc->states, &pc->lapic, &pc->ioapic};
    struct gdb_control control = {control_pause, control_resume, control_end, server->vm};
    struct err err;
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* not for Unix sockets */
    server->client = (struct loop_watch){fd, client_ready, server};
    server->in_length = 0;
    if (loop_add(&server->vm->loop, &server->client, EPOLLIN, &err) < 0 ||
        !gdb_session_open(&server->session, &machine, &control)) {
        drop(server, &server->client);
        return;
    }
    trace_gdb_attach();
    if (server->waiting)
        vm_resume(server->vm); /* the session holds it now */
    server->waiting = false;
}

/* --- a second client --- */

static void apologise(int fd)
{
    struct gdb_payload text = {.length = 0};
    uint8_t frame[64];
    ssize_t ignored;

    gdb_put_text(&text, "E.another debugger is connected");
    frame[0] = '+';
    ignored = send(fd, frame, 1 + gdb_frame(&text, frame + 1), MSG_NOSIGNAL);
    (void)ignored;
}

/* It is answered after its first packet, and it is the one to close: closing a socket with bytes
 * unread would take the answer away. */
static void refused_ready(void *opaque, unsigned revents)
{
    struct gdb_server *server = opaque;
    char buf[512];
    ssize_t n = recv(server->refused.fd, buf, sizeof buf, 0);

    (void)revents;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    server->refused_heard += n > 0 ? (size_t)n : 0;
    if (n <= 0 || server->refused_heard > REFUSED_MAX) {
        drop(server, &server->refused);
    } else if (memchr(buf, '#', (size_t)n)) {
        apologise(server->refused.fd);
        shutdown(server->refused.fd, SHUT_WR);
    }
}

static void refuse(struct gdb_server *server, int fd)
{
    struct err err;

    drop(server, &server->refused);
    server->refused = (struct loop_watch){fd, refused_ready, server};
    server->refused_heard = 0;
    trace_gdb_refuse();
    if (loop_add(&server->vm->loop, &server->refused, EPOLLIN, &err) < 0)
        drop(server, &server->refused);
}

/* --- listening --- */

/* A client that has gone may not have been noticed yet when the next one comes: what it said last
 * is still taken, and then it makes room. */
static void make_room(struct gdb_server *server)
{
    struct pollfd p = {.fd = server->client.fd, .events = POLLRDHUP};

    if (p.fd < 0 || poll(&p, 1, 0) <= 0)
        return;
    for (unsigned i = 0; i < LAST_WORDS && server->client.fd >= 0; i++)
        client_ready(server, EPOLLIN);
    close_client(server);
}

static void listener_ready(void *opaque, unsigned revents)
{
    struct gdb_server *server = opaque;
    int fd;

    (void)revents;
    make_room(server);
    fd = accept4(server->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && server->client.fd < 0) {
        open_client(server, fd);
    } else if (fd >= 0) {
        refuse(server, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        server->deaf = true; /* or it would be ready all the time */
        loop_change(&server->vm->loop, &server->listener, 0);
    }
}

/* The port that was chosen for port 0. */
static void note_address(struct gdb_server *server, const char *where)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    uint16_t port = 0;

    snprintf(server->address, sizeof server->address, "%s", where);
    if (server->unix_path) {
        snprintf(server->address, sizeof server->address, "%s", server->unix_path);
        return;
    }
    if (getsockname(server->listener.fd, (struct sockaddr *)&bound, &size) < 0)
        return;
    if (bound.ss_family == AF_INET)
        port = ntohs(((const struct sockaddr_in *)&bound)->sin_port);
    else if (bound.ss_family == AF_INET6)
        port = ntohs(((const struct sockaddr_in6 *)&bound)->sin6_port);
    snprintf(server->address, sizeof server->address, "%.*s:%u", (int)(strrchr(where, ':') - where),
             where, port);
}

const char *gdb_server_address(const struct gdb_server *server)
{
    return server->address;
}

static int start_listening(struct gdb_server *server, const char *where, struct err *err)
{
    bool is_unix = strncmp(where, "unix:", 5) == 0;
    int fd = is_unix ? listen_unix(where + 5, 4, err) : listen_tcp(where, 4, err);

    if (fd < 0) {
        err_prefix(err, "--gdb");
        return fd;
    }
    server->listener = (struct loop_watch){fd, listener_ready, server};
    if (is_unix)
        server->unix_path = strdup(where + 5);
    note_address(server, where);
    return loop_add(&server->vm->loop, &server->listener, EPOLLIN, err);
}

/* --- what happens to the machine --- */

/* A status as the shell would see it, or a signal, for GDB to print. */
static void tell_end(struct gdb_server *server)
{
    const struct vm *vm = server->vm;

    switch (vm->end) {
    case VM_KILLED: gdb_session_ended(&server->session, 0, vm->end_value); break;
    case VM_CRASHED: gdb_session_ended(&server->session, 0, 6); break;
    case VM_DEBUG_EXIT: gdb_session_ended(&server->session, vm->end_value << 1 | 1, 0); break;
    default: gdb_session_ended(&server->session, vm->end == VM_FAILED ? 3 : 0, 0); break;
    }
    flush(server);
    close_client(server);
}

static void happened(void *opaque, enum vm_event event)
{
    struct gdb_server *server = opaque;

    if (server->client.fd < 0)
        return;
    if (event == VM_EVENT_DEBUG) {
        gdb_session_stopped(&server->session);
        client_ready(server, 0);
    } else if (event == VM_EVENT_ENDED) {
        tell_end(server);
    }
}

/* --- life --- */

struct gdb_server *gdb_server_new(struct vm *vm, const char *where, bool wait, struct err *err)
{
    struct gdb_server *server = calloc(1, sizeof *server);

    if (!server) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    server->vm = vm;
    server->listener.fd = server->client.fd = server->refused.fd = -1;
    if (start_listening(server, where, err) < 0) {
        gdb_server_free(server);
        return NULL;
    }
    server->watcher = (struct vm_watcher){.happened = happened, .opaque = server};
    vm_watch(vm, &server->watcher);
    server->waiting = wait;
    if (wait)
        vm_pause(vm);
    return server;
}

void gdb_server_free(struct gdb_server *server)
{
    if (!server)
        return;
    close_client(server);
    drop(server, &server->refused);
    drop(server, &server->listener);
    if (server->unix_path)
        unlink(server->unix_path);
    free(server->unix_path);
    free(server);
}
