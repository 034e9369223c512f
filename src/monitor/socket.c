/* socket.c - clients of the monitor, one event of the loop at a time.
 *
 *   read -> in[] -> a line -> text.c or json.c -> out[] -> written as the client takes it
 *
 * In one turn a client has one line run at most. While a line or output is left over, the client's
 * watch waits for room to write and not for input, which brings the next turn. */
#define _GNU_SOURCE
#include "monitor/socket.h"

#include "base/listen.h"
#include "monitor/json.h"
#include "monitor/text.h"
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    struct server *server;
    struct loop_watch watch;
    struct client *next;
    char in[SOCKET_MAX_LINE + 1];
    size_t in_count;
    bool skipping; /* a line was too long: its rest is thrown away */
    bool ended;    /* no more input will come */
    bool leaving;  /* goes when its output is gone */
    bool broken;   /* goes at its next turn */
    char *out;
    size_t out_at, out_count, out_room; /* bytes that wait: out[out_at], out_count */
};

static struct loop *loop_of(const struct server *server)
{
    return &server->vm->loop;
}

/* --- output --- */

/* The rest happens in the client's own turn: whoever notices may be in the middle of another's. */
static void break_off(struct client *c)
{
    c->broken = true;
    c->out_count = 0;
    shutdown(c->watch.fd, SHUT_RDWR);
}

static void flush_output(struct client *c)
{
    while (c->out_count && !c->broken) {
        ssize_t n = send(c->watch.fd, c->out + c->out_at, c->out_count, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0) {
            break_off(c);
            return;
        }
        c->out_at += (size_t)n;
        c->out_count -= (size_t)n;
    }
    c->out_at = 0;
}

static bool make_room(struct client *c, size_t count)
{
    size_t room;
    char *out;

    if (c->out_at) {
        memmove(c->out, c->out + c->out_at, c->out_count);
        c->out_at = 0;
    }
    if (count <= c->out_room - c->out_count)
        return true;
    room = c->out_count + count + 4096;
    out = room <= SOCKET_MAX_OUTPUT ? realloc(c->out, room) : NULL;
    if (!out)
        return false;
    c->out = out;
    c->out_room = room;
    return true;
}

static void queue(struct client *c, const char *bytes, size_t count)
{
    if (c->broken)
        return;
    if (!make_room(c, count)) {
        break_off(c);
        return;
    }
    memcpy(c->out + c->out_count, bytes, count);
    c->out_count += count;
}

/* Takes over the reference. */
static void queue_json(struct client *c, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    json_decref(object);
    if (!text) {
        break_off(c); /* out of memory */
        return;
    }
    queue(c, text, strlen(text));
    queue(c, "\n", 1);
    free(text);
}

/* --- lines --- */

static void run_json(struct client *c, const char *line, size_t length)
{
    queue_json(c, json_run(c->server->vm, line, length, &c->leaving));
}

static void run_text(struct client *c, const char *line)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out) {
        break_off(c);
        return;
    }
    c->leaving = !text_run(c->server->vm, line, out);
    if (!c->leaving)
        fputs(TEXT_PROMPT, out);
    if (fclose(out) == 0)
        queue(c, text, size);
    else
        break_off(c);
    free(text);
}

static void refuse_line(struct client *c, const char *why)
{
    if (c->server->json) {
        queue_json(c, json_error_answer("bad-json", why));
        return;
    }
    queue(c, "error: ", 7);
    queue(c, why, strlen(why));
    queue(c, "\n" TEXT_PROMPT, strlen("\n" TEXT_PROMPT));
}

/* `line` is followed by a zero byte. */
static void run_line(struct client *c, char *line, size_t length)
{
    if (length && line[length - 1] == '\r')
        line[--length] = '\0';
    if (c->server->json) {
        if (length)
            run_json(c, line, length);
    } else if (strlen(line) != length) {
        refuse_line(c, "a line has no zero bytes");
    } else {
        run_text(c, line);
    }
}

static void drop_input(struct client *c, size_t count)
{
    c->in_count -= count;
    memmove(c->in, c->in + count, c->in_count);
}

static void too_long(struct client *c)
{
    c->in_count = 0;
    if (!c->skipping)
        refuse_line(c, "a line is at most 65536 bytes long");
    c->skipping = true;
}

/* Runs the next line, if all of it is there. */
static bool run_next_line(struct client *c)
{
    char *end = memchr(c->in, '\n', c->in_count);
    size_t length;

    if (!end) {
        if (c->in_count == sizeof c->in)
            too_long(c);
        return false;
    }
    length = (size_t)(end - c->in);
    *end = '\0';
    if (!c->skipping)
        run_line(c, c->in, length);
    c->skipping = false;
    drop_input(c, length + 1);
    return true;
}

