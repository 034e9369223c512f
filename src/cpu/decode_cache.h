/* decode_cache.h - what the decoder said about instructions of the same form.
 *
 * The bytes of an instruction up to its ModRM and SIB bytes decide everything about it but its
 * displacement and its immediates. Code consists of few such beginnings: what Zydis and decode.c
 * make of one is kept, and the next instruction that begins alike takes it and reads its own
 * displacement and immediates. That is several times faster than to decode.
 *
 * A table of fixed size, one for each CPU, because results depend on its model; in it the CPU's
 * mode is a part of the key. Used by whoever decodes for this CPU, one thread at a time. */
#ifndef DOBLE_CPU_DECODE_CACHE_H
#define DOBLE_CPU_DECODE_CACHE_H

#include "cpu/decode.h"

struct decode_cache;

struct decode_cache *decode_cache_new(void);
void decode_cache_free(struct decode_cache *cache);

/* What identifies the form of the instruction at `code`. */
struct insn_form {
    uint64_t bytes; /* its beginning */
    uint32_t mode;  /* cpu->mode */
    uint8_t len;    /* bytes of its beginning; 0: it has no entry */
};
struct insn_form decode_form(const struct cpu *cpu, const uint8_t *code, unsigned avail);

/* Fills *d for the instruction at `code`. False: its form is not known, or it does not end within
 * `avail` bytes. */
bool decode_cache_get(const struct decode_cache *cache, const struct insn_form *form,
                      const uint8_t *code, unsigned avail, struct decoded *d);
/* Keeps *d, which has been decoded from bytes of that form. */
void decode_cache_put(struct decode_cache *cache, const struct insn_form *form,
                      const struct decoded *d);

#endif
