/* See verify.h.
 *
 * A value is a sum of unknowns plus a constant. Each unknown has a random 64-bit number, and the
 * sum of those numbers stands for the sum of the unknowns, so that equal sums are equal numbers.
 * Two ways that meet keep what they have in common. */
#include "engine/translate/verify.h"

#include "base/random.h"
#include "engine/interpret/exec.h"
#include "engine/translate/builder.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_CHECKS 512
#define MAX_SLOTS 48
#define MAX_WAITING 512
#define MAX_RESUMES 512
#define CHECK_BYTES 96

struct value {
    uint64_t sum;  /* of the numbers of unknowns */
    uint64_t plus; /* modulo 2^64 */
    bool is_bit;   /* made by PEXT with a mask for numbers of bits */
};

/* Bytes of the guest at host addresses sum + low and the `bytes` from there on. */
struct shown {
    uint64_t sum;
    uint64_t low, bytes;
    bool write, window;
    const uint8_t *end; /* of the check */
};

struct slot {
    uint32_t offset; /* in struct cpu, of 8 bytes */
    struct value value;
};

struct state {
    bool live;
    struct value reg[16];
    struct slot slot[MAX_SLOTS];
    unsigned slots;
    unsigned first, first_window; /* what was shown before these holds no more */
    uint64_t addend;              /* of the stack, as an unknown */
};

struct waiting {
    const uint8_t *at;
    struct state state;
};

/* Where the interpreter goes on after an instruction. */
struct resume {
    const uint8_t *at;
    const struct tinsn *record;
};

struct verifier {
    struct cpu *cpu;
    struct translator *t;
    const uint8_t *start, *end, *at;
    uint64_t seed; /* of numbers for unknowns */
    struct state state;
    struct shown shown[MAX_CHECKS];
    unsigned shown_count;
    struct waiting waiting[MAX_WAITING];
    unsigned waiting_count;
    struct resume resume[MAX_RESUMES];
    unsigned resume_count;
    ZydisDecoder decoder;
    ZydisDecodedInstruction in;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    bool found; /* the jump cache has just been asked */
    bool failed;
    char complaint[256];
};

static bool fail(struct verifier *v, const char *why)
{
    char bytes[3 * 16] = "";

    if (v->failed)
        return false;
    v->failed = true;
    for (unsigned i = 0; i < 15 && v->at + i < v->end; i++)
        snprintf(bytes + 3 * i, 4, "%02x ", v->at[i]);
    snprintf(v->complaint, sizeof v->complaint, "at byte %td of the translation, %s: %s",
             v->at - v->start, bytes, why);
    return false;
}

/* --- values --- */

static struct value fresh(struct verifier *v)
{
    return (struct value){.sum = random_repeatable(&v->seed)};
}

static bool same(struct value a, struct value b)
{
    return a.sum == b.sum && a.plus == b.plus;
}

static struct value *slot_value(struct verifier *v, uint64_t offset)
{
    struct state *s = &v->state;

    for (unsigned i = 0; i < s->slots; i++)
        if (s->slot[i].offset == offset)
            return &s->slot[i].value;
    if (s->slots == MAX_SLOTS)
        s->slots = 0; /* forgetting is always right */
    s->slot[s->slots] = (struct slot){(uint32_t)offset, fresh(v)};
    if (offset == NATIVE(stack_addend))
        s->slot[s->slots].value = (struct value){.sum = v->state.addend};
    if (offset == NATIVE(negated_addend))
        s->slot[s->slots].value = (struct value){.sum = 0 - v->state.addend};
    return &s->slot[s->slots++].value;
}

static void begin(struct verifier *v)
{
    struct state *s = &v->state;

    s->live = true;
    s->slots = 0;
    s->first = s->first_window = v->shown_count;
    v->state.addend = fresh(v).sum;
    for (unsigned r = 0; r < 16; r++)
        s->reg[r] = fresh(v);
}

/* --- ways that meet --- */

