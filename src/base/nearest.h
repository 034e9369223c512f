/* nearest.h - which of some names somebody may have meant. */
#ifndef DOBLE_BASE_NEAREST_H
#define DOBLE_BASE_NEAREST_H

struct nearest {
    const char *word; /* what was written */
    const char *best; /* the nearest name so far; NULL: none is near */
    unsigned distance;
};

void nearest_init(struct nearest *nearest, const char *word);

/* Takes the name if it is nearer than those before. At most half of the letters may be wrong, or
 * the name begins with the word. Words of more than 32 letters are near to nothing. */
void nearest_try(struct nearest *nearest, const char *name);

#endif
