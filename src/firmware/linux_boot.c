/* linux_boot.c - see linux_boot.h.
 *
 * A bzImage is a boot sector and setup code for real mode, which we skip, with a header in it at
 * 1F1h; behind them ((setup_sects + 1) * 512 bytes into the file) comes the protected-mode kernel.
 */
#include "firmware/linux_boot.h"

#include "base/trace.h"
#include "cpu/cpu.h"
#include "cpu/tlb.h"
#include "firmware/file_kind.h"
#include "firmware/input_file.h"

#include <errno.h>
#include <string.h>

#define ZERO_PAGE UINT64_C(0x10000)
#define GDT_ADDRESS UINT64_C(0x11000)
#define PAGE_TABLES UINT64_C(0x12000)
#define STACK_TOP UINT64_C(0x20000)
#define CMDLINE_ADDRESS UINT64_C(0x20000)
#define CMDLINE_MAX UINT32_C(0xffff)

#define HEADER_OFFSET 0x1f1
#define HEADER_MAX 0x290 /* where the e820 table of boot_params is near */
#define BOOT_FLAG 0xaa55u
#define MAGIC "HdrS"
#define PROTOCOL_MIN 0x020au
#define PROTOCOL_XLOADFLAGS 0x020cu

#define LOADED_HIGH 0x01u /* loadflags */
#define XLF_KERNEL_64 0x01u
#define XLF_CAN_BE_LOADED_ABOVE_4G 0x02u

#define ALIGNMENT_MAX (UINT64_C(1) << 30)
#define CODE_SELECTOR 0x10
#define DATA_SELECTOR 0x18

/* The setup header as it lies in the file and in boot_params from 1F1h on. */
struct setup_header {
    uint8_t setup_sects;
    uint16_t root_flags;
    uint32_t syssize; /* of the protected-mode kernel, in 16 bytes */
    uint16_t ram_size, vid_mode, root_dev, boot_flag, jump;
    char magic[4];
    uint16_t version;
    uint32_t realmode_switch;
    uint16_t start_sys_seg, kernel_version;
    uint8_t type_of_loader, loadflags;
    uint16_t setup_move_size;
    uint32_t code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
    uint16_t heap_end_ptr;
    uint8_t ext_loader_ver, ext_loader_type;
    uint32_t cmd_line_ptr, initrd_addr_max, kernel_alignment;
    uint8_t relocatable_kernel, min_alignment;
    uint16_t xloadflags;
    uint32_t cmdline_size, hardware_subarch;
    uint64_t hardware_subarch_data;
    uint32_t payload_offset, payload_length;
    uint64_t setup_data, pref_address;
    uint32_t init_size, handover_offset, kernel_info_offset;
} __attribute__((packed));
_Static_assert(offsetof(struct setup_header, magic) + HEADER_OFFSET == 0x202, "boot.rst");
_Static_assert(offsetof(struct setup_header, kernel_alignment) + HEADER_OFFSET == 0x230, "");
_Static_assert(offsetof(struct setup_header, init_size) + HEADER_OFFSET == 0x260, "boot.rst");
_Static_assert(sizeof(struct setup_header) + HEADER_OFFSET == 0x26c, "boot.rst");

struct boot_params {
    uint8_t screen_info[0x70];
    uint64_t acpi_rsdp_addr;
    uint8_t pad1[0xc0 - 0x78];
    uint32_t ext_ramdisk_image, ext_ramdisk_size, ext_cmd_line_ptr;
    uint8_t pad2[0x1e8 - 0xcc];
    uint8_t e820_entries;
    uint8_t pad3[HEADER_OFFSET - 0x1e9];
    struct setup_header header;
    uint8_t pad4[0x2d0 - 0x26c];
    struct e820_entry e820_table[E820_MAX_ENTRIES];
    uint8_t pad5[0x1000 - 0x2d0 - E820_MAX_ENTRIES * 20];
} __attribute__((packed));
_Static_assert(sizeof(struct boot_params) == 0x1000, "zero-page.rst");
_Static_assert(offsetof(struct boot_params, ext_ramdisk_image) == 0xc0, "zero-page.rst");
_Static_assert(offsetof(struct boot_params, e820_entries) == 0x1e8, "zero-page.rst");

