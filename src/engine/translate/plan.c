/* See plan.h. */
#include "engine/translate/plan.h"

#include "engine/interpret/exec.h"

#define MAX_SIDE_EXITS 3
#define SPAN_MAX 512 /* bytes; a longer one would often cross into another page */

/* --- kinds of instructions --- */

bool plan_is_on_stack(const struct cpu *cpu, const struct decoded *d)
{
    const struct insn *in = &d->in;

    return (in->flags & INSN_MEM) && in->base == RSP && in->index == REG_NONE && in->seg < FS &&
           in->asize == plan_slot(cpu) && in->mem_size > 0 && in->mem_size <= 64 &&
           in->disp > -SPAN_MAX && in->disp < (1 << 20);
}

static bool native_width(const struct cpu *cpu, const struct decoded *d)
{
    return d->in.osize == plan_slot(cpu);
}

static bool is_plain_register(const struct decoded *d)
{
    bool high;

    return d->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           d->ops[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE &&
           insn_gpr_number(d->ops[0].reg.value, &high) >= 0;
}

bool plan_is_push(const struct cpu *cpu, const struct decoded *d)
{
    return d->zi.mnemonic == ZYDIS_MNEMONIC_PUSH && native_width(cpu, d) &&
           (is_plain_register(d) || d->ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
            ((d->in.flags & INSN_MEM) && d->in.mem_size == plan_slot(cpu)));
}

bool plan_is_pop(const struct cpu *cpu, const struct decoded *d)
{
    return d->zi.mnemonic == ZYDIS_MNEMONIC_POP && native_width(cpu, d) && is_plain_register(d) &&
           d->in.reg != RSP;
}

static bool is_near(const struct cpu *cpu, const struct decoded *d)
{
    return d->row->class == CLASS_BRANCH && native_width(cpu, d) &&
           d->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
}

bool plan_moves_stack(const struct cpu *cpu, const struct decoded *d, int32_t *by)
{
    const ZydisDecodedOperand *ops = d->ops;
    bool add = d->zi.mnemonic == ZYDIS_MNEMONIC_ADD;

    if (!native_width(cpu, d) || d->zi.operand_count < 2 ||
        ops[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
        (ops[0].reg.value != ZYDIS_REGISTER_RSP && ops[0].reg.value != ZYDIS_REGISTER_ESP))
        return false;
    if (d->zi.mnemonic == ZYDIS_MNEMONIC_LEA) {
        *by = (int32_t)d->in.disp;
        return d->in.base == RSP && d->in.index == REG_NONE && d->in.osize == d->in.asize &&
               d->in.disp == *by;
    }
    if ((!add && d->zi.mnemonic != ZYDIS_MNEMONIC_SUB) ||
        ops[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return false;
    *by = add ? (int32_t)d->in.imm : -(int32_t)d->in.imm;
    return d->in.imm > -(1 << 20) && d->in.imm < 1 << 20;
}

static bool native_operand(const struct cpu *cpu, const struct decoded *d)
{
    if (!(d->in.flags & INSN_MEM) || d->zi.mnemonic == ZYDIS_MNEMONIC_LEA)
        return true;
    if (d->in.mem_size == 0 || d->in.mem_size > 64)
        return false;
    return exec_addressing(cpu, &d->in) != ADDR_ANY ||
           (d->in.asize >= 4 && (cpu_is_64bit(cpu) || d->in.seg >= FS));
}

/* CMPXCHG16B is a helper because of the order of its checks; where none fails it is a copy. */
static bool is_copied_helper(const struct cpu *cpu, const struct decoded *d)
{
    return d->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B && native_operand(cpu, d);
}

static bool native_stack_operation(const struct cpu *cpu, const struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH: return plan_is_push(cpu, d);
    case ZYDIS_MNEMONIC_POP: return plan_is_pop(cpu, d);
    default: return true;
    }
}

static bool is_native(const struct cpu *cpu, const struct decoded *d)
{
    if (d->row->class == CLASS_ILLEGAL || exec_unit_fault(cpu, d->unit))
        return false;
    switch (d->row->class) {
    case CLASS_COPY:
        return d->unit != UNIT_X87 && d->unit != UNIT_MMX && !(d->row->flags & ROW_X87_CONTROL) &&
               !d->names_other && native_operand(cpu, d);
    case CLASS_MOV:
        return !d->names_other && native_operand(cpu, d) && native_stack_operation(cpu, d);
    case CLASS_BRANCH: return is_near(cpu, d) && native_operand(cpu, d);
    default: return is_copied_helper(cpu, d);
    }
}

/* BT and its like with a bit string in memory. */
static bool is_bit_string(const struct cpu *cpu, const struct decoded *d)
{
    return cpu_is_64bit(cpu) && (d->in.flags & INSN_MEM) && d->in.asize == 8 && d->in.osize >= 4;
}

bool plan_leaves_alone(const struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_RDTSC: return d->row->class != CLASS_ILLEGAL;
    default: return d->zi.meta.category == ZYDIS_CATEGORY_PREFETCH;
    }
}

bool plan_is_system(const struct cpu *cpu, const struct decoded *d)
{
    bool kernel = cpu->mode & MODE_CPL0, wide = cpu_is_64bit(cpu);

    if (d->row->class != CLASS_HELPER)
        return false;
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI: return kernel;
    case ZYDIS_MNEMONIC_SWAPGS: return kernel && wide;
    case ZYDIS_MNEMONIC_RDTSC: return cpu->mode & MODE_TSC;
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC: return kernel && wide;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS: return is_bit_string(cpu, d);
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_LEAVE: return wide && d->in.osize == 8;
    case ZYDIS_MNEMONIC_NOP: return true;
    default: return d->zi.meta.category == ZYDIS_CATEGORY_PREFETCH; /* hints touch nothing */
    }
}

static bool ends_block(const struct cpu *cpu, const struct decoded *d)
{
    if (plan_is_system(cpu, d))
        return false;
    if (d->row->class == CLASS_ILLEGAL || d->row->class == CLASS_BRANCH ||
        exec_unit_fault(cpu, d->unit))
        return true;
    return d->row->flags & ROW_ENDS_BLOCK;
}

bool plan_is_condition(const struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE: return false;
    default: return d->zi.meta.category == ZYDIS_CATEGORY_COND_BR;
    }
}

