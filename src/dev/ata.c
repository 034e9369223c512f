/* ata.c - commands of an ATA disk (ATA/ATAPI-6, chapter 8), and of every drive what concerns its
 * registers. See ide.h.
 *
 * Sectors go through the channel's buffer: up to `per_window` of them between two interrupts for
 * PIO, the DMA buffer's size for DMA. A command is checked before anything of it is done. */
#include "dev/ide.h"

#include "base/trace.h"

#include <string.h>

enum ata_opcode {
    ATA_NOP = 0x00,
    ATA_DEVICE_RESET = 0x08,
    ATA_RECALIBRATE = 0x10,
    ATA_READ = 0x20,
    ATA_READ_ONCE = 0x21,
    ATA_READ_EXT = 0x24,
    ATA_READ_DMA_EXT = 0x25,
    ATA_READ_MAX_EXT = 0x27,
    ATA_READ_MULTIPLE_EXT = 0x29,
    ATA_WRITE = 0x30,
    ATA_WRITE_ONCE = 0x31,
    ATA_WRITE_EXT = 0x34,
    ATA_WRITE_DMA_EXT = 0x35,
    ATA_WRITE_MULTIPLE_EXT = 0x39,
    ATA_VERIFY = 0x40,
    ATA_VERIFY_ONCE = 0x41,
    ATA_VERIFY_EXT = 0x42,
    ATA_SEEK = 0x70,
    ATA_DIAGNOSE = 0x90,
    ATA_SET_GEOMETRY = 0x91,
    ATA_PACKET = 0xa0,
    ATA_IDENTIFY_PACKET = 0xa1,
    ATA_READ_MULTIPLE = 0xc4,
    ATA_WRITE_MULTIPLE = 0xc5,
    ATA_SET_MULTIPLE = 0xc6,
    ATA_READ_DMA = 0xc8,
    ATA_READ_DMA_ONCE = 0xc9,
    ATA_WRITE_DMA = 0xca,
    ATA_WRITE_DMA_ONCE = 0xcb,
    ATA_STANDBY_NOW = 0xe0,
    ATA_IDLE_NOW = 0xe1,
    ATA_STANDBY = 0xe2,
    ATA_IDLE = 0xe3,
    ATA_CHECK_POWER = 0xe5,
    ATA_SLEEP = 0xe6,
    ATA_FLUSH = 0xe7,
    ATA_FLUSH_EXT = 0xea,
    ATA_IDENTIFY = 0xec,
    ATA_SET_FEATURES = 0xef,
    ATA_READ_MAX = 0xf8,
};

#define DEVICE_LBA 0x40u
#define LBA28_MAX 0x0fffffffu

#define FEATURE_TRANSFER_MODE 0x03
#define MODE_MULTIWORD 0x20
#define MODE_ULTRA 0x40

/* --- addresses --- */

/* The command's address and number of sectors, from registers written once or twice (6.2). False:
 * some of it is not on the disk. */
static bool take_address(struct ide_drive *drive, bool wide)
{
    uint8_t device = drive->channel->device;
    uint64_t lba = drive->lba_low[0] | drive->lba_mid[0] << 8 | (uint32_t)drive->lba_high[0] << 16;
    uint32_t count = drive->count[0];

    if (wide) {
        lba |= (uint64_t)(drive->lba_low[1] | drive->lba_mid[1] << 8) << 24 |
               (uint64_t)drive->lba_high[1] << 40;
        count |= (uint32_t)drive->count[1] << 8;
        count = count ? count : 65536;
    } else {
        count = count ? count : 256;
        if (device & DEVICE_LBA)
            lba |= (uint64_t)(device & 15) << 24;
        else
            lba = ((uint64_t)(lba >> 8) * drive->heads + (device & 15)) * drive->spt +
                  (uint32_t)(drive->lba_low[0] - 1);
    }
    drive->lba = lba;
    drive->left = count;
    return lba < drive->sectors && count <= drive->sectors - lba;
}

static void put_address(struct ide_drive *drive, uint64_t lba)
{
    for (unsigned i = 0; i < 2; i++, lba >>= 24) {
        drive->lba_low[i] = (uint8_t)lba;
        drive->lba_mid[i] = (uint8_t)(lba >> 8);
        drive->lba_high[i] = (uint8_t)(lba >> 16);
    }
}

/* --- data --- */

static uint32_t next_window(const struct ide_drive *drive)
{
    uint32_t most = drive->per_window ? drive->per_window : 1;

    return drive->left < most ? drive->left : most;
}

static void read_window(struct ide_drive *drive)
{
    ide_io(drive, BLOCK_READ, drive->channel->buffer, drive->lba * BLOCK_SECTOR,
           next_window(drive) * BLOCK_SECTOR);
}

