/* memory.h - guest-physical memory: which addresses are RAM or ROM, and where they are in the host.
 *
 *   0       A0000  C0000     1 MiB       low_size              4 GiB            4 GiB + high_size
 *   |- RAM -|- VGA -|- shadow -|--- RAM ------|- hole (MMIO) -|ROM|---- RAM -----------|
 *
 * RAM is one shared memfd, so that it can be mapped again (mirrors, other processes); nothing of it
 * is touched before the guest touches it. Owned by the VM. Raw host pointers leave this module
 * through memory_ram() only. With a VGA, A0000h-BFFFFh is not RAM.
 *
 * Between C0000h and 1 MiB the host bridge chooses for reads and for writes whether they go to RAM
 * or to the ROM under it (memory_shadow()). What is read is then mapped over RAM in the host, so
 * that pointers into it stay what they are.
 *
 * Every page has a byte of flags, changed atomically: PAGE_CODE means that an engine holds decoded
 * or translated code of the page, and every store to it must be announced; PAGE_DIRTY is set by
 * stores while dirty logging is on; stores to a page with PAGE_READONLY are lost, or go to the RAM
 * behind it (PAGE_HIDES_RAM). Threads: lookups from any thread; adding regions only
 * before the first vCPU runs. */
#ifndef DOBLE_MEM_MEMORY_H
#define DOBLE_MEM_MEMORY_H

#include "base/err.h"
#include "base/types.h"

#include <pthread.h>

#define MEMORY_HOLE_START UINT64_C(0xC0000000) /* RAM below 4 GiB ends here at the latest */
#define MEMORY_HIGH_START UINT64_C(0x100000000)

#define MEMORY_VGA_START UINT64_C(0xA0000)
#define MEMORY_VGA_END UINT64_C(0xC0000)
#define MEMORY_SHADOW_START UINT64_C(0xC0000)
#define MEMORY_SHADOW_END MIB

/* Where the display's memory is while it is nowhere, and always for memory_hidden_ram(). */
#define MEMORY_VIDEO_NOWHERE (UINT64_C(1) << 62)

enum page_flag { PAGE_CODE = 1, PAGE_DIRTY = 2, PAGE_READONLY = 4, PAGE_HIDES_RAM = 8 };

struct memory_block {
    gpa_t base;
    uint64_t size;
    uint8_t *host;
    uint8_t *page_flags;  /* one byte for each 4 KiB page */
    uint64_t file_offset; /* of RAM, in the memfd */
    bool rom;             /* not of the memfd */
};

/* Called after bytes of a page with PAGE_CODE were or will be changed (`gpa`, `len` in one page).
 * Must drop all code of that range. */
typedef void memory_code_fn(void *opaque, gpa_t gpa, uint64_t len);

#define MEMORY_DMA_SPANS 64

/* Stores of devices to pages with code, which the engine has not been told of yet. */
struct memory_dma {
    pthread_mutex_t lock;
    unsigned count; /* above MEMORY_DMA_SPANS: some are only within low..high */
    gpa_t low, high;
    struct {
        gpa_t gpa;
        uint64_t len;
    } spans[MEMORY_DMA_SPANS];
    void (*pending)(void *opaque); /* there is something for memory_dma_sync() */
    void *opaque;
};

struct memory {
    int fd;
    unsigned block_count;
    /* Low RAM, which begins at 0, in one or two; high RAM; then ROM and the memory of a display.
     * Those before hide those behind. */
    struct memory_block blocks[5];
    struct memory_block *video; /* one of them; NULL: none */
    uint8_t *first_mib;         /* RAM of the first MiB, whatever hides it */
    uint64_t size;
    gpa_t a20_mask; /* ANDed to every physical address of a CPU: all ones, or bit 20 clear */
    memory_code_fn *code_changed;
    void *code_opaque;
    struct memory_dma dma;
};

/* Makes `size` bytes of guest RAM (a multiple of 4 KiB, at least 1 MiB). */
int memory_init(struct memory *mem, uint64_t size, struct err *err);
/* The same, without RAM where VGA has its memory. */
int memory_init_with_vga(struct memory *mem, uint64_t size, struct err *err);
void memory_free(struct memory *mem);

/* Adds the firmware's ROM, which ends at 4 GiB; `size` is a multiple of 4 KiB. Its end is also what
 * memory_shadow() shows below 1 MiB. Before the machine runs. */
int memory_add_rom(struct memory *mem, const void *bytes, uint64_t size, struct err *err);

/* Adds the memory of a display, which is the guest's RAM wherever the display's base register says.
 * It is cleared and saved with RAM. Before the machine runs. */
int memory_add_video(struct memory *mem, uint64_t size, struct err *err);
/* Puts it at `base`, between RAM and the end of the hole, or nowhere. Code of it is dropped; the
 * caller flushes TLBs. */