static void merge(struct verifier *v, const struct state *other)
{
    struct state *s = &v->state;

    if (!s->live) {
        *s = *other;
        return;
    }
    for (unsigned r = 0; r < 16; r++)
        if (!same(s->reg[r], other->reg[r]))
            s->reg[r] = fresh(v);
    for (unsigned i = 0; i < s->slots; i++)
        for (unsigned k = 0; k < other->slots; k++)
            if (s->slot[i].offset == other->slot[k].offset &&
                !same(s->slot[i].value, other->slot[k].value))
                s->slot[i].value = fresh(v);
    s->first = s->first > other->first ? s->first : other->first;
    if (s->addend != other->addend) {
        s->addend = fresh(v).sum;
        s->slots = 0;
    }
    s->first_window = s->first_window > other->first_window ? s->first_window : other->first_window;
}

static void leads_to(struct verifier *v, const uint8_t *target)
{
    if (v->waiting_count == MAX_WAITING) {
        fail(v, "too many jumps");
        return;
    }
    v->waiting[v->waiting_count++] = (struct waiting){target, v->state};
}

static void arrive(struct verifier *v)
{
    for (unsigned i = 0; i < v->waiting_count;) {
        if (v->waiting[i].at != v->at) {
            i++;
            continue;
        }
        merge(v, &v->waiting[i].state);
        v->waiting[i] = v->waiting[--v->waiting_count];
    }
}

static void forget_guest_register(struct verifier *v, unsigned guest)
{
    if (host_register(guest) != REG_NONE)
        v->state.reg[host_register(guest)] = fresh(v);
    else if (guest == RSP)
        v->state.reg[RSP] = fresh(v);
    else
        *slot_value(v, gpr_at(guest)) = fresh(v);
}

static void forget_scratch(struct verifier *v)
{
    v->state.reg[RCX] = fresh(v);
    v->state.reg[R14] = fresh(v);
    v->state.reg[R15] = fresh(v);
}

/* The interpreter changes what the instruction changes. RSP by the same constant as native code. */
static void changed_by(struct verifier *v, const struct decoded *d, bool native_too)
{
    int32_t by = 0, slot = (int32_t)plan_slot(v->cpu);
    bool constant = native_too || plan_moves_stack(v->cpu, d, &by);

    if (plan_is_push(v->cpu, d) || plan_is_pop(v->cpu, d)) {
        constant = true;
        by = plan_is_push(v->cpu, d) ? -slot : slot;
    }
    for (unsigned r = 0; r < 16; r++)
        if (r != RSP && (d->gpr_written & 1u << r))
            forget_guest_register(v, r);
    if (constant && !native_too)
        v->state.reg[RSP].plus += by;
    else if (!constant && (d->gpr_written & 1u << RSP))
        forget_guest_register(v, RSP);
}

/* Does a helper leave registers as its operands tell? Of the others nothing is known. */
static bool is_modest(const struct decoded *d)
{
    return d->row->class != CLASS_HELPER || plan_leaves_alone(d) ||
           d->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
}

/* Does the interpreter leave the block in any case? */
static bool never_resumes(struct verifier *v, const struct tinsn *record)
{
    struct decoded d;

    return record->len == 0 || insn_decode(v->cpu, record->bytes, record->len, &d) != DECODE_OK ||
           d.row->class == CLASS_ILLEGAL || d.row->class == CLASS_BRANCH ||
           exec_unit_fault(v->cpu, d.unit) || (d.row->flags & ROW_ENDS_BLOCK);
}

/* `native_too`: native code may have executed the instruction as well, and come here. */
static void resumed(struct verifier *v, const struct tinsn *record, bool native_too)
{
    struct decoded d;

    if (!record->holds || record->len == 0 ||
        insn_decode(v->cpu, record->bytes, record->len, &d) != DECODE_OK || !is_modest(&d)) {
        struct state *s = &v->state;

        if (!record->holds) {
            begin(v);
            return;
        }
        /* the bytes that were shown are still the guest's, but no register is known */
        for (unsigned r = 0; r < 16; r++)
            s->reg[r] = fresh(v);
        for (unsigned i = 0; i < s->slots; i++)
            if (s->slot[i].offset < offsetof(struct cpu, native))
                s->slot[i].value = fresh(v);
        s->live = true;
        return;
    }
    changed_by(v, &d, native_too);
    forget_scratch(v);
}

static void resume_here(struct verifier *v)
{
    for (unsigned i = 0; i < v->resume_count; i++)
        if (v->resume[i].at == v->at && v->state.live && !never_resumes(v, v->resume[i].record))
            resumed(v, v->resume[i].record, true);
}

/* --- what is at the place --- */

