/* image.c - see image.h. What is printed with --json has the names that qemu-img uses. */
#define _GNU_SOURCE
#include "cli/image.h"

#include "block/image_tool.h"
#include "block/qcow2_check.h"
#include "cli/run.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was said on the command line, for all commands. */
struct request {
    const char *files[3];
    int file_count;
    enum block_format format, output_format, backing_format;
    bool output_format_given;
    const char *backing;
    char *settings[8];
    unsigned setting_count;
    bool json, compress, unsafe, shrink;
    enum qcow2_fix fix;
};

struct image_action {
    const char *name, *letters, *usage;
    int min_files, max_files;
    int (*run)(struct request *r, struct err *err); /* an exit status, or a negative errno */
};

static const struct option long_options[] = {
    {"json", no_argument, NULL, 'j'},
    {"shrink", no_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* A command line that makes no sense; told from errors of files by the status. */
static int usage(struct err *err, const char *sentence, const char *word)
{
    err_set(err, -EINVAL, "image: %s%s%s; see 'doble image --help'", sentence, word ? " " : "",
            word ? word : "");
    return STATUS_USAGE;
}

/* --- create, convert --- */

static int take_settings(struct request *r, struct image_create *create, struct err *err)
{
    int rc = 0;

    image_create_defaults(create);
    for (unsigned i = 0; rc == 0 && i < r->setting_count; i++)
        rc = image_create_option(create, r->settings[i], err);
    if (r->backing) {
        create->backing = r->backing;
        create->backing_format = r->backing_format;
    }
    return rc < 0 ? STATUS_USAGE : 0;
}

static int run_create(struct request *r, struct err *err)
{
    struct image_create create;
    int rc = take_settings(r, &create, err);

    if (rc)
        return rc;
    create.path = r->files[0];
    create.format = r->format ? r->format : BLOCK_RAW;
    if (r->file_count == 2) {
        create.size_given = true;
        if (!image_parse_size(r->files[1], &create.size))
            return usage(err, "this is no size (a number and K, M, G or T):", r->files[1]);
    }
    if (!create.size_given && !create.backing)
        return usage(err, "create needs a size, for example 10G", NULL);
    return image_create(&create, err);
}

static int run_convert(struct request *r, struct err *err)
{
    struct image_convert convert = {
        .from = r->files[0], .from_format = r->format, .compress = r->compress};
    int rc = take_settings(r, &convert.to, err);

    if (rc)
        return rc;
    convert.to.path = r->files[1];
    convert.to.format = r->output_format_given ? r->output_format : BLOCK_RAW;
    if (r->compress && convert.to.format == BLOCK_RAW)
        return usage(err, "-c compresses qcow2 images only; add", "-O qcow2");
    return image_convert(&convert, err);
}

/* --- info --- */

static json_t *qcow2_data(const struct qcow2_header *h)
{
    json_t *data = json_object();

    json_object_set_new(data, "compat", json_string(h->version == 2 ? "0.10" : "1.1"));
    json_object_set_new(data, "compression-type",
                        json_string(h->compression == QCOW2_ZSTD ? "zstd" : "zlib"));
    if (h->version >= 3)
        json_object_set_new(data, "lazy-refcounts",
                            json_boolean(h->compatible & QCOW2_LAZY_REFCOUNTS));
    json_object_set_new(data, "refcount-bits", json_integer(1 << h->refcount_order));
    if (h->version >= 3) {
        json_object_set_new(data, "corrupt", json_boolean(h->incompatible & QCOW2_CORRUPT));
        json_object_set_new(data, "extended-l2", json_false());
    }
    return data;
}

static json_t *describe(struct image *image)
{
    json_t *o = json_object(), *specific;
    const bool qcow2 = image->format == image_format_of(BLOCK_QCOW2);
    const struct qcow2_header *h = qcow2 ? &qcow2_of(image)->header : NULL;

    json_object_set_new(o, "virtual-size", json_integer((json_int_t)image->size));
    json_object_set_new(o, "filename", json_string(image->file.path));
    if (h)
        json_object_set_new(o, "cluster-size", json_integer(image->cluster));
    json_object_set_new(o, "format", json_string(image->format->name));
    json_object_set_new(o, "actual-size", json_integer((json_int_t)file_allocated(&image->file)));
    if (h) {
        specific = json_pack("{s:s, s:o}", "type", "qcow2", "data", qcow2_data(h));
        json_object_set_new(o, "format-specific", specific);
        json_object_set_new(o, "snapshot-count", json_integer(h->snapshot_count));
    }
    if (image->backing_name) {
        char *path = image_backing_path(image->file.path, image->backing_name);

        json_object_set_new(o, "full-backing-filename", json_string(path));
        json_object_set_new(o, "backing-filename", json_string(image->backing_name));
        if (image->backing_format_known)
            json_object_set_new(o, "backing-filename-format",
                                json_string(image_format_of(image->backing_format)->name));
        free(path);
    }
    json_object_set_new(o, "dirty-flag", json_boolean(h && h->incompatible & QCOW2_DIRTY));
    return o;
}

static void print_text(json_t *object, const char *indent)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        if (json_is_object(value))
            print_text(value, indent);
        else if (json_is_string(value))
            printf("%s%s: %s\n", indent, key, json_string_value(value));
        else if (json_is_integer(value))
            printf("%s%s: %" JSON_INTEGER_FORMAT "\n", indent, key, json_integer_value(value));
        else
            printf("%s%s: %s\n", indent, key, json_is_true(value) ? "yes" : "no");
    }
}

