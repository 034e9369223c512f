#define _GNU_SOURCE
#include "engine/translate/report.h"

#include "base/trace.h"
#include "engine/engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define GUEST_WIDTH 56
#define TEXT_MAX 96

/* --- disassembly --- */

/* One instruction in Intel syntax; returns its length, 1 if it is none. */
static unsigned disassemble(const ZydisDecoder *decoder, const uint8_t *code, size_t avail,
                            uint64_t address, char text[TEXT_MAX])
{
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecodedInstruction insn;
    ZydisFormatter formatter;

    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, code, avail, &insn, ops))) {
        snprintf(text, TEXT_MAX, "(bad) %02x", code[0]);
        return 1;
    }
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
    ZydisFormatterFormatInstruction(&formatter, &insn, ops, insn.operand_count_visible, text,
                                    TEXT_MAX, address, NULL);
    return insn.length;
}

/* --- listings --- */

struct listing {
    FILE *out;
    ZydisDecoder guest, host;
    uint64_t rip; /* of the block */
    const uint8_t *guest_code;
    const uint8_t *code; /* of the host, writable address */
    uint64_t address;    /* where it is executed */
};

/* Host code from `at` to `end`, the first line beside `text`. */
static void list_host(const struct listing *l, const char *text, size_t at, size_t end)
{
    char host[TEXT_MAX];

    if (at == end && *text)
        fprintf(l->out, "  %s\n", text);
    while (at < end) {
        unsigned len = disassemble(&l->host, l->code + at, end - at, l->address + at, host);

        fprintf(l->out, "  %-*s  %08" PRIx64 "  %s\n", GUEST_WIDTH, text,
                (l->address + at) & 0xffffffff, host);
        at += len;
        text = "";
    }
}

static void list_insn(const struct listing *l, const struct planned *p, size_t end)
{
    char guest[TEXT_MAX], line[TEXT_MAX + 32];

    disassemble(&l->guest, l->guest_code + p->offset, INSN_MAX_LEN, l->rip + p->offset, guest);
    snprintf(line, sizeof line, "%" PRIx64 "  %s", l->rip + p->offset, guest);
    list_host(l, line, p->host, end);
}

static void list_block(FILE *out, const struct cpu *cpu, const struct tblock *b,
                       const struct plan *plan, size_t size)
{
    const struct translator *t = cpu->engine;
    struct listing l = {
        .out = out,
        .rip = cpu->rip,
        .guest_code = b->code,
        .code = b->entry - (t->executable - t->writable),
        .address = (uintptr_t)b->entry,
    };

    ZydisDecoderInit(&l.host, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (cpu_is_64bit(cpu))
        l.guest = l.host;
    else
        ZydisDecoderInit(&l.guest, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    fprintf(out,
            "block at %" PRIx64 ", mode %#x: %u instructions, %u bytes, %zu bytes of host code\n",
            l.rip, b->mode, plan->count, plan->len, size);
    list_host(&l, "(entry)", 0, plan->insns[0].host);
    for (unsigned i = 0; i < plan->count; i++)
        list_insn(&l, &plan->insns[i],
                  i + 1 < plan->count ? plan->insns[i + 1].host : plan->host_cold);
    list_host(&l, "(behind the block)", plan->host_cold, size);
    fputc('\n', out);
}

/* --- names for perf --- */

/* "start size name", as tools/perf/Documentation/jit-interface.txt has it. */
static void name_block(FILE *out, const struct cpu *cpu, const struct tblock *b, size_t size)
{
    fprintf(out, "%" PRIxPTR " %zx guest_%s_%" PRIx64 "\n", (uintptr_t)b->entry, size,
            cpu->cpl == 3 ? "user" : "kernel", cpu->rip);
}

/* Puts the file's lines that are not about [start, start + size) into `kept`. */
static void keep_names(FILE *in, uint64_t start, uint64_t size, FILE *kept)
{
    char line[128];
    uint64_t address;

    rewind(in);
    while (fgets(line, sizeof line, in))
        if (sscanf(line, "%" SCNx64, &address) == 1 && address - start >= size)
            fputs(line, kept);
}

void report_eviction(struct cpu *cpu, const uint8_t *start, size_t size)
{
    FILE *out = cpu->engine_config ? cpu->engine_config->perf_map : NULL;
    FILE *kept;
    char *text = NULL;
    size_t length = 0;

    if (!out)
        return;
    kept = open_memstream(&text, &length);
    if (!kept)
        return;
    keep_names(out, (uintptr_t)start, size, kept);
    rewind(out);
    if (fclose(kept) == 0 && ftruncate(fileno(out), 0) == 0)
        fwrite(text, 1, length, out);
    free(text);
}

void report_block(struct cpu *cpu, const struct tblock *b, const struct plan *plan, size_t size)
{
    const struct engine_config *config = cpu->engine_config;

    trace_translate(cpu->rip, plan->count, plan->len, (unsigned)size);
    if (!config)
        return;
    if (config->dump_blocks)
        list_block(config->dump_blocks, cpu, b, plan, size);
    if (config->perf_map)
        name_block(config->perf_map, cpu, b, size);
}
