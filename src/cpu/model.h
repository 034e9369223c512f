/* model.h - CPU models: which features the virtual processor has.
 *
 * A model is made once, before the machine, from a text like "host,-avx2"; after that it is
 * immutable and any thread may read it. Features come from one table (cpu_features.h). What a model
 * has is what works: the decoder gives #UD for instructions whose feature is absent, the control
 * registers refuse its bits, and CPUID doesn't show it. */
#ifndef DOBLE_CPU_MODEL_H
#define DOBLE_CPU_MODEL_H

#include "base/err.h"
#include "base/types.h"

#include <stdio.h>

/* The output registers of CPUID, as indices of an array of four. */
enum cpuid_register { REG_EAX, REG_EBX, REG_ECX, REG_EDX };

enum cpu_feature {
#define FEATURE(name, ...) FEAT_##name,
#include "cpu/cpu_features.h"
#undef FEATURE
    FEAT_COUNT,
    FEAT_NONE = FEAT_COUNT /* for tables: needs no feature */
};

enum cpu_feature_kind { FEATURE_NATIVE, FEATURE_EMULATED, FEATURE_MACHINE, FEATURE_ASKED };

struct cpu_model;

/* Makes a model from MODEL[,+feature][,-feature]...; `spec` NULL or "" means "host". Features that
 * one needs come along with it, features that need one go away with it. -EINVAL and a sentence when
 * a name is unknown, or when a feature is asked for that this host's processor lacks. */
int cpu_model_new(const char *spec, struct cpu_model **model, struct err *err) MUST_USE;
void cpu_model_free(struct cpu_model *model);

/* Number of virtual CPUs that the topology leaves report; 1 unless set. Before the machine runs. */
void cpu_model_set_cpus(struct cpu_model *model, unsigned cpus);

/* Lists models and features for `--cpu help`. */
void cpu_model_list(FILE *out);

bool cpu_model_has(const struct cpu_model *model, enum cpu_feature feature);
bool cpu_model_is_amd(const struct cpu_model *model);
unsigned cpu_model_phys_bits(const struct cpu_model *model); /* MAXPHYADDR */
/* Family, model and stepping as CPUID leaf 1 EAX (and EDX after reset). */
uint32_t cpu_model_signature(const struct cpu_model *model);
/* XCR0 bits that XSETBV accepts. */
uint64_t cpu_model_xcr0(const struct cpu_model *model);
/* MXCSR bits that LDMXCSR accepts. */
uint32_t cpu_model_mxcsr_mask(const struct cpu_model *model);
/* The name of a feature as in /proc/cpuinfo. */
const char *cpu_feature_name(enum cpu_feature feature);

/* For CPUID: the number of CPUs, 12 characters of vendor, 48 of brand string, and the feature bits
 * of a leaf, which are added to out[]. */
unsigned cpu_model_cpus(const struct cpu_model *model);
const char *cpu_model_vendor(const struct cpu_model *model);
const char *cpu_model_brand(const struct cpu_model *model);
void cpu_model_feature_bits(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
                            uint32_t out[4]);

#endif
