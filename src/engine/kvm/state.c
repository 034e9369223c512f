/* state.c - the registers of struct cpu to KVM's vCPU, and back.
 *
 * Lending: special registers first, because they say which mode the others are for and where the
 * local APIC is. Taking back also completes what KVM has begun: an exception or interrupt that it
 * was about to deliver is delivered here, so that the CPU is between two instructions. (An INT n or
 * INT3 in delivery is not: RIP is still on it, and it is executed again.) */
#include "engine/kvm/kvm.h"

#include "cpu/cr.h"
#include "cpu/interrupt.h"
#include "cpu/tlb.h"
#include "cpu/xsave.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define RFLAGS_FIXED 2u
#define ATTR_PLACES (SEG_TYPE | SEG_S | SEG_DPL | SEG_P | SEG_AVL | SEG_L | SEG_DB | SEG_G)

/* The FXSAVE image that begins an XSAVE area. */
#define FX_FOP 6
#define FX_FIP 8
#define FX_FDP 16
#define FX_MXCSR 24
#define FX_ST 32
#define FX_ST_SIZE 128
#define FX_XMM 160

static int refused(struct err *err, const char *what)
{
    return err_set(err, -errno, "KVM doesn't take the guest's %s: %s", what, strerror(errno));
}

static int not_told(struct err *err, const char *what)
{
    return err_set(err, -errno, "KVM doesn't tell the guest's %s: %s", what, strerror(errno));
}

/* --- general registers --- */

static int lend_general(struct cpu *cpu, struct kvm *k, struct err *err)
{
    const uint64_t *g = cpu->gpr;
    struct kvm_regs r = {
        .rax = g[RAX],
        .rbx = g[RBX],
        .rcx = g[RCX],
        .rdx = g[RDX],
        .rsi = g[RSI],
        .rdi = g[RDI],
        .rsp = g[RSP],
        .rbp = g[RBP],
        .r8 = g[R8],
        .r9 = g[R9],
        .r10 = g[R10],
        .r11 = g[R11],
        .r12 = g[R12],
        .r13 = g[R13],
        .r14 = g[R14],
        .r15 = g[R15],
    };

    r.rip = cpu->rip;
    r.rflags = cpu_get_rflags(cpu) | RFLAGS_FIXED;
    return ioctl(k->vcpu_fd, KVM_SET_REGS, &r) < 0 ? refused(err, "registers") : 0;
}

/* Before the special registers are taken: RFLAGS.VM is part of the mode that follows from them. */
static int take_general(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_regs r;

    if (ioctl(k->vcpu_fd, KVM_GET_REGS, &r) < 0)
        return not_told(err, "registers");
    memcpy(cpu->gpr_named,
           (uint64_t[16]){r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10,
                          r.r11, r.r12, r.r13, r.r14, r.r15},
           sizeof cpu->gpr_named);
    cpu->rip = r.rip;
    cpu_set_rflags(cpu, r.rflags);
    return 0;
}

/* --- segments and control registers --- */

static struct kvm_segment segment_to_kvm(const struct segment *s)
{
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->sel,
        .type = s->attr & SEG_TYPE,
        .s = (s->attr & SEG_S) != 0,
        .dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT,
        .present = (s->attr & SEG_P) != 0,
        .avl = (s->attr & SEG_AVL) != 0,
        .l = (s->attr & SEG_L) != 0,
        .db = (s->attr & SEG_DB) != 0,
        .g = (s->attr & SEG_G) != 0,
        .unusable = !(s->attr & SEG_P),
    };
}

static struct segment segment_from_kvm(const struct kvm_segment *s)
{
    unsigned attr = (s->type & SEG_TYPE) | (s->s ? SEG_S : 0u) | (s->dpl & 3u) << SEG_DPL_SHIFT |
                    (s->present && !s->unusable ? SEG_P : 0u) | (s->avl ? SEG_AVL : 0u) |
                    (s->l ? SEG_L : 0u) | (s->db ? SEG_DB : 0u) | (s->g ? SEG_G : 0u);

    return (struct segment){s->base, s->limit, s->selector, (uint16_t)(attr & ATTR_PLACES)};
}

