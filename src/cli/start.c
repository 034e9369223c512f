#include "cli/start.h"

#include "firmware/file_kind.h"

#include <errno.h>
#include <unistd.h>

/* Where Debian and others have the files of SeaBIOS. */
static const char *const bios_places[] = {"/usr/share/seabios/bios-256k.bin",
                                          "/usr/share/qemu/bios-256k.bin"};

static const char *const vga_places[] = {"/usr/share/seabios/vgabios-stdvga.bin",
                                         "/usr/share/qemu/vgabios-stdvga.bin"};

static int find_use(const char *path, enum file_use *use, struct err *err)
{
    struct input_file file;
    uint8_t start[FILE_USE_START] = {0};
    size_t count = 0;
    int rc = input_open(&file, "image", path, err);

    if (rc == 0) {
        count = file.size < sizeof start ? file.size : sizeof start;
        rc = input_read(&file, 0, start, count, err);
    }
    if (rc == 0) {
        *use = file_use(&file, start, count);
        if (*use == FILE_USE_NONE) {
            const char *kind = file_kind(&file, start, count);

            rc = err_set(err, -EINVAL, "'%s' is no disk, no CD and no kernel%s%s", path,
                         kind ? ": it looks like " : "", kind ? kind : "");
        }
    }
    input_close(&file);
    return rc;
}

static int choose_image(struct start *start, const char *path, struct err *err)
{
    enum file_use use = FILE_USE_NONE;
    int rc = find_use(path, &use, err);

    if (rc < 0)
        return rc;
    if (use != FILE_USE_KERNEL)
        return disk_options_add_file(&start->disks, path, use == FILE_USE_CD, err);
    start->kernel = path;
    return 0;
}

/* The first of two that is there, or NULL. */
static const char *find_file(const char *const places[2])
{
    for (size_t i = 0; i < 2; i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    return NULL;
}

static int find_firmware(const char **path, struct err *err)
{
    *path = find_file(bios_places);
    if (*path)
        return 0;
    return err_set(err, -ENOENT,
                   "there is no firmware to start the machine with: install the package 'seabios' "
                   "(%s), or give a BIOS with --firmware",
                   bios_places[0]);
}

int start_choose(struct start *start, const struct options *o, const struct snapshot_info *saved,
                 struct err *err)
{
    int rc = 0;

    start->kernel = o->kernel;
    start->firmware = start->vga_bios = NULL;
    start->disks = o->disks;
    if (o->image)
        rc = choose_image(start, o->image, err);
    if (rc < 0 || start->kernel)
        return rc;
    start->firmware = o->firmware;
    if (!o->firmware && (saved ? saved->firmware : start->disks.count > 0))
        rc = find_firmware(&start->firmware, err);
    if (start->firmware)
        start->vga_bios = find_file(vga_places);
    return rc;
}
