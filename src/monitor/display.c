#include "monitor/display.h"

#include "base/png.h"
#include "dev/vga_picture.h"
#include "vm/vm.h"

#include <errno.h>
#include <stdlib.h>

int display_screenshot(struct call *call, struct err *err)
{
    const char *path = call->arguments[0].string;
    struct pc *pc = &call->vm->pc;
    struct vga_picture picture = {0};
    bool made;
    int rc;

    if (!pc->config.vga)
        return err_set(err, -ENODEV,
                       "the machine has no display: it was started without firmware and without "
                       "--display");
    bus_lock(&pc->bus);
    made = vga_picture_make(&pc->vga, &picture);
    bus_unlock(&pc->bus);
    if (!made)
        return err_set(err, -ENOMEM, "not enough memory for a picture");
    rc = png_write(path, picture.rgb, picture.width, picture.height, err);
    free(picture.rgb);
    if (rc < 0)
        return rc;
    fprintf(call->out, "%u x %u pixels are in %s\n", picture.width, picture.height, path);
    call->result = json_pack("{s:s, s:i, s:i}", "file", path, "width", (int)picture.width, "height",
                             (int)picture.height);
    return 0;
}
