/* test_ide.c - the IDE controller through its ports: a disk by PIO and by DMA, a CD by packets, and
 * what a guest can do wrong. The images are files in memory; requests end at once. */
#define _GNU_SOURCE
#include "pci_rig.h"

#include "dev/ide.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTORS 300u
#define CD_SECTORS 40u
#define DISK 0x1f0
#define CD 0x170
#define DATA 0x10000u /* in RAM */
#define TABLE 0x8000u

struct fixture {
    struct pci_rig r;
    struct ide ide;
    struct block *disk, *cd;
    int disk_fd, cd_fd;
};

static void lock(void *opaque)
{
    bus_lock(opaque);
}

static void unlock(void *opaque)
{
    bus_unlock(opaque);
}

static int open_image(struct fixture *f, struct block **block, unsigned size, bool read_only)
{
    const struct block_owner owner = {lock, unlock, &f->r.rig->bus, true};
    int fd = memfd_create("image", MFD_CLOEXEC);
    struct err err = {0};
    char path[64];

    assert_true(fd >= 0);
    for (unsigned at = 0; at < size; at += 4)
        assert_int_equal(pwrite(fd, &at, 4, at), 4);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    assert_int_equal(block_open(block,
                                &(struct block_config){
                                    .path = path, .format = BLOCK_RAW, .read_only = read_only},
                                &err),
                     0);
    assert_int_equal(block_attach(*block, &owner, &err), 0);
    return fd;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    pci_rig_init(&f->r);
    f->disk_fd = open_image(f, &f->disk, SECTORS * 512, false);
    f->cd_fd = open_image(f, &f->cd, CD_SECTORS * 2048, true);
    assert_int_equal(ide_init(&f->ide, &f->r.pci, PCI_DEVFN(1, 1), rig_line(f->r.rig, 14),
                              rig_line(f->r.rig, 15), &err),
                     0);
    ide_attach(&f->ide, &f->r.rig->bus);
    ide_add_drive(&f->ide, 0, 0, f->disk, false);
    ide_add_drive(&f->ide, 1, 0, f->cd, true);
    pci_bus_reset(&f->r.pci);
    pci_rig_write(&f->r, &f->ide.pci, PCI_BAR0 + 16, 0xc000, 4);
    pci_rig_write(&f->r, &f->ide.pci, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 2);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    block_detach(f->disk);
    block_detach(f->cd);
    block_close(f->disk);
    block_close(f->cd);
    close(f->disk_fd);
    close(f->cd_fd);
    ide_free(&f->ide);
    pci_rig_free(&f->r);
    free(f);
    return 0;
}

static void out(struct fixture *f, uint16_t port, unsigned value)
{
    rig_out(f->r.rig, port, value);
}

static uint8_t in(struct fixture *f, uint16_t port)
{
    return rig_in(f->r.rig, port);
}

static void command(struct fixture *f, uint32_t lba, unsigned count, uint8_t code)
{
    out(f, DISK + 2, count);
    out(f, DISK + 3, lba & 0xff);
    out(f, DISK + 4, lba >> 8 & 0xff);
    out(f, DISK + 5, lba >> 16 & 0xff);
    out(f, DISK + 6, 0xe0 | lba >> 24);
    out(f, DISK + 7, code);
}

static uint32_t data(struct fixture *f, uint16_t port)
{
    return (uint32_t)bus_pio_read(&f->r.rig->bus, port, 4);
}

static void identifies_the_disk(void **state)
{
    struct fixture *f = *state;
    uint16_t page[256];

    command(f, 0, 0, 0xec);
    assert_true(f->r.rig->level[14]);
    assert_int_equal(in(f, 0x3f6), 0x58); /* doesn't acknowledge */
    assert_true(f->r.rig->level[14]);
    assert_int_equal(in(f, DISK + 7), 0x58);
    assert_false(f->r.rig->level[14]);
    for (unsigned i = 0; i < 256; i++)
        page[i] = (uint16_t)bus_pio_read(&f->r.rig->bus, DISK, 2);
    assert_int_equal(in(f, DISK + 7), 0x50);
    assert_int_equal(page[60] | page[61] << 16, SECTORS);
    assert_int_equal(page[100], SECTORS);
    assert_memory_equal((const char *)page + 54, "oDlb eidks", 10);
    assert_int_equal(in(f, 0x177) & 0x80, 0);
}

