/* System instructions that kernels use all the time. */
#include "engine/translate/builder.h"

/* RFLAGS.IF to 0, and then perhaps to 1; RCX is scratch. */
static void emit_set_if(struct block_builder *b, bool on)
{
    asm_load(&b->a, RCX, offsetof(struct cpu, rflags));
    asm_pext(&b->a, false, RCX, RCX, NATIVE(if_mask));
    asm_pext(&b->a, true, RCX, RCX, NATIVE(if_mask));
    if (on)
        asm_lea(&b->a, true, RCX, RCX, REG_NONE, 0, FLAG_IF);
    asm_store(&b->a, RCX, offsetof(struct cpu, rflags));
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
    size_t base =
        offsetof(struct cpu, seg) + GS * sizeof(struct segment) + offsetof(struct segment, base);

    asm_load(&b->a, RCX, base);
    asm_load(&b->a, R14, offsetof(struct cpu, kernel_gs_base));
    asm_store(&b->a, RCX, offsetof(struct cpu, kernel_gs_base));
    asm_store(&b->a, R14, base);
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
    case ZYDIS_MNEMONIC_LEAVE: emit_leave(b); break;
    default: break; /* hints */
    }
    return true;
}