static void read_input(struct client *c)
{
    ssize_t n = recv(c->watch.fd, c->in + c->in_count, sizeof c->in - c->in_count, 0);

    if (n > 0)
        c->in_count += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        c->ended = true; /* what it had begun to say is not run */
}

/* --- turns --- */

static bool has_line(const struct client *c)
{
    return memchr(c->in, '\n', c->in_count) != NULL;
}

static void wait_for_next(struct client *c)
{
    bool busy = c->out_count || c->leaving || has_line(c);

    loop_change(loop_of(c->server), &c->watch, busy ? EPOLLOUT : EPOLLIN);
}

static void drop_client(struct client *c)
{
    struct server *server = c->server;

    for (struct client **p = &server->clients; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    server->client_count--;
    loop_remove(loop_of(server), &c->watch);
    close(c->watch.fd);
    free(c->out);
    free(c);
}

static void take_turn(struct client *c, unsigned revents)
{
    flush_output(c);
    if (c->out_count || c->leaving)
        return;
    if (!has_line(c) && revents & (EPOLLIN | EPOLLHUP))
        read_input(c);
    if (!run_next_line(c) && c->ended)
        c->leaving = true;
    flush_output(c);
}

static void on_client(void *opaque, unsigned revents)
{
    struct client *c = opaque;

    if (!c->broken)
        take_turn(c, revents);
    if (c->broken || (c->leaving && !c->out_count) || revents & EPOLLERR)
        drop_client(c);
    else
        wait_for_next(c);
}

/* --- clients come --- */

static int add_client(struct server *server, int fd, struct err *err)
{
    struct client *c;
    int rc;

    if (server->client_count >= SOCKET_MAX_CLIENTS)
        return err_set(err, -EBUSY, "there are %u clients already", SOCKET_MAX_CLIENTS);
    c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, -ENOMEM, "out of memory");
    c->server = server;
    c->watch = (struct loop_watch){fd, on_client, c};
    rc = loop_add(loop_of(server), &c->watch, EPOLLIN, err);
    if (rc < 0) {
        free(c);
        return rc;
    }
    c->next = server->clients;
    server->clients = c;
    server->client_count++;
    if (!server->json) {
        queue(c, TEXT_PROMPT, strlen(TEXT_PROMPT));
        flush_output(c);
        wait_for_next(c);
    }
    return 0;
}

/* Says why, as far as there is room, and closes. */
static void turn_away(const struct server *server, int fd, const struct err *err)
{
    json_t *object = server->json ? json_error_answer("failed", err->text) : NULL;
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL, *line = NULL;
    int length = asprintf(&line, "%s%s\n", text ? "" : "error: ", text ? text : err->text);

    if (length > 0) {
        (void)!send(fd, line, (size_t)length, MSG_NOSIGNAL);
        free(line);
    }
    free(text);
    json_decref(object);
    close(fd);
}

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Without a free descriptor the client would wait in the queue and wake us again and again. */
static void refuse_without_descriptor(struct server *server)
{
    close(server->spare);
    close(accept4(server->watch.fd, NULL, NULL, SOCK_CLOEXEC));
    server->spare = open_spare();
}

static void on_listener(void *opaque, unsigned revents)
{
    struct server *server = opaque;
    int fd = accept4(server->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct err err;

    (void)revents;
    if (fd >= 0) {
        if (add_client(server, fd, &err) < 0)
            turn_away(server, fd, &err);
    } else if (errno == EMFILE || errno == ENFILE) {
        refuse_without_descriptor(server);
    }
}

/* --- the server --- */

int server_open(struct server *server, struct vm *vm, const char *path, bool json, struct err *err)
{
    int fd = listen_unix(path, 8, err), rc;

    if (fd < 0)
        return fd;
    *server = (struct server){.vm = vm, .json = json, .path = strdup(path), .spare = open_spare()};
    server->watch = (struct loop_watch){fd, on_listener, server};
    rc = server->path ? loop_add(loop_of(server), &server->watch, EPOLLIN, err)
                      : err_set(err, -ENOMEM, "out of memory");
    if (rc < 0)
        server_close(server);
    return rc;
}

void server_close(struct server *server)
{
    while (server->clients) {
        flush_output(server->clients);
        drop_client(server->clients);
    }
    loop_remove(loop_of(server), &server->watch);
    close(server->watch.fd);
    if (server->spare >= 0)
        close(server->spare);
    if (server->path)
        unlink(server->path);
    free(server->path);
}

void server_tell(struct server *server, const json_t *event)
{
    if (!server->json)
        return;
    for (struct client *c = server->clients; c; c = c->next) {
        queue_json(c, json_deep_copy(event));
        flush_output(c);
        if (!c->broken)
            wait_for_next(c);
    }
}
