/* sequence.c - see sequence.h. */
#include "sequence.h"
#include "case_memory.h"
#include "cases.h"
#include "compare.h"
#include "segments.h"

#include <stdlib.h>
#include <string.h>

#define MXCSR_MM 0x20000u /* not in sequences: see prepare_special() in cases.c */
#define MAX_INSNS 50      /* without the moves before them */

struct making {
    const struct sequence_maker *m;
    struct sequence *s;
    ZydisDecoder *decoder;
    struct rng rng;
};

/* --- which forms --- */

static bool decode_form(const struct sequence_maker *m, const struct form *form, struct decoded *d)
{
    uint8_t bytes[16];
    struct rng rng;

    rng_init(&rng, 1, form->name);
    return form_encode(form, &m->decoders[form->mode != 64], &rng, bytes, d);
}

/* Interrupt returns and far branches mostly end a sequence, XRSTOR restores parts of the host's
 * state that the guest does not have, and a random selector may be of one of the host's
 * descriptors. */
static bool may_be_in_sequence(const struct sequence_maker *m, const struct form *form)
{
    struct decoded d;

    if (form->mode == 16 || !form->mnemonic || !decode_form(m, form, &d) || !compare_exactly(&d) ||
        decoder_tested(m->model, &d) != TESTED_YES)
        return false;
    if (d.insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || case_takes_selector(&d))
        return false;
    switch (d.insn.mnemonic) {
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_CLWB:     /* XSAVEOPT without its prefix */
    case ZYDIS_MNEMONIC_MASKMOVQ: /* #AC is up to the implementation */
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64: return false;
    default: return true;
    }
}

static bool is_plain(const struct form *form)
{
    const char *mnemonic = ZydisMnemonicGetString((ZydisMnemonic)form->mnemonic);

    return !strstr(form->name, "mm") && !strstr(form->name, "vm") && mnemonic[0] != 'f' &&
           mnemonic[0] != 'v';
}

bool sequence_maker_init(struct sequence_maker *m)
{
    for (unsigned i = 0; i < 2; i++) {
        m->plain[i] = calloc(m->forms->count, sizeof(unsigned));
        m->all[i] = calloc(m->forms->count, sizeof(unsigned));
        if (!m->plain[i] || !m->all[i])
            return false;
    }
    for (unsigned i = 0; i < m->forms->count; i++) {
        const struct form *form = &m->forms->forms[i];
        unsigned mode = form->mode != 64;

        if (!may_be_in_sequence(m, form))
            continue;
        m->all[mode][m->all_count[mode]++] = i;
        if (is_plain(form))
            m->plain[mode][m->plain_count[mode]++] = i;
    }
    return true;
}

void sequence_maker_free(struct sequence_maker *m)
{
    for (unsigned i = 0; i < 2; i++) {
        free(m->plain[i]);
        free(m->all[i]);
    }
}

/* --- items --- */

static struct item *add_item(struct making *k, const uint8_t *bytes, unsigned len)
{
    struct sequence *s = k->s;
    struct item *item = &s->items[s->count++];

    *item = (struct item){.len = (uint8_t)len};
    memcpy(item->bytes, bytes, len);
    s->bytes += len;
    return item;
}

static bool has_room(const struct sequence *s)
{
    return s->count + 8 < SEQ_ITEMS && s->bytes + 128 < SEQ_ROOM;
}

/* MOV register, value: leaves the flags alone. */
static void add_move(struct making *k, unsigned reg, uint64_t value, enum content content)
{
    uint8_t bytes[16];
    unsigned at = 0;
    bool wide = k->s->mode == 64 && value > UINT32_MAX;

    if (k->s->mode == 64 && (wide || reg > 7))
        bytes[at++] = (uint8_t)(0x40 | wide << 3 | reg >> 3);
    bytes[at++] = (uint8_t)(0xb8 | (reg & 7));
    memcpy(bytes + at, &value, 8);
    add_item(k, bytes, at + (wide ? 8 : 4));
    k->s->content[reg] = content;
}

/* A later item, mostly near; what lies behind the last one is the end. */
static unsigned later_item(struct making *k)
{
    return k->s->count + 1 + rng_below(&k->rng, rng_one_in(&k->rng, 8) ? 40 : 6);
}

static void aim(struct making *k, struct item *item, enum fix fix, unsigned at, unsigned size)
{
    item->fix = (uint8_t)fix;
    item->fix_at = (uint8_t)at;
    item->fix_size = (uint8_t)size;
    item->target = (uint16_t)later_item(k);
    if (rng_one_in(&k->rng, 30))
        item->inside = (uint8_t)(1 + rng_below(&k->rng, 3));
}

