/* elf_load.c - see elf_load.h. Both classes of headers are read into one form. */
#include "firmware/elf_load.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define NOTES_MAX (64 * KIB) /* of one PT_NOTE; more is not read */
#define PROGRAM_HEADERS_MAX 1024
#define NOTE_PHYS32_ENTRY 18 /* xen/include/public/elfnote.h */

struct header {
    uint16_t type, machine, segment_size, segment_count;
    uint64_t entry, segments_at;
};

struct program_header {
    uint32_t type;
    uint64_t align;
    struct elf_segment segment;
};

bool elf_is_elf(const uint8_t *start, size_t len)
{
    return len >= SELFMAG && memcmp(start, ELFMAG, SELFMAG) == 0;
}

/* --- the header --- */

static int read_header(const struct boot_load *load, bool is_64, struct header *out)
{
    union {
        Elf32_Ehdr e32;
        Elf64_Ehdr e64;
    } file;
    uint64_t size = is_64 ? sizeof file.e64 : sizeof file.e32;
    int r;

    if (load->kernel.size < size)
        return boot_load_refuse(load, "it is truncated: it ends within its ELF header");
    r = input_read(&load->kernel, 0, &file, size, load->err);
    if (r < 0)
        return r;
    if (is_64)
        *out = (struct header){file.e64.e_type,  file.e64.e_machine, file.e64.e_phentsize,
                               file.e64.e_phnum, file.e64.e_entry,   file.e64.e_phoff};
    else
        *out = (struct header){file.e32.e_type,  file.e32.e_machine, file.e32.e_phentsize,
                               file.e32.e_phnum, file.e32.e_entry,   file.e32.e_phoff};
    return 0;
}

static int check_header(const struct boot_load *load, const struct header *header, bool is_64)
{
    uint64_t size = is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

    if (header->machine != EM_386 && header->machine != EM_X86_64)
        return boot_load_refuse(load, "it is not an ELF file for x86");
    if (header->type != ET_EXEC && header->type != ET_DYN)
        return boot_load_refuse(load, "it is an ELF file, but not an executable one");
    if (header->segment_count == 0)
        return boot_load_refuse(load, "it is an ELF file without program headers");
    if (header->segment_count > PROGRAM_HEADERS_MAX)
        return boot_load_refuse(load, "it has too many ELF program headers");
    if (header->segment_size != size)
        return boot_load_refuse(load, "its ELF program headers have a wrong size");
    if (header->segments_at > load->kernel.size ||
        header->segment_count * size > load->kernel.size - header->segments_at)
        return boot_load_refuse(load,
                                "it is truncated: its program headers lie beyond the end of the "
                                "file");
    return 0;
}

static int read_program_header(const struct boot_load *load, bool is_64, uint64_t offset,
                               struct program_header *out)
{
    union {
        Elf32_Phdr p32;
        Elf64_Phdr p64;
    } file;
    int r = input_read(&load->kernel, offset, &file, is_64 ? sizeof file.p64 : sizeof file.p32,
                       load->err);

    if (r < 0)
        return r;
    if (is_64)
        *out = (struct program_header){file.p64.p_type,
                                       file.p64.p_align,
                                       {file.p64.p_offset, file.p64.p_filesz, file.p64.p_paddr,
                                        file.p64.p_vaddr, file.p64.p_memsz}};
    else
        *out = (struct program_header){file.p32.p_type,
                                       file.p32.p_align,
                                       {file.p32.p_offset, file.p32.p_filesz, file.p32.p_paddr,
                                        file.p32.p_vaddr, file.p32.p_memsz}};
    return 0;
}

/* --- notes --- */

/* Rounded up; lengths of notes are 32-bit, so this does not overflow. */
static uint64_t padded(uint64_t length, uint64_t align)
{
    return (length + align - 1) & ~(align - 1);
}

static void take_note(struct elf_image *elf, const Elf32_Nhdr *note, const uint8_t *name,
                      const uint8_t *desc)
{
    if (note->n_type != NOTE_PHYS32_ENTRY || note->n_namesz != 4 || memcmp(name, "Xen", 4) != 0)
        return;
    if (note->n_descsz != 4 && note->n_descsz != 8)
        return;
    elf->has_pvh = true;
    elf->pvh_entry = 0;
    memcpy(&elf->pvh_entry, desc, note->n_descsz);
}

