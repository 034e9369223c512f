#define _GNU_SOURCE
#include "mem/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int map_flags(struct memory_block *block, uint64_t size, struct err *err)
{
    /* Anonymous memory is touched page by page, as flags are set. */
    block->page_flags = mmap(NULL, size >> PAGE_SHIFT, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block->page_flags == MAP_FAILED) {
        munmap(block->host, size);
        return err_set(err, -ENOMEM, "not enough memory for the page flags of %llu MiB",
                       (unsigned long long)(size / MIB));
    }
    return 0;
}

static int add_block(struct memory *mem, gpa_t base, uint64_t size, uint64_t offset,
                     struct err *err)
{
    struct memory_block *block = &mem->blocks[mem->block_count];
    int ret;

    block->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, mem->fd,
                       (off_t)offset);
    if (block->host == MAP_FAILED)
        return err_set(err, -errno, "cannot map %llu MiB of guest memory: %s",
                       (unsigned long long)(size / MIB), strerror(errno));
    ret = map_flags(block, size, err);
    if (ret)
        return ret;
    block->base = base;
    block->size = size;
    block->file_offset = offset;
    mem->block_count++;
    return 0;
}

/* RAM below 4 GiB. The file has room for what is behind VGA, too: offsets in it are addresses. */
static int add_low(struct memory *mem, bool vga, struct err *err)
{
    uint64_t low = memory_low_size(mem);
    int ret;

    if (!vga || low <= MEMORY_VGA_END)
        return add_block(mem, 0, low, 0, err);
    ret = add_block(mem, 0, MEMORY_VGA_START, 0, err);
    if (ret)
        return ret;
    return add_block(mem, MEMORY_VGA_END, low - MEMORY_VGA_END, MEMORY_VGA_END, err);
}

static int check_size(uint64_t size, struct err *err)
{
    uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    if (size < MIB || size & ~PAGE_MASK)
        return err_set(err, -EINVAL,
                       "%llu bytes of guest memory: must be at least 1 MiB and a multiple of 4 KiB",
                       (unsigned long long)size);
    if (size > host)
        return err_set(err, -ENOMEM,
                       "%llu MiB of guest memory is more than this host has (%llu MiB); give less",
                       (unsigned long long)(size / MIB), (unsigned long long)(host / MIB));
    return 0;
}

static int make_file(struct memory *mem, struct err *err)
{
    mem->fd = memfd_create("guest-ram", MFD_CLOEXEC);
    if (mem->fd >= 0 && ftruncate(mem->fd, (off_t)mem->size) == 0) {
        mem->first_mib = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mem->fd, 0);
        if (mem->first_mib != MAP_FAILED)
            return 0;
    }
    mem->first_mib = NULL;
    return err_set(err, -errno, "cannot make %llu MiB of guest memory: %s",
                   (unsigned long long)(mem->size / MIB), strerror(errno));
}

static int init(struct memory *mem, uint64_t size, bool vga, struct err *err)
{
    int ret;

    memset(mem, 0, sizeof *mem);
    mem->fd = -1;
    mem->dma.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    ret = check_size(size, err);
    if (ret)
        return ret;
    mem->size = size;
    mem->a20_mask = UINT64_MAX;
    ret = make_file(mem, err);
    if (ret == 0)
        ret = add_low(mem, vga, err);
    if (ret == 0 && memory_high_size(mem))
        ret = add_block(mem, MEMORY_HIGH_START, memory_high_size(mem), memory_low_size(mem), err);
    if (ret)
        memory_free(mem);
    return ret;
}

int memory_init(struct memory *mem, uint64_t size, struct err *err)
{
    return init(mem, size, false, err);
}

int memory_init_with_vga(struct memory *mem, uint64_t size, struct err *err)
{
    return init(mem, size, true, err);
}

void memory_free(struct memory *mem)
{
    for (unsigned i = 0; i < mem->block_count; i++) {
        munmap(mem->blocks[i].host, mem->blocks[i].size);
        munmap(mem->blocks[i].page_flags, mem->blocks[i].size >> PAGE_SHIFT);
    }
    mem->block_count = 0;
    if (mem->first_mib)
        munmap(mem->first_mib, MIB);
    mem->first_mib = NULL;
    if (mem->fd >= 0)
        close(mem->fd);
    mem->fd = -1;
}

/* --- ROM --- */

/* The pages are the machine's own: nothing that is done to them reaches another. They can be
 * written, so that a device that was handed a pointer does no harm. */