struct loader {
    struct memory *mem;
    const struct linux_boot_config *config;
    struct err *err;
    struct input_file kernel, initrd;
    struct setup_header header;
    uint64_t setup_bytes;  /* boot sector and setup code, in the file */
    uint64_t kernel_bytes; /* protected-mode kernel, in the file */
    uint64_t room;         /* what the kernel needs from its start on */
    gpa_t kernel_at, initrd_at;
};

/* --- is it a kernel? --- */

static int refuse_kind(const struct loader *loader, const uint8_t *start, size_t len)
{
    const char *kind = file_kind(&loader->kernel, start, len);

    if (!kind)
        return err_set(loader->err, -ENOEXEC,
                       "'%s' is not a Linux kernel: it has no setup header; a bzImage is needed",
                       loader->kernel.path);
    return err_set(loader->err, -ENOEXEC,
                   "'%s' is not a Linux kernel: it looks like %s; a bzImage is needed",
                   loader->kernel.path, kind);
}

/* Reads the setup header; fields that the file's protocol version doesn't have become zero. */
static int read_header(struct loader *loader)
{
    struct setup_header *header = &loader->header;
    uint8_t start[HEADER_MAX] = {0};
    size_t len = loader->kernel.size < sizeof start ? loader->kernel.size : sizeof start;
    size_t header_len;
    int r = input_read(&loader->kernel, 0, start, len, loader->err);

    if (r < 0)
        return r;
    memcpy(header, start + HEADER_OFFSET, sizeof *header);
    if (header->boot_flag != BOOT_FLAG || memcmp(header->magic, MAGIC, sizeof header->magic) != 0)
        return refuse_kind(loader, start, len);
    if (len < sizeof start)
        return err_set(loader->err, -ENOEXEC,
                       "the kernel '%s' is truncated: it ends within its setup header",
                       loader->kernel.path);
    header_len = 0x202u - HEADER_OFFSET + start[0x201];
    if (header_len < sizeof *header)
        memset((uint8_t *)header + header_len, 0, sizeof *header - header_len);
    return 0;
}

/* --- is its header sound? --- */

static int refuse(const struct loader *loader, const char *reason)
{
    return err_set(loader->err, -ENOEXEC, "the kernel '%s' cannot be started: %s",
                   loader->kernel.path, reason);
}

static int check_sizes(struct loader *loader)
{
    const struct setup_header *header = &loader->header;
    uint64_t promised = (uint64_t)header->syssize * 16;
    uint64_t in_file;

    loader->setup_bytes = ((header->setup_sects ? header->setup_sects : 4) + UINT64_C(1)) * 512;
    if (loader->setup_bytes >= loader->kernel.size)
        return err_set(loader->err, -ENOEXEC,
                       "the kernel '%s' is truncated or corrupt: its header promises %llu bytes of "
                       "setup code, the file has %llu bytes",
                       loader->kernel.path, (unsigned long long)loader->setup_bytes,
                       (unsigned long long)loader->kernel.size);
    in_file = loader->kernel.size - loader->setup_bytes;
    if (promised == 0)
        return refuse(loader, "its header says that it has no code");
    if (promised > in_file + 15)
        return err_set(loader->err, -ENOEXEC,
                       "the kernel '%s' is truncated: its header promises %llu bytes of code, the "
                       "file has %llu",
                       loader->kernel.path, (unsigned long long)promised,
                       (unsigned long long)in_file);
    loader->kernel_bytes = promised < in_file ? promised : in_file;
    if ((uint64_t)header->payload_offset + header->payload_length > loader->kernel_bytes)
        return refuse(loader, "its payload lies beyond the end of the file");
    return 0;
}

