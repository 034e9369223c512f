/* cpu_features.h - the table of CPU features; included several times, so it has no guard.
 *
 * FEATURE(NAME, "linux flag", leaf, subleaf, register, bit, kind)
 *
 * Every feature that Doble implements has a row and no other: a feature without a row is never
 * advertised and its instructions give #UD. Names are those of Linux' /proc/cpuinfo. The kind says
 * who does the work (FEATURE_kind of enum cpu_feature_kind in model.h):
 *   NATIVE    the instruction runs on the host's processor, which must have it
 *   EMULATED  Doble does it in C; model "host" follows the host, others can have it by +feature
 *   MACHINE   a property of the virtual machine itself; every model has it
 *   ASKED     like EMULATED, but only there when asked for by +feature */

/* leaf 1 EDX */
FEATURE(FPU, "fpu", 1, 0, REG_EDX, 0, NATIVE)
FEATURE(VME, "vme", 1, 0, REG_EDX, 1, MACHINE)
FEATURE(DE, "de", 1, 0, REG_EDX, 2, MACHINE)
FEATURE(PSE, "pse", 1, 0, REG_EDX, 3, MACHINE)
FEATURE(TSC, "tsc", 1, 0, REG_EDX, 4, MACHINE)
FEATURE(MSR, "msr", 1, 0, REG_EDX, 5, MACHINE)
FEATURE(PAE, "pae", 1, 0, REG_EDX, 6, MACHINE)
FEATURE(MCE, "mce", 1, 0, REG_EDX, 7, MACHINE)
FEATURE(CX8, "cx8", 1, 0, REG_EDX, 8, NATIVE)
FEATURE(APIC, "apic", 1, 0, REG_EDX, 9, MACHINE)
FEATURE(SEP, "sep", 1, 0, REG_EDX, 11, MACHINE)
FEATURE(MTRR, "mtrr", 1, 0, REG_EDX, 12, MACHINE)
FEATURE(PGE, "pge", 1, 0, REG_EDX, 13, MACHINE)
FEATURE(MCA, "mca", 1, 0, REG_EDX, 14, MACHINE)
FEATURE(CMOV, "cmov", 1, 0, REG_EDX, 15, NATIVE)
FEATURE(PAT, "pat", 1, 0, REG_EDX, 16, MACHINE)
FEATURE(PSE36, "pse36", 1, 0, REG_EDX, 17, MACHINE)
FEATURE(CLFLUSH, "clflush", 1, 0, REG_EDX, 19, NATIVE)
FEATURE(MMX, "mmx", 1, 0, REG_EDX, 23, NATIVE)
FEATURE(FXSR, "fxsr", 1, 0, REG_EDX, 24, NATIVE)
FEATURE(SSE, "sse", 1, 0, REG_EDX, 25, NATIVE)
FEATURE(SSE2, "sse2", 1, 0, REG_EDX, 26, NATIVE)

/* leaf 1 ECX */
FEATURE(SSE3, "pni", 1, 0, REG_ECX, 0, NATIVE)
FEATURE(PCLMULQDQ, "pclmulqdq", 1, 0, REG_ECX, 1, NATIVE)
FEATURE(MONITOR, "monitor", 1, 0, REG_ECX, 3, ASKED)
FEATURE(SSSE3, "ssse3", 1, 0, REG_ECX, 9, NATIVE)
FEATURE(FMA, "fma", 1, 0, REG_ECX, 12, NATIVE)
FEATURE(CX16, "cx16", 1, 0, REG_ECX, 13, NATIVE)
FEATURE(PCID, "pcid", 1, 0, REG_ECX, 17, EMULATED)
FEATURE(SSE4_1, "sse4_1", 1, 0, REG_ECX, 19, NATIVE)
FEATURE(SSE4_2, "sse4_2", 1, 0, REG_ECX, 20, NATIVE)
FEATURE(X2APIC, "x2apic", 1, 0, REG_ECX, 21, MACHINE)
FEATURE(MOVBE, "movbe", 1, 0, REG_ECX, 22, NATIVE)
FEATURE(POPCNT, "popcnt", 1, 0, REG_ECX, 23, NATIVE)
FEATURE(TSC_DEADLINE_TIMER, "tsc_deadline_timer", 1, 0, REG_ECX, 24, MACHINE)
FEATURE(AES, "aes", 1, 0, REG_ECX, 25, NATIVE)
FEATURE(XSAVE, "xsave", 1, 0, REG_ECX, 26, EMULATED)
FEATURE(AVX, "avx", 1, 0, REG_ECX, 28, NATIVE)
FEATURE(F16C, "f16c", 1, 0, REG_ECX, 29, NATIVE)
FEATURE(RDRAND, "rdrand", 1, 0, REG_ECX, 30, EMULATED)
FEATURE(HYPERVISOR, "hypervisor", 1, 0, REG_ECX, 31, MACHINE)

