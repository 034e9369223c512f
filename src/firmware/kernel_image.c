/* kernel_image.c - see kernel_image.h. Recognises the kind of image and calls its loader. */
#include "firmware/kernel_image.h"

#include "base/trace.h"
#include "firmware/elf_load.h"
#include "firmware/file_kind.h"
#include "firmware/multiboot1.h"
#include "firmware/multiboot2.h"
#include "firmware/pvh.h"

#include <errno.h>
#include <string.h>

#define START_MAX MULTIBOOT2_SEARCH /* all headers lie in so many bytes */
#define BZIMAGE_MAGIC_AT 0x202

static const char *const protocol_names[] = {
    [KERNEL_AUTO] = "auto",
    [KERNEL_LINUX] = "linux",
    [KERNEL_MULTIBOOT2] = "multiboot2",
    [KERNEL_MULTIBOOT1] = "multiboot1",
    [KERNEL_PVH] = "pvh",
};

/* What the first bytes of the file show. */
struct image {
    uint8_t start[START_MAX];
    size_t len;
    bool is_bzimage, is_elf;
    int64_t multiboot1, multiboot2; /* offsets of the headers, or -1 */
    struct elf_image elf;
};

bool kernel_protocol_parse(const char *name, enum kernel_protocol *protocol)
{
    for (unsigned i = 0; i < ARRAY_SIZE(protocol_names); i++)
        if (strcmp(name, protocol_names[i]) == 0) {
            *protocol = (enum kernel_protocol)i;
            return true;
        }
    return false;
}

static int examine(const struct boot_load *load, struct image *image)
{
    int r;

    image->len = load->kernel.size < START_MAX ? load->kernel.size : START_MAX;
    r = input_read(&load->kernel, 0, image->start, image->len, load->err);
    if (r < 0)
        return r;
    image->is_bzimage = image->len >= BZIMAGE_MAGIC_AT + 4 &&
                        memcmp(image->start + BZIMAGE_MAGIC_AT, "HdrS", 4) == 0;
    image->is_elf = elf_is_elf(image->start, image->len);
    image->multiboot1 = multiboot1_find(image->start, image->len);
    image->multiboot2 = multiboot2_find(image->start, image->len);
    return image->is_elf ? elf_read(load, &image->elf) : 0;
}

static enum kernel_protocol recognise(const struct image *image)
{
    if (image->is_bzimage)
        return KERNEL_LINUX;
    if (image->multiboot2 >= 0)
        return KERNEL_MULTIBOOT2;
    if (image->multiboot1 >= 0)
        return KERNEL_MULTIBOOT1;
    if (image->is_elf && image->elf.has_pvh)
        return KERNEL_PVH;
    return image->is_elf && image->elf.is_64 ? KERNEL_LINUX : KERNEL_AUTO;
}

/* --- what is none of them --- */

static int refuse_unknown(const struct boot_load *load, const struct image *image)
{
    static const char accepted[] =
        "a Linux bzImage or 64-bit vmlinux, an ELF file with a PVH note, or a Multiboot kernel is "
        "needed";
    const char *kind = image->is_elf ? "a 32-bit ELF file without a Multiboot header or PVH note"
                                     : file_kind(&load->kernel, image->start, image->len);

    if (!kind)
        return err_set(load->err, -ENOEXEC,
                       "'%s' is not a kernel that can be started: it has none of the known "
                       "headers; %s",
                       load->config->kernel, accepted);
    return err_set(load->err, -ENOEXEC,
                   "'%s' is not a kernel that can be started: it looks like %s; %s",
                   load->config->kernel, kind, accepted);
}

static int refuse_protocol(const struct boot_load *load, enum kernel_protocol protocol)
{
    return err_set(load->err, -ENOEXEC,
                   "the kernel '%s' cannot be started by --protocol %s: it has no header for that",
                   load->config->kernel, protocol_names[protocol]);
}

/* --- each protocol --- */

static struct linux_boot_config linux_config(const struct kernel_config *config)
{
    return (struct linux_boot_config){
        .kernel = config->kernel,
        .initrd = config->initrd,
        .cmdline = config->cmdline,
        .e820 = config->e820,
        .rsdp = config->rsdp,
    };
}

/* The entry of a vmlinux is startup_64, at its physical address. */
static int load_vmlinux(struct boot_load *load, const struct elf_image *elf, struct boot_state *out)
{
    const struct linux_boot_config config = linux_config(load->config);
    gpa_t entry = 0;
    int r = elf_load(load, elf);

    if (r == 0)
        r = elf_entry(load, elf, elf->entry, &entry);
    if (r < 0)
        return r;
    if (load->extent.base < MIB || load->extent.base + load->extent.size > MEMORY_HIGH_START)
        return boot_load_refuse(load, "a vmlinux has to lie between 1 MiB and 4 GiB");
    return linux_boot_load_rest(load->mem, &config, load->extent, entry, out, load->err);
}

static int load_linux(struct boot_load *load, const struct image *image, struct boot_state *out)
{
    const struct linux_boot_config config = linux_config(load->config);

    if (image->is_elf && !image->is_bzimage)
        return load_vmlinux(load, &image->elf, out);
    return linux_boot_load(load->mem, &config, out, load->err);
}

static int load_by(struct boot_load *load, const struct image *image, enum kernel_protocol protocol,
                   struct boot_state *out)
{
    switch (protocol) {
    case KERNEL_LINUX:
        if (!image->is_bzimage && !(image->is_elf && image->elf.is_64))
            return refuse_protocol(load, protocol);
        return load_linux(load, image, out);
    case KERNEL_MULTIBOOT2:
        return image->multiboot2 < 0 ? refuse_protocol(load, protocol)
                                     : multiboot2_load(load, (uint64_t)image->multiboot2, out);
    case KERNEL_MULTIBOOT1:
        return image->multiboot1 < 0 ? refuse_protocol(load, protocol)
                                     : multiboot1_load(load, (uint64_t)image->multiboot1, out);
    case KERNEL_PVH:
        return !image->is_elf || !image->elf.has_pvh ? refuse_protocol(load, protocol)
                                                     : pvh_load(load, &image->elf, out);
    case KERNEL_AUTO: break;
    }
    return refuse_unknown(load, image);
}

int kernel_image_load(struct memory *mem, const struct kernel_config *config,
                      struct boot_state *out, struct err *err)
{
    enum kernel_protocol protocol = config->protocol;
    struct image image = {0};
    struct boot_load load;
    int r = boot_load_open(&load, mem, config, err);

    if (r == 0)
        r = examine(&load, &image);
    if (r == 0 && protocol == KERNEL_AUTO)
        protocol = recognise(&image);
    if (r == 0)
        r = load_by(&load, &image, protocol, out);
    if (r == 0)
        trace_kernel_image_start(protocol_names[protocol], out->rip);
    boot_load_close(&load);
    return r;
}