static void open_write_window(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;

    channel->pos = 0;
    channel->filled = next_window(drive) * BLOCK_SECTOR;
    ide_open_window(drive, channel->filled);
}

static void start_pio(struct ide_drive *drive, bool write, bool wide, unsigned per_window)
{
    if (!drive->sectors || !per_window || !take_address(drive, wide)) {
        ide_fail(drive, per_window ? IDE_IDNF : IDE_ABRT);
        return;
    }
    trace_ide_transfer(drive->number, drive->lba, drive->left, write);
    drive->per_window = (uint8_t)per_window;
    drive->phase = write ? IDE_PIO_OUT : IDE_PIO_IN;
    if (write)
        open_write_window(drive); /* the first one comes without an interrupt */
    else
        read_window(drive);
}

static void start_dma(struct ide_drive *drive, bool write, bool wide)
{
    if (!take_address(drive, wide)) {
        ide_fail(drive, IDE_IDNF);
        return;
    }
    trace_ide_transfer(drive->number, drive->lba, drive->left, write);
    drive->phase = write ? IDE_DMA_OUT : IDE_DMA_IN;
    ide_dma_ready(drive);
}

/* The next part of a DMA command; all were done: it ends. */
void ata_dma_go(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;
    uint32_t bytes =
        drive->left < IDE_DMA_BUFFER / BLOCK_SECTOR ? drive->left * BLOCK_SECTOR : IDE_DMA_BUFFER;
    bool write = drive->phase == IDE_DMA_OUT;

    if (!bytes) {
        ide_dma_end(channel, false);
        ide_finish(drive);
        return;
    }
    channel->dma_bytes = bytes;
    if (write && !ide_dma_transfer(channel, channel->dma_buffer, bytes, false)) {
        ide_dma_end(channel, true);
        ide_fail(drive, IDE_ABRT);
        return;
    }
    ide_io(drive, write ? BLOCK_WRITE : BLOCK_READ, channel->dma_buffer, drive->lba * BLOCK_SECTOR,
           bytes);
}

static void advance(struct ide_drive *drive, uint32_t sectors)
{
    drive->lba += sectors;
    drive->left -= sectors;
}

static void dma_done(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;

    if (drive->phase == IDE_DMA_IN &&
        !ide_dma_transfer(channel, channel->dma_buffer, channel->dma_bytes, true)) {
        ide_dma_end(channel, true);
        ide_fail(drive, IDE_ABRT);
        return;
    }
    advance(drive, channel->dma_bytes / BLOCK_SECTOR);
    ata_dma_go(drive);
}

static void read_done(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;
    uint32_t sectors = next_window(drive);

    channel->pos = 0;
    channel->filled = sectors * BLOCK_SECTOR;
    advance(drive, sectors);
    ide_open_window(drive, channel->filled);
    ide_raise(drive);
}

static void write_done(struct ide_drive *drive)
{
    advance(drive, next_window(drive));
    if (!drive->left) {
        ide_finish(drive);
        return;
    }
    open_write_window(drive);
    ide_raise(drive);
}

void ata_io_done(struct ide_drive *drive, int result)
{
    bool dma = drive->phase == IDE_DMA_IN || drive->phase == IDE_DMA_OUT;

    if (result < 0) {
        put_address(drive, drive->lba);
        if (dma)
            ide_dma_end(drive->channel, true);
        ide_fail(drive, drive->phase == IDE_IDLE ? IDE_ABRT : IDE_UNC);
    } else if (dma) {
        dma_done(drive);
    } else if (drive->phase == IDE_PIO_IN) {
        read_done(drive);
    } else if (drive->phase == IDE_PIO_OUT) {
        write_done(drive);
    } else {
        ide_finish(drive); /* a flush */
    }
}

void ata_window_done(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;

    if (drive->phase == IDE_PACKET) {
        drive->phase = IDE_IDLE; /* not a disk's */
        drive->status = IDE_DRDY | IDE_DSC;
    } else if (drive->phase == IDE_PIO_OUT && drive->left) {
        ide_io(drive, BLOCK_WRITE, channel->buffer, drive->lba * BLOCK_SECTOR,
               next_window(drive) * BLOCK_SECTOR);
    } else if (drive->phase == IDE_PIO_IN && drive->left) {
        read_window(drive);
    } else { /* all was read: no interrupt */
        drive->phase = IDE_IDLE;
        drive->status = IDE_DRDY | IDE_DSC;
    }
}

/* --- IDENTIFY DEVICE (8.15) --- */

void ata_put_string(uint8_t *to, const char *text, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i ^ 1] = *text ? (uint8_t)*text++ : ' ';
}