/* leaf 6 EAX: the APIC timer never stops */
FEATURE(ARAT, "arat", 6, 0, REG_EAX, 2, MACHINE)

/* leaf 7 */
FEATURE(FSGSBASE, "fsgsbase", 7, 0, REG_EBX, 0, EMULATED)
FEATURE(TSC_ADJUST, "tsc_adjust", 7, 0, REG_EBX, 1, MACHINE)
FEATURE(BMI1, "bmi1", 7, 0, REG_EBX, 3, NATIVE)
FEATURE(AVX2, "avx2", 7, 0, REG_EBX, 5, NATIVE)
FEATURE(SMEP, "smep", 7, 0, REG_EBX, 7, EMULATED)
FEATURE(BMI2, "bmi2", 7, 0, REG_EBX, 8, NATIVE)
FEATURE(ERMS, "erms", 7, 0, REG_EBX, 9, MACHINE)
FEATURE(INVPCID, "invpcid", 7, 0, REG_EBX, 10, EMULATED)
FEATURE(RDSEED, "rdseed", 7, 0, REG_EBX, 18, EMULATED)
FEATURE(ADX, "adx", 7, 0, REG_EBX, 19, NATIVE)
FEATURE(SMAP, "smap", 7, 0, REG_EBX, 20, EMULATED)
FEATURE(CLFLUSHOPT, "clflushopt", 7, 0, REG_EBX, 23, NATIVE)
FEATURE(CLWB, "clwb", 7, 0, REG_EBX, 24, NATIVE)
FEATURE(SHA_NI, "sha_ni", 7, 0, REG_EBX, 29, NATIVE)
FEATURE(UMIP, "umip", 7, 0, REG_ECX, 2, EMULATED)
FEATURE(GFNI, "gfni", 7, 0, REG_ECX, 8, NATIVE)
FEATURE(VAES, "vaes", 7, 0, REG_ECX, 9, NATIVE)
FEATURE(VPCLMULQDQ, "vpclmulqdq", 7, 0, REG_ECX, 10, NATIVE)
FEATURE(LA57, "la57", 7, 0, REG_ECX, 16, EMULATED)
FEATURE(RDPID, "rdpid", 7, 0, REG_ECX, 22, EMULATED)
FEATURE(FSRM, "fsrm", 7, 0, REG_EDX, 4, MACHINE)
FEATURE(SPEC_CTRL, "spec_ctrl", 7, 0, REG_EDX, 26, MACHINE)
FEATURE(INTEL_STIBP, "intel_stibp", 7, 0, REG_EDX, 27, MACHINE)
FEATURE(ARCH_CAPABILITIES, "arch_capabilities", 7, 0, REG_EDX, 29, MACHINE)
FEATURE(SPEC_CTRL_SSBD, "spec_ctrl_ssbd", 7, 0, REG_EDX, 31, MACHINE)
FEATURE(AVX_VNNI, "avx_vnni", 7, 1, REG_EAX, 4, NATIVE)

