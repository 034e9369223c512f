/* signals.c - signalfd(2), and which signal asks for what. */
#include "vm/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const struct {
    int number;
    enum signal_request request;
    const char *name;
} handled[] = {
    {SIGTERM, SIGNAL_TERMINATE, "SIGTERM"}, {SIGINT, SIGNAL_END, "SIGINT"},
    {SIGHUP, SIGNAL_END, "SIGHUP"},         {SIGQUIT, SIGNAL_END, "SIGQUIT"},
    {SIGUSR1, SIGNAL_SAVE, "SIGUSR1"},      {SIGTSTP, SIGNAL_STOP, "SIGTSTP"},
    {SIGCONT, SIGNAL_CONTINUED, "SIGCONT"}, {SIGWINCH, SIGNAL_RESIZED, "SIGWINCH"},
};

int signals_open(struct err *err)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(handled); i++)
        sigaddset(&set, handled[i].number);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_set(err, -errno, "signals cannot be received: %s", strerror(errno));
    return fd;
}

enum signal_request signals_read(int fd, unsigned *number)
{
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof info) != sizeof info)
        return SIGNAL_NONE;
    *number = info.ssi_signo;
    for (size_t i = 0; i < ARRAY_SIZE(handled); i++)
        if ((unsigned)handled[i].number == *number)
            return handled[i].request;
    return SIGNAL_NONE;
}

void signals_stop_process(void)
{
    raise(SIGSTOP);
}

const char *signals_name(unsigned number)
{
    for (size_t i = 0; i < ARRAY_SIZE(handled); i++)
        if ((unsigned)handled[i].number == number)
            return handled[i].name;
    return "a signal";
}