int memory_add_rom(struct memory *mem, const void *bytes, uint64_t size, struct err *err)
{
    struct memory_block *block = &mem->blocks[mem->block_count];
    int ret;

    block->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block->host == MAP_FAILED)
        return err_set(err, -ENOMEM, "not enough memory for a ROM of %llu KiB",
                       (unsigned long long)(size / KIB));
    ret = map_flags(block, size, err);
    if (ret)
        return ret;
    memcpy(block->host, bytes, size);
    memset(block->page_flags, PAGE_READONLY, size >> PAGE_SHIFT);
    block->base = MEMORY_HIGH_START - size;
    block->size = size;
    block->rom = true;
    mem->block_count++;
    return 0;
}

int memory_add_video(struct memory *mem, uint64_t size, struct err *err)
{
    int ret;

    if (ftruncate(mem->fd, (off_t)(mem->size + size)) < 0)
        return err_set(err, -errno, "cannot make %llu MiB of display memory: %s",
                       (unsigned long long)(size / MIB), strerror(errno));
    ret = add_block(mem, MEMORY_VIDEO_NOWHERE, size, mem->size, err);
    if (ret == 0)
        mem->video = &mem->blocks[mem->block_count - 1];
    return ret;
}

void memory_place_video(struct memory *mem, gpa_t base, bool visible)
{
    struct memory_block *video = mem->video;
    gpa_t at = visible && base <= MEMORY_HIGH_START - video->size ? base : MEMORY_VIDEO_NOWHERE;

    if (at == video->base)
        return;
    memory_touched(mem, video->base, video->size);
    video->base = at;
}

/* What the page at gpa, below 1 MiB, shows of the ROM: all ones where there is none. */
static void copy_rom_page(struct memory *mem, gpa_t gpa, uint8_t *to)
{
    gpa_t high = MEMORY_HIGH_START - MIB + gpa;
    const struct memory_block *block = memory_block_at(mem, high);

    if (gpa >= 0xE0000 && block && block->rom)
        memcpy(to, block->host + (high - block->base), PAGE_SIZE);
    else
        memset(to, 0xff, PAGE_SIZE);
}

/* Maps over the range what is to be read there. If the host has no memory for that, it stays as it
 * was: the guest sees RAM for ROM. False: so it is. */
