/* flat_load.c - see flat_load.h. */
#include "firmware/flat_load.h"

int flat_load(struct boot_load *load, const struct flat_image *flat)
{
    uint64_t offset, size, room;

    if (flat->load_addr > flat->header_addr ||
        flat->header_addr - flat->load_addr > flat->header_offset)
        return boot_load_refuse(load, "the load address in its Multiboot header lies before the "
                                      "file's first byte or behind the header");
    offset = flat->header_offset - (flat->header_addr - flat->load_addr);
    if (flat->load_end_addr && flat->load_end_addr <= flat->load_addr)
        return boot_load_refuse(load, "its Multiboot header says that loading ends where it "
                                      "begins or before");
    size = flat->load_end_addr ? flat->load_end_addr - flat->load_addr : load->kernel.size - offset;
    if (flat->bss_end_addr && flat->bss_end_addr < flat->load_addr + size)
        return boot_load_refuse(load, "its Multiboot header says that memory ends within the "
                                      "loaded bytes");
    room = flat->bss_end_addr ? flat->bss_end_addr - flat->load_addr : size;
    if (flat->entry_addr < flat->load_addr || flat->entry_addr - flat->load_addr >= room)
        return boot_load_refuse(load, "the entry in its Multiboot header lies outside of it");
    return boot_load_segment(load, offset, size, flat->load_addr, room);
}
