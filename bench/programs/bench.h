/* bench.h - what the benchmark programs share.
 *
 * Every program is one row of the table in main.c: a function that does `count` units of a fixed
 * piece of work and says whether the results were right. The work of a unit never depends on the
 * count, so nanoseconds per unit compare between machines that were given different counts. A unit
 * takes about a millisecond on real hardware, or is one event (a fork). */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef bool bench_fn(unsigned long count);

/* Called by a program when its preparations are done, and again when its units are: the time
 * between is what counts. What is checked afterwards is not. */
void bench_start(void);
void bench_stop(void);

/* A sequence of pseudo-random numbers that is the same everywhere. */
static inline uint32_t bench_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Hides a value from the optimizer, so that the work cannot be shared between units. */
#define BENCH_HIDE(x) __asm__ volatile("" : "+r"(x) : : "memory")

/* integer.c */
bench_fn bench_loop, bench_fib, bench_indirect, bench_mixed, bench_bytecode;
/* memory.c */
bench_fn bench_sieve, bench_qsort, bench_chase, bench_memcpy;
/* float.c */
bench_fn bench_matmul, bench_nbody, bench_fft;
/* data.c */
bench_fn bench_sha256, bench_compress;
/* simd.c */
bench_fn bench_sse2, bench_avx2;
/* system.c */
bench_fn bench_getppid, bench_faults, bench_fork, bench_exec, bench_pipe;

#endif
