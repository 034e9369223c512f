/* System instructions that kernels use all the time. */
#include "engine/translate/builder.h"

/* A flag of RFLAGS that is not the processor's; `mask` has all others. Uses RCX. */
static void emit_set_flag(struct block_builder *b, size_t mask, unsigned flag, bool on)
{
    asm_load(&b->a, RCX, offsetof(struct cpu, rflags));
    asm_and(&b->a, RCX, mask);
    if (on)
        asm_lea(&b->a, true, RCX, RCX, REG_NONE, 0, (int32_t)flag);
    asm_store(&b->a, RCX, offsetof(struct cpu, rflags));
}

static void emit_set_if(struct block_builder *b, bool on)
{
    emit_set_flag(b, NATIVE(if_mask), FLAG_IF, on);
}

/* With nothing waiting, the shadow of STI need not be noted: what comes up later is seen after the
 * next instruction at the earliest. */
static void emit_sti(struct block_builder *b)
{
    uint8_t *waiting;

    asm_load32(&b->a, RCX, offsetof(struct cpu, attention));
    waiting = asm_unless_rcx_zero(&b->a);
    emit_add_cold(b,
                  (struct cold){.kind = COLD_INTERPRET, .from = waiting, .record = emit_record(b)});
    emit_set_if(b, true);
}

static void emit_swapgs(struct block_builder *b)
{
    asm_load(&b->a, RCX, segment_base(GS));
    asm_load(&b->a, R14, offsetof(struct cpu, kernel_gs_base));
    asm_store(&b->a, RCX, offsetof(struct cpu, kernel_gs_base));
    asm_store(&b->a, R14, segment_base(GS));
}

static void emit_rdtsc(struct block_builder *b)
{
    struct assembler *a = &b->a;

    asm_bytes(a, "\x0f\x31", 2); /* rdtsc */
    asm_const(a, RCX, 32);
    asm_bytes(a, "\xc4\xe2\xf1\xf7\xd2", 5); /* shlx rdx, rdx, rcx */
    asm_load(a, RCX, NATIVE(tsc_offset));
    asm_lea(a, true, RAX, RAX, RDX, 0, 0);
    asm_lea(a, true, RAX, RAX, RCX, 0, 0);
    asm_bytes(a, "\xc4\xe3\xfb\xf0\xd0\x20", 6); /* rorx rdx, rax, 32 */
    asm_bytes(a, "\x89\xd2\x89\xc0", 4);         /* mov edx, edx; mov eax, eax */
}

/* RFLAGS.AC chooses the table of the TLB. Without it the page of the stack may be out of reach. */
static void emit_set_ac(struct block_builder *b, bool on)
{
    struct assembler *a = &b->a;

    emit_set_flag(b, NATIVE(ac_mask), FLAG_AC, on);
    asm_load(a, RCX, on ? NATIVE(table_ac) : NATIVE(table_no_ac));
    asm_store(a, RCX, NATIVE(table));
    if (!on) {
        asm_const(a, RCX, UINT64_MAX);
        asm_store(a, RCX, NATIVE(window_mask));
    }
}

/* The processor's status flags, by way of the monitor's stack, and the guest's other ones. */
static void emit_pushfq(struct block_builder *b)
{
    struct assembler *a = &b->a;

    emit_window_check(b);
    asm_move(a, R15, RSP);
    asm_load(a, RSP, NATIVE(monitor_rsp));
    asm_bytes(a, "\x9c\x59", 2); /* pushfq; pop rcx */
    asm_move(a, RSP, R15);
    asm_and(a, RCX, NATIVE(status_mask));
    asm_load(a, R14, offsetof(struct cpu, rflags));
    asm_and(a, R14, NATIVE(image_mask));
    asm_lea(a, true, RCX, RCX, R14, 0, 0);
    asm_byte(a, 0x51); /* push rcx */
}

/* BT and its like: R14 = the address of the 4 or 8 bytes that hold the bit. */
static void emit_bit_address(struct block_builder *b)
{
    const struct insn *in = &b->p->d.in;
    unsigned index = emit_use_register(b, in->reg, R15);

    if (in->osize == 4) {
        asm_byte(&b->a, 0x4c | index >> 3); /* movsxd r15, index */
        asm_byte(&b->a, 0x63);
        asm_byte(&b->a, 0xf8 | (index & 7));
    } else if (index != R15) {
        asm_move(&b->a, R15, index);
    }
    asm_const(&b->a, RCX, in->osize == 4 ? 5 : 6);
    asm_bytes(&b->a, "\xc4\x42\xf2\xf7\xff", 5); /* sarx r15, r15, rcx */
    asm_lea(&b->a, true, R14, R14, R15, in->osize == 4 ? 2 : 3, 0);
}

static bool emit_bit_string(struct block_builder *b)
{
    const struct insn *in = &b->p->d.in;
    bool wide = in->osize == 8;
    unsigned index;

    if (!emit_address(b))
        return false;
    emit_bit_address(b);
    emit_check(b, in->osize, b->p->d.zi.mnemonic != ZYDIS_MNEMONIC_BT);
    index = emit_use_register(b, in->reg, RCX);
    asm_pext(&b->a, false, RCX, index, wide ? NATIVE(bit_mask64) : NATIVE(bit_mask32));
    if (in->flags & INSN_LOCK)
        asm_byte(&b->a, 0xf0);
    asm_byte(&b->a, 0x43 | wide << 3);
    asm_byte(&b->a, 0x0f);
    asm_byte(&b->a, b->p->d.zi.opcode);
    asm_bytes(&b->a, "\x0c\x3e", 2); /* [r14 + r15], rcx */
    return true;
}

bool emit_system(struct block_builder *b)
{
    const struct decoded *d = &b->p->d;

    if (!plan_is_system(b->cpu, d))
        return false;
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CLI: emit_set_if(b, false); break;
    case ZYDIS_MNEMONIC_STI: emit_sti(b); break;
    case ZYDIS_MNEMONIC_SWAPGS: emit_swapgs(b); break;
    case ZYDIS_MNEMONIC_RDTSC:
        if (b->counting)
            return false; /* time is the count */
        emit_rdtsc(b);
        break;
    case ZYDIS_MNEMONIC_STAC: emit_set_ac(b, true); break;
    case ZYDIS_MNEMONIC_CLAC: emit_set_ac(b, false); break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS: return emit_bit_string(b);
    case ZYDIS_MNEMONIC_PUSHFQ:
        if (b->p->window < 0)
            return false;
        emit_pushfq(b);
        break;
    case ZYDIS_MNEMONIC_LEAVE: emit_leave(b); break;
    default: break; /* hints */
    }
    return true;
}