/* leaf 0Dh */
FEATURE(XSAVEOPT, "xsaveopt", 0xd, 1, REG_EAX, 0, EMULATED)
FEATURE(XSAVEC, "xsavec", 0xd, 1, REG_EAX, 1, EMULATED)
FEATURE(XGETBV1, "xgetbv1", 0xd, 1, REG_EAX, 2, EMULATED)
FEATURE(XSAVES, "xsaves", 0xd, 1, REG_EAX, 3, EMULATED)

/* leaf 80000001h */
FEATURE(LAHF_LM, "lahf_lm", 0x80000001, 0, REG_ECX, 0, NATIVE)
FEATURE(CR8_LEGACY, "cr8_legacy", 0x80000001, 0, REG_ECX, 4, EMULATED)
FEATURE(ABM, "abm", 0x80000001, 0, REG_ECX, 5, NATIVE)
FEATURE(SSE4A, "sse4a", 0x80000001, 0, REG_ECX, 6, NATIVE)
FEATURE(MISALIGNSSE, "misalignsse", 0x80000001, 0, REG_ECX, 7, NATIVE)
FEATURE(PREFETCHW, "3dnowprefetch", 0x80000001, 0, REG_ECX, 8, NATIVE)
FEATURE(TOPOEXT, "topoext", 0x80000001, 0, REG_ECX, 22, MACHINE)
FEATURE(SYSCALL, "syscall", 0x80000001, 0, REG_EDX, 11, MACHINE)
FEATURE(NX, "nx", 0x80000001, 0, REG_EDX, 20, MACHINE)
FEATURE(MMXEXT, "mmxext", 0x80000001, 0, REG_EDX, 22, NATIVE)
FEATURE(FXSR_OPT, "fxsr_opt", 0x80000001, 0, REG_EDX, 25, EMULATED)
FEATURE(PDPE1GB, "pdpe1gb", 0x80000001, 0, REG_EDX, 26, EMULATED)
FEATURE(RDTSCP, "rdtscp", 0x80000001, 0, REG_EDX, 27, EMULATED)
FEATURE(LM, "lm", 0x80000001, 0, REG_EDX, 29, MACHINE)

/* leaves 80000007h and 80000008h */
FEATURE(NONSTOP_TSC, "nonstop_tsc", 0x80000007, 0, REG_EDX, 8, MACHINE)
FEATURE(CLZERO, "clzero", 0x80000008, 0, REG_EBX, 0, NATIVE)
FEATURE(XSAVEERPTR, "xsaveerptr", 0x80000008, 0, REG_EBX, 2, EMULATED)
FEATURE(WBNOINVD, "wbnoinvd", 0x80000008, 0, REG_EBX, 9, EMULATED)
FEATURE(AMD_SSB_NO, "amd_ssb_no", 0x80000008, 0, REG_EBX, 26, MACHINE)
FEATURE(BTC_NO, "btc_no", 0x80000008, 0, REG_EBX, 29, MACHINE)

/* leaf 80000021h: what an operating system need not work around */
FEATURE(NO_NESTED_DATA_BP, "no_nested_data_bp", 0x80000021, 0, REG_EAX, 0, MACHINE)
FEATURE(LFENCE_RDTSC, "lfence_rdtsc", 0x80000021, 0, REG_EAX, 2, MACHINE)
FEATURE(NULL_SEL_CLR_BASE, "null_sel_clr_base", 0x80000021, 0, REG_EAX, 6, MACHINE)
FEATURE(AUTOIBRS, "autoibrs", 0x80000021, 0, REG_EAX, 8, MACHINE)
FEATURE(SRSO_NO, "srso_no", 0x80000021, 0, REG_EAX, 29, MACHINE)
FEATURE(TSA_SQ_NO, "tsa_sq_no", 0x80000021, 0, REG_ECX, 1, MACHINE)
FEATURE(TSA_L1_NO, "tsa_l1_no", 0x80000021, 0, REG_ECX, 2, MACHINE)
