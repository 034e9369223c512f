#include "debug/gdb_memory.h"

#include "cpu/paging.h"

/* The part of [gva, gva + len) that is in the first page, and where that is. False: not in RAM. */
static bool first_part(struct cpu *cpu, gva_t gva, size_t len, gpa_t *gpa, size_t *part)
{
    uint64_t left = PAGE_SIZE - (gva & ~PAGE_MASK);
    struct translation t;

    *part = left < len ? (size_t)left : len;
    if ((cpu->efer & EFER_LMA) && !cpu_canonical(cpu, gva))
        return false;
    if (!paging_peek(cpu, gva, &t))
        return false;
    *gpa = t.gpa & cpu->mem->a20_mask;
    return memory_ram(cpu->mem, *gpa, *part) != NULL;
}

size_t gdb_memory_read(struct cpu *cpu, gva_t gva, void *buf, size_t len)
{
    size_t done = 0, part;
    gpa_t gpa;

    while (done < len && first_part(cpu, gva + done, len - done, &gpa, &part)) {
        if (!memory_read(cpu->mem, gpa, (uint8_t *)buf + done, part))
            break;
        done += part;
    }
    return done;
}

bool gdb_memory_write(struct cpu *cpu, gva_t gva, const void *buf, size_t len)
{
    size_t part;
    gpa_t gpa;

    for (size_t at = 0; at < len; at += part)
        if (!first_part(cpu, gva + at, len - at, &gpa, &part))
            return false;
    for (size_t at = 0; at < len; at += part)
        if (!first_part(cpu, gva + at, len - at, &gpa, &part) ||
            !memory_write(cpu->mem, gpa, (const uint8_t *)buf + at, part))
            return false; /* the page tables were in what was written */
    return true;
}
