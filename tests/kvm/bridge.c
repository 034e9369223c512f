/* bridge.c - carries bytes between a serial port and a socket: bridge TTY PATH
 *
 * Runs in a virtual machine, whose serial port is how a test outside talks to the monitor inside.
 * The socket is connected to when the first bytes come, so that it may be made later, and again
 * after it was closed. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

static int open_tty(const char *path)
{
    int fd = open(path, O_RDWR | O_NOCTTY);
    struct termios t;

    if (fd < 0 || tcgetattr(fd, &t) < 0)
        return -1;
    cfmakeraw(&t);
    cfsetspeed(&t, B115200);
    t.c_cflag |= CLOCAL;
    return tcsetattr(fd, TCSANOW, &t) < 0 ? -1 : fd;
}

static int open_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* False: the other side is gone. */
static int carry(int from, int to)
{
    char bytes[4096];
    ssize_t n = read(from, bytes, sizeof bytes);

    for (ssize_t done = 0; done < n;) {
        ssize_t part = write(to, bytes + done, (size_t)(n - done));

        if (part <= 0)
            return 0;
        done += part;
    }
    return n > 0;
}

int main(int argc, char **argv)
{
    int tty = argc == 3 ? open_tty(argv[1]) : -1, sock = -1;

    if (tty < 0) {
        fprintf(stderr, "usage: bridge TTY PATH\n");
        return 2;
    }
    for (;;) {
        struct pollfd fds[2] = {{.fd = tty, .events = POLLIN}, {.fd = sock, .events = POLLIN}};

        if (poll(fds, 2, -1) < 0)
            return 1;
        if (fds[1].revents && !carry(sock, tty)) {
            close(sock);
            sock = -1;
        }
        if (!fds[0].revents)
            continue;
        while (sock < 0 && (sock = open_socket(argv[2])) < 0)
            usleep(20000);
        if (!carry(tty, sock))
            return 0;
    }
}
