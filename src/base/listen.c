/* listen.c - Unix sockets that wait for a client. */
#define _GNU_SOURCE
#include "base/listen.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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