static int check_header(struct loader *loader)
{
    const struct setup_header *header = &loader->header;
    uint64_t alignment = header->kernel_alignment;

    if (header->version < PROTOCOL_MIN)
        return err_set(loader->err, -ENOEXEC,
                       "the kernel '%s' speaks boot protocol %u.%02u; 2.10 (Linux 2.6.31) or later "
                       "is needed",
                       loader->kernel.path, header->version >> 8, header->version & 0xffu);
    if (!(header->loadflags & LOADED_HIGH))
        return refuse(loader, "it is a zImage, which loads below 1 MiB; a bzImage is needed");
    if (alignment == 0 || (alignment & (alignment - 1)) || alignment > ALIGNMENT_MAX)
        return refuse(loader, "the alignment in its header is not a power of two up to 1 GiB");
    if (header->pref_address < MIB || header->pref_address >= MEMORY_HIGH_START)
        return refuse(loader, "the address in its header is not between 1 MiB and 4 GiB");
    return check_sizes(loader);
}

static bool is_64bit(const struct loader *loader)
{
    return loader->header.version >= PROTOCOL_XLOADFLAGS &&
           (loader->header.xloadflags & XLF_KERNEL_64);
}

/* --- where things go --- */

/* A relocatable kernel runs where it is loaded, but never below its preferred address: loaded
 * lower, it moves itself there (head_64.S), and needs its room from there. Another always moves
 * itself to its preferred address, and is loaded at 1 MiB. */
static int place_kernel(struct loader *loader)
{
    const struct setup_header *header = &loader->header;
    uint64_t align = header->kernel_alignment;

    loader->room =
        header->init_size > loader->kernel_bytes ? header->init_size : loader->kernel_bytes;
    if (header->relocatable_kernel) {
        loader->kernel_at = (header->pref_address + align - 1) & ~(align - 1);
    } else {
        loader->kernel_at = MIB;
        loader->room += header->pref_address - MIB;
    }
    if (e820_is_ram(loader->config->e820, loader->kernel_at, loader->room))
        return 0;
    return err_set(loader->err, -ENOMEM,
                   "the kernel '%s' needs %llu MiB from %llu MiB on, which the guest's memory does "
                   "not have; give it more",
                   loader->kernel.path, (unsigned long long)((loader->room + MIB - 1) / MIB),
                   (unsigned long long)(loader->kernel_at / MIB));
}

/* The highest page in [start, end) at which `size` bytes fit below `limit`; *at is kept if none. */
static bool room_in(uint64_t start, uint64_t end, uint64_t limit, uint64_t size, gpa_t *at)
{
    if (end > limit)
        end = limit;
    if (start >= end || size > end - start || ((end - size) & PAGE_MASK) < start)
        return false;
    *at = (end - size) & PAGE_MASK;
    return true;
}

/* The highest page at which `size` bytes of RAM end below `limit` and don't meet the kernel. */
static bool highest_room(const struct loader *loader, uint64_t size, uint64_t limit, gpa_t *at)
{
    const struct e820_map *map = loader->config->e820;
    gpa_t kernel = loader->kernel_at;
    bool found = false;

    for (unsigned i = 0; i < map->count; i++) {
        gpa_t start = map->entries[i].base, end = start + map->entries[i].size;

        if (map->entries[i].type != E820_RAM || start < MIB)
            continue;
        if (start <= kernel && kernel < end) {
            found |= room_in(start, kernel, limit, size, at);
            start = kernel + loader->room;
        }
        found |= room_in(start, end, limit, size, at);
    }
    return found;
}

static int place_initrd(struct loader *loader)
{
    const struct setup_header *header = &loader->header;
    uint64_t size = loader->initrd.size;
    uint64_t limit = (uint64_t)header->initrd_addr_max + 1;
    bool high = is_64bit(loader) && (header->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G);

    if (highest_room(loader, size, limit, &loader->initrd_at) ||
        (high && highest_room(loader, size, UINT64_MAX, &loader->initrd_at)))
        return 0;
    return err_set(loader->err, -ENOMEM,
                   "the initrd '%s' of %llu KiB does not fit into the guest's memory beside the "
                   "kernel%s; give the guest more memory",
                   loader->initrd.path, (unsigned long long)((size + KIB - 1) / KIB),
                   high ? "" : " and below the address that the kernel allows");
}

/* --- what goes into low memory --- */

static int write_low(struct loader *loader, gpa_t gpa, const void *buf, uint64_t len)
{
    if (!e820_is_ram(loader->config->e820, gpa, len) || !memory_write(loader->mem, gpa, buf, len))
        return err_set(loader->err, -ENOMEM, "the guest has no memory at %#llx",
                       (unsigned long long)gpa);
    return 0;
}