/* --- branches --- */

static void add_short_branch(struct making *k)
{
    uint8_t bytes[2] = {(uint8_t)(0x70 | rng_below(&k->rng, 16)), 0};

    if (rng_one_in(&k->rng, 6))
        bytes[0] = (uint8_t)(0xe0 | rng_below(&k->rng, 4)); /* LOOPcc, JRCXZ */
    if (rng_one_in(&k->rng, 6))
        bytes[0] = 0xeb;
    aim(k, add_item(k, bytes, 2), FIX_BRANCH, 1, 1);
}

static void add_near_branch(struct making *k)
{
    uint8_t bytes[6] = {0x0f, (uint8_t)(0x80 | rng_below(&k->rng, 16))};

    if (rng_one_in(&k->rng, 2)) {
        aim(k, add_item(k, bytes, 6), FIX_BRANCH, 2, 4);
        return;
    }
    bytes[0] = rng_one_in(&k->rng, 3) ? 0xe9 : 0xe8; /* JMP, CALL */
    aim(k, add_item(k, bytes, 5), FIX_BRANCH, 1, 4);
}

static void need_stack(struct making *k)
{
    if (k->s->content[RSP] == POINTER)
        return;
    add_move(k, RSP, DATA_BASE + 0x1000 + rng_below(&k->rng, 0x100) * 8, POINTER);
}

static void add_push_target(struct making *k)
{
    static const uint8_t push[5] = {0x68};
    struct item *item;

    need_stack(k);
    item = add_item(k, push, 5);
    aim(k, item, FIX_TARGET, 1, 4);
    item->target += 2;
}

static void add_return(struct making *k)
{
    uint8_t bytes[3] = {0xc3};

    if (!rng_one_in(&k->rng, 5))
        add_push_target(k);
    if (rng_one_in(&k->rng, 4)) {
        bytes[0] = 0xc2;
        bytes[1] = (uint8_t)(rng_below(&k->rng, 4) * 8);
    }
    add_item(k, bytes, bytes[0] == 0xc2 ? 3 : 1);
}

/* JMP or CALL of a register or of the top of the stack. */
static void add_indirect(struct making *k)
{
    unsigned reg = rng_below(&k->rng, k->s->mode == 64 ? 16 : 8);
    unsigned op = rng_one_in(&k->rng, 2) ? 2 : 4;
    uint8_t move[6] = {0x40 | 1, (uint8_t)(0xb8 | (reg & 7))};
    uint8_t branch[4] = {0x40 | 1, 0xff, (uint8_t)(0xc0 | op << 3 | (reg & 7))};
    unsigned skip = reg > 7 ? 0 : 1;
    struct item *item;

    if (reg == RSP) {
        uint8_t memory[3] = {0xff, (uint8_t)(op << 3 | 4), 0x24};

        add_push_target(k);
        add_item(k, memory, 3);
        return;
    }
    if (op == 2)
        need_stack(k);
    item = add_item(k, move + skip, 6 - skip);
    aim(k, item, FIX_TARGET, 2 - skip, 4);
    item->target++;
    add_item(k, branch + skip, 3 - skip);
    k->s->content[reg] = ANYTHING;
}

/* Stores into the sequence itself, mostly ahead: MOV [item], imm8 or imm32. */
static void add_self_store(struct making *k)
{
    static const uint8_t opcodes[] = {0x90, 0xf5, 0xf8, 0xf9, 0x98, 0x99, 0xcc, 0x48, 0x66};
    bool wide = rng_one_in(&k->rng, 3);
    uint8_t bytes[10] = {wide ? 0xc7 : 0xc6, 0x05};
    struct item *item;

    for (unsigned i = 6; i < 10; i++)
        bytes[i] = opcodes[rng_below(&k->rng, ARRAY_SIZE(opcodes))];
    item = add_item(k, bytes, wide ? 10 : 7);
    aim(k, item, k->s->mode == 64 ? FIX_RIP_ITEM : FIX_TARGET, 2, 4);
    if (rng_one_in(&k->rng, 4))
        item->target = (uint16_t)rng_below(&k->rng, k->s->count);
}

static void add_control(struct making *k)
{
    switch (rng_below(&k->rng, 12)) {
    case 0:
    case 1:
    case 2:
    case 3: add_short_branch(k); break;
    case 4:
    case 5:
    case 6: add_near_branch(k); break;
    case 7:
    case 8: add_return(k); break;
    case 9:
    case 10: add_indirect(k); break;
    default: add_self_store(k); break;
    }
}