static void put_words(uint8_t *page, unsigned word, uint64_t value, unsigned words)
{
    for (unsigned i = 0; i < words; i++, value >>= 16)
        pci_put16(page + 2 * (word + i), (uint16_t)value);
}

static void identify_modes(const struct ide_drive *drive, uint8_t *page)
{
    uint8_t mode = drive->transfer_mode;
    uint16_t selected = (uint16_t)(1u << (mode & 7));

    put_words(page, 63, 0x0007 | ((mode & 0xf8) == MODE_MULTIWORD ? selected << 8 : 0), 1);
    put_words(page, 64, 0x0003, 1); /* PIO 3 and 4 */
    for (unsigned i = 65; i <= 68; i++)
        put_words(page, i, 120, 1); /* ns a cycle */
    put_words(page, 88, 0x003f | ((mode & 0xf8) == MODE_ULTRA ? selected << 8 : 0), 1);
}

static void identify_geometry(const struct ide_drive *drive, uint8_t *page)
{
    uint64_t cylinders = drive->sectors / (16 * 63);
    uint64_t current = drive->sectors / ((uint64_t)drive->heads * drive->spt);
    uint64_t small = drive->sectors < LBA28_MAX ? drive->sectors : LBA28_MAX;

    put_words(page, 1, cylinders < 16383 ? cylinders : 16383, 1);
    put_words(page, 3, 16, 1);
    put_words(page, 6, 63, 1);
    current = current < 16383 ? current : 16383;
    put_words(page, 54, current, 1);
    put_words(page, 55, drive->heads, 1);
    put_words(page, 56, drive->spt, 1);
    put_words(page, 57, current * drive->heads * drive->spt, 2);
    put_words(page, 60, small, 2);
    put_words(page, 100, drive->sectors, 4);
}

static void identify(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;
    uint8_t *page = channel->buffer;
    char serial[] = "DB0000000";

    serial[sizeof serial - 2] = (char)('1' + drive->number);
    memset(page, 0, BLOCK_SECTOR);
    put_words(page, 0, 0x0040, 1); /* a fixed disk */
    ata_put_string(page + 20, serial, 20);
    ata_put_string(page + 46, "1.0", 8);
    ata_put_string(page + 54, "Doble disk", 40);
    put_words(page, 47, 0x8000 | IDE_MULTIPLE_MAX, 1);
    put_words(page, 49, 0x0f00, 1); /* LBA, DMA, IORDY */
    put_words(page, 50, 0x4000, 1);
    put_words(page, 53, 0x0007, 1);
    put_words(page, 59, drive->multiple ? 0x0100u | drive->multiple : 0, 1);
    identify_geometry(drive, page);
    identify_modes(drive, page);
    put_words(page, 80, 0x007e, 1); /* ATA-1 to ATA-6 */
    put_words(page, 82, 0x4020, 1); /* NOP, write cache */
    put_words(page, 83, 0x7400, 1); /* both flushes, 48-bit addresses */
    put_words(page, 84, 0x4000, 1);
    put_words(page, 85, 0x4020, 1);
    put_words(page, 86, 0x3400, 1);
    put_words(page, 87, 0x4000, 1);
    put_words(page, 93, drive->number & 1 ? 0x4600 : 0x600b, 1); /* found by reset; 80 wires */
    channel->pos = 0;
    channel->filled = BLOCK_SECTOR;
    drive->phase = IDE_PIO_IN;
    ide_open_window(drive, BLOCK_SECTOR);
    ide_raise(drive);
}

/* --- other commands --- */

static void set_multiple(struct ide_drive *drive)
{
    uint8_t count = drive->count[0];

    if (count > IDE_MULTIPLE_MAX || (count & (count - 1))) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    drive->multiple = count;
    ide_finish(drive);
}

/* 8.46: the transfer mode is kept for IDENTIFY; caches are always as they are. */
static void set_features(struct ide_drive *drive)
{
    switch (drive->feature[0]) {
    case FEATURE_TRANSFER_MODE: drive->transfer_mode = drive->count[0]; break;
    case 0x02: /* write cache on */
    case 0x82:
    case 0x55: /* read look-ahead off */
    case 0xaa:
    case 0x66: /* keep settings over a reset */
    case 0xcc: break;
    default: ide_fail(drive, IDE_ABRT); return;
    }
    ide_finish(drive);
}

static void set_geometry(struct ide_drive *drive)
{
    if (!drive->count[0]) {
        ide_fail(drive, IDE_ABRT);
        return;
    }
    drive->heads = (uint8_t)((drive->channel->device & 15) + 1);
    drive->spt = drive->count[0];
    ide_finish(drive);
}

