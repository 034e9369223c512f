/* main.c - benchprog: all benchmark programs in one static binary.
 *
 *   benchprog --list            prints a line for each program: name, default count, what a unit is
 *   benchprog NAME [COUNT]      does COUNT units
 *
 * Prints "bench NAME start" and "bench NAME done COUNT NANOSECONDS ok" (or "wrong"). The driver on
 * the host takes the time between the two lines by its own clock, because a guest's clock may be
 * anything; the nanoseconds are those of the clock here. The status is 0 if the results were right,
 * 1 if they were wrong, 77 if this processor cannot run the program. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct program {
    const char *name;
    bench_fn *run;
    unsigned long count; /* about 100 ms on real hardware */
    const char *unit;
};

static const struct program programs[] = {
    {"loop", bench_loop, 100, "1,000,000 steps of an integer loop"},
    {"sieve", bench_sieve, 50, "primes below 1,000,000"},
    {"qsort", bench_qsort, 50, "sort of 20,000 integers"},
    {"fib", bench_fib, 500, "fib(25) by recursion"},
    {"indirect", bench_indirect, 100, "200,000 calls through pointers"},
    {"chase", bench_chase, 100, "65,536 steps through a list of 4 MiB"},
    {"memcpy", bench_memcpy, 2000, "copy of 1 MiB"},
    {"mixed", bench_mixed, 500, "list, matrix, state machine and CRC"},
    {"sha256", bench_sha256, 30, "hash of 256 KiB"},
    {"compress", bench_compress, 200, "LZ compression and expansion of 256 KiB"},
    {"bytecode", bench_bytecode, 100, "bytecode program of 500,000 steps"},
    {"matmul", bench_matmul, 100, "product of 128 x 128 doubles"},
    {"nbody", bench_nbody, 100, "10,000 steps of five bodies"},
    {"fft", bench_fft, 500, "FFT of 4,096 complex doubles, and back"},
    {"sse2", bench_sse2, 5000, "blend and polynomial over 64 KiB, SSE2"},
    {"avx2", bench_avx2, 10000, "blend and polynomial over 64 KiB, AVX2"},
    {"getppid", bench_getppid, 500, "1,000 system calls"},
    {"faults", bench_faults, 200, "100 page faults"},
    {"fork", bench_fork, 500, "fork and wait"},
    {"exec", bench_exec, 200, "vfork, exec and wait"},
    {"pipe", bench_pipe, 100, "100 round trips through pipes"},
};

#define PROGRAM_COUNT (sizeof(programs) / sizeof(programs[0]))

static const char *running; /* the name for the lines; one program runs in a process */
static uint64_t started, stopped;

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_start(void)
{
    printf("bench %s start\n", running);
    fflush(stdout);
    tcdrain(STDOUT_FILENO); /* the line must not be sent while the work is timed */
    started = now();
}

void bench_stop(void)
{
    stopped = now();
}

static int list(void)
{
    for (size_t i = 0; i < PROGRAM_COUNT; i++)
        printf("%s %lu %s\n", programs[i].name, programs[i].count, programs[i].unit);
    return 0;
}

static int run(const struct program *program, unsigned long count)
{
    bool right;

    running = program->name;
    right = program->run(count);
    if (!stopped) {
        printf("bench %s unsupported\n", running);
        return 77;
    }
    printf("bench %s done %lu %llu %s\n", running, count, (unsigned long long)(stopped - started),
           right ? "ok" : "wrong");
    return right ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--nothing") == 0)
        return 0; /* what the exec program executes */
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    for (size_t i = 0; i < PROGRAM_COUNT && (argc == 2 || argc == 3); i++)
        if (strcmp(argv[1], programs[i].name) == 0)
            return run(&programs[i], argc == 3 ? strtoul(argv[2], NULL, 10) : programs[i].count);
    fprintf(stderr, "usage: benchprog --list | NAME [COUNT]\n");
    return 2;
}
