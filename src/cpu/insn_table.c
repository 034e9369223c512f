/* The two tables: instruction sets with the CPUID feature that they need, and mnemonics. */
#include "cpu/insn_table.h"

#include "cpu/bcd.h"
#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/descriptor.h"
#include "cpu/far.h"
#include "cpu/io.h"
#include "cpu/misc.h"
#include "cpu/msr.h"
#include "cpu/smap.h"
#include "cpu/stack.h"
#include "cpu/string.h"
#include "cpu/syscall.h"
#include "cpu/system.h"
#include "cpu/vecmem.h"
#include "cpu/x87env.h"
#include "cpu/xsave.h"

/* --- instruction sets --- */

enum set_kind {
    SET_ABSENT, /* not implemented: #UD */
    SET_BASE,   /* always there; every mnemonic needs a row */
    SET_ROWS,   /* needs the feature; every mnemonic needs a row */
    SET_COPY,   /* needs the feature; a mnemonic without a row is a copy */
};

struct set_row {
    uint8_t kind;
    uint16_t feature;
};

#define BASE(set) [ZYDIS_ISA_SET_##set] = {SET_BASE, 0}
#define ROWS(set, feature) [ZYDIS_ISA_SET_##set] = {SET_ROWS, FEAT_##feature}
#define SIMD(set, feature) [ZYDIS_ISA_SET_##set] = {SET_COPY, FEAT_##feature}

static const struct set_row sets[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
    BASE(I86),
    BASE(I186),
    BASE(I286REAL),
    BASE(I286PROTECTED),
    BASE(I386),
    BASE(I486),
    BASE(I486REAL),
    BASE(PENTIUMREAL),
    BASE(PPRO),
    BASE(FAT_NOP),
    BASE(PREFETCH_NOP),
    BASE(PAUSE),
    BASE(RDPMC),
    ROWS(LONGMODE, LM),
    ROWS(AMD, SYSCALL),
    ROWS(ADOX_ADCX, ADX),
    ROWS(AMD3DNOW, PREFETCHW),
    BASE(PREFETCHWT1), /* the processor has it as a hint wherever 0F 0D is one */
    ROWS(BMI1, BMI1),
    ROWS(BMI2, BMI2),
    ROWS(CLFLUSHOPT, CLFLUSHOPT),
    ROWS(CLFSH, CLFLUSH),
    ROWS(CLWB, CLWB),
    ROWS(CLZERO, CLZERO),
    ROWS(CMOV, CMOV),
    ROWS(CMPXCHG16B, CX16),
    ROWS(FXSAVE, FXSR),
    ROWS(FXSAVE64, FXSR),
    ROWS(INVPCID, INVPCID),
    BASE(LAHF), /* the feature counts in 64-bit mode only: see allowed() */
    ROWS(LZCNT, ABM),
    ROWS(MONITOR, MONITOR),
    ROWS(MOVBE, MOVBE),
    ROWS(POPCNT, POPCNT),
    ROWS(RDPID, RDPID),
    ROWS(RDRAND, RDRAND),
    ROWS(RDSEED, RDSEED),
    ROWS(RDTSCP, RDTSCP),
    ROWS(RDWRFSGS, FSGSBASE),
    ROWS(SMAP, SMAP),
    ROWS(SSEMXCSR, SSE),
    ROWS(SSE_PREFETCH, SSE),
    ROWS(XSAVE, XSAVE),
    ROWS(XSAVEC, XSAVEC),
    ROWS(XSAVEOPT, XSAVEOPT),
    ROWS(XSAVES, XSAVES),
    ROWS(AVX2GATHER, AVX2),
    SIMD(X87, FPU),
    SIMD(FCMOV, CMOV),
    SIMD(PENTIUMMMX, MMX),
    SIMD(SSE, SSE),
    SIMD(SSE2, SSE2),
    SIMD(SSE2MMX, SSE2),
    SIMD(SSE3, SSE3),
    SIMD(SSE3X87, SSE3),
    SIMD(SSSE3, SSSE3),
    SIMD(SSSE3MMX, SSSE3),
    SIMD(SSE4, SSE4_1),
    SIMD(SSE42, SSE4_2),
    SIMD(SSE4A, SSE4A),
    SIMD(AES, AES),
    SIMD(PCLMULQDQ, PCLMULQDQ),
    SIMD(SHA, SHA_NI),
    SIMD(GFNI, GFNI),
    SIMD(F16C, F16C),
    SIMD(FMA, FMA),
    SIMD(AVX, AVX),
    SIMD(AVX2, AVX2),
    SIMD(AVXAES, AES),
    SIMD(VAES, VAES),
    SIMD(VPCLMULQDQ, VPCLMULQDQ),
    SIMD(AVX_GFNI, GFNI),
    SIMD(AVX_VNNI, AVX_VNNI),
};