/* --- decoding --- */

/* A conditional branch goes on in the block when it is not taken, a few times: what was checked
 * before is still known there. */
static bool is_side_exit(const struct cpu *cpu, const struct decoded *d, unsigned *side_exits)
{
    return plan_is_condition(d) && is_near(cpu, d) && (*side_exits)++ < MAX_SIDE_EXITS;
}

static void decode(struct plan *plan, const uint8_t *code, unsigned avail, unsigned most)
{
    unsigned side_exits = 0;

    while (plan->count < most && plan->len < avail) {
        struct planned *p = &plan->insns[plan->count];
        unsigned left = avail - plan->len;

        if (insn_decode(plan->cpu, code + plan->len, left > INSN_MAX_LEN ? INSN_MAX_LEN : left,
                        &p->d) != DECODE_OK)
            return;
        p->offset = (uint16_t)plan->len;
        p->native = is_native(plan->cpu, &p->d);
        p->window = p->group = -1;
        p->opens_window = p->opens_group = p->holds = false;
        plan->len += p->d.in.len;
        plan->count++;
        p->ends = ends_block(plan->cpu, &p->d) && !is_side_exit(plan->cpu, &p->d, &side_exits);
        if (p->ends)
            return;
    }
}

/* --- spans --- */

static bool fits(const struct span *s, int64_t low, int64_t high)
{
    low = low < s->low ? low : s->low;
    high = high > s->high ? high : s->high;
    return high - low <= SPAN_MAX;
}

static void join(struct span *s, unsigned at, int64_t low, int64_t high, bool write)
{
    s->low = low < s->low ? (int32_t)low : s->low;
    s->high = high > s->high ? (int32_t)high : s->high;
    s->write |= write;
    s->last = (uint8_t)at;
    s->members++;
}

/* A new span, or -1. */
static int open_span(struct span *spans, unsigned *count, unsigned at, int64_t low, int64_t high)
{
    if (*count == PLAN_MAX_SPANS)
        return -1;
    spans[*count] = (struct span){
        .low = (int32_t)low, .high = (int32_t)high, .first = (uint8_t)at, .last = (uint8_t)at};
    return (int)(*count)++;
}

/* --- windows of the stack --- */

struct stack_use {
    int32_t low, high; /* bytes touched, from RSP before the instruction */
    int32_t moved;
    bool touched, lost; /* RSP changes in another way */
};

static void touch(struct stack_use *use, int32_t low, int32_t high)
{
    use->low = !use->touched || low < use->low ? low : use->low;
    use->high = !use->touched || high > use->high ? high : use->high;
    use->touched = true;
}

static struct stack_use stack_use(const struct cpu *cpu, const struct planned *p)
{
    const struct decoded *d = &p->d;
    struct stack_use use = {0};
    int32_t slot = (int32_t)plan_slot(cpu);
    bool flags = d->zi.mnemonic == ZYDIS_MNEMONIC_PUSHFQ && plan_is_system(cpu, d);
    bool push = plan_is_push(cpu, d) || d->zi.mnemonic == ZYDIS_MNEMONIC_CALL || flags;
    bool pop = plan_is_pop(cpu, d);

