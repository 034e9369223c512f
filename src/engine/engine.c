#include "engine/engine.h"

#include <string.h>

static const struct engine_ops *const engines[] = {&engine_interpret, &engine_translate,
                                                   &engine_kvm};

const struct engine_ops *engine_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}
