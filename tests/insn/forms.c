/* forms.c - see forms.h: the enumeration. */
#include "forms.h"
#include "encode.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 16384

struct enumeration {
    struct form_list *list;
    const struct cpu_model *model;
    ZydisDecoder decoder;
    uint8_t mode;
    bool failed;
};

static unsigned hash_name(const char *name, unsigned mode)
{
    unsigned h = 2166136261u ^ mode;

    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static bool grow(struct form_list *list)
{
    unsigned capacity = list->capacity ? list->capacity * 2 : 1024;
    struct form *forms = realloc(list->forms, capacity * sizeof(*forms));

    if (!list->buckets)
        list->buckets = calloc(BUCKETS, sizeof(*list->buckets));
    if (!forms || !list->buckets)
        return false;
    list->forms = forms;
    list->capacity = capacity;
    return true;
}

struct form *forms_add(struct form_list *list, const char *name, unsigned mode)
{
    unsigned slot;

    if (list->count == list->capacity && !grow(list))
        return NULL;
    for (slot = hash_name(name, mode) % BUCKETS; list->buckets[slot]; slot = (slot + 1) % BUCKETS) {
        struct form *f = &list->forms[list->buckets[slot] - 1];

        if (f->mode == mode && strcmp(f->name, name) == 0)
            return f;
    }
    if (list->count >= BUCKETS - 1)
        return NULL;
    list->buckets[slot] = ++list->count;
    memset(&list->forms[list->count - 1], 0, sizeof(struct form));
    snprintf(list->forms[list->count - 1].name, sizeof(list->forms[0].name), "%s", name);
    list->forms[list->count - 1].mode = (uint8_t)mode;
    return &list->forms[list->count - 1];
}

static bool same_encoding(const struct variant *a, const struct variant *b)
{
    return a->family == b->family && a->map == b->map && a->opcode == b->opcode &&
           a->prefix == b->prefix && a->opsize == b->opsize && a->w == b->w && a->lock == b->lock &&
           a->l == b->l && a->memory == b->memory;
}

static void add_variant(struct form *form, const struct variant *v)
{
    for (unsigned i = 0; i < form->variant_count; i++) {
        struct variant *have = &form->variants[i];

        if (same_encoding(have, v)) {
            have->reg_mask |= v->reg_mask;
            have->rm_mask |= v->rm_mask;
            return;
        }
    }
    if (form->variant_count < MAX_VARIANTS)
        form->variants[form->variant_count++] = *v;
}

/* Decodes one candidate and adds it to its form. Gives true if the candidate has a ModRM byte, so
 * that other values of it are worth a try. */
static bool try_variant(struct enumeration *e, const struct variant *v, unsigned reg, unsigned rm)
{
    uint8_t bytes[16];
    struct decoded d;
    char name[sizeof(((struct form *)0)->name)];
    struct form *form;

    encode_plain(v, e->mode, reg, rm, bytes);
    if (!decoder_decode(&e->decoder, bytes, MAX_INSN_BYTES, &d))
        return true;
    if (decoder_tested(e->model, &d) == TESTED_YES) {
        struct variant one = *v;

        decoder_form_name(&d, name, sizeof(name));
        form = forms_add(e->list, name, e->mode);
        if (!form) {
            e->failed = true;
            return false;
        }
        form->mnemonic = (uint16_t)d.insn.mnemonic;
        one.reg_mask = (uint8_t)(1u << reg);
        one.rm_mask = (uint8_t)(1u << rm);
        one.has_modrm = d.insn.attributes & ZYDIS_ATTRIB_HAS_MODRM;
        add_variant(form, &one);
    }
    return d.insn.attributes & ZYDIS_ATTRIB_HAS_MODRM;
}

static void try_opcode(struct enumeration *e, struct variant *v)
{
    for (unsigned reg = 0; reg < 8; reg++) {
        v->memory = true;
        if (!try_variant(e, v, reg, 3) && reg == 0)
            return;
        if (v->family == VEX || v->map == 2)
            try_variant(e, v, reg, 4); /* VSIB needs a SIB byte */
        v->memory = false;
        for (unsigned rm = 0; rm < 8; rm++)
            try_variant(e, v, reg, rm);
    }
}

static bool is_prefix(unsigned mode, const struct variant *v)
{
    static const uint8_t prefixes[] = {0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64,
                                       0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};

    if (v->family == VEX || v->map != 0)
        return v->map == 1 && (v->opcode == 0x38 || v->opcode == 0x3a) && v->family == LEGACY;
    return memchr(prefixes, v->opcode, sizeof(prefixes)) ||
           (mode == 64 && (v->opcode & 0xf0) == 0x40);
}

static void try_maps(struct enumeration *e, struct variant *v, unsigned first_map)
{
    for (unsigned map = first_map; map <= 3; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            v->map = (uint8_t)map;
            v->opcode = (uint8_t)opcode;
            if (!is_prefix(e->mode, v))
                try_opcode(e, v);
        }
    }
}

static void try_legacy(struct enumeration *e)
{
    static const uint8_t prefixes[] = {0, 0xf3, 0xf2};

    for (unsigned i = 0; i < 24; i++) {
        struct variant v = {.family = LEGACY,
                            .prefix = prefixes[i % 3],
                            .opsize = i / 3 & 1,
                            .w = i / 6 & 1,
                            .lock = i / 12 & 1};

        if (v.w && e->mode != 64)
            continue;
        try_maps(e, &v, 0);
    }
}

static void try_vex(struct enumeration *e)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};

    for (unsigned i = 0; i < 16; i++) {
        struct variant v = {
            .family = VEX, .prefix = prefixes[i % 4], .w = i / 4 & 1, .l = i / 8 & 1};

        try_maps(e, &v, 1);
    }
}

bool forms_enumerate(struct form_list *list, const struct cpu_model *model, unsigned mode)
{
    struct enumeration e = {.list = list, .model = model, .mode = (uint8_t)mode};

    decoder_init(&e.decoder, model, mode);
    try_legacy(&e);
    try_vex(&e);
    return !e.failed;
}

void forms_free(struct form_list *list)
{
    free(list->forms);
    free(list->buckets);
}
