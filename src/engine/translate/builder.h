/* builder.h - a block while it is emitted: what the emit_*.c share.
 *
 * Each instruction becomes the same instruction with its registers renamed; around it come loads of
 * the guest registers that are not in host registers, the check of its memory operand, and stores.
 * What is rare is behind the block ("cold"): the call of the interpreter after a failed check, and
 * exits. RCX, R14 and R15 are scratch. */
#ifndef DOBLE_ENGINE_TRANSLATE_BUILDER_H
#define DOBLE_ENGINE_TRANSLATE_BUILDER_H

#include "engine/encode.h"
#include "engine/translate/plan.h"
#include "engine/translate/translator.h"

#define NATIVE(field) (offsetof(struct cpu, native) + offsetof(struct cpu_native, field))

/* What happens behind the block. */
enum cold_kind {
    COLD_INTERPRET, /* the instruction `record` */
    COLD_WINDOW,    /* the page of the stack is another: keep that */
    COLD_CAREFUL,   /* on with a careful block from instruction `at` */
    COLD_SIDE,      /* an exit before the end of a block that counts; `at` is the branch */
    COLD_LINK,      /* an exit inside the page */
    COLD_LOOKUP,    /* an exit to another page */
    COLD_BUDGET,    /* not enough instructions left to count: leave before the block */
};

struct cold {
    enum cold_kind kind;
    uint8_t *from;   /* rel32 that leads here */
    uint8_t *resume; /* COLD_INTERPRET, COLD_WINDOW: where to go on */
    struct tinsn *record;
    int64_t target; /* exits: offset from the start of the page */
    unsigned at;    /* instruction */
};

struct block_builder {
    struct assembler a;
    struct cpu *cpu;
    struct translator *t;
    struct plan *plan;
    const struct planned *p; /* the instruction being emitted */
    unsigned at;             /* its number */
    const uint8_t *code;     /* host address of the guest's bytes */
    unsigned page_offset;    /* of the block's first byte */
    bool counting, ended, failed;
    struct tinsn *record;            /* of the instruction, once it has one */
    unsigned cold_count, first_cold; /* those of this instruction begin here */
    struct cold cold[6 * PLAN_MAX_INSNS];
};

/* Offsets from the start of the page: of the instruction, and of the one behind it. */
static inline int64_t here(const struct block_builder *b)
{
    return (int64_t)b->page_offset + b->p->offset;
}
static inline int64_t behind(const struct block_builder *b)
{
    return here(b) + b->p->d.in.len;
}

static inline size_t segment_base(unsigned seg)
{
    return offsetof(struct cpu, seg) + seg * sizeof(struct segment) +
           offsetof(struct segment, base);
}

/* --- emit.c --- */
void emit_add_cold(struct block_builder *b, struct cold cold);
/* The record of the instruction, should it have to be interpreted; NULL: no room, b->failed. */
struct tinsn *emit_record(struct block_builder *b);
/* The native instruction that comes next can raise an exception; the interpreter repeats it. */
void emit_fault_site(struct block_builder *b);
/* Leaves before this instruction if something waits. Uses RCX. */
void emit_poll(struct block_builder *b);
/* The interpreter does the instruction. */
void emit_interpreted(struct block_builder *b);
/* The instruction natively, with renamed registers. */
void emit_copy(struct block_builder *b);
/* Ends the block: on to an offset from the start of this page, at `from` (rel32). */
void emit_exit_to(struct block_builder *b, uint8_t *from, int64_t target);

/* --- emit_memory.c --- */
/* An operand as the host can address it. */
struct operand {
    uint8_t base, index;
    int32_t disp;
};

/* The host register with a guest register's value, which is brought to `scratch` if it is not in
 * one; REG_NONE for REG_NONE. */
unsigned emit_use_register(struct block_builder *b, unsigned guest, unsigned scratch);
/* Guest register = `from`, a scratch register; RSP needs another one: RCX, or R14 beside RCX. */
void emit_write_register(struct block_builder *b, unsigned guest, unsigned from);
/* R14 = linear address of the memory operand; uses R15 and RCX. False: it cannot be done here. */
bool emit_address(struct block_builder *b);
/* R14 = linear address: afterwards R15 makes it a host address. Uses RCX. Returns the rel32 of the
 * jump for a miss. */
uint8_t *emit_tlb_check(struct assembler *a, unsigned size, bool write);
/* The same; a miss is interpreted. */
void emit_check(struct block_builder *b, unsigned size, bool write);
/* The memory operand, checked. Uses RCX; afterwards R14 and R15 are free if *operand does not name
 * them. False: it cannot be done here. */
bool emit_operand(struct block_builder *b, unsigned size, bool write, struct operand *operand);
/* MOV between a register and memory, `size` 4 or 8. */
void emit_move_operand(struct block_builder *b, unsigned reg, const struct operand *operand,
                       bool store, unsigned size);

/* --- emit_stack.c --- */
/* The check of the window that this instruction opens, if it opens one. */
void emit_window_check(struct block_builder *b);
void emit_cold_window(struct block_builder *b, const struct cold *cold);
void emit_push(struct block_builder *b);
void emit_pop(struct block_builder *b);
void emit_leave(struct block_builder *b);
/* SUB, ADD or LEA of RSP and a constant, in 64-bit mode. */
void emit_move_stack(struct block_builder *b, int32_t by);
/* Pushes the return address, for CALL in a window; uses RCX alone. */
void emit_push_return(struct block_builder *b);
/* Guest RSP = the value in `reg`; `scratch` is another register. */
void emit_set_rsp(struct block_builder *b, unsigned reg, unsigned scratch);

/* --- emit_branch.c --- */
void emit_branch(struct block_builder *b);

/* --- emit_system.c --- */
/* Helpers that have a native form. False: this one hasn't, or not in this mode. */
bool emit_system(struct block_builder *b);

#endif