void memory_place_video(struct memory *mem, gpa_t base, bool visible);

/* RAM below the hole and above 4 GiB, as firmware counts it: the former includes VGA's place. */
static inline uint64_t memory_low_size(const struct memory *mem)
{
    return mem->size < MEMORY_HOLE_START ? mem->size : MEMORY_HOLE_START;
}
static inline uint64_t memory_high_size(const struct memory *mem)
{
    return mem->size - memory_low_size(mem);
}

/* Says where reads and writes of [gpa, gpa + len) go, in pages between C0000h and 1 MiB: RAM, or
 * ROM (E0000h and above the end of the firmware's, else all ones), where stores are lost. Code of
 * the range is dropped; the caller flushes TLBs, because stores may be allowed no more. */
void memory_shadow(struct memory *mem, gpa_t gpa, uint64_t len, bool read_ram, bool write_ram);

/* The block of RAM that holds gpa, or NULL (a hole: MMIO or nothing). */
static inline struct memory_block *memory_block_at(struct memory *mem, gpa_t gpa)
{
    for (unsigned i = 0; i < mem->block_count; i++)
        if (gpa - mem->blocks[i].base < mem->blocks[i].size)
            return &mem->blocks[i];
    return NULL;
}

/* The host address of `len` bytes of RAM at gpa; NULL if any of them is not RAM. The one checked
 * call through which raw pointers leave. Whoever stores through it calls memory_touched(). */
static inline void *memory_ram(struct memory *mem, gpa_t gpa, uint64_t len)
{
    struct memory_block *block = memory_block_at(mem, gpa);

    if (!block || len > block->size - (gpa - block->base))
        return NULL;
    return block->host + (gpa - block->base);
}

/* The flags byte of the page of gpa, or NULL outside RAM. */
static inline uint8_t *memory_page_flags(struct memory *mem, gpa_t gpa)
{
    struct memory_block *block = memory_block_at(mem, gpa);

    return block ? &block->page_flags[(gpa - block->base) >> PAGE_SHIFT] : NULL;
}

/* Whether stores to all of it reach what memory_ram() shows. */
bool memory_writable(struct memory *mem, gpa_t gpa, uint64_t len) MUST_USE;

/* A processor's store of bytes within a page: announced, or lost, as the page's flags say. */
void memory_store(struct memory *mem, gpa_t gpa, const void *buf, uint64_t len);

/* RAM itself, where a ROM may hide it: for those who save and load machines. NULL if it is none, or
 * in more than one piece. */
void *memory_hidden_ram(struct memory *mem, gpa_t gpa, uint64_t len);

/* Announces that RAM bytes were changed by something that is not a plain guest store (a loader, a
 * debugger, a device within an access of the CPU). Drops code of those pages and marks them dirty.
 * On the vCPU's thread, or while it is parked. */
void memory_touched(struct memory *mem, gpa_t gpa, uint64_t len);

/* The same for DMA, on any thread while the vCPU runs: code of those pages is dropped by the vCPU
 * at its next look at what wants its attention, and so before it takes an interrupt that is raised
 * after this call. */
void memory_dma_touched(struct memory *mem, gpa_t gpa, uint64_t len);

/* Who is told, on the thread of the store, that the vCPU has to call memory_dma_sync(). */
void memory_set_dma_listener(struct memory *mem, void (*pending)(void *opaque), void *opaque);
/* Drops the code that DMA has overwritten. The vCPU's thread. */
void memory_dma_sync(struct memory *mem);

/* Copies out of and into RAM, for devices and loaders; false (and nothing copied) if any byte of
 * the span is not RAM, or is read-only. memory_write() includes memory_touched(). */
bool memory_read(struct memory *mem, gpa_t gpa, void *buf, uint64_t len) MUST_USE;
bool memory_write(struct memory *mem, gpa_t gpa, const void *buf, uint64_t len) MUST_USE;

/* Makes all RAM zero again, and gives its pages back to the host. The engine's caches are the
 * caller's to flush. No vCPU runs. */
int memory_clear(struct memory *mem, struct err *err) MUST_USE;

/* The function that drops code; there is one engine at a time. */
void memory_set_code_listener(struct memory *mem, memory_code_fn *fn, void *opaque);

/* A 64-bit hash of all RAM and its addresses; zero pages count as absent. */
uint64_t memory_hash(struct memory *mem);

/* Calls fn for each run of pages of RAM that were ever touched and are not all zero, in rising
 * order; one that is behind a ROM, too. No run goes over 1 MiB.
 * Stops at a negative return and returns it. */
int memory_for_each_used(struct memory *mem,
                         int (*fn)(void *opaque, gpa_t gpa, void *host, uint64_t len),
                         void *opaque);

/* Bytes of RAM that the host holds in memory (touched pages). */
uint64_t memory_resident(struct memory *mem);

#endif