static bool is_stub(const struct translator *t, const uint8_t *target)
{
    return target == t->stub_interpret || target == t->stub_link || target == t->stub_exit ||
           target == t->stub_leave || target == t->stub_unknown || target == t->stub_window;
}

static bool inside(const struct verifier *v, const uint8_t *p)
{
    return p >= v->start && p < v->end;
}

static int64_t read32(const uint8_t *p)
{
    int32_t n;

    memcpy(&n, p, 4);
    return n;
}

/* The place that the rel32 at p leads to. */
static const uint8_t *relative(const uint8_t *p)
{
    return p + 4 + read32(p);
}

/* Bytes of a template that may be any. */
struct hole {
    size_t at, len;
};

static bool in_hole(const struct hole *hole, size_t i)
{
    return i - hole->at < hole->len;
}

/* Are the bytes at the place those of the template? */
static bool matches(const struct verifier *v, const uint8_t *code, size_t len, struct hole hole,
                    struct hole hole2)
{
    if ((size_t)(v->end - v->at) < len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!in_hole(&hole, i) && !in_hole(&hole2, i) && v->at[i] != code[i])
            return false;
    return true;
}

static int64_t read_hole(const struct verifier *v, struct hole hole)
{
    return hole.len == 1 ? (int8_t)v->at[hole.at] : read32(v->at + hole.at);
}

static void show(struct verifier *v, struct shown shown)
{
    if (v->shown_count == MAX_CHECKS) {
        fail(v, "too many checks");
        return;
    }
    v->shown[v->shown_count++] = shown;
}

/* The place of the size is where templates for two sizes differ. */
static bool at_tlb_check(struct verifier *v, bool write, bool brief, size_t *len, int64_t *size,
                         const uint8_t **miss)
{
    uint8_t one[CHECK_BYTES] = {0}, two[CHECK_BYTES] = {0};
    struct assembler a = {.p = one}, b = {.p = two};
    uint8_t *jump = emit_tlb_check(&a, brief ? 0x12 : 0x11111112, write);
    struct hole hole = {.len = brief ? 1 : 4};

    emit_tlb_check(&b, brief ? 0x23 : 0x22222223, write);
    while (one[hole.at] == two[hole.at])
        hole.at++;
    *len = (size_t)(a.p - one);
    if (!matches(v, one, *len, hole, (struct hole){(size_t)(jump - one), 4}))
        return false;
    *size = read_hole(v, hole) + 1;
    *miss = relative(v->at + (jump - one));
    return true;
}

static bool take_tlb_check(struct verifier *v)
{
    struct state *s = &v->state;
    const uint8_t *miss;
    struct value addend;
    size_t len;
    int64_t size;
    bool write = false;

    if (!at_tlb_check(v, false, true, &len, &size, &miss) &&
        !at_tlb_check(v, false, false, &len, &size, &miss)) {
        write = true;
        if (!at_tlb_check(v, true, true, &len, &size, &miss) &&
            !at_tlb_check(v, true, false, &len, &size, &miss))
            return false;
    }
    s->reg[RCX] = fresh(v);
    s->reg[R15] = fresh(v);
    if (!inside(v, miss) || size <= 0 || size > 4096)
        return fail(v, "a check of the TLB with a wrong size or jump");
    leads_to(v, miss);
    s->reg[R15] = addend = fresh(v);
    v->at += len;
    show(v, (struct shown){.sum = s->reg[R14].sum + addend.sum,
                           .low = s->reg[R14].plus,
                           .bytes = size,
                           .write = write,
                           .end = v->at});
    return true;
}

/* LEA to, [base + index + n] with an n that may be any; the place tells how long it is. */
static struct hole template_lea(const struct verifier *v, const uint8_t *code, struct assembler *a,
                                unsigned to, unsigned base, unsigned index)
{
    const uint8_t *modrm = v->at + (a->p - code) + 2;
    bool brief = modrm < v->end && (*modrm & 0xc0) == 0x40;

    asm_lea(a, true, to, base, index, 0, brief ? 1 : 1000);
    return (struct hole){(size_t)(a->p - code) - (brief ? 1 : 4), brief ? 1 : 4};
}

