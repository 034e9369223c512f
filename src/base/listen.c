/* listen.c - sockets that wait for a client. */
#define _GNU_SOURCE
#include "base/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- Unix --- */

static const struct sockaddr *generic(const struct sockaddr_un *address)
{
    return (const struct sockaddr *)address;
}

/* A socket that a dead process left behind is in the way; anything else there is somebody's. */
static void remove_stale_socket(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;

    if (fd < 0)
        return;
    if (lstat(address->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        connect(fd, generic(address), sizeof *address) < 0 && errno == ECONNREFUSED)
        unlink(address->sun_path);
    close(fd);
}

static int cannot(const char *path, int error, struct err *err)
{
    if (error == EADDRINUSE)
        return err_set(err, -error,
                       "the socket '%s' cannot be made: something is there already; choose another "
                       "path, or remove it",
                       path);
    return err_set(err, -error, "the socket '%s' cannot be made: %s", path, strerror(error));
}

int listen_unix(const char *path, int backlog, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, error;

    if (strlen(path) >= sizeof address.sun_path)
        return err_set(err, -ENAMETOOLONG, "the socket path '%s' is longer than %zu bytes", path,
                       sizeof address.sun_path - 1);
    strcpy(address.sun_path, path);
    remove_stale_socket(&address);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return cannot(path, errno, err);
    /* The mode that the socket will have in the file system; bind() takes it from here. */
    if (fchmod(fd, 0600) == 0 && bind(fd, generic(&address), sizeof address) == 0) {
        if (listen(fd, backlog) == 0)
            return fd;
        unlink(path);
    }
    error = errno;
    close(fd);
    return cannot(path, error, err);
}

/* --- TCP --- */

/* Splits "ADDR:PORT" or "[ADDR]:PORT"; an empty ADDR is this host alone. */
static bool split(const char *where, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(where, ':'), *start = where, *end = colon;

    if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5 || atoi(colon + 1) > UINT16_MAX)
        return false;
    if (*start == '[') {
        if (end == start || end[-1] != ']')
            return false;
        start++;
        end--;
    } else if (memchr(start, ':', (size_t)(end - start))) {
        return false; /* an IPv6 address without brackets */
    }
    if ((size_t)(end - start) >= size)
        return false;
    snprintf(host, size, "%.*s", (int)(end - start), start);
    if (!*host)
        snprintf(host, size, "127.0.0.1");
    *port = colon + 1;
    return true;
}

bool listen_tcp_is_valid(const char *where)
{
    char host[NI_MAXHOST];
    const char *port;

    return split(where, host, sizeof host, &port);
}

static int listen_at(const struct addrinfo *info, int backlog)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, backlog) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

int listen_tcp(const char *where, int backlog, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *info;
    char host[NI_MAXHOST];
    const char *port;
    int rc;

    if (!split(where, host, sizeof host, &port))
        return err_set(err, -EINVAL, "'%s' is not ADDR:PORT, for example 127.0.0.1:1234", where);
    rc = getaddrinfo(host, port, &hints, &info);
    if (rc)
        return err_set(err, -EINVAL, "the address of '%s' cannot be found: %s", where,
                       gai_strerror(rc));
    rc = listen_at(info, backlog);
    freeaddrinfo(info);
    if (rc == -EADDRINUSE)
        return err_set(err, rc, "'%s' is in use already; choose another port", where);
    if (rc < 0)
        return err_set(err, rc, "cannot listen at '%s': %s", where, strerror(-rc));
    return rc;
}
