/* file_kind.c - see file_kind.h. */
#include "firmware/file_kind.h"

#include <string.h>

/* ISO 9660: the volume descriptors begin at sector 16 of 2048 bytes. */
static bool is_iso(const struct input_file *file)
{
    uint8_t id[5];

    return file->size >= 0x8006 && input_read(file, 0x8001, id, sizeof id, NULL) == 0 &&
           memcmp(id, "CD001", sizeof id) == 0;
}

const char *file_kind(const struct input_file *file, const uint8_t *start, size_t len)
{
    static const struct {
        const char *magic, *kind;
        uint8_t len;
    } kinds[] = {
        {"\x7f"
         "ELF",
         "an ELF file", 4},
        {"\x1f\x8b", "a gzip file (unpack it with gunzip)", 2},
        {"\xfd"
         "7zXZ",
         "an xz file (unpack it with unxz)", 5},
        {"BZh", "a bzip2 file (unpack it with bunzip2)", 3},
        {"\x28\xb5\x2f\xfd", "a zstd file (unpack it with unzstd)", 4},
        {"\x02\x21\x4c\x18", "an lz4 file (unpack it with unlz4)", 4},
        {"070701", "a cpio archive (an initrd?)", 6},
        {"QFI\xfb", "a qcow2 disk image", 4},
        {"\x27\x05\x19\x56", "a U-Boot image", 4},
        {"!<arch>", "an archive or Debian package", 7},
        {"PK\x03\x04", "a zip file", 4},
        {"#!", "a script", 2},
        {"MZ", "a DOS, Windows or EFI program", 2},
    };

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (len >= kinds[i].len && memcmp(start, kinds[i].magic, kinds[i].len) == 0)
            return kinds[i].kind;
    if (is_iso(file))
        return "an ISO 9660 image of a CD";
    if (len >= 512 && start[510] == 0x55 && start[511] == 0xaa)
        return "a disk image or boot sector";
    return NULL;
}

/* A kernel may have a boot sector's signature, and a CD one, too, so they are looked for first. */
enum file_use file_use(const struct input_file *file, const uint8_t *start, size_t len)
{
    bool is_elf = len >= 4 && memcmp(start,
                                     "\x7f"
                                     "ELF",
                                     4) == 0;
    bool is_linux = len >= 0x206 && memcmp(start + 0x202, "HdrS", 4) == 0;

    if (is_elf || is_linux)
        return FILE_USE_KERNEL;
    if (is_iso(file))
        return FILE_USE_CD;
    if (len >= 4 && memcmp(start, "QFI\xfb", 4) == 0)
        return FILE_USE_DISK;
    if (len >= 512 && start[510] == 0x55 && start[511] == 0xaa)
        return FILE_USE_DISK;
    /* A disk that nothing has been written to is one, too. */
    return file->size % 512 == 0 && !file_kind(file, start, len) ? FILE_USE_DISK : FILE_USE_NONE;
}
