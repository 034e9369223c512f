/* sequence.h - random sequences of instructions, as cases that run from a state to an exception.
 *
 * A sequence is a list of items: instructions of any form, and branches whose targets are other
 * items. What an instruction needs to do something useful (a pointer in its base register, a small
 * count) is moved into registers before it, unless it is there already. All follows from the seed
 * and the number of the sequence, so that one that differs can be made again and made smaller. */
#ifndef DOBLE_TESTS_INSN_SEQUENCE_H
#define DOBLE_TESTS_INSN_SEQUENCE_H

#include "forms.h"
#include "random.h"
#include "case.h"

#define SEQ_ITEMS 160
#define SEQ_STATES 4 /* cases of a sequence; the last begins like the first */

/* What is known only when the sequence is laid out. */
enum fix {
    FIX_NONE,
    FIX_BRANCH,   /* relative, to an item */
    FIX_TARGET,   /* address of an item, absolute */
    FIX_RIP,      /* RIP-relative, to an address */
    FIX_RIP_ITEM, /* RIP-relative, to an item */
};

struct item {
    uint8_t bytes[16];
    uint8_t len;
    uint8_t fix, fix_at, fix_size; /* where in the bytes, and its size in bytes */
    uint8_t inside;                /* bytes behind the start of the target item */
    uint16_t target;               /* index of an item; count: the end */
    uint64_t address;
};

enum content { ANYTHING, POINTER, SMALL }; /* of a register, as far as one can tell */

struct sequence {
    uint8_t mode;
    uint64_t number;
    unsigned offset; /* from SEQ_BASE */
    unsigned count, bytes;
    struct item items[SEQ_ITEMS];
    struct test_case states[SEQ_STATES];
    enum content content[16];
};

/* What sequences are made of. */
struct sequence_maker {
    const struct cpu_model *model;
    const struct form_list *forms;
    ZydisDecoder *decoders; /* 64, 32 bits */
    uint64_t seed;
    unsigned *plain[2], *all[2]; /* indexes of forms: without vector and x87 registers; all */
    unsigned plain_count[2], all_count[2];
};

/* False: out of memory. */
bool sequence_maker_init(struct sequence_maker *m);
void sequence_maker_free(struct sequence_maker *m);

void sequence_make(const struct sequence_maker *m, uint64_t number, struct sequence *s);
/* Takes an item out. */
void sequence_drop(struct sequence *s, unsigned item);
/* The case for one of the states. False: there are bytes in the code that must not be run. */
bool sequence_case(const struct sequence *s, unsigned state, struct test_case *c);

#endif
