/* forms.h - the list of instruction forms, found by trying every opcode with Zydis as the arbiter.
 *
 * A form is what decoder_form_name() says, in one mode. Several encodings may give the same form
 * (opcode aliases, prefixes without effect); each is kept as a variant, so that all are tested. */
#ifndef DOBLE_TESTS_INSN_FORMS_H
#define DOBLE_TESTS_INSN_FORMS_H

#include "decoder.h"
#include "random.h"

enum encoding_family { LEGACY, VEX };

struct variant {
    uint8_t family;
    uint8_t map; /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
    uint8_t opcode;
    uint8_t prefix; /* F2, F3 or 0; VEX: pp as a prefix byte, may be 66 */
    bool opsize;    /* 66 */
    bool w, lock, l;
    bool has_modrm;
    bool memory;               /* ModRM.mod != 3 */
    uint8_t reg_mask, rm_mask; /* values of ModRM.reg and (registers) ModRM.rm that give the form */
};

#define MAX_VARIANTS 24

struct form {
    char name[88];
    uint8_t mode;
    uint16_t mnemonic;
    unsigned variant_count;
    struct variant variants[MAX_VARIANTS];
    uint64_t runs, faults, differences;
};

struct form_list {
    struct form *forms;
    unsigned count, capacity;
    unsigned *buckets; /* hash of name and mode; index + 1 */
};

/* All forms of the mode that the model advertises are added. False: out of memory. */
bool forms_enumerate(struct form_list *list, const struct cpu_model *model, unsigned mode);
/* The form of that name and mode, made if there is none; NULL: out of memory. */
struct form *forms_add(struct form_list *list, const char *name, unsigned mode);
void forms_free(struct form_list *list);

/* A random encoding of a form. `d` is its decoding. False when none was found (never expected). */
bool form_encode(const struct form *form, const ZydisDecoder *decoder, struct rng *rng,
                 uint8_t bytes[16], struct decoded *d);

#endif
