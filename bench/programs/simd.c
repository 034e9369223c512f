/* simd.c - the same work with 128-bit and with 256-bit vectors.
 *
 * A unit blends two images of 64 KiB (8-bit pixels, 16-bit products) and evaluates a polynomial at
 * 16,384 single-precision points. Written with the compiler's vector intrinsics and function
 * target attributes, so that the file needs no option of its own; checked against plain C. */
#include "bench.h"

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#define PIXELS 65536
#define POINTS 16384
#define WEIGHT 77 /* of the first image, in 1/256 */

struct images {
    uint8_t a[PIXELS], b[PIXELS], blended[PIXELS];
    float x[POINTS], y[POINTS];
} __attribute__((aligned(32)));

static struct images *images_new(void)
{
    struct images *im = aligned_alloc(32, sizeof(*im));
    uint32_t seed = 11;

    if (!im)
        return NULL;
    for (unsigned i = 0; i < PIXELS; i++) {
        im->a[i] = (uint8_t)bench_random(&seed);
        im->b[i] = (uint8_t)bench_random(&seed);
    }
    for (unsigned i = 0; i < POINTS; i++)
        im->x[i] = (float)i / POINTS;
    return im;
}

static bool images_check(const struct images *im)
{
    for (unsigned i = 0; i < PIXELS; i++)
        if (im->blended[i] != (im->a[i] * WEIGHT + im->b[i] * (256 - WEIGHT)) >> 8)
            return false;
    for (unsigned i = 0; i < POINTS; i++) {
        float x = im->x[i], y = ((x * 0.25f + 0.5f) * x + 1.0f) * x + 2.0f;

        if (im->y[i] != y)
            return false;
    }
    return true;
}

static __attribute__((noinline)) void work_sse2(struct images *im)
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i wa = _mm_set1_epi16(WEIGHT), wb = _mm_set1_epi16(256 - WEIGHT);

    for (unsigned i = 0; i < PIXELS; i += 16) {
        __m128i a = _mm_load_si128((const __m128i *)&im->a[i]);
        __m128i b = _mm_load_si128((const __m128i *)&im->b[i]);
        __m128i low = _mm_add_epi16(_mm_mullo_epi16(_mm_unpacklo_epi8(a, zero), wa),
                                    _mm_mullo_epi16(_mm_unpacklo_epi8(b, zero), wb));
        __m128i high = _mm_add_epi16(_mm_mullo_epi16(_mm_unpackhi_epi8(a, zero), wa),
                                     _mm_mullo_epi16(_mm_unpackhi_epi8(b, zero), wb));

        _mm_store_si128((__m128i *)&im->blended[i],
                        _mm_packus_epi16(_mm_srli_epi16(low, 8), _mm_srli_epi16(high, 8)));
    }
    for (unsigned i = 0; i < POINTS; i += 4) {
        __m128 x = _mm_load_ps(&im->x[i]);
        __m128 y = _mm_add_ps(_mm_mul_ps(x, _mm_set1_ps(0.25f)), _mm_set1_ps(0.5f));

        y = _mm_add_ps(_mm_mul_ps(y, x), _mm_set1_ps(1.0f));
        _mm_store_ps(&im->y[i], _mm_add_ps(_mm_mul_ps(y, x), _mm_set1_ps(2.0f)));
    }
}

static __attribute__((noinline, target("avx2"))) void work_avx2(struct images *im)
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i wa = _mm256_set1_epi16(WEIGHT), wb = _mm256_set1_epi16(256 - WEIGHT);

    for (unsigned i = 0; i < PIXELS; i += 32) {
        __m256i a = _mm256_load_si256((const __m256i *)&im->a[i]);
        __m256i b = _mm256_load_si256((const __m256i *)&im->b[i]);
        __m256i low = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_unpacklo_epi8(a, zero), wa),
                                       _mm256_mullo_epi16(_mm256_unpacklo_epi8(b, zero), wb));
        __m256i high = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_unpackhi_epi8(a, zero), wa),
                                        _mm256_mullo_epi16(_mm256_unpackhi_epi8(b, zero), wb));

        low = _mm256_srli_epi16(low, 8);
        high = _mm256_srli_epi16(high, 8);
        _mm256_store_si256((__m256i *)&im->blended[i], _mm256_packus_epi16(low, high));
    }
    for (unsigned i = 0; i < POINTS; i += 8) {
        __m256 x = _mm256_load_ps(&im->x[i]);
        __m256 y = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(0.25f)), _mm256_set1_ps(0.5f));

        y = _mm256_add_ps(_mm256_mul_ps(y, x), _mm256_set1_ps(1.0f));
        _mm256_store_ps(&im->y[i], _mm256_add_ps(_mm256_mul_ps(y, x), _mm256_set1_ps(2.0f)));
    }
}

static bool run(unsigned long count, void (*work)(struct images *im))
{
    struct images *im = images_new();
    bool right;

    if (!im)
        return false;
    bench_start();
    for (unsigned long unit = 0; unit < count; unit++)
        work(im);
    bench_stop();
    right = images_check(im);
    free(im);
    return right;
}

bool bench_sse2(unsigned long count)
{
    return run(count, work_sse2);
}

bool bench_avx2(unsigned long count)
{
    return __builtin_cpu_supports("avx2") && run(count, work_avx2);
}
