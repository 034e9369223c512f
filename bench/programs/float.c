/* float.c - programs in double precision. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- matrix product --- */

#define SIZE 128

/* The elements are small integers, so the product is exact. */
static void matrix_fill(double (*m)[SIZE], uint32_t seed)
{
    for (unsigned i = 0; i < SIZE; i++)
        for (unsigned j = 0; j < SIZE; j++)
            m[i][j] = bench_random(&seed) % 1000;
}

static __attribute__((noinline)) void
matrix_multiply(double (*restrict c)[SIZE], double (*restrict a)[SIZE], double (*restrict b)[SIZE])
{
    for (unsigned i = 0; i < SIZE; i++)
        for (unsigned j = 0; j < SIZE; j++) {
            double sum = 0;

            for (unsigned k = 0; k < SIZE; k++)
                sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
}

/* The sum of all elements of A B is (column sums of A) times (row sums of B). */
static bool matrix_check(double (*c)[SIZE], double (*a)[SIZE], double (*b)[SIZE])
{
    double sum = 0, expected = 0;

    for (unsigned k = 0; k < SIZE; k++) {
        double column = 0, row = 0;

        for (unsigned i = 0; i < SIZE; i++) {
            sum += c[i][k];
            column += a[i][k];
            row += b[k][i];
        }
        expected += column * row;
    }
    return sum == expected;
}

bool bench_matmul(unsigned long count)
{
    static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

    matrix_fill(a, 1);
    matrix_fill(b, 2);
    bench_start();
    for (unsigned long unit = 0; unit < count; unit++)
        matrix_multiply(c, a, b);
    bench_stop();
    return matrix_check(c, a, b);
}

/* --- the sun and four planets --- */

#define BODIES 5
#define STEPS 10000

struct body {
    double x[3], v[3], mass;
};

static void bodies_start(struct body *bodies)
{
    double momentum[3] = {0};

    for (unsigned i = 0; i < BODIES; i++) {
        struct body *b = &bodies[i];
        double radius = i * 4.0, speed = i ? sqrt(39.5 / radius) : 0;

        *b = (struct body){.x = {radius * cos(i), radius * sin(i), 0.01 * i},
                           .v = {-speed * sin(i), speed * cos(i), 0.001},
                           .mass = i ? 0.02 / i : 39.5};
        for (unsigned k = 0; k < 3; k++)
            momentum[k] += b->v[k] * b->mass;
    }
    for (unsigned k = 0; k < 3; k++)
        bodies[0].v[k] -= momentum[k] / bodies[0].mass;
}

static double energy(const struct body *bodies)
{
    double e = 0;

    for (unsigned i = 0; i < BODIES; i++) {
        const struct body *b = &bodies[i];

        e += b->mass * (b->v[0] * b->v[0] + b->v[1] * b->v[1] + b->v[2] * b->v[2]) / 2;
        for (unsigned j = i + 1; j < BODIES; j++) {
            double d2 = 0;

            for (unsigned k = 0; k < 3; k++)
                d2 += (b->x[k] - bodies[j].x[k]) * (b->x[k] - bodies[j].x[k]);
            e -= b->mass * bodies[j].mass / sqrt(d2);
        }
    }
    return e;
}

static __attribute__((noinline)) void bodies_advance(struct body *bodies, double dt)
{
    for (unsigned i = 0; i < BODIES; i++)
        for (unsigned j = i + 1; j < BODIES; j++) {
            struct body *a = &bodies[i], *b = &bodies[j];
            double d[3] = {a->x[0] - b->x[0], a->x[1] - b->x[1], a->x[2] - b->x[2]};
            double d2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            double magnitude = dt / (d2 * sqrt(d2));

            for (unsigned k = 0; k < 3; k++) {
                a->v[k] -= d[k] * b->mass * magnitude;
                b->v[k] += d[k] * a->mass * magnitude;
            }
        }
    for (unsigned i = 0; i < BODIES; i++)
        for (unsigned k = 0; k < 3; k++)
            bodies[i].x[k] += dt * bodies[i].v[k];
}

bool bench_nbody(unsigned long count)
{
    struct body bodies[BODIES];
    double before, after = 0;

    bodies_start(bodies);
    before = energy(bodies);
    bench_start();
    for (unsigned long unit = 0; unit < count; unit++) {
        bodies_start(bodies);
        for (unsigned step = 0; step < STEPS; step++)
            bodies_advance(bodies, 0.001);
        after = energy(bodies);
    }
    bench_stop();
    return fabs(after - before) < 1e-4 * fabs(before);
}

/* --- fast Fourier transform, radix 2, in place --- */

#define POINTS 4096
#define POINTS_LOG2 12

struct fft {
    double re[POINTS], im[POINTS];
    double cosine[POINTS / 2], sine[POINTS / 2];
};

static unsigned reverse_bits(unsigned i)
{
    unsigned r = 0;

    for (unsigned bit = 0; bit < POINTS_LOG2; bit++)
        r = r << 1 | (i >> bit & 1);
    return r;
}

static void swap(double *a, double *b)
{
    double t = *a;

    *a = *b;
    *b = t;
}

/* `sign` is 1 for the transform, -1 for its inverse (without the division by POINTS). */
static __attribute__((noinline)) void fft_transform(struct fft *f, double sign)
{
    for (unsigned i = 0; i < POINTS; i++) {
        unsigned j = reverse_bits(i);

        if (i < j) {
            swap(&f->re[i], &f->re[j]);
            swap(&f->im[i], &f->im[j]);
        }
    }
    for (unsigned half = 1; half < POINTS; half *= 2)
        for (unsigned start = 0; start < POINTS; start += 2 * half)
            for (unsigned k = 0; k < half; k++) {
                unsigned a = start + k, b = a + half, t = k * (POINTS / 2 / half);
                double c = f->cosine[t], s = -sign * f->sine[t];
                double re = f->re[b] * c - f->im[b] * s, im = f->re[b] * s + f->im[b] * c;

                f->re[b] = f->re[a] - re;
                f->im[b] = f->im[a] - im;
                f->re[a] += re;
                f->im[a] += im;
            }
}

/* Two tones: their spectrum has two peaks of a known height. */
static void fft_prepare(struct fft *f)
{
    for (unsigned i = 0; i < POINTS / 2; i++) {
        f->cosine[i] = cos(2 * M_PI * i / POINTS);
        f->sine[i] = sin(2 * M_PI * i / POINTS);
    }
    for (unsigned i = 0; i < POINTS; i++) {
        f->re[i] = cos(2 * M_PI * 5 * i / POINTS) + 2 * sin(2 * M_PI * 300 * i / POINTS);
        f->im[i] = 0;
    }
}

bool bench_fft(unsigned long count)
{
    struct fft *f = malloc(sizeof(*f));
    double first, low = 0, high = 0;
    bool right;

    if (!f)
        return false;
    fft_prepare(f);
    first = f->re[1];
    bench_start();
    for (unsigned long unit = 0; unit < count; unit++) {
        fft_transform(f, 1);
        low = f->re[5];
        high = f->im[300];
        fft_transform(f, -1);
        for (unsigned i = 0; i < POINTS; i++) {
            f->re[i] /= POINTS;
            f->im[i] /= POINTS;
        }
    }
    bench_stop();
    right = fabs(low - POINTS / 2) < 1e-6 && fabs(high + POINTS) < 1e-6 &&
            fabs(f->re[1] - first) < 1e-9;
    free(f);
    return right;
}