static bool map_shadow(struct memory *mem, gpa_t gpa, uint64_t len, bool ram)
{
    uint8_t *host = memory_ram(mem, gpa, len);
    void *at;

    if (ram)
        at = mmap(host, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, mem->fd, (off_t)gpa);
    else
        at =
            mmap(host, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (at == MAP_FAILED)
        return false;
    for (uint64_t done = 0; !ram && done < len; done += PAGE_SIZE)
        copy_rom_page(mem, gpa + done, host + done);
    return true;
}

void memory_shadow(struct memory *mem, gpa_t gpa, uint64_t len, bool read_ram, bool write_ram)
{
    const uint8_t set = (uint8_t)((read_ram && write_ram ? 0 : PAGE_READONLY) |
                                  (!read_ram && write_ram ? PAGE_HIDES_RAM : 0));
    const uint8_t clear = PAGE_READONLY | PAGE_HIDES_RAM;

    assert(gpa >= MEMORY_SHADOW_START && gpa + len <= MEMORY_SHADOW_END);
    memory_touched(mem, gpa, len);
    if (!map_shadow(mem, gpa, len, read_ram))
        return;
    for (gpa_t at = gpa; at < gpa + len; at += PAGE_SIZE) {
        uint8_t *flags = memory_page_flags(mem, at);

        __atomic_fetch_and(flags, (uint8_t)~clear, __ATOMIC_RELAXED);
        __atomic_fetch_or(flags, set, __ATOMIC_RELAXED);
    }
}

void *memory_hidden_ram(struct memory *mem, gpa_t gpa, uint64_t len)
{
    if (gpa >= MEMORY_VIDEO_NOWHERE && mem->video) {
        gpa -= MEMORY_VIDEO_NOWHERE;
        return gpa < mem->video->size && len <= mem->video->size - gpa ? mem->video->host + gpa
                                                                       : NULL;
    }
    if (gpa >= MIB)
        return memory_ram(mem, gpa, len);
    return memory_block_at(mem, gpa) && len <= MIB - gpa ? mem->first_mib + gpa : NULL;
}

/* --- access --- */

static void touch_page(struct memory *mem, gpa_t gpa, uint64_t len)
{
    uint8_t *flags = memory_page_flags(mem, gpa);

    if (!flags)
        return;
    __atomic_fetch_or(flags, PAGE_DIRTY, __ATOMIC_RELAXED);
    if ((__atomic_load_n(flags, __ATOMIC_RELAXED) & PAGE_CODE) && mem->code_changed)
        mem->code_changed(mem->code_opaque, gpa, len);
}

/* Calls fn for the part of the span that is in each page. */
static void for_each_page(struct memory *mem, gpa_t gpa, uint64_t len,
                          void (*fn)(struct memory *mem, gpa_t gpa, uint64_t len))
{
    while (len > 0) {
        uint64_t part = PAGE_SIZE - (gpa & ~PAGE_MASK);

        if (part > len)
            part = len;
        fn(mem, gpa, part);
        gpa += part;
        len -= part;
    }
}

void memory_touched(struct memory *mem, gpa_t gpa, uint64_t len)
{
    for_each_page(mem, gpa, len, touch_page);
}

/* --- DMA ---
 *
 * An engine's code is the vCPU thread's. So a store of another thread to a page with code is noted,
 * and the vCPU drops the code. The flag is looked at after the store, and an engine sets it before
 * it reads the code; so either the store is noted or the engine has read what was stored. */

static void note_span(struct memory_dma *dma, gpa_t gpa, uint64_t len)
{
    pthread_mutex_lock(&dma->lock);
    if (dma->count == 0 || gpa < dma->low)
        dma->low = gpa;
    if (dma->count == 0 || gpa + len > dma->high)
        dma->high = gpa + len;
    if (dma->count < MEMORY_DMA_SPANS) {
        dma->spans[dma->count].gpa = gpa;
        dma->spans[dma->count].len = len;
    }
    if (dma->count <= MEMORY_DMA_SPANS)
        dma->count++;
    pthread_mutex_unlock(&dma->lock);
    if (dma->pending)
        dma->pending(dma->opaque);
}

static void dma_touch_page(struct memory *mem, gpa_t gpa, uint64_t len)
{
    uint8_t *flags = memory_page_flags(mem, gpa);

    if (flags && (__atomic_fetch_or(flags, PAGE_DIRTY, __ATOMIC_SEQ_CST) & PAGE_CODE))
        note_span(&mem->dma, gpa, len);
}

void memory_dma_touched(struct memory *mem, gpa_t gpa, uint64_t len)
{
    for_each_page(mem, gpa, len, dma_touch_page);
}

void memory_set_dma_listener(struct memory *mem, void (*pending)(void *opaque), void *opaque)
{
    mem->dma.pending = pending;
    mem->dma.opaque = opaque;
}

void memory_dma_sync(struct memory *mem)
{
    struct memory_dma *dma = &mem->dma;

    pthread_mutex_lock(&dma->lock);
    if (dma->count > MEMORY_DMA_SPANS)
        memory_touched(mem, dma->low, dma->high - dma->low);
    else
        for (unsigned i = 0; i < dma->count; i++)
            memory_touched(mem, dma->spans[i].gpa, dma->spans[i].len);
    dma->count = 0;
    pthread_mutex_unlock(&dma->lock);
}

/* --- copies --- */

bool memory_read(struct memory *mem, gpa_t gpa, void *buf, uint64_t len)
{
    void *host = memory_ram(mem, gpa, len);

    if (!host)
        return false;
    memcpy(buf, host, len);
    return true;
}

bool memory_write(struct memory *mem, gpa_t gpa, const void *buf, uint64_t len)
{
    void *host = memory_ram(mem, gpa, len);

    if (!host || !memory_writable(mem, gpa, len))
        return false;
    memcpy(host, buf, len);
    memory_touched(mem, gpa, len);
    return true;
}

bool memory_writable(struct memory *mem, gpa_t gpa, uint64_t len)
{
    gpa_t end = gpa + len;

    /* Only the ROM and what is below 1 MiB can be read-only. */
    if (gpa >= MEMORY_SHADOW_END &&
        gpa - MEMORY_HOLE_START >= MEMORY_HIGH_START - MEMORY_HOLE_START)
        return true;
    for (gpa_t at = gpa & PAGE_MASK; at < end; at += PAGE_SIZE) {
        const uint8_t *flags = memory_page_flags(mem, at);

        if (!flags || (__atomic_load_n(flags, __ATOMIC_RELAXED) & PAGE_READONLY))
            return false;
    }
    return true;
}

void memory_store(struct memory *mem, gpa_t gpa, const void *buf, uint64_t len)
{
    uint8_t *flags = memory_page_flags(mem, gpa), *host = memory_ram(mem, gpa, len);
    uint8_t value = flags ? __atomic_load_n(flags, __ATOMIC_RELAXED) : 0;

    if (!host)
        return;
    if (value & PAGE_HIDES_RAM) {
        memcpy(mem->first_mib + gpa, buf, len);
    } else if (!(value & PAGE_READONLY)) {
        memcpy(host, buf, len);
        memory_touched(mem, gpa, len);
    }
}

static uint64_t file_size(const struct memory *mem)
{
    return mem->size + (mem->video ? mem->video->size : 0);
}

int memory_clear(struct memory *mem, struct err *err)
{
    if (fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)file_size(mem)) <
        0)
        return err_set(err, -errno, "the guest's memory cannot be cleared: %s", strerror(errno));
    for (unsigned i = 0; i < mem->block_count; i++)
        memory_touched(mem, mem->blocks[i].base, mem->blocks[i].size);
    return 0;
}

