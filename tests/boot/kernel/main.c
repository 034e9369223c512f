/* main.c - prints what the boot loader gave on the serial port, and ends with --debug-exit 0xf4. */
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

static u8 zeros[4096]; /* bss: must be clear */

static void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static void print(const char *s)
{
    while (*s)
        out8(0x3f8, (u8)*s++);
}

static void print_hex(const char *label, u32 value)
{
    print(label);
    for (int shift = 28; shift >= 0; shift -= 4)
        out8(0x3f8, (u8) "0123456789abcdef"[value >> shift & 15]);
}

static void print_text(const char *label, u32 at)
{
    print(label);
    print((const char *)at);
    print("\n");
}

static void print_module(u32 start, u32 end, u32 string)
{
    print_text("module: ", string);
    print("  holds: ");
    for (u32 at = start; at < end; at++)
        out8(0x3f8, *(u8 *)at);
    print("\n");
}

static void print_range(const u32 *range)
{
    print_hex("memory: ", range[0]);
    print_hex(" ", range[2]);
    print_hex(" ", range[4]);
    print("\n");
}

static void print_rsdp(u32 at)
{
    print("rsdp: ");
    for (u32 i = 0; i < 8; i++)
        out8(0x3f8, ((u8 *)at)[i]);
    print("\n");
}

static void multiboot1(const u32 *info)
{
    const u32 *module = (const u32 *)info[6];

    print_hex("multiboot1, flags ", info[0]);
    print_hex(", upper KiB ", info[2]);
    print_text("\nloader: ", info[16]);
    print_text("cmdline: ", info[4]);
    for (u32 i = 0; i < info[5]; i++, module += 4)
        print_module(module[0], module[1], module[2]);
    for (u32 at = info[12]; at < info[12] + info[11]; at += *(u32 *)at + 4)
        print_range((const u32 *)(at + 4));
}

static void multiboot2(const u32 *info)
{
    u32 end = (u32)info + info[0];
    const u32 *tag = info + 2;

    print("multiboot2\n");
    for (; (u32)tag < end && tag[0]; tag = (const u32 *)(((u32)tag + tag[1] + 7) & ~7u)) {
        if (tag[0] == 1)
            print_text("cmdline: ", (u32)(tag + 2));
        if (tag[0] == 2)
            print_text("loader: ", (u32)(tag + 2));
        if (tag[0] == 3)
            print_module(tag[2], tag[3], (u32)(tag + 4));
        if (tag[0] == 15)
            print_rsdp((u32)(tag + 2));
        for (u32 at = 16; tag[0] == 6 && at < tag[1]; at += tag[2])
            print_range((const u32 *)((u32)tag + at));
    }
}

static void pvh(const u32 *info)
{
    const u32 *module = (const u32 *)info[4], *range = (const u32 *)info[10];

    print_text("pvh\ncmdline: ", info[6]);
    for (u32 i = 0; i < info[3]; i++, module += 8)
        print_module(module[0], module[0] + module[2], module[4]);
    print_rsdp(info[8]);
    for (u32 i = 0; i < info[12]; i++, range += 6)
        print_range(range);
}

static u8 fw_cfg_read(void)
{
    u8 value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"((u16)0x511));
    return value;
}

static void fw_cfg(u16 key, const char *label)
{
    __asm__ volatile("outw %0, %1" ::"a"(key), "Nd"((u16)0x510));
    u32 value = fw_cfg_read();
    value |= (u32)fw_cfg_read() << 8;
    value |= (u32)fw_cfg_read() << 16;
    print_hex(label, value | (u32)fw_cfg_read() << 24);
    print("\n");
}

void kernel_main(u32 magic, const u32 *info);
void kernel_main(u32 magic, const u32 *info)
{
    u32 dirty = 0;

    for (u32 i = 0; i < sizeof zeros; i++)
        dirty |= zeros[i];
    if (magic == 0x2badb002)
        multiboot1(info);
    else if (magic == 0x36d76289)
        multiboot2(info);
    else if (info[0] == 0x336ec578)
        pvh(info);
    else
        print("started in an unknown way\n");
    fw_cfg(0, "fw_cfg signature: ");
    fw_cfg(5, "fw_cfg cpus: ");
    fw_cfg(3, "fw_cfg memory: ");
    out8(0xf4, dirty ? 1 : 0x21);
}