/* --- mnemonics --- */

#define COPY(m) [ZYDIS_MNEMONIC_##m] = {CLASS_COPY, ROW_SIZE_OP0, NULL}
#define X87CTL(m) [ZYDIS_MNEMONIC_##m] = {CLASS_COPY, ROW_X87_CONTROL, NULL}
#define HELP(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_HELPER, 0, fn}
#define HELP0(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_HELPER, ROW_SIZE_OP0, fn}
#define ENDS(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_HELPER, ROW_ENDS_BLOCK, fn}
#define ENDSP(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_HELPER, ROW_ENDS_BLOCK | ROW_PROTECTED, fn}
#define ENDS0(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_HELPER, ROW_ENDS_BLOCK | ROW_SIZE_OP0, fn}
#define ENDS1(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_HELPER, ROW_ENDS_BLOCK | ROW_SIZE_OP1, fn}
#define HELPX(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_HELPER, ROW_MXCSR, fn}
#define MOVE(m) [ZYDIS_MNEMONIC_##m] = {CLASS_MOV, ROW_SIZE_OP0, NULL}
#define STACK(m, fn) [ZYDIS_MNEMONIC_##m] = {CLASS_MOV, 0, fn}
#define BRANCH(m) [ZYDIS_MNEMONIC_##m] = {CLASS_BRANCH, ROW_ENDS_BLOCK, NULL}
#define FLAGS(m, f) [ZYDIS_MNEMONIC_##m] = {CLASS_COPY, f, NULL}

static const struct insn_row illegal;
static const struct insn_row simd_copy = {CLASS_COPY, ROW_SIZE_OP0, NULL};

