/* memory.c - programs whose loads and stores count. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* --- the sieve of Eratosthenes --- */

#define SIEVE_SIZE 1000000

bool bench_sieve(unsigned long count)
{
    uint8_t *composite = malloc(SIEVE_SIZE);
    bool right = composite;

    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        unsigned primes = 0;

        memset(composite, 0, SIEVE_SIZE);
        for (unsigned i = 2; i < SIEVE_SIZE; i++) {
            if (composite[i])
                continue;
            primes++;
            for (unsigned j = 2 * i; j < SIEVE_SIZE; j += i)
                composite[j] = 1;
        }
        right = primes == 78498;
    }
    bench_stop();
    free(composite);
    return right;
}

/* --- the C library's qsort --- */

#define SORT_LENGTH 20000

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

bool bench_qsort(unsigned long count)
{
    uint32_t *numbers = malloc(SORT_LENGTH * sizeof(*numbers));
    bool right = numbers;

    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        uint32_t seed = 42;

        for (unsigned i = 0; i < SORT_LENGTH; i++)
            numbers[i] = bench_random(&seed);
        qsort(numbers, SORT_LENGTH, sizeof(*numbers), compare);
    }
    bench_stop();
    for (unsigned i = 1; i < SORT_LENGTH && right; i++)
        right = numbers[i - 1] <= numbers[i];
    free(numbers);
    return right;
}

/* --- a list in random order, one element a cache line --- */

#define CHASE_LENGTH 65536

struct line {
    uint32_t next;
    uint32_t pad[15];
};

/* One cycle through all lines (Sattolo's shuffle). */
static void chase_prepare(struct line *lines)
{
    uint32_t seed = 7;

    for (uint32_t i = 0; i < CHASE_LENGTH; i++)
        lines[i].next = i;
    for (uint32_t i = CHASE_LENGTH - 1; i > 0; i--) {
        uint32_t j = bench_random(&seed) % i, next = lines[i].next;

        lines[i].next = lines[j].next;
        lines[j].next = next;
    }
}

bool bench_chase(unsigned long count)
{
    struct line *lines = calloc(CHASE_LENGTH, sizeof(*lines));
    bool right = lines;

    if (lines)
        chase_prepare(lines);
    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        uint32_t at = 0;

        for (unsigned i = 0; i < CHASE_LENGTH; i++)
            at = lines[at].next;
        right = at == 0;
    }
    bench_stop();
    free(lines);
    return right;
}

/* --- the C library's memcpy --- */

#define COPY_SIZE (1u << 20)

bool bench_memcpy(unsigned long count)
{
    uint8_t *from = malloc(COPY_SIZE), *to = malloc(COPY_SIZE);
    uint32_t seed = 9;
    bool right = from && to;

    for (unsigned i = 0; i < COPY_SIZE && right; i += 64)
        from[i] = (uint8_t)bench_random(&seed);
    bench_start();
    for (unsigned long unit = 0; unit < count && right; unit++) {
        memcpy(to, from, COPY_SIZE);
        BENCH_HIDE(to);
    }
    bench_stop();
    right = right && memcmp(from, to, COPY_SIZE) == 0;
    free(from);
    free(to);
    return right;
}