static void reads_and_writes_by_pio(void **state)
{
    struct fixture *f = *state;
    uint32_t word = 0;

    command(f, 5, 2, 0x20);
    for (unsigned sector = 0; sector < 2; sector++) {
        assert_int_equal(in(f, DISK + 7), 0x58);
        for (unsigned i = 0; i < 128; i++)
            assert_int_equal(data(f, DISK), (5 + sector) * 512 + 4 * i);
    }
    assert_int_equal(in(f, DISK + 7), 0x50);
    command(f, 299, 1, 0x30);
    assert_false(f->r.rig->level[14]);
    for (unsigned i = 0; i < 128; i++)
        bus_pio_write(&f->r.rig->bus, DISK, 0xabcd0000 + i, 4);
    assert_true(f->r.rig->level[14]);
    assert_int_equal(in(f, DISK + 7), 0x50);
    command(f, 0, 0, 0xe7);
    assert_int_equal(in(f, DISK + 7), 0x50);
    assert_int_equal(pread(f->disk_fd, &word, 4, 299 * 512 + 8), 4);
    assert_int_equal(word, 0xabcd0002);
}

static void reads_several_at_once(void **state)
{
    struct fixture *f = *state;
    unsigned rises = f->r.rig->rises[14];

    command(f, 0, 16, 0xc6);
    command(f, 0, 20, 0xc4);
    for (unsigned i = 0; i < 20 * 128; i++) {
        if (i % (16 * 128) == 0)
            assert_int_equal(in(f, DISK + 7), 0x58);
        assert_int_equal(data(f, DISK), 4 * i);
    }
    assert_int_equal(in(f, DISK + 7), 0x50);
    assert_int_equal(f->r.rig->rises[14] - rises, 3); /* SET MULTIPLE, and two blocks */
    command(f, 0, 3, 0xc6);
    assert_int_equal(in(f, DISK + 7), 0x51);
}

static void refuses_what_is_not_there(void **state)
{
    struct fixture *f = *state;

    command(f, SECTORS - 1, 2, 0x20);
    assert_int_equal(in(f, DISK + 7), 0x51);
    assert_int_equal(in(f, DISK + 1), 0x10);
    command(f, SECTORS, 1, 0x40);
    assert_int_equal(in(f, DISK + 7), 0x51);
    command(f, 0, 1, 0xff);
    assert_int_equal(in(f, DISK + 1), 0x04);
    out(f, DISK + 6, 0xf0); /* no second drive */
    assert_int_equal(in(f, DISK + 7), 0);
    out(f, DISK + 7, 0xec);
    assert_int_equal(in(f, DISK + 7), 0);
}

static void prd(struct fixture *f, unsigned index, uint32_t address, uint32_t size)
{
    const uint32_t entry[2] = {address, size};

    assert_true(memory_write(&f->r.mem, TABLE + 8 * index, entry, 8));
}

static void start_dma(struct fixture *f, uint8_t direction)
{
    bus_pio_write(&f->r.rig->bus, 0xc004, TABLE, 4);
    out(f, 0xc002, 0x06);
    out(f, 0xc000, direction);
    out(f, 0xc000, direction | 1);
}

static void transfers_by_dma(void **state)
{
    struct fixture *f = *state;
    uint32_t *words = memory_ram(&f->r.mem, DATA, 4096), word = 0;

    prd(f, 0, DATA, 512);
    prd(f, 1, DATA + 1024, 0x80000000 | 512);
    command(f, 7, 2, 0xc8);
    assert_false(f->r.rig->level[14]);
    start_dma(f, 8);
    assert_true(f->r.rig->level[14]);
    assert_int_equal(in(f, 0xc002) & 7, 4); /* interrupt, not active */
    assert_int_equal(in(f, DISK + 7), 0x50);
    assert_int_equal(words[0], 7 * 512);
    assert_int_equal(words[256 + 127], 9 * 512 - 4);
    out(f, 0xc000, 0);
    start_dma(f, 0); /* the other way round: first the bus master, then the command */
    words[1] = 0x12345678;
    command(f, 100, 2, 0xca);
    assert_int_equal(in(f, DISK + 7), 0x50);
    assert_int_equal(pread(f->disk_fd, &word, 4, 100 * 512 + 4), 4);
    assert_int_equal(word, 0x12345678);
}

static void survives_bad_tables(void **state)
{
    struct fixture *f = *state;

    prd(f, 0, 0xfffff000, 0x80000000 | 512); /* no RAM */
    command(f, 0, 1, 0xc8);
    start_dma(f, 8);
    assert_int_equal(in(f, 0xc002) & 7, 6);
    assert_int_equal(in(f, DISK + 7), 0x51);
    out(f, 0xc000, 0);
    prd(f, 0, DATA, 0x80000000 | 256); /* too short */
    command(f, 0, 1, 0xc8);
    start_dma(f, 8);
    assert_int_equal(in(f, DISK + 7), 0x51);
    out(f, 0xc000, 0);
    for (unsigned i = 0; i < 4; i++)
        prd(f, i, TABLE, 512); /* over itself, without an end */
    command(f, 0, 200, 0xc8);
    start_dma(f, 8);
    assert_int_equal(in(f, DISK + 7) & 0x80, 0);
    pci_rig_write(&f->r, &f->ide.pci, PCI_COMMAND, PCI_COMMAND_IO, 2);
    command(f, 0, 1, 0xc8);
    start_dma(f, 8);
    assert_int_equal(in(f, DISK + 7), 0x51); /* no bus master */
}

