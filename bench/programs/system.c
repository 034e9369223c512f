/* system.c - programs that ask the kernel for something all the time. */
#include "bench.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

bool bench_getppid(unsigned long count)
{
    long parent = getppid();
    bool right = true;

    bench_start();
    for (unsigned long unit = 0; unit < count; unit++)
        for (unsigned i = 0; i < 1000; i++)
            right &= syscall(SYS_getppid) == parent;
    bench_stop();
    return right;
}

/* First touches of anonymous pages. */
bool bench_faults(unsigned long count)
{
    const size_t page = 4096, size = 100 * page;
    bool right = true;

    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        volatile uint8_t *area =
            mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        right = area != MAP_FAILED;
        for (size_t i = 0; i < size && right; i += page) {
            right = area[i] == 0;
            area[i] = 1;
        }
        right = right && munmap((void *)area, size) == 0;
    }
    bench_stop();
    return right;
}

/* Did the child end, and with this status? */
static bool ended_with(pid_t pid, int expected)
{
    int status;

    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == expected;
}

bool bench_fork(unsigned long count)
{
    bool right = true;

    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(7);
        right = ended_with(pid, 7);
    }
    bench_stop();
    return right;
}

/* posix_spawn() shares the address space with the child until it executes, as vfork() does. */
bool bench_exec(unsigned long count)
{
    char *const argv[] = {(char[]){"benchprog"}, (char[]){"--nothing"}, NULL};
    bool right = true;

    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        pid_t pid;

        right = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) == 0 &&
                ended_with(pid, 0);
    }
    bench_stop();
    return right;
}

/* The other end: returns every byte plus one, until there are no more. */
static void echo(int from, int to)
{
    uint8_t byte;

    while (read(from, &byte, 1) == 1) {
        byte++;
        if (write(to, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static bool round_trips(unsigned long count, int to, int from)
{
    for (unsigned long i = 0; i < count * 100; i++) {
        uint8_t sent = (uint8_t)i, received;

        if (write(to, &sent, 1) != 1 || read(from, &received, 1) != 1 ||
            received != (uint8_t)(sent + 1))
            return false;
    }
    return true;
}

bool bench_pipe(unsigned long count)
{
    int there[2], back[2];
    bool right;
    pid_t pid;

    if (pipe(there) || pipe(back) || (pid = fork()) < 0)
        return false;
    if (pid == 0) {
        close(there[1]);
        echo(there[0], back[1]);
    }
    close(there[0]);
    bench_start();
    right = round_trips(count, there[1], back[0]);
    bench_stop();
    close(there[1]);
    return ended_with(pid, 0) && right;
}
