/* segments.c - see segments.h. */
#include "segments.h"
#include "case.h"

#include <asm/ldt.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ATTR_USER (SEG_P | SEG_S | 3u << SEG_DPL_SHIFT | SEG_ACCESSED)
#define ATTR_DATA (ATTR_USER | SEG_WRITABLE)
#define ATTR_CODE (ATTR_USER | SEG_CODE | SEG_WRITABLE)
#define WINDOW16 (DATA_BASE - 0x8000) /* a 64 KiB segment with the data pages in the middle */

const struct segment_desc ldt_segments[LDT_COUNT] = {
    [LDT_CODE32] = {0, 0xffffffff, ATTR_CODE | SEG_DB | SEG_G},
    [LDT_DATA32] = {0, 0xffffffff, ATTR_DATA | SEG_DB | SEG_G},
    [LDT_CODE16] = {CODE_BASE, 0xffff, ATTR_CODE},
    [LDT_DATA16] = {WINDOW16, 0xffff, ATTR_DATA},
    [LDT_SHORT] = {WINDOW16, 0xa7ff, ATTR_DATA | SEG_DB},
    [LDT_EXPAND_DOWN] = {0, DATA_BASE + 0xfff, ATTR_DATA | SEG_EXPAND_DOWN | SEG_DB | SEG_G},
    [LDT_READ_ONLY] = {0, 0xffffffff, ATTR_USER | SEG_DB | SEG_G},
    [LDT_ABSENT] = {0, 0xffffffff, (ATTR_DATA | SEG_DB | SEG_G) & ~SEG_P},
    [LDT_EXECUTE_ONLY] = {0, 0xffffffff, ATTR_USER | SEG_CODE | SEG_DB | SEG_G},
    [LDT_DATA16_SHIFTED] = {WINDOW16 + 0x123, 0xffff, ATTR_DATA},
};

static const struct segment_desc gdt_data32 = {0, 0xffffffff, ATTR_DATA | SEG_DB | SEG_G};
static const struct segment_desc gdt_code32 = {0, 0xffffffff, ATTR_CODE | SEG_DB | SEG_G};
static const struct segment_desc gdt_code64 = {0, 0xffffffff, ATTR_CODE | SEG_L | SEG_G};

static const struct segment_desc *find_segment(uint16_t sel)
{
    switch (sel) {
    case SEL_USER_CS32: return &gdt_code32;
    case SEL_USER_DS: return &gdt_data32;
    case SEL_USER_CS: return &gdt_code64;
    default: break;
    }
    if ((sel & 7) == 7 && (sel >> 3) < LDT_COUNT)
        return &ldt_segments[sel >> 3];
    return NULL;
}

struct segment segment_of_selector(uint16_t sel)
{
    const struct segment_desc *desc = find_segment(sel);

    if (!desc)
        return (struct segment){.sel = sel};
    return (struct segment){
        .base = desc->base, .limit = desc->limit, .sel = sel, .attr = desc->attr};
}

uint64_t segment_descriptor(const struct segment_desc *desc)
{
    uint64_t limit = desc->attr & SEG_G ? desc->limit >> 12 : desc->limit;
    uint64_t base = desc->base;

    return (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)(desc->attr & 0xf0ff) << 40 |
           (limit >> 16 & 0xf) << 48 | (base >> 24) << 56;
}

static struct user_desc linux_description(unsigned index)
{
    const struct segment_desc *desc = &ldt_segments[index];
    unsigned type = desc->attr & SEG_TYPE;

    return (struct user_desc){
        .entry_number = index,
        .base_addr = desc->base,
        .limit = desc->attr & SEG_G ? desc->limit >> 12 : desc->limit,
        .seg_32bit = !!(desc->attr & SEG_DB),
        .contents = type >> 2 & 3,
        .read_exec_only = !(type & SEG_WRITABLE),
        .limit_in_pages = !!(desc->attr & SEG_G),
        .seg_not_present = !(desc->attr & SEG_P),
        .useable = 0,
    };
}

int segments_load_ldt(void)
{
    for (unsigned i = 0; i < LDT_COUNT; i++) {
        struct user_desc desc = linux_description(i);

        if (syscall(SYS_modify_ldt, 0x11, &desc, sizeof(desc)) != 0)
            return -errno;
    }
    return 0;
}