/* RCX = RSP + window_base + low, R14 = RCX + size - 1: both in the page? */
static bool take_window_check(struct verifier *v)
{
    uint8_t code[CHECK_BYTES];
    struct assembler a = {.p = code};
    struct value rsp = v->state.reg[RSP];
    struct hole low, size, jump = {.len = 4}, head;
    const uint8_t *elsewhere;
    int64_t from, bytes;

    asm_load(&a, RCX, NATIVE(window_base));
    low = template_lea(v, code, &a, RCX, RSP, RCX);
    size = template_lea(v, code, &a, R14, RCX, REG_NONE);
    head = (struct hole){size.at, (size_t)(a.p - code) - size.at};
    if (!matches(v, code, (size_t)(a.p - code), low, head))
        return false;
    memcpy(code + low.at, v->at + low.at, low.len);
    asm_pext(&a, false, RCX, RCX, NATIVE(window_mask));
    asm_pext(&a, false, R14, R14, NATIVE(window_mask));
    asm_lea(&a, true, RCX, RCX, R14, 0, 0);
    jump.at = (size_t)(asm_unless_rcx_zero(&a) - code);
    if (!matches(v, code, (size_t)(a.p - code), size, jump))
        return false;
    from = rsp.plus + read_hole(v, low);
    bytes = read_hole(v, size) + 1;
    elsewhere = relative(v->at + jump.at);
    if (bytes <= 0 || bytes > 4096 || bytes % 2 || !inside(v, elsewhere))
        return fail(v, "a check of the window with a wrong size or jump");
    leads_to(v, elsewhere);
    v->at += a.p - code;
    forget_scratch(v);
    show(v, (struct shown){.sum = rsp.sum,
                           .low = from,
                           .bytes = bytes,
                           .write = true,
                           .window = true,
                           .end = v->at});
    return true;
}

static bool take_find(struct verifier *v)
{
    uint8_t code[CHECK_BYTES];
    struct assembler a = {.p = code};
    size_t jump = (size_t)(translate_emit_find(&a) - code), len = (size_t)(a.p - code);
    const uint8_t *unknown;

    if (!matches(v, code, len, (struct hole){jump, 4}, (struct hole){0}))
        return false;
    unknown = relative(v->at + jump);
    forget_scratch(v);
    if (inside(v, unknown))
        leads_to(v, unknown);
    else if (unknown != v->t->stub_unknown)
        return fail(v, "a search of the jump cache that leads nowhere");
    v->at += len;
    v->found = true;
    return true;
}

static bool take_follow(struct verifier *v)
{
    uint8_t code[CHECK_BYTES];
    struct assembler a = {.p = code};

    translate_emit_follow(&a);
    if (!v->found || !matches(v, code, (size_t)(a.p - code), (struct hole){0}, (struct hole){0}))
        return false;
    v->at += a.p - code;
    v->state.live = false;
    v->found = false;
    return true;
}

/* --- memory operands --- */

static int gpr_of(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return -1;
    return ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_GPR64 ? ZydisRegisterGetId(reg) : -2;
}

static struct value address_of(const struct verifier *v, const ZydisDecodedOperand *op)
{
    int base = gpr_of(op->mem.base), index = gpr_of(op->mem.index);
    struct value sum = {.plus = (uint64_t)op->mem.disp.value};

    if (base >= 0) {
        sum.sum += v->state.reg[base].sum;
        sum.plus += v->state.reg[base].plus;
    }
    if (index >= 0) {
        sum.sum += v->state.reg[index].sum * op->mem.scale;
        sum.plus += v->state.reg[index].plus * op->mem.scale;
    }
    return sum;
}