static void walk_notes(struct elf_image *elf, const uint8_t *bytes, uint64_t size, uint64_t align)
{
    Elf32_Nhdr note; /* the same for both classes */
    uint64_t at = 0;

    while (size - at >= sizeof note) {
        uint64_t name = at + sizeof note, desc;

        memcpy(&note, bytes + at, sizeof note);
        desc = padded(name + note.n_namesz, align);
        if (desc > size || note.n_descsz > size - desc)
            return;
        take_note(elf, &note, bytes + name, bytes + desc);
        at = padded(desc + note.n_descsz, align);
        if (at > size)
            return;
    }
}

static int read_notes(const struct boot_load *load, struct elf_image *elf,
                      const struct program_header *header)
{
    const struct elf_segment *segment = &header->segment;
    uint64_t size = segment->file_size < NOTES_MAX ? segment->file_size : NOTES_MAX;
    uint8_t bytes[NOTES_MAX];
    int r;

    if (segment->offset > load->kernel.size || size > load->kernel.size - segment->offset)
        return boot_load_refuse(load, "it is truncated: its notes lie beyond the end of the file");
    r = input_read(&load->kernel, segment->offset, bytes, size, load->err);
    if (r == 0)
        walk_notes(elf, bytes, size, header->align == 8 ? 8 : 4);
    return r;
}

/* --- the whole image --- */

static int take_program_header(const struct boot_load *load, struct elf_image *elf,
                               const struct program_header *header)
{
    if (header->type == PT_NOTE)
        return read_notes(load, elf, header);
    if (header->type != PT_LOAD || header->segment.room == 0)
        return 0;
    if (elf->count == ELF_SEGMENTS)
        return boot_load_refuse(load, "it has too many segments");
    elf->segments[elf->count++] = header->segment;
    return 0;
}

int elf_read(const struct boot_load *load, struct elf_image *elf)
{
    uint8_t ident[EI_NIDENT];
    struct header header = {0};
    int r;

    memset(elf, 0, sizeof *elf);
    if (load->kernel.size < sizeof ident)
        return boot_load_refuse(load, "it is truncated: it ends within its ELF header");
    r = input_read(&load->kernel, 0, ident, sizeof ident, load->err);
    if (r < 0)
        return r;
    if ((ident[EI_CLASS] != ELFCLASS32 && ident[EI_CLASS] != ELFCLASS64) ||
        ident[EI_DATA] != ELFDATA2LSB)
        return boot_load_refuse(load, "it is not an ELF file for x86");
    elf->is_64 = ident[EI_CLASS] == ELFCLASS64;
    if ((r = read_header(load, elf->is_64, &header)) < 0 ||
        (r = check_header(load, &header, elf->is_64)) < 0)
        return r;
    elf->entry = header.entry;
    for (unsigned i = 0; i < header.segment_count && r == 0; i++) {
        struct program_header program = {0};

        r = read_program_header(load, elf->is_64, header.segments_at + i * header.segment_size,
                                &program);
        if (r == 0)
            r = take_program_header(load, elf, &program);
    }
    if (r == 0 && elf->count == 0)
        return boot_load_refuse(load, "it is an ELF file without segments to load");
    return r;
}

int elf_load(struct boot_load *load, const struct elf_image *elf)
{
    int r = 0;

    for (unsigned i = 0; i < elf->count && r == 0; i++) {
        const struct elf_segment *segment = &elf->segments[i];

        r = boot_load_segment(load, segment->offset, segment->file_size, segment->gpa,
                              segment->room);
    }
    return r;
}

int elf_entry(const struct boot_load *load, const struct elf_image *elf, uint64_t entry, gpa_t *out)
{
    *out = entry;
    for (unsigned i = 0; i < elf->count; i++)
        if (entry - elf->segments[i].gpa < elf->segments[i].room)
            return 0;
    for (unsigned i = 0; i < elf->count; i++) {
        const struct elf_segment *segment = &elf->segments[i];

        *out = segment->gpa + (entry - segment->vaddr);
        if (entry - segment->vaddr < segment->room)
            return 0;
    }
    return boot_load_refuse(load, "its entry lies in none of its segments");
}