static int write_cmdline(struct loader *loader)
{
    const char *cmdline = loader->config->cmdline ? loader->config->cmdline : "";
    uint32_t max = loader->header.cmdline_size;
    size_t len = strlen(cmdline);

    if (max > CMDLINE_MAX - 1)
        max = CMDLINE_MAX - 1;
    if (len > max)
        return err_set(loader->err, -E2BIG,
                       "the kernel's command line has %zu characters; this kernel takes at most %u",
                       len, max);
    return write_low(loader, CMDLINE_ADDRESS, cmdline, len + 1);
}

static int write_zero_page(struct loader *loader)
{
    const struct e820_map *map = loader->config->e820;
    struct boot_params params;
    struct setup_header *header = &params.header;

    memset(&params, 0, sizeof params);
    *header = loader->header;
    params.acpi_rsdp_addr = loader->config->rsdp;
    params.e820_entries = (uint8_t)map->count;
    memcpy(params.e820_table, map->entries, map->count * sizeof map->entries[0]);
    header->type_of_loader = 0xff; /* none that has a number */
    header->vid_mode = 0xffff;     /* normal */
    header->code32_start = (uint32_t)loader->kernel_at;
    header->setup_data = 0;
    header->cmd_line_ptr = (uint32_t)CMDLINE_ADDRESS;
    header->ramdisk_image = (uint32_t)loader->initrd_at;
    header->ramdisk_size = (uint32_t)loader->initrd.size;
    params.ext_ramdisk_image = (uint32_t)(loader->initrd_at >> 32);
    params.ext_ramdisk_size = (uint32_t)(loader->initrd.size >> 32);
    return write_low(loader, ZERO_PAGE, &params, sizeof params);
}

/* The selectors are those that boot.rst asks for: CS 10h, the others 18h. */
static int write_gdt(struct loader *loader, bool long_mode)
{
    const uint64_t gdt[4] = {
        0,
        0,
        long_mode ? UINT64_C(0x00af9b000000ffff) : UINT64_C(0x00cf9b000000ffff),
        UINT64_C(0x00cf93000000ffff),
    };

    return write_low(loader, GDT_ADDRESS, gdt, sizeof gdt);
}

/* Identity map of the first 4 GiB with 2 MiB pages. */
static int write_page_tables(struct loader *loader)
{
    const uint64_t present_write = 3, large = 0x80;
    uint64_t table[512] = {PAGE_TABLES + PAGE_SIZE + present_write};
    int r = write_low(loader, PAGE_TABLES, table, sizeof table);

    for (unsigned i = 0; i < 4; i++)
        table[i] = PAGE_TABLES + (2 + i) * PAGE_SIZE + present_write;
    if (r == 0)
        r = write_low(loader, PAGE_TABLES + PAGE_SIZE, table, sizeof table);
    for (unsigned i = 0; i < 4 && r == 0; i++) {
        for (unsigned j = 0; j < 512; j++)
            table[j] = i * GIB + j * 2 * MIB + large + present_write;
        r = write_low(loader, PAGE_TABLES + (2 + i) * PAGE_SIZE, table, sizeof table);
    }
    return r;
}

/* --- putting it together --- */

static int load_kernel(struct loader *loader)
{
    int r;

    if ((r = read_header(loader)) < 0 || (r = check_header(loader)) < 0 ||
        (r = place_kernel(loader)) < 0)
        return r;
    trace_linux_boot_kernel(loader->kernel_at, loader->kernel_bytes, loader->room,
                            loader->header.version);
    return input_load(loader->mem, &loader->kernel, loader->setup_bytes, loader->kernel_bytes,
                      loader->kernel_at, loader->err);
}

static int load_initrd(struct loader *loader)
{
    int r = input_open(&loader->initrd, "initrd", loader->config->initrd, loader->err);

    if (r < 0 || (r = place_initrd(loader)) < 0)
        return r;
    trace_linux_boot_initrd(loader->initrd_at, loader->initrd.size);
    return input_load(loader->mem, &loader->initrd, 0, loader->initrd.size, loader->initrd_at,
                      loader->err);
}