void memory_set_code_listener(struct memory *mem, memory_code_fn *fn, void *opaque)
{
    mem->code_changed = fn;
    mem->code_opaque = opaque;
}

static bool page_is_zero(const uint8_t *page)
{
    const uint64_t *q = (const uint64_t *)page;

    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        if (q[i])
            return false;
    return true;
}

/* A piece of RAM: where the guest and the file have it, and where it can be read. */
struct piece {
    gpa_t base;
    uint64_t size, file_offset;
    uint8_t *host;
};

/* The first MiB of a block, or the rest. Empty if the block has none. */
static struct piece piece_of(struct memory *mem, const struct memory_block *block, bool first)
{
    uint64_t below = block->base < MIB ? MIB - block->base : 0;

    if (block == mem->video)
        return (struct piece){MEMORY_VIDEO_NOWHERE, first ? 0 : block->size, block->file_offset,
                              block->host};
    if (below > block->size)
        below = block->size;
    if (first)
        return (struct piece){block->base, below, block->file_offset, mem->first_mib + block->base};
    return (struct piece){block->base + below, block->size - below, block->file_offset + below,
                          block->host + below};
}

typedef int used_fn(void *opaque, gpa_t gpa, void *host, uint64_t len);

/* Within one stretch of the file that has data: hands out the runs of pages that are not zero. */
static int runs_in_data(const struct piece *piece, uint64_t start, uint64_t end, used_fn *fn,
                        void *opaque)
{
    uint64_t run = start, at = start;
    int ret;

    for (; at < end; at += PAGE_SIZE) {
        if (!page_is_zero(piece->host + at))
            continue;
        if (at > run) {
            ret = fn(opaque, piece->base + run, piece->host + run, at - run);
            if (ret < 0)
                return ret;
        }
        run = at + PAGE_SIZE;
    }
    return at > run ? fn(opaque, piece->base + run, piece->host + run, at - run) : 0;
}

/* Reading a hole of a memfd through the mapping would allocate it; so the file is asked first. */
static int runs_in_piece(struct memory *mem, const struct piece *piece, used_fn *fn, void *opaque)
{
    off_t at = (off_t)piece->file_offset, limit = at + (off_t)piece->size;

    while (at < limit) {
        off_t data = lseek(mem->fd, at, SEEK_DATA);
        off_t hole;
        int ret;

        if (data < 0 || data >= limit)
            break;
        hole = lseek(mem->fd, data, SEEK_HOLE);
        if (hole < 0 || hole > limit)
            hole = limit;
        ret = runs_in_data(piece, (uint64_t)data - piece->file_offset,
                           (uint64_t)hole - piece->file_offset, fn, opaque);
        if (ret < 0)
            return ret;
        at = hole;
    }
    return 0;
}

int memory_for_each_used(struct memory *mem, used_fn *fn, void *opaque)
{
    for (unsigned i = 0; i < 2 * mem->block_count; i++) {
        const struct memory_block *block = &mem->blocks[i / 2];
        const struct piece piece = piece_of(mem, block, i % 2 == 0);
        int ret = block->rom ? 0 : runs_in_piece(mem, &piece, fn, opaque);

        if (ret < 0)
            return ret;
    }
    return 0;
}

static uint64_t mix(uint64_t hash, uint64_t v)
{
    hash ^= v;
    hash *= UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ (hash >> 29);
}

static int hash_run(void *opaque, gpa_t gpa, void *host, uint64_t len)
{
    uint64_t *hash = opaque;
    const uint64_t *q = host;

    for (uint64_t i = 0; i < len / 8; i++) {
        if (i % (PAGE_SIZE / 8) == 0)
            *hash = mix(*hash, gpa + i * 8);
        *hash = mix(*hash, q[i]);
    }
    return 0;
}

uint64_t memory_hash(struct memory *mem)
{
    uint64_t hash = 0;

    memory_for_each_used(mem, hash_run, &hash);
    return hash;
}

uint64_t memory_resident(struct memory *mem)
{
    uint64_t end = file_size(mem), total = 0;
    off_t at = 0;

    while (at < (off_t)end) {
        off_t data = lseek(mem->fd, at, SEEK_DATA), hole;

        if (data < 0)
            break;
        hole = lseek(mem->fd, data, SEEK_HOLE);
        if (hole < 0)
            hole = (off_t)end;
        total += (uint64_t)(hole - data);
        at = hole;
    }
    return total;
}
