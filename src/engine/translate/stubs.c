/* The common code at the beginning of the cache: entering, leaving, interpreting one instruction,
 * and looking a jump target up. */
#include "engine/translate/translator.h"

#define NATIVE(field) (offsetof(struct cpu, native) + offsetof(struct cpu_native, field))

static void move_registers(struct assembler *a, bool store)
{
    for (unsigned g = 0; g < 16; g++)
        if (host_register(g) != REG_NONE)
            asm_gs(a, true, store ? 0x89 : 0x8b, host_register(g), gpr_at(g));
}

/* VMOVDQU between YMM and GS:ymm. */
static void move_vectors(struct assembler *a, bool store)
{
    for (unsigned v = 0; v < 16; v++) {
        asm_byte(a, 0x65);
        asm_byte(a, 0xc5);
        asm_byte(a, (v > 7 ? 0 : 0x80) | 0x7e);
        asm_byte(a, store ? 0x7f : 0x6f);
        asm_gs_operand(a, v, offsetof(struct cpu, ymm) + 32 * v);
    }
}

/* Flags and RSP go through RAX, which has been stored. */
static void store_state(struct assembler *a)
{
    move_registers(a, true);
    asm_load(a, RAX, NATIVE(negated_addend));
    asm_lea(a, true, RAX, RSP, RAX, 0, 0);
    asm_store(a, RAX, gpr_at(RSP));
    asm_bytes(a, "\x9f\x0f\x90\xc0", 4); /* lahf; seto al */
    asm_bytes(a, "\x65\x66\x89", 3);
    asm_gs_operand(a, RAX, offsetof(struct cpu, status));
    move_vectors(a, true);
    asm_bytes(a, "\xc5\xf8\x77", 3); /* vzeroupper */
}

static void load_state(struct assembler *a)
{
    move_vectors(a, false);
    asm_bytes(a, "\x65\x0f\xb7", 3); /* movzx eax, word */
    asm_gs_operand(a, RAX, offsetof(struct cpu, status));
    asm_bytes(a, "\x04\x7f\x9e", 3); /* add al, 7fh; sahf */
    asm_load(a, RSP, gpr_at(RSP));
    asm_load(a, RCX, NATIVE(stack_addend));
    asm_lea(a, true, RSP, RSP, RCX, 0, 0);
    move_registers(a, false);
}

static void zero_link(struct assembler *a)
{
    asm_bytes(a, "\x65\x48\xc7", 3); /* mov qword, 0 */
    asm_gs_operand(a, 0, NATIVE(link));
    asm_imm32(a, 0);
}

