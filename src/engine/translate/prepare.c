/* Instructions of translated code, prepared for the interpreter when it has to execute them first.
 *
 * Most records of instructions are never looked at, because the native code does their work. So a
 * record is only the instruction's bytes, and what the interpreter needs is made from them here and
 * kept in a ring: a new one overwrites the oldest. A record knows its place in the ring, and the
 * place knows its owner; where the two don't agree, the instruction is prepared again. */
#include "engine/translate/translator.h"

#include "engine/interpret/exec.h"

#include <stdlib.h>
#include <string.h>

#define RING_SIZE (1u << 14)

struct prepared_insns {
    uint32_t next;
    uint32_t flushes;          /* of the interpreter, whose thunks the instructions point at */
    uint32_t owner[RING_SIZE]; /* offset of the record in the metadata */
    struct insn insns[RING_SIZE][2];
};

struct prepared_insns *prepared_insns_new(void)
{
    struct prepared_insns *p = aligned_alloc(64, (sizeof *p + 63) & ~(size_t)63);

    if (!p)
        return NULL;
    p->next = p->flushes = 0;
    memset(p->owner, 0xff, sizeof p->owner);
    return p;
}

void prepared_insns_free(struct prepared_insns *p)
{
    free(p);
}

static void forget_if_flushed(struct prepared_insns *p, const struct interpreter *it)
{
    if (p->flushes == it->flushes)
        return;
    memset(p->owner, 0xff, sizeof p->owner);
    p->flushes = it->flushes;
}

/* What depends on the place in a block: this one begins it. */
static void place(struct insn *in)
{
    in->end = in->len;
    in->index_in_block = 0;
    if (in->flags & INSN_FROM_BLOCK)
        in->imm += in->end;
    if (in->base == REG_IP)
        in->disp += in->end;
}

/* The mode is the block's, and so the result is what it was when the block was translated. */
static void decode(struct cpu *cpu, const struct tinsn *in, struct decoded *d)
{
    struct translator *t = translator_of(cpu);

    if (in->len == 0 || insn_decode(cpu, in->bytes, in->len, d) != DECODE_OK) {
        d->in = (struct insn){.exec = exec_raise_ud}; /* it was illegal */
        return;
    }
    if (!exec_select(cpu, &t->interp, d)) {
        interpreter_flush(cpu); /* the cache of thunks was full */
        forget_if_flushed(t->prepared, &t->interp);
        if (!exec_select(cpu, &t->interp, d))
            d->in.exec = exec_raise_ud; /* cannot happen: there is room for one */
    }
    place(&d->in);
}

const struct insn *translate_prepare(struct cpu *cpu, struct tinsn *in, exec_fn *last)
{
    struct translator *t = translator_of(cpu);
    struct prepared_insns *p = t->prepared;
    uint32_t self = (uint32_t)((uint8_t *)in - t->meta);
    struct decoded d;

    forget_if_flushed(p, &t->interp);
    if (in->prepared < RING_SIZE && p->owner[in->prepared] == self)
        return p->insns[in->prepared];
    decode(cpu, in, &d);
    in->prepared = p->next;
    p->next = (p->next + 1) % RING_SIZE;
    p->owner[in->prepared] = self;
    p->insns[in->prepared][0] = d.in;
    p->insns[in->prepared][1] = (struct insn){.exec = last};
    return p->insns[in->prepared];
}