static const struct insn_row rows[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    /* x87 comparisons that Zydis counts to the Pentium Pro's instructions */
    COPY(FCOMI),
    COPY(FCOMIP),
    COPY(FUCOMI),
    COPY(FUCOMIP),
    /* arithmetic, logic, bits */
    COPY(ADC),
    COPY(ADCX),
    COPY(ADD),
    COPY(ADOX),
    COPY(AND),
    COPY(ANDN),
    COPY(BEXTR),
    COPY(BLSI),
    COPY(BLSMSK),
    COPY(BLSR),
    COPY(BSF),
    COPY(BSR),
    COPY(BSWAP),
    COPY(BZHI),
    COPY(CBW),
    COPY(CDQ),
    COPY(CDQE),
    COPY(CMP),
    COPY(CMPXCHG),
    COPY(CQO),
    COPY(CRC32),
    COPY(CWD),
    COPY(CWDE),
    COPY(DEC),
    COPY(DIV),
    COPY(IDIV),
    COPY(IMUL),
    COPY(INC),
    COPY(LZCNT),
    COPY(MOVBE),
    COPY(MOVNTI),
    COPY(MUL),
    COPY(MULX),
    COPY(NEG),
    COPY(NOT),
    COPY(OR),
    COPY(PDEP),
    COPY(PEXT),
    COPY(POPCNT),
    COPY(RCL),
    COPY(RCR),
    COPY(ROL),
    COPY(ROR),
    COPY(RORX),
    COPY(SAR),
    COPY(SARX),
    COPY(SBB),
    COPY(SHL),
    COPY(SHLD),
    COPY(SHLX),
    COPY(SHR),
    COPY(SHRD),
    COPY(SHRX),
    COPY(SUB),
    COPY(TEST),
    COPY(TZCNT),
    COPY(XADD),
    COPY(XCHG),
    COPY(XOR),
    COPY(LFENCE),
    COPY(MFENCE),
    COPY(SFENCE),
    HELP0(BT, op_bt),
    HELP0(BTC, op_btc),
    HELP0(BTR, op_btr),
    HELP0(BTS, op_bts),
    COPY(CMOVB),
    COPY(CMOVBE),
    COPY(CMOVL),
    COPY(CMOVLE),
    COPY(CMOVNB),
    COPY(CMOVNBE),
    COPY(CMOVNL),
    COPY(CMOVNLE),
    COPY(CMOVNO),
    COPY(CMOVNP),
    COPY(CMOVNS),
    COPY(CMOVNZ),
    COPY(CMOVO),
    COPY(CMOVP),
    COPY(CMOVS),
    COPY(CMOVZ),
    COPY(SETB),
    COPY(SETBE),
    COPY(SETL),
    COPY(SETLE),
    COPY(SETNB),
    COPY(SETNBE),
    COPY(SETNL),
    COPY(SETNLE),
    COPY(SETNO),
    COPY(SETNP),
    COPY(SETNS),
    COPY(SETNZ),
    COPY(SETO),
    COPY(SETP),
    COPY(SETS),
    COPY(SETZ),
    HELP(CMPXCHG8B, op_cmpxchg8b),
    HELP(CMPXCHG16B, op_cmpxchg16b),
    HELP(AAA, op_aaa),
    HELP(AAD, op_aad),
    HELP(AAM, op_aam),
    HELP(AAS, op_aas),
    HELP(DAA, op_daa),
    HELP(DAS, op_das),
    HELP(SALC, op_salc),
    HELP(XLAT, op_xlat),
    HELP(BOUND, op_bound),

    /* flags */
    HELP(LAHF, op_lahf),
    HELP(SAHF, op_sahf),
    HELP(CMC, op_cmc),
    HELP(CLC, op_clc),
    HELP(STC, op_stc),
    HELP(CLD, op_cld),
    HELP(STD, op_std),
    HELP(CLAC, op_clac),
    HELP(STAC, op_stac),
    ENDS(CLI, op_cli),
    ENDS(STI, op_sti),
    HELP(PUSHF, op_pushf),
    HELP(PUSHFD, op_pushf),
    HELP(PUSHFQ, op_pushf),
    ENDS(POPF, op_popf),
    ENDS(POPFD, op_popf),
    ENDS(POPFQ, op_popf),

    /* moves and the stack */
    MOVE(MOV),
    MOVE(MOVSX),
    MOVE(MOVSXD),
    MOVE(MOVZX),
    MOVE(LEA),
    STACK(PUSH, op_push_rm),
    STACK(POP, op_pop_rm),
    HELP(PUSHA, op_pusha),
    HELP(PUSHAD, op_pusha),
    HELP(POPA, op_popa),
    HELP(POPAD, op_popa),
    HELP(ENTER, op_enter),
    HELP(LEAVE, op_leave),
    HELP(NOP, op_nop),
    HELP(PAUSE, op_pause),
    HELP(PREFETCH, op_prefetch),
    HELP(PREFETCHNTA, op_prefetch),
    HELP(PREFETCHT0, op_prefetch),
    HELP(PREFETCHT1, op_prefetch),
    HELP(PREFETCHT2, op_prefetch),
    HELP(PREFETCHW, op_prefetch),
    HELP(PREFETCHWT1, op_prefetch),
    HELP(CLFLUSH, op_clflush),
    HELP(CLFLUSHOPT, op_clflush),
    HELP(CLWB, op_clflush),
    HELP(CLZERO, op_clzero),

    /* strings, ports */
    ENDS0(MOVSB, op_movs),
    ENDS0(MOVSW, op_movs),
    ENDS0(MOVSD, op_movs),
    ENDS0(MOVSQ, op_movs),
    ENDS0(CMPSB, op_cmps),
    ENDS0(CMPSW, op_cmps),
    ENDS0(CMPSD, op_cmps),
    ENDS0(CMPSQ, op_cmps),
    ENDS0(STOSB, op_stos),
    ENDS0(STOSW, op_stos),
    ENDS0(STOSD, op_stos),
    ENDS0(STOSQ, op_stos),
    ENDS0(LODSB, op_lods),
    ENDS0(LODSW, op_lods),
    ENDS0(LODSD, op_lods),
    ENDS0(LODSQ, op_lods),
    ENDS0(SCASB, op_scas),
    ENDS0(SCASW, op_scas),
    ENDS0(SCASD, op_scas),
    ENDS0(SCASQ, op_scas),
    ENDS0(INSB, op_ins),
    ENDS0(INSW, op_ins),
    ENDS0(INSD, op_ins),
    ENDS1(OUTSB, op_outs),
    ENDS1(OUTSW, op_outs),
    ENDS1(OUTSD, op_outs),
    ENDS0(IN, op_in),
    ENDS1(OUT, op_out),

    /* near branches */
    BRANCH(JB),
    BRANCH(JBE),
    BRANCH(JL),
    BRANCH(JLE),
    BRANCH(JNB),
    BRANCH(JNBE),
    BRANCH(JNL),
    BRANCH(JNLE),
    BRANCH(JNO),
    BRANCH(JNP),
    BRANCH(JNS),
    BRANCH(JNZ),
    BRANCH(JO),
    BRANCH(JP),
    BRANCH(JS),
    BRANCH(JZ),
    BRANCH(JCXZ),
    BRANCH(JECXZ),
    BRANCH(JRCXZ),
    BRANCH(LOOP),
    BRANCH(LOOPE),
    BRANCH(LOOPNE),
    BRANCH(JMP),
    BRANCH(CALL),
    BRANCH(RET),

    /* far transfers and interrupts */
    ENDS(IRET, op_iret),
    ENDS(IRETD, op_iret),
    ENDS(IRETQ, op_iret),
    ENDS(INT, op_int),
    ENDS(INT1, op_int1),
    ENDS(INT3, op_int3),
    ENDS(INTO, op_into),
    ENDS(SYSCALL, op_syscall),
    ENDS(SYSRET, op_sysret),
    ENDSP(SYSENTER, op_sysenter),
    ENDSP(SYSEXIT, op_sysexit),
    ENDS(UD0, op_ud),
    ENDS(UD1, op_ud),
    ENDS(UD2, op_ud),
    ENDS(RSM, op_rsm),

    /* descriptors and segments */
    HELP(ARPL, op_arpl),
    HELP(LAR, op_lar),
    HELP(LSL, op_lsl),
    HELP(VERR, op_verr),
    HELP(VERW, op_verw),
    HELP(SGDT, op_sgdt),
    HELP(SIDT, op_sidt),
    HELP(SLDT, op_sldt),
    HELP(STR, op_str),
    ENDS(LGDT, op_lgdt),
    ENDS(LIDT, op_lidt),
    ENDS(LLDT, op_lldt),
    ENDS(LTR, op_ltr),
    ENDS(LDS, op_lxs),
    ENDS(LES, op_lxs),
    ENDS(LFS, op_lxs),
    ENDS(LGS, op_lxs),
    ENDS(LSS, op_lxs),
    HELP(RDFSBASE, op_rdfsbase),
    HELP(RDGSBASE, op_rdgsbase),
    HELP(WRFSBASE, op_wrfsbase),
    HELP(WRGSBASE, op_wrgsbase),
    HELP(SWAPGS, op_swapgs),

    /* system */
    HELP(CPUID, op_cpuid),
    HELP(RDTSC, op_rdtsc),
    HELP(RDTSCP, op_rdtscp),
    HELP(RDPMC, op_rdpmc),
    HELP0(RDPID, op_rdpid),
    HELP0(RDRAND, op_rdrand),
    HELP0(RDSEED, op_rdseed),
    ENDS(RDMSR, op_rdmsr),
    ENDS(WRMSR, op_wrmsr),
    ENDS(HLT, op_hlt),
    ENDS(MONITOR, op_monitor),
    ENDS(MWAIT, op_mwait),
    ENDS(INVD, op_invd),
    ENDS(WBINVD, op_wbinvd),
    ENDS(INVLPG, op_invlpg),
    ENDS(INVPCID, op_invpcid),
    ENDS(CLTS, op_clts),
    ENDS(LMSW, op_lmsw),
    HELP(SMSW, op_smsw),
    HELP(XGETBV, op_xgetbv),
    ENDS(XSETBV, op_xsetbv),

    /* vector and x87 state */
    HELPX(FXSAVE, op_fxsave),
    HELPX(FXSAVE64, op_fxsave),
    HELPX(FXRSTOR, op_fxrstor),
    HELPX(FXRSTOR64, op_fxrstor),
    HELPX(XSAVE, op_xsave),
    HELPX(XSAVE64, op_xsave),
    HELPX(XSAVEC, op_xsavec),
    HELPX(XSAVEC64, op_xsavec),
    HELPX(XSAVEOPT, op_xsaveopt),
    HELPX(XSAVEOPT64, op_xsaveopt),
    HELPX(XSAVES, op_xsaves),
    HELPX(XSAVES64, op_xsaves),
    HELPX(XRSTOR, op_xrstor),
    HELPX(XRSTOR64, op_xrstor),
    HELPX(XRSTORS, op_xrstors),
    HELPX(XRSTORS64, op_xrstors),
    HELPX(LDMXCSR, op_ldmxcsr),
    HELPX(STMXCSR, op_stmxcsr),
    HELPX(VLDMXCSR, op_ldmxcsr),
    HELPX(VSTMXCSR, op_stmxcsr),
    HELP(FNSTENV, op_fnstenv),
    HELP(FLDENV, op_fldenv),
    HELP(FNSAVE, op_fnsave),
    HELP(FRSTOR, op_frstor),
    HELP(FWAIT, op_wait),
    HELP(FNINIT, op_fninit),
    X87CTL(FNCLEX),
    X87CTL(FLDCW),
    X87CTL(FNSTCW),
    X87CTL(FNSTSW),
    X87CTL(FDISI8087_NOP),
    X87CTL(FENI8087_NOP),
    X87CTL(FSETPM287_NOP),
    FLAGS(EMMS, ROW_MMX | ROW_X87_CONTROL),
    FLAGS(VZEROUPPER, ROW_AVX),
    FLAGS(VZEROALL, ROW_AVX),

    /* vector instructions whose memory operand is not a plain one */
    HELP(MASKMOVQ, op_maskmovq),
    HELP(MASKMOVDQU, op_maskmovdqu),
    HELP(VMASKMOVDQU, op_maskmovdqu),
    HELP(VMASKMOVPS, op_vmaskmov),
    HELP(VMASKMOVPD, op_vmaskmov),
    HELP(VPMASKMOVD, op_vmaskmov),
    HELP(VPMASKMOVQ, op_vmaskmov),
    HELP(VPGATHERDD, op_gather),
    HELP(VPGATHERDQ, op_gather),
    HELP(VPGATHERQD, op_gather),
    HELP(VPGATHERQQ, op_gather),
    HELP(VGATHERDPS, op_gather),
    HELP(VGATHERDPD, op_gather),
    HELP(VGATHERQPS, op_gather),
    HELP(VGATHERQPD, op_gather),
};

static bool allowed(const struct cpu *cpu, const ZydisDecodedInstruction *zi,
                    const struct set_row *set)
{
    if (set->kind == SET_ABSENT)
        return false;
    if (zi->meta.isa_set == ZYDIS_ISA_SET_LAHF)
        return !cpu_is_64bit(cpu) || cpu_model_has(cpu->model, FEAT_LAHF_LM);
    return set->kind == SET_BASE || cpu_model_has(cpu->model, (enum cpu_feature)set->feature);
}

const struct insn_row *insn_row_find(const struct cpu *cpu, const ZydisDecodedInstruction *zi)
{
    const struct set_row *set = &sets[zi->meta.isa_set];
    const struct insn_row *row = &rows[zi->mnemonic];

    if (!allowed(cpu, zi, set))
        return &illegal;
    /* Two mnemonics name a string and a vector instruction each. */
    if ((zi->mnemonic == ZYDIS_MNEMONIC_MOVSD || zi->mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
        zi->meta.isa_set == ZYDIS_ISA_SET_SSE2)
        return &simd_copy;
    if (row->class != CLASS_ILLEGAL)
        return row;
    return set->kind == SET_COPY ? &simd_copy : &illegal;
}