/* The fields of struct cpu that a block may write. */
static bool may_store(uint64_t offset)
{
    static const size_t fields[] = {
        offsetof(struct cpu, rflags),
        offsetof(struct cpu, kernel_gs_base),
        NATIVE(window_mask),
        NATIVE(table),
        NATIVE(budget),
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if (fields[i] == offset)
            return true;
    if (offset == segment_base(GS))
        return true;
    if (offset >= NATIVE(group) && offset < NATIVE(group) + sizeof((struct cpu_native){0}.group))
        return offset % 8 == 0;
    for (unsigned g = 0; g < 16; g++)
        if (offset == gpr_at(g))
            return host_register(g) == REG_NONE && g != RSP;
    return false;
}

static bool check_field(struct verifier *v, const ZydisDecodedOperand *op, bool write)
{
    uint64_t offset = (uint64_t)op->mem.disp.value;

    if (op->mem.base != ZYDIS_REGISTER_NONE || op->mem.index != ZYDIS_REGISTER_NONE ||
        offset > sizeof(struct cpu) - op->size / 8)
        return fail(v, "an access by GS that is not to a field of the vCPU");
    if (write && (op->size != 64 || !may_store(offset) || v->in.mnemonic != ZYDIS_MNEMONIC_MOV))
        return fail(v, "a store to a field that no block may change");
    return true;
}

static bool within(uint64_t at, uint64_t size, uint64_t low, uint64_t bytes)
{
    return size <= bytes && at - low <= bytes - size;
}

static bool is_shown(const struct verifier *v, struct value at, int64_t size, bool write)
{
    for (unsigned i = v->state.first; i < v->shown_count; i++) {
        const struct shown *s = &v->shown[i];

        if (s->sum == at.sum && within(at.plus, (uint64_t)size, s->low, s->bytes) &&
            (s->write || !write) && (!s->window || i >= v->state.first_window))
            return true;
    }
    return false;
}

static bool on_monitor_stack(struct verifier *v, struct value at, int64_t size)
{
    struct value top = *slot_value(v, NATIVE(monitor_rsp));

    return at.sum == top.sum && at.plus == top.plus - 8 && size == 8;
}

/* MOV ECX, [RCX], where the poll is. */
static bool is_poll(struct verifier *v, struct value at)
{
    const struct fault_site *site =
        translate_find_fault_site(v->t, (size_t)(v->at - v->t->writable));

    return site && site->poll && same(at, *slot_value(v, NATIVE(poll))) && v->at[0] == 0x8b &&
           v->at[1] == 0x09;
}

static bool check_bit_number(struct verifier *v)
{
    switch (v->in.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
        if (v->ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            (v->ops[1].size < 32 || !v->state.reg[ZydisRegisterGetId(v->ops[1].reg.value)].is_bit))
            return fail(v, "a string of bits with an unchecked number");
        return true;
    default: return true;
    }
}

static bool check_access(struct verifier *v, const ZydisDecodedOperand *op)
{
    bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    struct value at = address_of(v, op);
    int64_t size = op->size / 8;

    if (op->mem.segment == ZYDIS_REGISTER_GS)
        return check_field(v, op, write);
    if (op->mem.segment == ZYDIS_REGISTER_FS || gpr_of(op->mem.base) == -2 ||
        gpr_of(op->mem.index) == -2 || op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
        return fail(v, "an address of a kind that is not used");
    if (v->in.mnemonic == ZYDIS_MNEMONIC_PUSH || v->in.mnemonic == ZYDIS_MNEMONIC_PUSHFQ)
        at.plus = v->state.reg[RSP].plus - size;
    if (op->mem.base == ZYDIS_REGISTER_RSP && on_monitor_stack(v, at, size) &&
        (v->in.mnemonic == ZYDIS_MNEMONIC_PUSHFQ || v->in.mnemonic == ZYDIS_MNEMONIC_POP))
        return true;
    if (v->in.mnemonic == ZYDIS_MNEMONIC_PUSHFQ)
        return fail(v, "the processor's flags for the guest");
    if (is_poll(v, at) || is_shown(v, at, size, write))
        return check_bit_number(v);
    return fail(v, "an access that nothing has checked");
}

/* --- instructions --- */

static bool is_allowed_mnemonic(const struct verifier *v)
{
    switch (v->in.mnemonic) {
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_RDTSC: /* its sequence is checked elsewhere */
    case ZYDIS_MNEMONIC_PUSHFQ: return true;
    default: return false;
    }
}

/* Kinds of which every instruction computes, moves data or jumps. */
static bool is_allowed_kind(const struct verifier *v)
{
    switch (v->in.meta.category) {
    case ZYDIS_CATEGORY_ADOX_ADCX:
    case ZYDIS_CATEGORY_AES:
    case ZYDIS_CATEGORY_AVX:
    case ZYDIS_CATEGORY_AVX2:
    case ZYDIS_CATEGORY_BINARY:
    case ZYDIS_CATEGORY_BITBYTE:
    case ZYDIS_CATEGORY_BLEND:
    case ZYDIS_CATEGORY_BMI1:
    case ZYDIS_CATEGORY_BMI2:
    case ZYDIS_CATEGORY_BROADCAST:
    case ZYDIS_CATEGORY_CMOV:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_CONVERT:
    case ZYDIS_CATEGORY_DATAXFER:
    case ZYDIS_CATEGORY_GFNI:
    case ZYDIS_CATEGORY_LOGICAL:
    case ZYDIS_CATEGORY_LOGICAL_FP:
    case ZYDIS_CATEGORY_LZCNT:
    case ZYDIS_CATEGORY_NOP:
    case ZYDIS_CATEGORY_PCLMULQDQ:
    case ZYDIS_CATEGORY_POP:
    case ZYDIS_CATEGORY_PUSH:
    case ZYDIS_CATEGORY_ROTATE:
    case ZYDIS_CATEGORY_SEMAPHORE:
    case ZYDIS_CATEGORY_SETCC:
    case ZYDIS_CATEGORY_SHA:
    case ZYDIS_CATEGORY_SHIFT:
    case ZYDIS_CATEGORY_SSE:
    case ZYDIS_CATEGORY_STTNI:
    case ZYDIS_CATEGORY_IFMA:
    case ZYDIS_CATEGORY_VEX:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_VAES:
    case ZYDIS_CATEGORY_VFMA:
    case ZYDIS_CATEGORY_VPCLMULQDQ:
    case ZYDIS_CATEGORY_WIDENOP: return true;
    default: return is_allowed_mnemonic(v);
    }
}

static bool is_refused(const struct verifier *v)
{
    if ((v->in.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) || v->in.meta.isa_ext == ZYDIS_ISA_EXT_RTM)
        return true;
    switch (v->in.mnemonic) {
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_PUSHF: return true;
    case ZYDIS_MNEMONIC_RDTSC: /* the number is changed: MOV ECX, 32 begins that */
        return v->end - v->at < 7 || memcmp(v->at, "\x0f\x31\xb9\x20\0\0", 7) != 0;
    default: return false;
    }
}

static bool check_registers(struct verifier *v)
{
    for (unsigned i = 0; i < v->in.operand_count; i++) {
        if (v->ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(v->ops[i].reg.value)) {
        case ZYDIS_REGCLASS_SEGMENT:
        case ZYDIS_REGCLASS_CONTROL:
        case ZYDIS_REGCLASS_DEBUG:
        case ZYDIS_REGCLASS_TEST:
        case ZYDIS_REGCLASS_X87:
        case ZYDIS_REGCLASS_TABLE:
        case ZYDIS_REGCLASS_BOUND: return fail(v, "a register of the system, or of the x87");
        default: break;
        }
    }
    return true;
}

/* --- effects --- */

static struct value *register_of(struct verifier *v, const ZydisDecodedOperand *op)
{
    ZydisRegisterClass class = ZydisRegisterGetClass(op->reg.value);

    switch (class) {
    case ZYDIS_REGCLASS_GPR64:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR16: return &v->state.reg[ZydisRegisterGetId(op->reg.value)];
    case ZYDIS_REGCLASS_GPR8: {
        int id = ZydisRegisterGetId(op->reg.value);

        /* AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B... */
        return &v->state.reg[id < 4 ? id : id < 8 ? id - 4 : id - 4];
    }
    default: return NULL;
    }
}

static bool is_wide_register(const ZydisDecodedOperand *op)
{
    return op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_GPR64;
}

static bool is_field(const ZydisDecodedOperand *op, unsigned size)
{
    return op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.segment == ZYDIS_REGISTER_GS &&
           op->size == size;
}

/* The value of the first operand after the instruction, where it is known. */
static bool known_result(struct verifier *v, struct value *result)
{
    const ZydisDecodedOperand *to = &v->ops[0], *from = &v->ops[1];
    bool moves = v->in.mnemonic == ZYDIS_MNEMONIC_MOV && is_wide_register(to);
    struct value *reg = to->type == ZYDIS_OPERAND_TYPE_REGISTER ? register_of(v, to) : NULL;

    if (v->in.mnemonic == ZYDIS_MNEMONIC_LEA && is_wide_register(to) &&
        from->mem.base != ZYDIS_REGISTER_RIP && gpr_of(from->mem.base) != -2) {
        *result = address_of(v, from);
        return true;
    }
    if (moves && is_wide_register(from)) {
        *result = *register_of(v, from);
        return true;
    }
    if (moves && is_field(from, 64)) {
        *result = *slot_value(v, (uint64_t)from->mem.disp.value);
        return true;
    }
    if (from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && v->in.mnemonic == ZYDIS_MNEMONIC_MOV &&
        to->size >= 32 && reg) {
        *result = (struct value){.plus = (uint64_t)from->imm.value.s};
        return true;
    }
    /* 32-bit stacks: addresses are modulo 4 GiB, and a page doesn't cross that */
    if (!cpu_is_64bit(v->cpu) && to->size == 32 && reg &&
        v->ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
        (v->in.mnemonic == ZYDIS_MNEMONIC_ADD || v->in.mnemonic == ZYDIS_MNEMONIC_SUB)) {
        *result = *reg;
        result->plus +=
            v->in.mnemonic == ZYDIS_MNEMONIC_ADD ? from->imm.value.u : 0 - from->imm.value.u;
        return true;
    }
    if (v->in.mnemonic == ZYDIS_MNEMONIC_PEXT && is_field(&v->ops[2], 64)) {
        uint64_t mask = (uint64_t)v->ops[2].mem.disp.value;

        *result = fresh(v);
        result->is_bit = mask == NATIVE(bit_mask64) || mask == NATIVE(bit_mask32);
        return true;
    }
    return false;
}

static void store_field(struct verifier *v, struct value value)
{
    uint64_t offset = (uint64_t)v->ops[0].mem.disp.value;

    *slot_value(v, offset) = value;
    if (offset == NATIVE(table))
        v->state.first = v->shown_count;
    if (offset == NATIVE(window_mask))
        v->state.first_window = v->shown_count;
}

static void take_effect(struct verifier *v)
{
    struct value result, rsp = v->state.reg[RSP];
    bool known = known_result(v, &result);

    if (v->in.mnemonic == ZYDIS_MNEMONIC_MOV && is_field(&v->ops[0], 64)) {
        store_field(v, is_wide_register(&v->ops[1]) ? *register_of(v, &v->ops[1]) : fresh(v));
        return;
    }
    for (unsigned i = 0; i < v->in.operand_count; i++) {
        struct value *reg;

        if (v->ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(v->ops[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        reg = register_of(v, &v->ops[i]);
        if (reg)
            *reg = i == 0 && known ? result : fresh(v);
    }
    switch (v->in.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_PUSHFQ: rsp.plus -= 8; break;
    case ZYDIS_MNEMONIC_POP: rsp.plus += 8; break;
    default: return;
    }
    v->state.reg[RSP] = rsp;
}

/* --- jumps --- */

static bool enter_stub(struct verifier *v, const uint8_t *target)
{
    const uint8_t *after = v->at + v->in.length;

    if (target == v->t->stub_window) {
        const struct shown *s = v->shown_count ? &v->shown[v->shown_count - 1] : NULL;
        const uint8_t *back = v->at - 7; /* LEA RCX, [RIP + ...] */
        bool lea = back >= v->start && back[0] == 0x48 && back[1] == 0x8d && back[2] == 0x0d;
        const uint8_t *resume = lea ? relative(back + 3) : NULL;

        for (unsigned i = 0; i < v->shown_count; i++)
            if (s && s->end == back && s->write && v->shown[i].window &&
                v->shown[i].end == resume &&
                s->sum - v->state.reg[R15].sum + v->state.addend == v->shown[i].sum &&
                within(v->shown[i].low, v->shown[i].bytes, s->low, s->bytes))
                return true;
        return fail(v, "a window goes on that was not checked like this");
    }
    if (target == v->t->stub_interpret)
        for (unsigned i = 0; i < v->resume_count; i++)
            if (v->resume[i].at == after && !never_resumes(v, v->resume[i].record)) {
                resumed(v, v->resume[i].record, false);
                leads_to(v, after);
                return true;
            }
    return is_stub(v->t, target) || fail(v, "a jump out of the block");
}

static bool take_jump(struct verifier *v)
{
    const uint8_t *target = v->at + v->in.length + v->ops[0].imm.value.s;
    bool always = v->in.mnemonic == ZYDIS_MNEMONIC_JMP;

    if (v->ops[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || v->in.mnemonic == ZYDIS_MNEMONIC_CALL)
        return fail(v, "an indirect jump or call");
    if (inside(v, target)) {
        if (target <= v->at)
            return fail(v, "a jump back in the block");
        leads_to(v, target);
    } else if (!enter_stub(v, target)) {
        return false;
    }
    if (always)
        v->state.live = false;
    return true;
}

/* --- the walk --- */

static bool is_jump(const struct verifier *v)
{
    return v->in.meta.category == ZYDIS_CATEGORY_COND_BR ||
           v->in.meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
           v->in.meta.category == ZYDIS_CATEGORY_CALL || v->in.meta.category == ZYDIS_CATEGORY_RET;
}

static bool decode_at(struct verifier *v)
{
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(&v->decoder, v->at, (size_t)(v->end - v->at), &v->in, v->ops)))
        return fail(v, "no instruction");
    return true;
}

static bool take_instruction(struct verifier *v)
{
    if (!decode_at(v))
        return false;
    if (is_refused(v) || !(is_allowed_kind(v) || is_jump(v)))
        return fail(v, "an instruction that is not allowed");
    if (is_jump(v)) {
        if (!take_jump(v))
            return false;
        v->at += v->in.length;
        return true;
    }
    if (!check_registers(v))
        return false;
    for (unsigned i = 0; i < v->in.operand_count; i++)
        if (v->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            v->ops[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN && v->in.mnemonic != ZYDIS_MNEMONIC_NOP &&
            !check_access(v, &v->ops[i]))
            return false;
    take_effect(v);
    v->at += v->in.length;
    return true;
}

static void add_resume(struct verifier *v, const uint8_t *at, const struct tinsn *record)
{
    if (v->resume_count < MAX_RESUMES)
        v->resume[v->resume_count++] = (struct resume){at, record};
    else
        fail(v, "too many calls of the interpreter");
}

/* MOV ECX, record; LEA R15, [RIP + resume]; JMP stub_interpret: all of them, before the walk. */
static void find_resumes(struct verifier *v)
{
    const struct region *r = v->t->region;

    for (v->at = v->start; v->at < v->end && !v->failed && decode_at(v); v->at += v->in.length) {
        const uint8_t *p = v->at;

        if (v->in.mnemonic == ZYDIS_MNEMONIC_JMP && v->in.length == 5 &&
            relative(p + 1) == v->t->stub_interpret) {
            if (p - 12 < v->start || p[-12] != 0xb9 || p[-7] != 0x4c || p[-6] != 0x8d ||
                p[-5] != 0x3d || relative(p - 4) <= v->start || relative(p - 4) > v->end ||
                (uint32_t)read32(p - 11) >= v->t->region_meta * CACHE_REGIONS)
                fail(v, "a call of the interpreter of another form");
            else
                add_resume(v, relative(p - 4), tinsn_at(v->t, (uint32_t)read32(p - 11)));
        }
    }
    for (size_t n = 0; n < r->fault_count; n++) {
        const struct fault_site *site = translate_fault_site(v->t, r, n);

        if (site->offset >= (size_t)(v->start - v->t->writable) && !site->poll)
            add_resume(v, v->t->writable + tinsn_at(v->t, site->insn)->resume,
                       tinsn_at(v->t, site->insn));
    }
}

static bool walk(struct verifier *v)
{
    begin(v);
    for (v->at = v->start; v->at < v->end && !v->failed;) {
        arrive(v);
        if (!v->state.live)
            return fail(v, "code that nothing leads to");
        resume_here(v);
        if (take_tlb_check(v) || v->failed || take_window_check(v) || v->failed || take_find(v) ||
            v->failed || take_follow(v))
            continue;
        if (!take_instruction(v))
            return false;
    }
    if (v->failed)
        return false;
    if (v->state.live)
        return fail(v, "the block has no end");
    return v->waiting_count == 0 || fail(v, "a jump into the middle of an instruction");
}

bool verifier_accepts(struct verifier *v, struct cpu *cpu, const uint8_t *end)
{
    v->cpu = cpu;
    v->t = translator_of(cpu);
    v->start = v->t->next;
    v->end = end;
    v->shown_count = v->waiting_count = v->resume_count = 0;
    v->failed = v->found = false;
    v->complaint[0] = 0;
    find_resumes(v);
    return !v->failed && walk(v);
}

const char *verifier_complaint(const struct verifier *v)
{
    return v->complaint;
}

struct verifier *verifier_new(void)
{
    struct verifier *v = calloc(1, sizeof *v);

    if (v)
        ZydisDecoderInit(&v->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return v;
}

void verifier_free(struct verifier *v)
{
    free(v);
}