static bool uses_pdptes(const struct cpu *cpu)
{
    return (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !(cpu->efer & EFER_LMA);
}

static void segments_to_kvm(const struct cpu *cpu, struct kvm_sregs2 *s)
{
    s->cs = segment_to_kvm(&cpu->seg[CS]);
    s->ds = segment_to_kvm(&cpu->seg[DS]);
    s->es = segment_to_kvm(&cpu->seg[ES]);
    s->fs = segment_to_kvm(&cpu->seg[FS]);
    s->gs = segment_to_kvm(&cpu->seg[GS]);
    s->ss = segment_to_kvm(&cpu->seg[SS]);
    s->tr = segment_to_kvm(&cpu->tr);
    s->ldt = segment_to_kvm(&cpu->ldtr);
    s->gdt = (struct kvm_dtable){.base = cpu->gdtr.base, .limit = cpu->gdtr.limit};
    s->idt = (struct kvm_dtable){.base = cpu->idtr.base, .limit = cpu->idtr.limit};
    s->ss.dpl = cpu->cpl; /* there processors keep the CPL */
}

static int lend_special(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_sregs2 s = {
        .cr0 = cpu->cr0, .cr2 = cpu->cr2, .cr3 = cpu->cr3, .cr4 = cpu->cr4, .efer = cpu->efer};

    segments_to_kvm(cpu, &s);
    s.apic_base = 0xfee00900; /* of a CPU that has none of ours: the address after RESET */
    if (cpu->apic.rdmsr) {
        bus_lock(cpu->bus);
        cpu->apic.rdmsr(cpu->apic.opaque, 0x1b, (uint64_t *)&s.apic_base);
        s.cr8 = cpu->apic.get_tpr(cpu->apic.opaque);
        bus_unlock(cpu->bus);
    }
    if (uses_pdptes(cpu)) {
        s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        memcpy(s.pdptrs, cpu->pdpte, sizeof s.pdptrs);
    }
    return ioctl(k->vcpu_fd, KVM_SET_SREGS2, &s) < 0 ? refused(err, "special registers") : 0;
}

static int take_special(struct cpu *cpu, struct kvm *k, uint64_t *apic_base, struct err *err)
{
    struct kvm_sregs2 s;

    if (ioctl(k->vcpu_fd, KVM_GET_SREGS2, &s) < 0)
        return not_told(err, "special registers");
    cpu->seg[CS] = segment_from_kvm(&s.cs);
    cpu->seg[DS] = segment_from_kvm(&s.ds);
    cpu->seg[ES] = segment_from_kvm(&s.es);
    cpu->seg[FS] = segment_from_kvm(&s.fs);
    cpu->seg[GS] = segment_from_kvm(&s.gs);
    cpu->seg[SS] = segment_from_kvm(&s.ss);
    cpu->tr = segment_from_kvm(&s.tr);
    cpu->ldtr = segment_from_kvm(&s.ldt);
    cpu->gdtr = (struct desc_table){s.gdt.base, s.gdt.limit};
    cpu->idtr = (struct desc_table){s.idt.base, s.idt.limit};
    cpu->cr0 = s.cr0;
    cpu->cr2 = s.cr2;
    cpu->cr3 = s.cr3;
    cpu->cr4 = s.cr4;
    cpu->efer = s.efer;
    if (s.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
        memcpy(cpu->pdpte, s.pdptrs, sizeof cpu->pdpte);
    *apic_base = s.apic_base;
    cpu->cpl = cpu->rflags & FLAG_VM ? 3 : cpu->cr0 & CR0_PE ? s.ss.dpl & 3 : 0;
    tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return 0;
}

/* --- x87, SSE, AVX --- */

static void pack_fpu(const struct cpu *cpu, uint8_t *area)
{
    /* A processor without AVX has no place for the upper halves. */
    const uint64_t in_use = cpu_model_xcr0(cpu->model) | XCR0_SSE;

    memcpy(area, cpu->fx, FX_FOP);
    memcpy(area + FX_FOP, &cpu->x87_fop, 2);
    memcpy(area + FX_FIP, &cpu->x87_fip, 8);
    memcpy(area + FX_FDP, &cpu->x87_fdp, 8);
    memcpy(area + FX_MXCSR, &cpu->mxcsr, 4);
    memcpy(area + FX_ST, cpu->fx + FX_ST, FX_ST_SIZE);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(area + FX_XMM + 16 * i, cpu->ymm[i].b, 16);
        memcpy(area + XSAVE_AVX_OFFSET + 16 * i, cpu->ymm[i].b + 16, 16);
    }
    memcpy(area + XSAVE_LEGACY_SIZE, &in_use, 8);
}

static int lend_fpu(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = cpu->xcr0}}};

    memset(k->xsave, 0, sizeof *k->xsave);
    pack_fpu(cpu, (uint8_t *)k->xsave->region);
    if (ioctl(k->vcpu_fd, KVM_SET_XSAVE, k->xsave) < 0)
        return refused(err, "FPU");
    if (cpu_model_has(cpu->model, FEAT_XSAVE) && ioctl(k->vcpu_fd, KVM_SET_XCRS, &xcrs) < 0)
        return refused(err, "XCR0");
    return 0;
}

