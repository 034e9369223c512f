#include "engine/choose.h"

#include "engine/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* --- the CPU model --- */

/* Was the feature asked for by name? */
static bool is_wished(const char *spec, const char *feature)
{
    const size_t length = strlen(feature);

    for (const char *p = spec; (p = strchr(p, '+')); p++)
        if (strncmp(p + 1, feature, length) == 0 && (p[1 + length] == ',' || !p[1 + length]))
            return true;
    return false;
}

static int lacks(const struct engine_ops *engine, enum cpu_feature f, struct err *err)
{
    return err_set(err, -ENOTSUP,
                   "the engine '%s' cannot give the guest the CPU feature '%s' on this host",
                   engine->name, cpu_feature_name(f));
}

/* Writes the model's text without the features that the engine doesn't have. */
static int take_away(const struct engine_ops *engine, const struct cpu_model *model,
                     const char *spec, const bool has[FEAT_COUNT], char *out, struct err *err)
{
    size_t used = strlen(spec);

    if (used >= ENGINE_CPU_LENGTH)
        return err_set(err, -EINVAL, "the text of --cpu is too long (%zu bytes)", used);
    memcpy(out, spec, used + 1);
    for (unsigned f = 0; f < FEAT_COUNT; f++) {
        const char *name = cpu_feature_name(f);

        if (!cpu_model_has(model, f) || has[f])
            continue;
        if (is_wished(spec, name))
            return lacks(engine, f, err);
        used += (size_t)snprintf(out + used, ENGINE_CPU_LENGTH - used, ",-%s", name);
        if (used >= ENGINE_CPU_LENGTH)
            return err_set(
                err, -ENOTSUP,
                "the engine '%s' lacks too many CPU features on this host; name a model that "
                "it has with '--cpu'",
                engine->name);
    }
    return 0;
}

static int fit_cpu(struct engine_choice *c, const char *spec, struct err *err)
{
    bool has[FEAT_COUNT];
    struct cpu_model *model;
    int rc;

    if (!c->engine->features)
        return 0;
    rc = c->engine->features(has, err);
    if (rc < 0)
        return rc;
    rc = cpu_model_new(spec, &model, err);
    if (rc < 0)
        return rc;
    rc = take_away(c->engine, model, spec, has, c->cpu, err);
    cpu_model_free(model);
    return rc;
}

static int check_model(const struct engine_ops *engine, const struct cpu_model *model,
                       struct err *err)
{
    bool has[FEAT_COUNT];
    int rc = engine->features ? engine->features(has, err) : 0;

    for (unsigned f = 0; rc == 0 && engine->features && f < FEAT_COUNT; f++)
        if (cpu_model_has(model, f) && !has[f])
            rc = lacks(engine, f, err);
    return rc;
}

/* --- auto --- */

static void choose_translation(struct engine_choice *c)
{
    c->engine = &engine_translate;
    c->fallbacks[0] = &engine_interpret;
    c->fallbacks[1] = NULL;
    c->cpu[0] = '\0';
}

static void choose_kvm(struct engine_choice *c)
{
    c->engine = &engine_kvm;
    c->fallbacks[0] = &engine_translate;
    c->fallbacks[1] = &engine_interpret;
}

/* Is KVM there, with such a CPU, and quick? Fills in everything of the choice but the engines. */
static bool kvm_is_better(struct engine_choice *c, const char *cpu)
{
    struct engine_times times;
    struct err err;

    c->engine = &engine_kvm;
    if (fit_cpu(c, cpu, &err) < 0 || engine_measure(c->cpu, &times, &err) < 0) {
        snprintf(c->why, sizeof c->why, "%s", err.text);
        return false;
    }
    snprintf(c->why, sizeof c->why,
             "in a trial KVM took %" PRIu64 " us and translation %" PRIu64 " us",
             times.kvm_ns / 1000, times.translate_ns / 1000);
    return times.kvm_ns < times.translate_ns;
}

static void choose_best(struct engine_choice *c, const struct engine_wish *wish, const char *cpu)
{
    if (wish->must_count)
        snprintf(c->why, sizeof c->why, "KVM doesn't count instructions");
    else if (kvm_is_better(c, wish->cpu_is_fixed ? "host" : cpu)) {
        choose_kvm(c);
        return;
    }
    choose_translation(c);
}

static int choose_by_name(struct engine_choice *c, const struct engine_wish *wish, const char *cpu,
                          struct err *err)
{
    c->engine = engine_find(wish->name);
    if (!c->engine)
        return err_set(err, -EINVAL, "there is no engine '%s'", wish->name);
    snprintf(c->why, sizeof c->why, "it was asked for");
    if (c->engine == &engine_translate)
        c->fallbacks[0] = &engine_interpret; /* a host may refuse the translator its memory */
    return wish->cpu_is_fixed ? 0 : fit_cpu(c, cpu, err);
}

int engine_choose(struct engine_choice *choice, const struct engine_wish *wish, struct err *err)
{
    const char *cpu = wish->cpu && *wish->cpu ? wish->cpu : "host";

    memset(choice, 0, sizeof *choice);
    if (strcmp(wish->name, "auto") != 0)
        return choose_by_name(choice, wish, cpu, err);
    choose_best(choice, wish, cpu);
    return 0;
}

int engine_choose_again(struct engine_choice *choice, const char *name, bool must_count,
                        const struct cpu_model *model, struct err *err)
{
    const struct engine_wish wish = {.name = name, .must_count = must_count, .cpu_is_fixed = true};
    struct err refused;
    int rc = engine_choose(choice, &wish, err);

    if (rc < 0)
        return rc;
    rc = check_model(choice->engine, model, &refused);
    if (rc == 0)
        return 0;
    if (strcmp(name, "auto") != 0) {
        *err = refused;
        return rc;
    }
    choose_translation(choice);
    snprintf(choice->why, sizeof choice->why, "%s", refused.text);
    return 0;
}