static void emit_enter(struct assembler *a)
{
    asm_bytes(a, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57", 10); /* push rbx, rbp, r12..r15 */
    asm_bytes(a, "\x48\x83\xec\x08", 4);                          /* sub rsp, 8 */
    asm_store(a, RSP, NATIVE(monitor_rsp));
    asm_store(a, RSI, NATIVE(target));
    load_state(a);
    asm_jump_through(a, NATIVE(target));
}

static void emit_return(struct assembler *a)
{
    asm_load(a, RSP, NATIVE(monitor_rsp));
    asm_bytes(a, "\x48\x83\xc4\x08", 4); /* add rsp, 8 */
    asm_bytes(a, "\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3", 11);
}

/* RCX = link: leaves so that it can be linked. */
static void emit_link(struct assembler *a)
{
    asm_store(a, RCX, NATIVE(link));
    store_state(a);
    emit_return(a);
}

/* R14 = RIP: leaves. */
static void emit_exit(struct assembler *a)
{
    asm_store(a, R14, gpr_at(REG_IP));
    zero_link(a);
    store_state(a);
    emit_return(a);
}

/* R14 = offset in the page: leaves there. */
static void emit_leave(struct translator *t, struct assembler *a)
{
    asm_load(a, RCX, NATIVE(page_base));
    asm_lea(a, true, R14, R14, RCX, 0, 0);
    asm_jump_to(a, t->stub_exit);
}

/* R14 = RIP + key, which no jump cache knows: leaves there. */
static void emit_unknown(struct translator *t, struct assembler *a)
{
    asm_load(a, RCX, NATIVE(negated_key));
    asm_lea(a, true, R14, R14, RCX, 0, 0);
    asm_jump_to(a, t->stub_exit);
}

uint8_t *translate_emit_find(struct assembler *a)
{
    asm_pext(a, false, R15, R14, NATIVE(jump_mask));
    asm_load(a, RCX, NATIVE(jumps));
    asm_lea(a, true, R15, REG_NONE, R15, 2, 0); /* slots are 32 bytes */
    asm_lea(a, true, R15, RCX, R15, 3, 0);
    asm_load(a, RCX, NATIVE(jump_key));
    asm_lea(a, true, R14, R14, RCX, 0, 0);
    asm_load_at(a, RCX, R15, offsetof(struct jump_slot, negated_tag));
    asm_lea(a, true, RCX, RCX, R14, 0, 0);
    return asm_unless_rcx_zero(a);
}

void translate_emit_follow(struct assembler *a)
{
    asm_load_at(a, RCX, R15, offsetof(struct jump_slot, page_base));
    asm_store(a, RCX, NATIVE(page_base));
    asm_bytes(a, "\x41\xff\x67", 3); /* jmp [r15 + entry] */
    asm_byte(a, offsetof(struct jump_slot, entry));
}

void translate_emit_lookup(struct translator *t, struct assembler *a)
{
    asm_patch(translate_emit_find(a), t->stub_unknown);
    translate_emit_follow(a);
}

static void negate(struct assembler *a, unsigned reg)
{
    asm_not(a, reg);
    asm_lea(a, true, reg, reg, REG_NONE, 0, 1);
}

/* R14 = an address on the stack, R15 = the addend of its page, which may be written: keeps that
 * page. RCX = where to go on. */
static void emit_window(struct assembler *a)
{
    asm_lea(a, true, R14, R14, R15, 0, 0);
    asm_and(a, R14, NATIVE(page_mask));
    negate(a, R14);
    asm_store(a, R14, NATIVE(window_base));
    asm_load(a, R14, NATIVE(page_mask));
    asm_store(a, R14, NATIVE(window_mask));
    asm_load(a, R14, NATIVE(negated_addend));
    asm_lea(a, true, RSP, RSP, R14, 0, 0);
    asm_lea(a, true, RSP, RSP, R15, 0, 0);
    asm_store(a, R15, NATIVE(stack_addend));
    negate(a, R15);
    asm_store(a, R15, NATIVE(negated_addend));
    asm_bytes(a, "\xff\xe1", 2); /* jmp rcx */
}

/* RCX = offset of a struct tinsn, R15 = the place behind the instruction. Goes on where
 * translate_interpret() says. */
static void emit_interpret(struct assembler *a)
{
    uint8_t *leave;

    store_state(a);
    asm_load(a, RSP, NATIVE(monitor_rsp));
    asm_load(a, RDI, NATIVE(self));
    asm_move(a, RSI, RCX);
    asm_move(a, RDX, R15);
    asm_const(a, RAX, (uint64_t)(uintptr_t)translate_interpret);
    asm_bytes(a, "\xff\xd0", 2);             /* call rax */
    asm_bytes(a, "\x48\x85\xc0\x0f\x84", 5); /* test rax, rax; jz */
    leave = a->p;
    a->p += 4;
    asm_store(a, RAX, NATIVE(target));
    load_state(a);
    asm_jump_through(a, NATIVE(target));
    asm_patch(leave, a->p);
    zero_link(a);
    emit_return(a);
}

void translate_emit_stubs(struct translator *t)
{
    struct assembler a = {t->writable, t->executable - t->writable};

    t->enter = (void (*)(struct cpu *, const uint8_t *))(void *)t->executable;
    emit_enter(&a);
    t->stub_link = a.p;
    emit_link(&a);
    t->stub_exit = a.p;
    emit_exit(&a);
    t->stub_leave = a.p;
    emit_leave(t, &a);
    t->stub_unknown = a.p;
    emit_unknown(t, &a);
    t->stub_window = a.p;
    emit_window(&a);
    t->stub_interpret = a.p;
    emit_interpret(&a);
}