/* A component whose bit in the header is clear is in its initial state, whatever its bytes say. */
static void normalize(uint8_t *area)
{
    static const uint8_t x87_initial[FX_FOP] = {0x7f, 0x03};
    uint64_t in_use;

    memcpy(&in_use, area + XSAVE_LEGACY_SIZE, 8);
    if (!(in_use & XCR0_X87)) {
        memset(area, 0, FX_MXCSR);
        memset(area + FX_ST, 0, FX_ST_SIZE);
        memcpy(area, x87_initial, sizeof x87_initial);
    }
    if (!(in_use & XCR0_SSE))
        memset(area + FX_XMM, 0, 256);
    if (!(in_use & XCR0_AVX))
        memset(area + XSAVE_AVX_OFFSET, 0, XSAVE_AVX_SIZE);
}

static void unpack_fpu(struct cpu *cpu, const uint8_t *area)
{
    memset(cpu->fx, 0, sizeof cpu->fx);
    memcpy(cpu->fx, area, FX_FOP);
    memcpy(&cpu->x87_fop, area + FX_FOP, 2);
    memcpy(&cpu->x87_fip, area + FX_FIP, 8);
    memcpy(&cpu->x87_fdp, area + FX_FDP, 8);
    cpu->x87_fcs = cpu->x87_fds = 0;
    memcpy(&cpu->mxcsr, area + FX_MXCSR, 4);
    cpu->mxcsr &= cpu_model_mxcsr_mask(cpu->model);
    memcpy(cpu->fx + FX_ST, area + FX_ST, FX_ST_SIZE);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(cpu->ymm[i].b, area + FX_XMM + 16 * i, 16);
        memcpy(cpu->ymm[i].b + 16, area + XSAVE_AVX_OFFSET + 16 * i, 16);
    }
}

static int take_fpu(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_xcrs xcrs = {0};

    if (ioctl(k->vcpu_fd, KVM_GET_XSAVE, k->xsave) < 0)
        return not_told(err, "FPU");
    normalize((uint8_t *)k->xsave->region);
    unpack_fpu(cpu, (uint8_t *)k->xsave->region);
    if (!cpu_model_has(cpu->model, FEAT_XSAVE))
        return 0;
    if (ioctl(k->vcpu_fd, KVM_GET_XCRS, &xcrs) < 0)
        return not_told(err, "XCR0");
    if (xcrs.nr_xcrs)
        cpu->xcr0 = xcrs.xcrs[0].value;
    return 0;
}

/* --- debug registers --- */

static int lend_debug_registers(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_debugregs d = {.dr6 = cpu->dr[6], .dr7 = cpu->dr[7]};

    memcpy(d.db, cpu->dr, sizeof d.db);
    return ioctl(k->vcpu_fd, KVM_SET_DEBUGREGS, &d) < 0 ? refused(err, "debug registers") : 0;
}

static int take_debug_registers(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_debugregs d;

    if (ioctl(k->vcpu_fd, KVM_GET_DEBUGREGS, &d) < 0)
        return not_told(err, "debug registers");
    memcpy(cpu->dr, d.db, sizeof d.db);
    cpu->dr[6] = d.dr6;
    cpu->dr[7] = d.dr7;
    return 0;
}

/* --- what is between instructions --- */

static uint32_t activity_to_kvm(uint32_t activity)
{
    return activity == CPU_HALTED      ? KVM_MP_STATE_HALTED
           : activity == CPU_WAIT_SIPI ? KVM_MP_STATE_INIT_RECEIVED
                                       : KVM_MP_STATE_RUNNABLE;
}