static void flush(struct ide_drive *drive)
{
    drive->phase = IDE_IDLE;
    ide_io(drive, BLOCK_FLUSH, NULL, 0, 0);
}

static void verify(struct ide_drive *drive, bool wide)
{
    if (take_address(drive, wide))
        ide_finish(drive);
    else
        ide_fail(drive, IDE_IDNF);
}

static void read_max(struct ide_drive *drive, bool wide)
{
    uint64_t last = drive->sectors ? drive->sectors - 1 : 0;

    if (!wide && last > LBA28_MAX)
        last = LBA28_MAX;
    put_address(drive, last);
    if (!wide)
        drive->channel->device = (uint8_t)((drive->channel->device & 0xf0) | (last >> 24 & 15));
    ide_finish(drive);
}

/* 8.11: both drives; the answer is that of drive 0. */
static void diagnose(struct ide_channel *channel)
{
    ide_set_signature(&channel->drives[0]);
    ide_set_signature(&channel->drives[1]);
    channel->device &= (uint8_t)~0x10;
    ide_raise(&channel->drives[0]);
}

static void disk_command(struct ide_drive *drive, uint8_t command)
{
    switch (command) {
    case ATA_READ:
    case ATA_READ_ONCE: start_pio(drive, false, false, 1); break;
    case ATA_READ_EXT: start_pio(drive, false, true, 1); break;
    case ATA_READ_MULTIPLE: start_pio(drive, false, false, drive->multiple); break;
    case ATA_READ_MULTIPLE_EXT: start_pio(drive, false, true, drive->multiple); break;
    case ATA_WRITE:
    case ATA_WRITE_ONCE: start_pio(drive, true, false, 1); break;
    case ATA_WRITE_EXT: start_pio(drive, true, true, 1); break;
    case ATA_WRITE_MULTIPLE: start_pio(drive, true, false, drive->multiple); break;
    case ATA_WRITE_MULTIPLE_EXT: start_pio(drive, true, true, drive->multiple); break;
    case ATA_READ_DMA:
    case ATA_READ_DMA_ONCE: start_dma(drive, false, false); break;
    case ATA_READ_DMA_EXT: start_dma(drive, false, true); break;
    case ATA_WRITE_DMA:
    case ATA_WRITE_DMA_ONCE: start_dma(drive, true, false); break;
    case ATA_WRITE_DMA_EXT: start_dma(drive, true, true); break;
    case ATA_VERIFY:
    case ATA_VERIFY_ONCE: verify(drive, false); break;
    case ATA_VERIFY_EXT: verify(drive, true); break;
    case ATA_READ_MAX: read_max(drive, false); break;
    case ATA_READ_MAX_EXT: read_max(drive, true); break;
    case ATA_SET_GEOMETRY: set_geometry(drive); break;
    case ATA_SET_MULTIPLE: set_multiple(drive); break;
    case ATA_SEEK: ide_finish(drive); break;
    case ATA_FLUSH:
    case ATA_FLUSH_EXT: flush(drive); break;
    case ATA_IDENTIFY: identify(drive); break;
    default:
        /* RECALIBRATE has 16 codes. */
        if ((command & 0xf0) == ATA_RECALIBRATE)
            ide_finish(drive);
        else
            ide_fail(drive, IDE_ABRT);
        break;
    }
}

static void packet_command(struct ide_drive *drive, uint8_t command)
{
    switch (command) {
    case ATA_DEVICE_RESET: /* no interrupt */
        drive->phase = IDE_IDLE;
        ide_set_signature(drive);
        break;
    case ATA_PACKET: atapi_packet(drive); break;
    case ATA_IDENTIFY_PACKET: atapi_identify(drive); break;
    case ATA_READ:
    case ATA_IDENTIFY: /* 9.12: by the signature, software sees what it is */
        ide_set_signature(drive);
        ide_fail(drive, IDE_ABRT);
        break;
    default: ide_fail(drive, IDE_ABRT); break;
    }
}

void ata_command(struct ide_drive *drive, uint8_t command)
{
    switch (command) {
    case ATA_DIAGNOSE: diagnose(drive->channel); return;
    case ATA_SET_FEATURES: set_features(drive); return;
    case ATA_CHECK_POWER:
        drive->count[0] = 0xff; /* active */
        ide_finish(drive);
        return;
    case ATA_STANDBY_NOW:
    case ATA_IDLE_NOW:
    case ATA_STANDBY:
    case ATA_IDLE:
    case ATA_SLEEP: ide_finish(drive); return;
    case ATA_NOP: ide_fail(drive, IDE_ABRT); return;
    default: break;
    }
    if (drive->cdrom)
        packet_command(drive, command);
    else
        disk_command(drive, command);
}