static void packet(struct fixture *f, const uint8_t *bytes, unsigned limit)
{
    out(f, CD + 6, 0xa0);
    out(f, CD + 1, 0);
    out(f, CD + 4, limit & 0xff);
    out(f, CD + 5, limit >> 8);
    out(f, CD + 7, 0xa0);
    for (unsigned i = 0; i < 12; i += 2)
        bus_pio_write(&f->r.rig->bus, CD, bytes[i] | bytes[i + 1] << 8, 2);
}

static void answers_packets(void **state)
{
    struct fixture *f = *state;
    const uint8_t capacity[12] = {0x25}, read[12] = {0x28, 0, 0, 0, 0, 3, 0, 0, 2};
    const uint8_t beyond[12] = {0x28, 0, 0, 0, 0, 39, 0, 0, 2}, sense[12] = {3, 0, 0, 0, 18};

    assert_int_equal(in(f, CD + 4), 0x14);
    assert_int_equal(in(f, CD + 5), 0xeb);
    packet(f, capacity, 8);
    assert_true(f->r.rig->level[15]);
    assert_int_equal(in(f, CD + 7), 0x58);
    assert_int_equal(in(f, CD + 4), 8);
    assert_int_equal(data(f, CD), __builtin_bswap32(CD_SECTORS - 1));
    assert_int_equal(data(f, CD), __builtin_bswap32(2048));
    assert_int_equal(in(f, CD + 7), 0x50);
    packet(f, read, 2048);
    for (unsigned i = 0; i < 1024; i++) {
        if (i % 512 == 0)
            assert_int_equal(in(f, CD + 5) << 8 | in(f, CD + 4), 2048);
        assert_int_equal(data(f, CD), 3 * 2048 + 4 * i);
    }
    assert_int_equal(in(f, CD + 7), 0x50);
    packet(f, beyond, 2048);
    assert_int_equal(in(f, CD + 7), 0x51);
    assert_int_equal(in(f, CD + 1) >> 4, 5);
    packet(f, sense, 18);
    assert_int_equal(data(f, CD) & 0xff, 0x70);
    for (unsigned i = 0; i < 2; i++)
        (void)data(f, CD);
    assert_int_equal(data(f, CD) & 0xff, 0x21);
}

static void lets_the_cd_go(void **state)
{
    struct fixture *f = *state;
    const uint8_t lock[12] = {0x1e, 0, 0, 0, 1}, unlock[12] = {0x1e},
                  eject[12] = {0x1b, 0, 0, 0, 2};
    const uint8_t ready[12] = {0};

    packet(f, lock, 0);
    packet(f, eject, 0);
    assert_int_equal(in(f, CD + 7), 0x51);
    packet(f, unlock, 0);
    packet(f, eject, 0);
    assert_int_equal(in(f, CD + 7), 0x50);
    packet(f, ready, 0);
    assert_int_equal(in(f, CD + 1) >> 4, 2); /* not ready */
}

static void resets(void **state)
{
    struct fixture *f = *state;

    command(f, 0, 4, 0x20);
    out(f, 0x3f6, 0x04);
    assert_int_equal(in(f, DISK + 7), 0x80);
    out(f, 0x3f6, 0x02);
    assert_int_equal(in(f, DISK + 7), 0x50);
    assert_int_equal(in(f, DISK + 2), 1);
    command(f, 0, 1, 0x20);
    assert_false(f->r.rig->level[14]); /* nIEN */
    out(f, 0x3f6, 0);
    assert_true(f->r.rig->level[14]);
}

static void hammer(void *opaque)
{
    struct fixture *f = opaque;

    rig_hammer(f->r.rig, DISK, 8, 30);
    rig_hammer(f->r.rig, CD, 8, 30);
    rig_hammer(f->r.rig, 0xc000, 16, 10);
    rig_hammer(f->r.rig, 0x3f6, 1, 1);
}

static void survives_anything(void **state)
{
    struct fixture *f = *state;

    prd(f, 0, DATA, 0x80000000);
    for (unsigned i = 0; i < 100; i++)
        hammer(f);
    rig_load_damaged_and(f->r.rig, &ide_drive_state_desc, &f->ide.channels[0].drives[0], 100,
                         hammer, f);
    rig_load_damaged_and(f->r.rig, &ide_drive_state_desc, &f->ide.channels[1].drives[0], 100,
                         hammer, f);
    rig_load_damaged_and(f->r.rig, &ide_channel_state_desc, &f->ide.channels[1], 100, hammer, f);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(identifies_the_disk),       CASE(reads_and_writes_by_pio), CASE(reads_several_at_once),
        CASE(refuses_what_is_not_there), CASE(transfers_by_dma),        CASE(survives_bad_tables),
        CASE(answers_packets),           CASE(lets_the_cd_go),          CASE(resets),
        CASE(survives_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