/* --- any instruction --- */

/* Number of a general register that holds an address or part of one; REG_NONE if it is none. */
static unsigned address_register(const struct making *k, ZydisRegister reg)
{
    ZydisRegisterClass class = ZydisRegisterGetClass(reg);

    if (class != ZYDIS_REGCLASS_GPR64 && class != ZYDIS_REGCLASS_GPR32)
        return REG_NONE;
    if (k->s->mode != 64 && ZydisRegisterGetId(reg) > 7)
        return REG_NONE;
    return (unsigned)ZydisRegisterGetId(reg) & 15;
}

/* `code`: some in the pages of the code, too. */
static uint64_t random_address(struct making *k, unsigned size, bool code)
{
    uint64_t at = case_pick_target(&k->s->states[0], size, &k->rng);

    if (code && rng_one_in(&k->rng, 50))
        return SEQ_BASE + rng_below(&k->rng, 3 * PAGE_SIZE);
    return rng_one_in(&k->rng, 4) ? at : at & ~UINT64_C(31);
}

static void tame_displacement(struct making *k, uint8_t *bytes, struct decoded *d)
{
    uint32_t disp = (rng_below(&k->rng, 16) - 8) * 32;

    if (d->insn.raw.disp.size != 32 || rng_one_in(&k->rng, 8))
        return;
    memcpy(bytes + d->insn.raw.disp.offset, &disp, 4);
    decoder_decode(k->decoder, bytes, MAX_INSN, d);
}

static uint64_t segment_base(const struct making *k, const ZydisDecodedOperand *op)
{
    const struct state *s = &k->s->states[0].init;

    return op->mem.segment == ZYDIS_REGISTER_FS   ? s->fs_base
           : op->mem.segment == ZYDIS_REGISTER_GS ? s->gs_base
                                                  : 0;
}

