/* decoder.h - Zydis set up as this host's processor decodes, and which instructions are tested. */
#ifndef DOBLE_TESTS_INSN_DECODER_H
#define DOBLE_TESTS_INSN_DECODER_H

#include "cpu/cpuid.h"

#include <Zydis/Zydis.h>

struct decoded {
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
};

/* A decoder for code of `mode` (64, 32 or 16) bits. */
void decoder_init(ZydisDecoder *decoder, const struct cpu_model *model, unsigned mode);
bool decoder_decode(const ZydisDecoder *decoder, const uint8_t *bytes, unsigned len,
                    struct decoded *out);

enum tested {
    TESTED_YES,
    TESTED_ABSENT, /* the model hasn't the feature: must give #UD in the guest */
    TESTED_NOT,    /* enters the host's kernel or hypervisor: can't be run natively */
};
enum tested decoder_tested(const struct cpu_model *model, const struct decoded *d);

/* "ADD r/m32, r32 [mem]": mnemonic, prefixes that matter, kinds and sizes of visible operands. */
void decoder_form_name(const struct decoded *d, char *out, size_t size);
/* Intel syntax, for reports. */
void decoder_text(const struct decoded *d, char *out, size_t size);

#endif
