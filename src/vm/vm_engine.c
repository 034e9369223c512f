#include "vm/vm_engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What an engine has hung into the machine. */
struct attachment {
    void *engine;
    memory_code_fn *code_changed;
    void *code_opaque;
};

static struct attachment attached(const struct vm *vm)
{
    const struct memory *mem = &vm->pc.mem;

    return (struct attachment){vm->pc.cpu->engine, mem->code_changed, mem->code_opaque};
}

static void attach(struct vm *vm, const struct attachment *a)
{
    vm->pc.cpu->engine = a->engine;
    memory_set_code_listener(&vm->pc.mem, a->code_changed, a->code_opaque);
}

static void set_kick(struct vm *vm, void (*kick)(struct cpu *cpu))
{
    pthread_mutex_lock(&vm->lock);
    vm->kick = kick;
    pthread_mutex_unlock(&vm->lock);
}

void vm_engine_kick(struct vm *vm)
{
    if (vm->kick)
        vm->kick(vm->pc.cpu);
}

static int init(struct vm *vm, const struct engine_ops *engine, struct err *err)
{
    const struct vm_config *c = &vm->config;

    if (engine->cannot_count && c->pc.time == CLOCK_VIRTUAL)
        return err_set(err, -ENOTSUP,
                       "the engine '%s' cannot count instructions, as '--time virtual' needs it; "
                       "use '--engine translate'",
                       engine->name);
    if (engine->cannot_count && c->max_instructions)
        return err_set(err, -ENOTSUP,
                       "the engine '%s' cannot count instructions, as '--max-instructions' needs "
                       "it; use '--engine translate'",
                       engine->name);
    return engine->init(vm->pc.cpu, err);
}

static void explain(struct vm *vm, const char *why)
{
    snprintf(vm->engine_why, sizeof vm->engine_why, "%s", why);
}

/* The engine that is to be tried next, in place of one that has failed; NULL: none. */
static const struct engine_ops *next_fallback(struct vm_config *c)
{
    const struct engine_ops *next = c->fallbacks[0];

    c->fallbacks[0] = c->fallbacks[1];
    c->fallbacks[1] = NULL;
    return next;
}

int vm_engine_start(struct vm *vm, struct err *err)
{
    struct vm_config *c = &vm->config;
    const struct engine_ops *next;
    int rc;

    vm->pc.cpu->engine_config = &c->engine_config;
    rc = init(vm, c->engine, err);

    explain(vm, c->engine_why ? c->engine_why : "it was asked for");
    while (rc < 0 && (next = next_fallback(c))) {
        explain(vm, err->text);
        if (next == &engine_interpret)
            vm->engine_err = *err; /* that slow, and not asked for */
        c->engine = next;
        rc = init(vm, next, err);
    }
    if (rc == 0)
        set_kick(vm, c->engine->kick);
    return rc;
}

void vm_engine_free(struct vm *vm)
{
    set_kick(vm, NULL);
    if (vm->pc.cpu->engine)
        vm->config.engine->free(vm->pc.cpu);
}

/* The new engine is made before the old one is gone, so that there is always one. */
static int exchange(struct vm *vm, const struct engine_ops *engine, struct err *err)
{
    const struct engine_ops *old_engine = vm->config.engine;
    const struct attachment old = attached(vm);
    struct attachment new;
    int rc = init(vm, engine, err);

    if (rc < 0) {
        attach(vm, &old);
        return rc;
    }
    new = attached(vm);
    set_kick(vm, NULL);
    attach(vm, &old);
    old_engine->free(vm->pc.cpu);
    attach(vm, &new);
    vm->config.engine = engine;
    engine->flush(vm->pc.cpu);
    set_kick(vm, engine->kick);
    return 0;
}

static int change(struct vm *vm, const struct engine_ops *engine, const char *why, struct err *err)
{
    int rc = 0;

    vm_pause(vm);
    if (engine != vm->config.engine)
        rc = exchange(vm, engine, err);
    if (rc == 0)
        explain(vm, why);
    vm_resume(vm);
    return rc;
}

int vm_engine_change(struct vm *vm, const struct engine_choice *choice, struct err *err)
{
    int rc = change(vm, choice->engine, choice->why, err);

    if (rc == 0)
        memcpy(vm->config.fallbacks, choice->fallbacks, sizeof vm->config.fallbacks);
    return rc;
}

void vm_engine_failed(struct vm *vm)
{
    const struct engine_ops *next;
    struct err err = {0}, ignored;

    vm->config.engine->failure(vm->pc.cpu, &err);
    while ((next = next_fallback(&vm->config)))
        if (change(vm, next, err.text, &ignored) == 0)
            return;
    vm_fail(vm, &err);
}