    if (!p->native && !flags) {
        use.lost = !plan_leaves_alone(d);
        return use;
    }
    if (plan_is_on_stack(cpu, d) && d->zi.mnemonic != ZYDIS_MNEMONIC_LEA)
        touch(&use, (int32_t)d->in.disp, (int32_t)d->in.disp + d->in.mem_size);
    if (push)
        touch(&use, -slot, 0);
    else if (pop || d->zi.mnemonic == ZYDIS_MNEMONIC_RET)
        touch(&use, 0, slot);
    if (push || pop)
        use.moved = push ? -slot : slot;
    else if (!plan_moves_stack(cpu, d, &use.moved))
        use.lost = d->gpr_written & 1u << RSP;
    return use;
}

static void find_windows(struct plan *plan)
{
    int window = -1;
    int64_t moved = 0; /* since the window was opened */

    for (unsigned i = 0; i < plan->count; i++) {
        struct planned *p = &plan->insns[i];
        struct stack_use use = stack_use(plan->cpu, p);

        if (use.touched) {
            if (window >= 0 && !fits(&plan->window[window], moved + use.low, moved + use.high))
                window = -1;
            if (window < 0) {
                moved = 0;
                window = open_span(plan->window, &plan->windows, i, use.low, use.high);
                p->opens_window = window >= 0;
            }
            if (window >= 0)
                join(&plan->window[window], i, moved + use.low, moved + use.high, true);
            p->window = (int8_t)window;
        }
        moved += use.moved;
        if (use.lost)
            window = -1;
    }
}

/* --- groups of operands with one base --- */

struct open_group {
    int group; /* -1: none */
    unsigned seg;
};

static bool groupable(const struct cpu *cpu, const struct planned *p)
{
    const struct insn *in = &p->d.in;

    return cpu_is_64bit(cpu) && (in->flags & INSN_MEM) && p->native &&
           p->d.zi.mnemonic != ZYDIS_MNEMONIC_LEA && in->index == REG_NONE && in->asize == 8 &&
           in->base != RSP && in->disp > INT32_MIN / 2 && in->disp < INT32_MAX / 2;
}

/* Where the operand is, from its base; RIP-relative ones from the start of the block. */
int32_t plan_displacement(const struct planned *p)
{
    int32_t disp = (int32_t)p->d.in.disp;

    return p->d.in.base == REG_IP ? disp + p->offset + p->d.in.len : disp;
}

static void add_operand(struct plan *plan, unsigned at, struct open_group *open)
{
    struct planned *p = &plan->insns[at];
    unsigned seg = p->d.in.seg >= FS ? p->d.in.seg : DS;
    int64_t low = plan_displacement(p), high = low + p->d.in.mem_size;

    if (open->group >= 0 && (open->seg != seg || !fits(&plan->group[open->group], low, high)))
        open->group = -1;
    if (open->group < 0) {
        open->group = open_span(plan->group, &plan->groups, at, low, high);
        open->seg = seg;
        p->opens_group = open->group >= 0;
    }
    if (open->group >= 0)
        join(&plan->group[open->group], at, low, high, p->d.writes_mem);
    p->group = (int8_t)open->group;
}

static void find_groups(struct plan *plan)
{
    struct open_group open[GPR_COUNT];

    for (unsigned r = 0; r < GPR_COUNT; r++)
        open[r].group = -1;
    for (unsigned i = 0; i < plan->count; i++) {
        const struct planned *p = &plan->insns[i];
        bool unknown = !p->native && !plan_leaves_alone(&p->d); /* what it changes */

        if (groupable(plan->cpu, p))
            add_operand(plan, i, &open[p->d.in.base]);
        for (unsigned r = 0; r < GPR_COUNT; r++)
            if (unknown || (r < 16 && (p->d.gpr_written & 1u << r)))
                open[r].group = -1;
    }
    for (unsigned i = 0; i < plan->count; i++) { /* a check for one is no group */
        struct planned *p = &plan->insns[i];

        if (p->group >= 0 && plan->group[p->group].members == 1) {
            p->group = -1;
            p->opens_group = false;
        }
    }
}

static void note_holders(struct plan *plan, const struct span *spans, unsigned count)
{
    for (unsigned s = 0; s < count; s++)
        for (unsigned i = spans[s].first; i < spans[s].last; i++)
            plan->insns[i].holds = true;
}

void plan_make(struct plan *plan, const struct cpu *cpu, const uint8_t *code, unsigned avail,
               bool careful)
{
    plan->cpu = cpu;
    plan->count = plan->len = plan->windows = plan->groups = 0;
    decode(plan, code, avail, careful ? CAREFUL_MAX_INSNS : PLAN_MAX_INSNS);
    if (careful)
        return;
    find_windows(plan);
    find_groups(plan);
    note_holders(plan, plan->window, plan->windows);
    note_holders(plan, plan->group, plan->groups);
}
