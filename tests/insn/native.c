/* native.c - see native.h: the parent's side, and the child's main loop.
 *
 * Both talk over a socket pair: a byte with the number of a batch starts it, the same byte back
 * says that it is done. */
#define _GNU_SOURCE
#include "native.h"
#include "native_child.h"

/* <ucontext.h> has a REG_RIP of its own, which clashes with the one of cpu.h. */
#define REG_RIP HOST_REG_RIP
#include <signal.h>
#include <ucontext.h>
#undef REG_RIP

#include <cpuid.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_MS 20000 /* for a batch, which takes milliseconds */
#define HWCAP2_FSGSBASE_BIT (1ul << 1)

struct native {
    int fd; /* memfd of the code and data pages */
    int socket;
    pid_t pid;
    struct batch *batches; /* shared with the child */
    struct native_memory memory;
};

static void child_main(struct native *n, int socket)
{
    uint8_t index;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (native_child_init(n->fd, &n->memory) != 0)
        _exit(97);
    index = 0xff;
    if (write(socket, &index, 1) != 1)
        _exit(96);
    while (read(socket, &index, 1) == 1) {
        native_child_run(&n->batches[index]);
        if (write(socket, &index, 1) != 1)
            break;
    }
    _exit(0);
}

static bool wait_byte(struct native *n)
{
    struct pollfd pfd = {.fd = n->socket, .events = POLLIN};
    uint8_t byte;

    return poll(&pfd, 1, TIMEOUT_MS) == 1 && read(n->socket, &byte, 1) == 1;
}

static int start_child(struct native *n, struct err *err)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return err_set(err, -errno, "socketpair: %s", strerror(errno));
    n->socket = pair[0];
    n->pid = fork();
    if (n->pid == 0) {
        close(pair[0]);
        child_main(n, pair[1]);
    }
    close(pair[1]);
    if (n->pid < 0)
        return err_set(err, -errno, "fork: %s", strerror(errno));
    if (!wait_byte(n))
        return err_set(err, -ENOTSUP, "this host does not let a process use an LDT");
    return 0;
}

static void stop_child(struct native *n)
{
    if (n->pid > 0) {
        kill(n->pid, SIGKILL);
        waitpid(n->pid, NULL, 0);
    }
    if (n->socket >= 0)
        close(n->socket);
    n->pid = 0;
    n->socket = -1;
}

static void *map_shared(int fd, uint64_t size, uint64_t offset)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, (off_t)offset);

    return p == MAP_FAILED ? NULL : p;
}

static int map_memory(struct native *n, struct err *err)
{
    n->fd = memfd_create("insn-test", MFD_CLOEXEC);
    if (n->fd < 0 || ftruncate(n->fd, (off_t)(PAGE_SIZE + DATA_SIZE + SEQ_SIZE)) != 0)
        return err_set(err, -errno, "memfd: %s", strerror(errno));
    n->batches = map_shared(-1, BATCH_COUNT * sizeof(struct batch), 0);
    n->memory.code = map_shared(n->fd, PAGE_SIZE, 0);
    n->memory.data = map_shared(n->fd, DATA_SIZE, PAGE_SIZE);
    n->memory.sequence = map_shared(n->fd, SEQ_SIZE, PAGE_SIZE + DATA_SIZE);
    n->memory.shadow = map_shared(-1, DATA_SIZE, 0);
    if (!n->batches || !n->memory.code || !n->memory.data || !n->memory.sequence ||
        !n->memory.shadow)
        return err_set(err, -ENOMEM, "not enough memory for the test cases");
    return 0;
}

static bool host_has_avx(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_AVX) && (ecx & bit_OSXSAVE);
}

int native_new(struct native **native, struct err *err)
{
    struct native *n;
    int ret;

    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) || !host_has_avx())
        return err_set(err, -ENOTSUP, "this host has no FSGSBASE instructions or no AVX");
    n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(err, -ENOMEM, "out of memory");
    n->fd = n->socket = -1;
    ret = map_memory(n, err);
    if (ret == 0)
        ret = start_child(n, err);
    if (ret) {
        native_free(n);
        return ret;
    }
    *native = n;
    return 0;
}

void native_free(struct native *n)
{
    if (!n)
        return;
    stop_child(n);
    if (n->fd >= 0)
        close(n->fd);
    munmap(n->batches, BATCH_COUNT * sizeof(struct batch));
    munmap(n->memory.code, PAGE_SIZE);
    munmap(n->memory.data, DATA_SIZE);
    munmap(n->memory.sequence, SEQ_SIZE);
    munmap(n->memory.shadow, DATA_SIZE);
    free(n);
}

struct batch *native_batch(struct native *n, unsigned index)
{
    return &n->batches[index];
}

uint8_t *native_data(struct native *n)
{
    return n->memory.data;
}

void native_start(struct native *n, unsigned index)
{
    uint8_t byte = (uint8_t)index;

    n->batches[index].current = 0;
    if (write(n->socket, &byte, 1) != 1)
        n->batches[index].current = 0; /* native_wait() will see that the child is gone */
}

bool native_wait(struct native *n)
{
    if (wait_byte(n))
        return true;
    stop_child(n);
    start_child(n, NULL);
    return false;
}