static void print_object(json_t *object, bool json)
{
    if (json) {
        json_dumpf(object, stdout, JSON_INDENT(4) | JSON_PRESERVE_ORDER);
        putchar('\n');
    } else {
        print_text(object, "");
    }
    json_decref(object);
}

static int run_info(struct request *r, struct err *err)
{
    /* Without a lock: also of a disk that a machine is using. */
    const struct image_config config = {r->files[0], r->format, IMAGE_ALONE | IMAGE_SHARED};
    struct image *image;
    int rc = image_open(&image, &config, err);

    if (rc < 0)
        return rc;
    print_object(describe(image), r->json);
    image_close(image);
    return 0;
}

/* --- check --- */

static void report(void *opaque, const char *sentence)
{
    (void)opaque;
    fprintf(stderr, "%s\n", sentence);
}

static void print_check(const struct image *image, const struct qcow2_check *c, bool json)
{
    json_t *o = json_object();

    json_object_set_new(o, "filename", json_string(image->file.path));
    json_object_set_new(o, "format", json_string("qcow2"));
    json_object_set_new(o, "image-end-offset", json_integer((json_int_t)c->image_end));
    json_object_set_new(o, "total-clusters", json_integer((json_int_t)c->total));
    json_object_set_new(o, "allocated-clusters", json_integer((json_int_t)c->allocated));
    json_object_set_new(o, "compressed-clusters", json_integer((json_int_t)c->compressed));
    json_object_set_new(o, "fragmented-clusters", json_integer((json_int_t)c->fragmented));
    json_object_set_new(o, "corruptions", json_integer((json_int_t)c->corruptions));
    json_object_set_new(o, "leaks", json_integer((json_int_t)c->leaks));
    json_object_set_new(o, "corruptions-fixed", json_integer((json_int_t)c->corruptions_fixed));
    json_object_set_new(o, "leaks-fixed", json_integer((json_int_t)c->leaks_fixed));
    print_object(o, json);
}

static int run_check(struct request *r, struct err *err)
{
    const struct image_config config = {r->files[0], r->format,
                                        IMAGE_ALONE | IMAGE_REPAIR |
                                            (r->fix != QCOW2_FIX_NOTHING ? IMAGE_WRITE : 0)};
    struct qcow2_check check = {.report = r->json ? NULL : report};
    struct image *image;
    int rc = image_open(&image, &config, err);

    if (rc < 0)
        return rc;
    if (image->format == image_format_of(BLOCK_QCOW2))
        rc = qcow2_check(image, r->fix, &check, err);
    else
        rc = err_set(err, -ENOTSUP, "%s: is a raw image; there is nothing that could be checked",
                     r->files[0]);
    if (rc == 0)
        print_check(image, &check, r->json);
    image_close(image);
    if (rc < 0)
        return rc;
    return check.corruptions ? STATUS_DAMAGED : check.leaks ? STATUS_LEAKS : 0;
}

/* --- resize, rebase --- */

static int new_size(const struct image *image, const char *text, uint64_t *size)
{
    const char sign = *text == '+' || *text == '-' ? *text++ : 0;

    if (!image_parse_size(text, size) || (sign == '-' && *size > image->size))
        return -EINVAL;
    if (sign)
        *size = sign == '+' ? image->size + *size : image->size - *size;
    *size = (*size + BLOCK_SECTOR - 1) / BLOCK_SECTOR * BLOCK_SECTOR;
    return 0;
}

static int run_resize(struct request *r, struct err *err)
{
    const struct image_config config = {r->files[0], r->format, IMAGE_WRITE};
    struct image *image;
    uint64_t size;
    int rc = image_open(&image, &config, err);

    if (rc < 0)
        return rc;
    if (new_size(image, r->files[1], &size) < 0)
        rc = usage(err, "this is no size ([+-] a number and K, M, G or T):", r->files[1]);
    else if (size < image->size && !r->shrink)
        rc = usage(err, "a smaller disk loses what is at its end; if that is wanted, add",
                   "--shrink");
    else
        rc = image_resize(image, size, err);
    if (rc == 0) {
        rc = image_flush(image);
        if (rc < 0)
            err_set(err, rc, "%s: cannot be written: %s", r->files[0], strerror(-rc));
    }
    image_close(image);
    return rc;
}

