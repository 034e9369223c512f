/* code_memory.h - memory for code that an engine makes: the same pages twice, once writable and
 * once executable (W^X), so that no address is both.
 *
 * Whoever makes code writes it through one address and runs it at the other. Pages are taken from
 * the host when they are first written. */
#ifndef DOBLE_ENGINE_CODE_MEMORY_H
#define DOBLE_ENGINE_CODE_MEMORY_H

#include "base/err.h"
#include "base/types.h"

struct code_memory {
    uint8_t *writable, *executable;
    size_t size;
};

/* `name` is what /proc/PID/maps shows, if the host permits a memfd that may be executed (see
 * vm.memfd_noexec); otherwise, or if it is NULL, the memory is anonymous. On an error nothing is
 * left. `err` may not be NULL. */
int code_memory_init(struct code_memory *code, const char *name, size_t size,
                     struct err *err) MUST_USE;
/* Also of one that is all zeros. */
void code_memory_free(struct code_memory *code);

#endif