/* Everything that the kernel finds in memory beside itself. */
static int load_rest(struct loader *loader)
{
    int r;

    if (loader->config->initrd && (r = load_initrd(loader)) < 0)
        return r;
    if ((r = write_cmdline(loader)) < 0 || (r = write_zero_page(loader)) < 0 ||
        (r = write_gdt(loader, is_64bit(loader))) < 0)
        return r;
    return is_64bit(loader) ? write_page_tables(loader) : 0;
}

static struct boot_state start_state(const struct loader *loader, gpa_t entry)
{
    return (struct boot_state){
        .long_mode = is_64bit(loader),
        .rip = entry,
        .rsi = ZERO_PAGE,
        .rsp = STACK_TOP,
        .cr3 = PAGE_TABLES,
        .gdt = GDT_ADDRESS,
        .gdt_limit = 4 * 8 - 1,
        .kernel = {loader->kernel_at, loader->room},
        .initrd = {loader->initrd_at, loader->initrd.size},
    };
}

int linux_boot_load(struct memory *mem, const struct linux_boot_config *config,
                    struct boot_state *out, struct err *err)
{
    struct loader loader = {.mem = mem, .config = config, .err = err};
    int r;

    loader.initrd.fd = -1;
    r = input_open(&loader.kernel, "kernel", config->kernel, err);
    if (r == 0)
        r = load_kernel(&loader);
    if (r == 0)
        r = load_rest(&loader);
    if (r == 0)
        *out = start_state(&loader, loader.kernel_at + (is_64bit(&loader) ? 0x200 : 0));
    input_close(&loader.kernel);
    input_close(&loader.initrd);
    return r;
}

/* An unpacked kernel has no setup header; these are the fields of one that it reads later. */
int linux_boot_load_rest(struct memory *mem, const struct linux_boot_config *config,
                         struct boot_range kernel, gpa_t entry, struct boot_state *out,
                         struct err *err)
{
    struct loader loader = {
        .mem = mem,
        .config = config,
        .err = err,
        .kernel = {.what = "kernel", .path = config->kernel, .fd = -1},
        .initrd = {.fd = -1},
        .header = {.boot_flag = BOOT_FLAG,
                   .magic = {'H', 'd', 'r', 'S'},
                   .version = 0x020f,
                   .loadflags = LOADED_HIGH,
                   .initrd_addr_max = 0x7fffffff,
                   .kernel_alignment = 2 * MIB,
                   .xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
                   .cmdline_size = 2047},
        .kernel_at = kernel.base,
        .room = kernel.size,
    };
    int r = load_rest(&loader);

    if (r == 0)
        *out = start_state(&loader, entry);
    input_close(&loader.initrd);
    return r;
}

void boot_state_apply(const struct boot_state *state, struct cpu *cpu)
{
    const uint16_t data = SEG_P | SEG_S | SEG_DB | SEG_G | SEG_WRITABLE | SEG_ACCESSED;
    const uint16_t code = SEG_P | SEG_S | SEG_G | SEG_CODE | SEG_WRITABLE | SEG_ACCESSED;

    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = 0;
    cpu->gpr[RAX] = state->rax;
    cpu->gpr[RBX] = state->rbx;
    cpu->gpr[RSI] = state->rsi;
    cpu->gpr[RSP] = state->rsp;
    cpu->rip = state->rip;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = (struct segment){.limit = UINT32_MAX, .sel = DATA_SELECTOR, .attr = data};
    cpu->seg[CS].sel = CODE_SELECTOR;
    cpu->seg[CS].attr = code | (state->long_mode ? SEG_L : SEG_DB);
    cpu->gdtr = (struct desc_table){.base = state->gdt, .limit = state->gdt_limit};
    cpu->cr0 = CR0_PE | CR0_ET | CR0_NE;
    if (state->long_mode) {
        cpu->cr0 |= CR0_PG | CR0_WP;
        cpu->cr4 = CR4_PAE;
        cpu->cr3 = state->cr3;
        cpu->efer = EFER_LME | EFER_LMA;
    }
    cpu_set_rflags(cpu, 2);
    cpu_set_cpl(cpu, 0);
    cpu_update_mode(cpu);
    tlb_flush_all(cpu);
}