static int lend_events(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_mp_state mp = {activity_to_kvm(cpu->activity)};
    struct kvm_vcpu_events e = {.flags =
                                    KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW};

    e.nmi.masked = cpu->nmi_blocked;
    e.nmi.pending = (atomic_load(&cpu->attention) & ATTN_NMI) != 0;
    if (cpu->interrupt_shadow)
        e.interrupt.shadow = cpu->shadow_ss ? KVM_X86_SHADOW_INT_MOV_SS : KVM_X86_SHADOW_INT_STI;
    if (ioctl(k->vcpu_fd, KVM_SET_VCPU_EVENTS, &e) < 0)
        return refused(err, "pending events");
    if (ioctl(k->vcpu_fd, KVM_SET_MP_STATE, &mp) < 0)
        return refused(err, "activity");
    if (e.nmi.pending)
        cpu_unsignal(cpu, ATTN_NMI);
    return 0;
}

/* An exception that KVM was about to deliver. CR2 and DR6 have their values already. */
static void deliver_exception(struct cpu *cpu, const struct kvm_vcpu_events *e)
{
    cpu->exc = (struct exception){
        .vector = e->exception.nr & 31,
        .pending = true,
        .has_error = e->exception.has_error_code,
        .error = e->exception.error_code,
        .cr2 = cpu->cr2,
        .dr6 = cpu->dr[6] & ~dr6_fixed(0),
    };
    cpu_deliver_exception(cpu);
}

static void deliver_interrupt(struct cpu *cpu, uint8_t vector)
{
    cpu->activity = CPU_ACTIVE;
    if (!cpu_interrupt(cpu, vector, INTERRUPT_HARDWARE, false, 0))
        cpu_deliver_exception(cpu);
}

static int take_events(struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_mp_state mp;
    struct kvm_vcpu_events e;

    if (ioctl(k->vcpu_fd, KVM_GET_VCPU_EVENTS, &e) < 0)
        return not_told(err, "pending events");
    if (ioctl(k->vcpu_fd, KVM_GET_MP_STATE, &mp) < 0)
        return not_told(err, "activity");
    cpu->activity =
        mp.mp_state == KVM_MP_STATE_HALTED ? CPU_HALTED
        : mp.mp_state == KVM_MP_STATE_INIT_RECEIVED || mp.mp_state == KVM_MP_STATE_UNINITIALIZED
            ? CPU_WAIT_SIPI
            : CPU_ACTIVE;
    cpu->nmi_blocked = e.nmi.masked && !e.nmi.injected;
    if (e.nmi.pending || e.nmi.injected)
        atomic_fetch_or(&cpu->attention, ATTN_NMI);
    cpu->shadow_ss = e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
    cpu->interrupt_shadow = e.interrupt.shadow != 0;
    atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
    if (e.exception.injected)
        deliver_exception(cpu, &e);
    else if (e.interrupt.injected)
        deliver_interrupt(cpu, e.interrupt.nr);
    return 0;
}

/* --- all of it --- */

int kvm_set_tsc_offset(const struct cpu *cpu, struct kvm *k)
{
    uint64_t offset = cpu->clock->tsc_offset + cpu->tsc_offset;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};

    return ioctl(k->vcpu_fd, KVM_SET_DEVICE_ATTR, &attr);
}

int kvm_lend(struct cpu *cpu, struct err *err)
{
    struct kvm *k = kvm_of(cpu);
    int rc;

    k->count.switches++;
    rc = lend_special(cpu, k, err);
    if (rc == 0)
        rc = lend_general(cpu, k, err);
    if (rc == 0)
        rc = lend_fpu(cpu, k, err);
    if (rc == 0)
        rc = kvm_lend_msrs(cpu, k, err);
    if (rc == 0)
        rc = lend_debug_registers(cpu, k, err);
    if (rc == 0 && kvm_set_tsc_offset(cpu, k) < 0)
        rc = err_set(err, -errno, "KVM doesn't take the offset of the guest's TSC: %s",
                     strerror(errno));
    if (rc == 0)
        rc = kvm_lend_apic(cpu, err);
    return rc == 0 ? lend_events(cpu, k, err) : rc;
}

int kvm_take_back(struct cpu *cpu, struct err *err)
{
    struct kvm *k = kvm_of(cpu);
    uint64_t apic_base = 0;
    int rc = take_general(cpu, k, err);

    if (rc == 0)
        rc = take_special(cpu, k, &apic_base, err);
    if (rc == 0)
        rc = take_fpu(cpu, k, err);
    if (rc == 0)
        rc = kvm_take_msrs(cpu, k, err);
    if (rc == 0)
        rc = take_debug_registers(cpu, k, err);
    if (kvm_take_apic(cpu, apic_base, err) < 0)
        rc = err->code;
    return rc == 0 ? take_events(cpu, k, err) : rc;
}
