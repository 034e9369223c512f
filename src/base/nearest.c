/* nearest.c - the distance between words: insertions, deletions and replacements (Levenshtein). */
#include "base/nearest.h"

#include "base/types.h"

#include <string.h>

#define MAX_LENGTH 32

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

static unsigned distance(const char *a, const char *b)
{
    unsigned row[MAX_LENGTH + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > MAX_LENGTH || lb > MAX_LENGTH)
        return UINT32_MAX;
    for (unsigned j = 0; j <= lb; j++)
        row[j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned above = row[j];

            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[lb];
}

void nearest_init(struct nearest *nearest, const char *word)
{
    size_t length = strnlen(word, MAX_LENGTH);

    *nearest = (struct nearest){.word = word, .distance = (unsigned)length / 2 + 1};
}

void nearest_try(struct nearest *nearest, const char *name)
{
    size_t length = strlen(nearest->word);
    unsigned d = distance(nearest->word, name);

    if (length && strncmp(nearest->word, name, length) == 0)
        d = 0;
    if (d < nearest->distance) {
        nearest->distance = d;
        nearest->best = name;
    }
}
