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

/* Flags go through RAX, which has been stored. */
static void store_state(struct assembler *a)
{
    move_registers(a, true);
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
    asm_store(a, RSI, NATIVE(target));
    load_state(a);
    asm_bytes(a, "\x65\xff", 2); /* jmp */
    asm_gs_operand(a, 4, NATIVE(target));
}

static void emit_return(struct assembler *a)
{
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

uint8_t *translate_emit_find(struct assembler *a)
{
    asm_pext(a, false, R15, R14, NATIVE(jump_mask));
    asm_load(a, RCX, NATIVE(jumps));
    asm_lea(a, true, R15, REG_NONE, R15, 1, 0); /* slots are 16 bytes */
    asm_lea(a, true, R15, RCX, R15, 3, 0);
    asm_load_at(a, RCX, R15, offsetof(struct jump_slot, negated_rip));
    asm_lea(a, true, RCX, RCX, R14, 0, 0);
    return asm_unless_rcx_zero(a);
}

void translate_emit_follow(struct assembler *a)
{
    asm_pext(a, false, RCX, R14, NATIVE(page_mask));
    asm_pext(a, true, RCX, RCX, NATIVE(page_mask));
    asm_store(a, RCX, NATIVE(page_base));
    asm_load_at(a, R15, R15, offsetof(struct jump_slot, entry));
    asm_bytes(a, "\x41\xff\xe7", 3); /* jmp r15 */
}

void translate_emit_lookup(struct translator *t, struct assembler *a)
{
    asm_load32(a, RCX, offsetof(struct cpu, attention));
    asm_patch(asm_unless_rcx_zero(a), t->stub_exit);
    asm_patch(translate_emit_find(a), t->stub_exit);
    translate_emit_follow(a);
}

/* Called with R14 = an address on the stack: makes its page the stack's, if the TLB knows that it
 * may be written. Uses RCX and R15. */
static void emit_stack(struct assembler *a)
{
    uint8_t *miss;

    asm_pext(a, false, R15, R14, NATIVE(index_mask));
    asm_load(a, RCX, NATIVE(table));
    asm_lea(a, true, R15, REG_NONE, R15, 2, 0);
    asm_lea(a, true, R15, RCX, R15, 3, 0);
    asm_load_at(a, RCX, R15, offsetof(struct tlb_entry, write_tag));
    asm_lea(a, true, RCX, RCX, R14, 0, 0);
    asm_pext(a, false, RCX, RCX, NATIVE(page_mask));
    miss = asm_unless_rcx_zero(a);
    asm_load_at(a, RCX, R15, offsetof(struct tlb_entry, write_tag));
    asm_store(a, RCX, NATIVE(stack_tag));
    asm_load_at(a, RCX, R15, offsetof(struct tlb_entry, addend));
    asm_store(a, RCX, NATIVE(stack_addend));
    asm_patch(miss, a->p);
    asm_byte(a, 0xc3);
}

/* Called with RCX = offset of a struct tinsn. Goes on where translate_interpret() says: mostly behind
 * the call. */
static void emit_interpret(struct assembler *a)
{
    uint8_t *leave;

    store_state(a);
    asm_load(a, RDI, NATIVE(self));
    asm_move(a, RSI, RCX);
    asm_bytes(a, "\x48\x8b\x14\x24", 4); /* mov rdx, [rsp] */
    asm_const(a, RAX, (uint64_t)(uintptr_t)translate_interpret);
    asm_bytes(a, "\x48\x83\xec\x08\xff\xd0\x48\x83\xc4\x08", 10); /* sub rsp, 8; call rax; add */
    asm_bytes(a, "\x48\x85\xc0\x0f\x84", 5);                      /* test rax, rax; jz */
    leave = a->p;
    a->p += 4;
    asm_bytes(a, "\x48\x89\x04\x24", 4); /* mov [rsp], rax */
    load_state(a);
    asm_byte(a, 0xc3);
    asm_patch(leave, a->p);
    zero_link(a);
    asm_bytes(a, "\x48\x83\xc4\x08", 4); /* the return address */
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
    t->stub_stack = a.p;
    emit_stack(&a);
    t->stub_interpret = a.p;
    emit_interpret(&a);
}