static bool is_repeated(const struct decoded *d)
{
    return d->insn.attributes &
           (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

/* A repeated instruction that overwrites itself may or may not go on. */
static void prepare_operand(struct making *k, const struct decoded *d,
                            const ZydisDecodedOperand *op)
{
    unsigned base = address_register(k, op->mem.base);
    unsigned index =
        op->mem.type == ZYDIS_MEMOP_TYPE_VSIB ? REG_NONE : address_register(k, op->mem.index);
    uint64_t seg = segment_base(k, op);
    uint64_t disp = op->mem.disp.has_displacement ? (uint64_t)op->mem.disp.value : 0;
    uint64_t target;
    enum content *content = k->s->content;

    if (index != REG_NONE && index != base && (content[index] != SMALL || rng_one_in(&k->rng, 8)))
        add_move(k, index, rng_below(&k->rng, 8) * 32, SMALL);
    if (base == REG_NONE || (content[base] == POINTER && !seg && !rng_one_in(&k->rng, 6)) ||
        (rng_one_in(&k->rng, 30) && !is_repeated(d)))
        return;
    target = random_address(k, op->size / 8, !is_repeated(d)) - seg;
    if (index == base)
        add_move(k, base, (target - disp) / (op->mem.scale + 1u), ANYTHING);
    else
        add_move(k, base, target - disp,
                 seg || target - SEQ_BASE < SEQ_SIZE + PAGE_SIZE ? ANYTHING : POINTER);
}

static void move_small(struct making *k, unsigned reg, unsigned limit)
{
    if (!rng_one_in(&k->rng, 4))
        add_move(k, reg, rng_below(&k->rng, limit), ANYTHING);
}

/* Values without which an instruction only faults, or takes very long. */
static void prepare_values(struct making *k, const struct decoded *d)
{
    switch (d->insn.mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: move_small(k, RDX, 2); break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        if (d->ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            d->ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
            move_small(k, (unsigned)ZydisRegisterGetId(d->ops[1].reg.value) & 15, 8192);
        break;
    default: break;
    }
    if (is_repeated(d))
        move_small(k, RCX, 40);
}

static void note_writes(struct making *k, const struct decoded *d)
{
    for (unsigned i = 0; i < d->insn.operand_count; i++) {
        const ZydisDecodedOperand *op = &d->ops[i];
        ZydisRegister reg;

        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        reg = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op->reg.value);
        if (ZydisRegisterGetClass(reg) != ZYDIS_REGCLASS_GPR64)
            continue;
        if (ZydisRegisterGetId(reg) == RSP && op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            continue; /* PUSH and POP only move it a little */
        k->s->content[ZydisRegisterGetId(reg) & 15] = ANYTHING;
    }
}

static bool has_rip_operand(const struct decoded *d)
{
    for (unsigned i = 0; i < d->insn.operand_count; i++)
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (d->ops[i].mem.base == ZYDIS_REGISTER_RIP || d->ops[i].mem.base == ZYDIS_REGISTER_EIP))
            return true;
    return false;
}

static void add_form(struct making *k)
{
    const struct sequence_maker *m = k->m;
    unsigned mode = k->s->mode != 64;
    bool plain = rng_below(&k->rng, 3) != 0;
    unsigned count = plain ? m->plain_count[mode] : m->all_count[mode];
    unsigned index = (plain ? m->plain : m->all)[mode][rng_below(&k->rng, count)];
    struct test_case c = {.mode = k->s->mode};
    struct decoded d;
    struct item *item;

    if (!form_encode(&m->forms->forms[index], k->decoder, &k->rng, c.bytes, &d))
        return;
    case_place(&c, &d, &k->rng);
    if (!decoder_decode(k->decoder, c.bytes, MAX_INSN, &d))
        return;
    tame_displacement(k, c.bytes, &d);
    prepare_values(k, &d);
    for (unsigned i = 0; i < d.insn.operand_count; i++)
        if (d.ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            prepare_operand(k, &d, &d.ops[i]);
    item = add_item(k, c.bytes, d.insn.length);
    if (has_rip_operand(&d)) {
        item->fix = FIX_RIP;
        item->fix_at = d.insn.raw.disp.offset;
        item->fix_size = 4;
        item->address = random_address(k, d.ops[0].size / 8, true);
    } else if (d.insn.raw.imm[0].is_relative && d.insn.raw.imm[0].size >= 8) {
        aim(k, item, FIX_BRANCH, d.insn.raw.imm[0].offset, d.insn.raw.imm[0].size / 8);
    }
    note_writes(k, &d);
}

/* --- states --- */

static void usual_segments(struct making *k, struct test_case *c)
{
    if (k->s->mode == 64 && !rng_one_in(&k->rng, 4))
        c->init.fs_base = 0x180;
    if (k->s->mode == 64 || rng_one_in(&k->rng, 8))
        return;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        if (i != CS)
            c->init.sel[i] = LDT_SEL(LDT_DATA32);
    c->init.fs_base = c->init.gs_base = 0;
}

static void make_first_state(struct making *k, const struct decoded *nop)
{
    struct test_case *c = &k->s->states[0];

    *c = (struct test_case){.mode = k->s->mode, .whole = true, .number = k->s->number};
    c->offset = (uint16_t)k->s->offset;
    case_randomize(c, nop, k->m->model, &k->rng);
    c->init.mxcsr &= ~MXCSR_MM;
    usual_segments(k, c);
    c->init.rip = SEQ_BASE + k->s->offset;
    for (unsigned i = 0; i < (k->s->mode == 64 ? 16u : 8u); i++) {
        unsigned kind = rng_below(&k->rng, 6);

        if (i == RSP || kind < 2) {
            k->s->content[i] = POINTER;
            c->init.gpr[i] =
                random_address(k, 8, false) & (k->s->mode == 64 ? UINT64_MAX : UINT32_MAX);
        } else if (kind == 2) {
            k->s->content[i] = SMALL;
            c->init.gpr[i] = rng_below(&k->rng, 8) * 32;
        }
    }
}

/* Pointers and small numbers mostly stay what they are. */
static void make_state(struct making *k, const struct decoded *nop, const enum content *content,
                       unsigned state)
{
    const struct test_case *first = &k->s->states[0];
    struct test_case *c = &k->s->states[state];

    *c = *first;
    if (state == SEQ_STATES - 1)
        return;
    case_randomize(c, nop, k->m->model, &k->rng);
    c->init.mxcsr &= ~MXCSR_MM;
    memcpy(c->init.sel, first->init.sel, sizeof(c->init.sel));
    c->init.fs_base = first->init.fs_base;
    c->init.gs_base = first->init.gs_base;
    c->init.rip = first->init.rip;
    if (state == 1 && k->s->offset < PAGE_SIZE) /* the same code at its other address */
        c->init.rip += SEQ_SIZE;
    for (unsigned i = 0; i < 16; i++)
        if (content[i] != ANYTHING && !rng_one_in(&k->rng, 24))
            c->init.gpr[i] = first->init.gpr[i];
}

/* Some at the end of a page, across it, or over into the first page's other address. */
static unsigned pick_offset(struct rng *rng)
{
    unsigned page = rng_below(rng, SEQ_PAGES) * PAGE_SIZE;

    if (rng_one_in(rng, 8))
        return page + PAGE_SIZE - 1 - rng_below(rng, 200);
    return page + rng_below(rng, PAGE_SIZE - SEQ_ROOM);
}

void sequence_make(const struct sequence_maker *m, uint64_t number, struct sequence *s)
{
    static const uint8_t nop_bytes[16] = {0x90};
    struct making k = {.m = m, .s = s};
    enum content content[16];
    struct decoded nop;
    unsigned insns;

    memset(s, 0, sizeof(*s));
    rng_init(&k.rng, m->seed * UINT64_C(0x100000001) + number, "sequence");
    s->number = number;
    s->mode = rng_one_in(&k.rng, 4) ? 32 : 64;
    s->offset = pick_offset(&k.rng);
    k.decoder = &m->decoders[s->mode != 64];
    if (!decoder_decode(k.decoder, nop_bytes, MAX_INSN, &nop))
        return;
    make_first_state(&k, &nop);
    memcpy(content, s->content, sizeof(content));
    for (unsigned i = 1; i < SEQ_STATES; i++)
        make_state(&k, &nop, content, i);
    insns = 1 + rng_below(&k.rng, rng_one_in(&k.rng, 4) ? MAX_INSNS : 12);
    while (insns-- > 0 && has_room(s)) {
        if (rng_one_in(&k.rng, 5))
            add_control(&k);
        else
            add_form(&k);
    }
}

void sequence_drop(struct sequence *s, unsigned item)
{
    s->bytes -= s->items[item].len;
    s->count--;
    memmove(&s->items[item], &s->items[item + 1], (s->count - item) * sizeof(s->items[0]));
    for (unsigned i = 0; i < s->count; i++)
        if (s->items[i].target > item)
            s->items[i].target--;
}

/* --- layout --- */

/* Bytes that enter the host's kernel or hypervisor, or show what cannot be compared. What changes
 * itself may make an XSAVE of a CLWB. */
static bool may_run(const uint8_t *code, unsigned len, bool changes)
{
    static const uint8_t second[] = {0x00, 0x01, 0x05, 0x07, 0x31, 0x34, 0xa2, 0xc7};

    for (unsigned i = 0; i + 1 < len; i++) {
        bool group9 = code[i + 1] == 0xc7 && i + 2 < len && (code[i + 2] & 0x38) == 0x08;

        if (code[i] == 0x0f && memchr(second, code[i + 1], sizeof(second)) && !group9)
            return false;
        if (changes && code[i] == 0x0f && code[i + 1] == 0xae)
            return false;
        if ((code[i] == 0xcd && code[i + 1] == 0x80) || (code[i] == 0xc7 && code[i + 1] == 0xf8))
            return false;
    }
    return true;
}

static void apply_fix(const struct sequence *s, const unsigned *starts, unsigned i,
                      struct test_case *c)
{
    const struct item *item = &s->items[i];
    unsigned target = item->target < s->count ? item->target : s->count;
    uint64_t next = SEQ_BASE + s->offset + starts[i] + item->len;
    uint64_t value = SEQ_BASE + s->offset + starts[target] + item->inside;

    switch (item->fix) {
    case FIX_NONE: return;
    case FIX_TARGET: break;
    case FIX_RIP: value = item->address - next; break;
    default: value -= next; break;
    }
    if (item->fix_size == 1 && value + 128 > 255)
        value = 0;
    memcpy(c->code + starts[i] + item->fix_at, &value, item->fix_size);
}

bool sequence_case(const struct sequence *s, unsigned state, struct test_case *c)
{
    unsigned starts[SEQ_ITEMS + 1];
    unsigned at = 0;
    bool changes = false;

    *c = s->states[state];
    for (unsigned i = 0; i < s->count; i++) {
        starts[i] = at;
        memcpy(c->code + at, s->items[i].bytes, s->items[i].len);
        at += s->items[i].len;
    }
    starts[s->count] = at;
    for (unsigned i = 0; i < s->count; i++) {
        apply_fix(s, starts, i, c);
        changes |= s->items[i].fix == FIX_RIP_ITEM || s->items[i].fix == FIX_TARGET;
    }
    c->code[at] = 0xcc;
    c->code_len = (uint16_t)(at + 1);
    return may_run(c->code, at, changes);
}