static int run_rebase(struct request *r, struct err *err)
{
    if (!r->backing)
        return usage(err, "rebase needs the new backing file: -b FILE, or -b '' for none", NULL);
    return image_rebase(r->files[0], r->format, *r->backing ? r->backing : NULL, r->backing_format,
                        r->unsafe, err);
}

/* --- the command line --- */

static const struct image_action commands[] = {
    {"create", "f:b:F:o:",
     "create [-f raw|qcow2] [-b BACKING [-F FORMAT]] [-o SETTING=VALUE,...] FILE [SIZE]", 1, 2,
     run_create},
    {"info", "f:", "info [-f FORMAT] [--json] FILE", 1, 1, run_info},
    {"check", "f:r:", "check [-f FORMAT] [-r leaks|all] [--json] FILE", 1, 1, run_check},
    {"convert", "f:O:o:b:F:c",
     "convert [-f FORMAT] [-O raw|qcow2] [-c] [-o SETTING=VALUE,...] FROM TO", 2, 2, run_convert},
    {"resize", "f:", "resize [-f FORMAT] [--shrink] FILE [+|-]SIZE", 2, 2, run_resize},
    {"rebase", "f:b:F:u", "rebase [-f FORMAT] [-u] -b BACKING [-F FORMAT] FILE", 1, 1, run_rebase},
};

static int print_help(void)
{
    fputs("Makes, describes, checks, copies and changes disk images (raw and qcow2).\n\nUsage:\n",
          stdout);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        printf("  doble image %s\n", commands[i].usage);
    fputs("\n"
          "Settings of -o: size, cluster_size, refcount_bits, compat, lazy_refcounts,\n"
          "compression_type, backing_file, backing_fmt. See doble(1).\n"
          "Exit status: 0 all is well; 1 check: leaks only; 2 usage; 3 an error of this host or\n"
          "a file that cannot be used; 4 check: the image is damaged.\n",
          stdout);
    return 0;
}

static bool take_format(const char *name, enum block_format *format, int *rc, struct err *err)
{
    if (image_format_parse(name, format))
        return true;
    *rc = usage(err, "there are the formats raw and qcow2, and not", name);
    return false;
}

static bool take_fix(struct request *r, const char *value, int *rc, struct err *err)
{
    r->fix = strcmp(value, "all") == 0 ? QCOW2_FIX_ALL : QCOW2_FIX_LEAKS;
    if (r->fix == QCOW2_FIX_ALL || strcmp(value, "leaks") == 0)
        return true;
    *rc = usage(err, "-r is followed by 'leaks' or 'all', not", value);
    return false;
}

/* False: *rc is the exit status. */
static bool take_option(struct request *r, int letter, int *rc, struct err *err)
{
    switch (letter) {
    case 'f': return take_format(optarg, &r->format, rc, err);
    case 'F': return take_format(optarg, &r->backing_format, rc, err);
    case 'O': r->output_format_given = true; return take_format(optarg, &r->output_format, rc, err);
    case 'b': r->backing = optarg; return true;
    case 'c': r->compress = true; return true;
    case 'u': r->unsafe = true; return true;
    case 'j': r->json = true; return true;
    case 's': r->shrink = true; return true;
    case 'r': return take_fix(r, optarg, rc, err);
    case 'o':
        if (r->setting_count < ARRAY_SIZE(r->settings)) {
            r->settings[r->setting_count++] = optarg;
            return true;
        }
        *rc = usage(err, "too many -o; separate settings by commas", NULL);
        return false;
    case 'h': *rc = print_help(); return false;
    case ':':
        *rc = usage(err, "this option needs a value:", (char[]){'-', (char)optopt, 0});
        return false;
    default: *rc = usage(err, "there is no such option", NULL); return false;
    }
}

static int run(const struct image_action *c, int argc, char **argv, struct err *err)
{
    struct request r = {0};
    char letters[32];
    int letter, rc = 0;

    snprintf(letters, sizeof letters, ":h%s", c->letters);
    opterr = 0;
    while ((letter = getopt_long(argc, argv, letters, long_options, NULL)) != -1)
        if (!take_option(&r, letter, &rc, err))
            return rc;
    r.file_count = argc - optind;
    if (r.file_count < c->min_files || r.file_count > c->max_files)
        return usage(err, "usage: doble image", c->usage);
    for (int i = 0; i < r.file_count; i++)
        r.files[i] = argv[optind + i];
    rc = c->run(&r, err);
    return rc < 0 ? STATUS_HOST_ERROR : rc;
}

int image_command(int argc, char **argv, struct err *err)
{
    if (argc < 3)
        return usage(err, "which command? create, info, check, convert, resize or rebase", NULL);
    if (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)
        return print_help();
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (strcmp(argv[2], commands[i].name) == 0)
            return run(&commands[i], argc - 2, argv + 2, err);
    return usage(err, "there are create, info, check, convert, resize and rebase, and not",
                 argv[2]);
}
