/* atapi.c - packets of a CD drive (ATA/ATAPI-6, 8.23; MMC-3). See ide.h.
 *
 * The medium is a CD-ROM of one data track in one session, or none. A packet is answered from the
 * channel's buffer; READ fills it again and again. The host says how many bytes it takes between
 * two interrupts (the byte count limit), and the drive how many it gives. */
#include "dev/ide.h"

#include "base/trace.h"

#include <string.h>

#define SECTOR 2048u
#define PACKET_SIZE 12u

/* Interrupt reason, in the sector count register. */
#define REASON_COMMAND 0x01u
#define REASON_TO_HOST 0x02u

#define FEATURE_DMA 0x01u

enum sense { NO_SENSE, NOT_READY = 2, MEDIUM_ERROR = 3, ILLEGAL_REQUEST = 5 };
enum asc {
    ASC_NONE = 0x00,
    ASC_READ_ERROR = 0x11,
    ASC_INVALID_COMMAND = 0x20,
    ASC_OUT_OF_RANGE = 0x21,
    ASC_INVALID_FIELD = 0x24,
    ASC_NO_MEDIUM = 0x3a,
    ASC_REMOVAL_PREVENTED = 0x53,
};

enum packet_opcode {
    TEST_UNIT_READY = 0x00,
    REQUEST_SENSE = 0x03,
    INQUIRY = 0x12,
    MODE_SENSE_6 = 0x1a,
    START_STOP = 0x1b,
    PREVENT_REMOVAL = 0x1e,
    READ_CAPACITY = 0x25,
    READ_10 = 0x28,
    SEEK_10 = 0x2b,
    READ_SUBCHANNEL = 0x42,
    READ_TOC = 0x43,
    GET_CONFIGURATION = 0x46,
    GET_EVENT = 0x4a,
    READ_DISC_INFO = 0x51,
    MODE_SENSE_10 = 0x5a,
    READ_12 = 0xa8,
    SET_SPEED = 0xbb,
    MECHANISM_STATUS = 0xbd,
    READ_CD = 0xbe,
};

#define PROFILE_CD_ROM 0x0008

static uint32_t get_be(const uint8_t *bytes, unsigned count)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

static void put_be(uint8_t *bytes, uint32_t value, unsigned count)
{
    while (count-- > 0) {
        bytes[count] = (uint8_t)value;
        value >>= 8;
    }
}

static bool has_medium(const struct ide_drive *drive)
{
    return drive->block && !drive->ejected;
}

/* --- the end of a packet --- */

static void succeed(struct ide_drive *drive)
{
    drive->sense = NO_SENSE;
    drive->asc = ASC_NONE;
    drive->count[0] = REASON_TO_HOST | REASON_COMMAND;
    ide_finish(drive);
}

static void fail(struct ide_drive *drive, enum sense sense, enum asc asc)
{
    drive->sense = (uint8_t)sense;
    drive->asc = (uint8_t)asc;
    drive->count[0] = REASON_TO_HOST | REASON_COMMAND;
    ide_fail(drive, (uint8_t)(sense << 4 | IDE_ABRT));
}

/* --- answers --- */

/* The next part of what is in the buffer: as much as the host takes at once. */
static void give_window(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;
    uint32_t bytes = channel->filled - channel->pos;
    uint32_t limit = drive->limit > 1 ? drive->limit & ~1u : 0xfffe;

    bytes = bytes < limit ? bytes : limit;
    drive->count[0] = REASON_TO_HOST;
    drive->lba_mid[0] = (uint8_t)bytes;
    drive->lba_high[0] = (uint8_t)(bytes >> 8);
    drive->phase = IDE_PIO_IN;
    ide_open_window(drive, bytes);
    ide_raise(drive);
}

/* The answer is in the buffer; the host asked for at most `allocated` bytes. */
static void reply(struct ide_drive *drive, uint32_t bytes, uint32_t allocated)
{
    struct ide_channel *channel = drive->channel;

    bytes = bytes < allocated ? bytes : allocated;
    if (!bytes) {
        succeed(drive);
        return;
    }
    channel->pos = 0;
    channel->filled = bytes;
    drive->left = 0;
    if (drive->feature[0] & FEATURE_DMA) {
        drive->phase = IDE_DMA_IN;
        ide_dma_ready(drive);
    } else {
        give_window(drive);
    }
}

/* --- reading --- */

static uint32_t part(const struct ide_drive *drive, uint32_t buffer)
{
    return drive->left < buffer / SECTOR ? drive->left : buffer / SECTOR;
}

static void read_part(struct ide_drive *drive)
{
    ide_io(drive, BLOCK_READ, drive->channel->buffer, drive->lba * SECTOR,
           part(drive, IDE_BUFFER) * SECTOR);
}

static void start_read(struct ide_drive *drive, uint32_t lba, uint32_t count)
{
    struct ide_channel *channel = drive->channel;

    if (!has_medium(drive)) {
        fail(drive, NOT_READY, ASC_NO_MEDIUM);
        return;
    }
    if (lba > drive->sectors || count > drive->sectors - lba) {
        fail(drive, ILLEGAL_REQUEST, ASC_OUT_OF_RANGE);
        return;
    }
    if (!count) {
        succeed(drive);
        return;
    }
    trace_ide_transfer(drive->number, lba, count, false);
    drive->lba = lba;
    drive->left = count;
    channel->pos = channel->filled = 0;
    if (drive->feature[0] & FEATURE_DMA) {
        drive->phase = IDE_DMA_IN;
        ide_dma_ready(drive);
    } else {
        drive->phase = IDE_PIO_IN;
        read_part(drive);
    }
}

static void dma_failed(struct ide_drive *drive)
{
    ide_dma_end(drive->channel, true);
    fail(drive, MEDIUM_ERROR, ASC_READ_ERROR);
}

/* An answer in the buffer, or sectors through the DMA buffer until there are none left. */
void atapi_dma_go(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;

    if (drive->left && has_medium(drive)) {
        channel->dma_bytes = part(drive, IDE_DMA_BUFFER) * SECTOR;
        ide_io(drive, BLOCK_READ, channel->dma_buffer, drive->lba * SECTOR, channel->dma_bytes);
        return;
    }
    if (!ide_dma_transfer(channel, channel->buffer, channel->filled, true)) {
        dma_failed(drive);
        return;
    }
    ide_dma_end(channel, false);
    succeed(drive);
}

void atapi_io_done(struct ide_drive *drive, int result)
{
    struct ide_channel *channel = drive->channel;
    bool dma = drive->phase == IDE_DMA_IN;
    uint32_t sectors = dma ? channel->dma_bytes / SECTOR : part(drive, IDE_BUFFER);

    if (result < 0 && dma) {
        dma_failed(drive);
        return;
    }
    if (result < 0) {
        fail(drive, MEDIUM_ERROR, ASC_READ_ERROR);
        return;
    }
    if (dma && !ide_dma_transfer(channel, channel->dma_buffer, channel->dma_bytes, true)) {
        dma_failed(drive);
        return;
    }
    drive->lba += sectors;
    drive->left -= sectors;
    if (dma) {
        atapi_dma_go(drive);
        return;
    }
    channel->pos = 0;
    channel->filled = sectors * SECTOR;
    give_window(drive);
}

/* --- packets --- */

static void request_sense(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer;

    memset(out, 0, 18);
    out[0] = 0x70;
    out[2] = drive->sense;
    out[7] = 10;
    out[12] = drive->asc;
    drive->sense = NO_SENSE;
    drive->asc = ASC_NONE;
    reply(drive, 18, packet[4]);
}

static void inquiry(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer;

    if (packet[1] & 1) { /* vital product data */
        fail(drive, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
        return;
    }
    memset(out, 0, 36);
    out[0] = 0x05; /* CD */
    out[1] = 0x80; /* removable */
    out[3] = 0x21; /* ATAPI, format 1 */
    out[4] = 31;
    memcpy(out + 8, "Doble   CD-ROM          1.0 ", 28);
    reply(drive, 36, get_be(packet + 3, 2));
}

static void read_capacity(struct ide_drive *drive)
{
    uint8_t *out = drive->channel->buffer;

    if (!has_medium(drive)) {
        fail(drive, NOT_READY, ASC_NO_MEDIUM);
        return;
    }
    put_be(out, drive->sectors ? (uint32_t)(drive->sectors - 1) : 0, 4);
    put_be(out + 4, SECTOR, 4);
    reply(drive, 8, 8);
}

/* An address as minute, second, frame, or as a number. */
static void put_address(uint8_t *to, uint32_t lba, bool msf)
{
    uint32_t frames = lba + 150;

    if (msf)
        put_be(to, frames / (75 * 60) << 16 | frames / 75 % 60 << 8 | frames % 75, 4);
    else
        put_be(to, lba, 4);
}

static uint8_t *put_track(uint8_t *to, uint8_t number, uint32_t lba, bool msf)
{
    memset(to, 0, 8);
    to[1] = 0x14; /* data */
    to[2] = number;
    put_address(to + 4, lba, msf);
    return to + 8;
}

/* Full TOC: entries of 11 bytes, by point (MMC-3, 6.26.3.3). */
static uint8_t *put_point(uint8_t *to, uint8_t point, uint32_t value)
{
    memset(to, 0, 11);
    to[0] = 1;
    to[1] = 0x14;
    to[3] = point;
    put_be(to + 7, value, 4);
    return to + 11;
}

static uint8_t *put_full_toc(uint8_t *to, uint32_t end)
{
    uint8_t address[4];

    to = put_point(to, 0xa0, 1u << 16); /* first track; CD-ROM */
    to = put_point(to, 0xa1, 1u << 16); /* last track */
    put_address(address, end, true);
    to = put_point(to, 0xa2, get_be(address, 4));
    put_address(address, 0, true);
    return put_point(to, 1, get_be(address, 4));
}

static void read_toc(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer, *at = out + 4;
    unsigned format = packet[2] & 15 ? packet[2] & 15 : packet[9] >> 6;
    bool msf = packet[1] & 2;
    uint32_t end = (uint32_t)drive->sectors;

    if (!has_medium(drive)) {
        fail(drive, NOT_READY, ASC_NO_MEDIUM);
        return;
    }
    if (format > 2 || (format == 0 && packet[6] > 1 && packet[6] != 0xaa)) {
        fail(drive, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
        return;
    }
    if (format == 2)
        at = put_full_toc(at, end);
    else if (format == 1 || packet[6] <= 1)
        at = put_track(at, 1, 0, msf);
    if (format == 0)
        at = put_track(at, 0xaa, end, msf);
    put_be(out, (uint32_t)(at - out - 2), 2);
    out[2] = out[3] = 1; /* first and last track, or session */
    reply(drive, (uint32_t)(at - out), get_be(packet + 7, 2));
}

/* MMC-3, 6.33: error recovery, CD capabilities. Returns the page's end. */
static uint8_t *put_mode_page(uint8_t *to, unsigned page)
{
    if (page == 0x01 || page == 0x3f) {
        memset(to, 0, 8);
        to[0] = 0x01;
        to[1] = 6;
        to[3] = 5; /* retries */
        to += 8;
    }
    if (page == 0x2a || page == 0x3f) {
        memset(to, 0, 20);
        to[0] = 0x2a;
        to[1] = 18;
        to[2] = 0x03;            /* reads CD-R and CD-RW */
        to[4] = 0x71;            /* plays; mode 2, forms 1 and 2; sessions */
        to[6] = 0x2d;            /* locks, ejects, tray */
        put_be(to + 8, 5645, 2); /* KB/s: 32 times */
        put_be(to + 12, 128, 2); /* KiB of buffer */
        put_be(to + 14, 5645, 2);
        to += 20;
    }
    return to;
}

static void mode_sense(struct ide_drive *drive, const uint8_t *packet, bool ten)
{
    uint8_t *out = drive->channel->buffer, *start = out + (ten ? 8 : 4);
    uint8_t *end = put_mode_page(start, packet[2] & 0x3f);
    uint32_t size = (uint32_t)(end - out);

    if (end == start || packet[2] >> 6 == 3) { /* nothing can be saved */
        fail(drive, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
        return;
    }
    memset(out, 0, (size_t)(start - out));
    put_be(out, ten ? size - 2 : size - 1, ten ? 2 : 1);
    out[ten ? 2 : 1] = has_medium(drive) ? 0x01 : 0x70; /* medium type: data CD, none */
    reply(drive, size, ten ? get_be(packet + 7, 2) : packet[4]);
}

/* Bits 1:0 of byte 4: load or eject, start. */
static void start_stop(struct ide_drive *drive, const uint8_t *packet)
{
    bool load_eject = packet[4] & 2, start = packet[4] & 1;

    if (load_eject && !start && drive->locked) {
        fail(drive, ILLEGAL_REQUEST, ASC_REMOVAL_PREVENTED);
        return;
    }
    if (load_eject) {
        drive->media_event = start == drive->ejected;
        drive->ejected = !start;
    }
    succeed(drive);
}

static void get_configuration(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer;
    uint16_t profile = has_medium(drive) ? PROFILE_CD_ROM : 0;

    memset(out, 0, 28);
    put_be(out, 24, 4);
    put_be(out + 6, profile, 2);
    put_be(out + 8, 0x0000, 2); /* profile list */
    out[10] = 0x03;
    out[11] = 4;
    put_be(out + 12, PROFILE_CD_ROM, 2);
    out[14] = profile != 0;
    put_be(out + 16, 0x0001, 2); /* core */
    out[18] = 0x03;
    out[19] = 8;
    put_be(out + 20, 2, 4); /* ATAPI */
    reply(drive, 28, get_be(packet + 7, 2));
}

/* MMC-3, 6.6: only when asked, and of the media class. */
static void get_event(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer;

    if (!(packet[1] & 1)) {
        fail(drive, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
        return;
    }
    memset(out, 0, 8);
    out[3] = 0x10; /* supported: media */
    if (!(packet[4] & 0x10)) {
        out[2] = 0x80;
        put_be(out, 2, 2);
        reply(drive, 4, get_be(packet + 7, 2));
        return;
    }
    put_be(out, 6, 2);
    out[2] = 0x04;
    out[4] = drive->media_event ? (has_medium(drive) ? 2 : 3) : 0; /* new, removed, no change */
    out[5] = (uint8_t)((has_medium(drive) ? 2 : 0) | (drive->ejected ? 1 : 0));
    drive->media_event = 0;
    reply(drive, 8, get_be(packet + 7, 2));
}

static void read_disc_info(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer;

    if (!has_medium(drive)) {
        fail(drive, NOT_READY, ASC_NO_MEDIUM);
        return;
    }
    memset(out, 0, 34);
    put_be(out, 32, 2);
    out[2] = 0x0e; /* complete, its last session too */
    out[3] = out[4] = out[5] = out[6] = 1;
    out[7] = 0x20; /* any use */
    reply(drive, 34, get_be(packet + 7, 2));
}

static void read_subchannel(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer;

    memset(out, 0, 4);
    out[1] = 0x15; /* no audio */
    reply(drive, 4, get_be(packet + 7, 2));
}

static void mechanism_status(struct ide_drive *drive, const uint8_t *packet)
{
    uint8_t *out = drive->channel->buffer;

    memset(out, 0, 8);
    out[1] = drive->ejected ? 0x10 : 0;
    out[5] = 1;
    reply(drive, 8, get_be(packet + 8, 2));
}

/* Only user data, which is what READ gives, too. */
static void read_cd(struct ide_drive *drive, const uint8_t *packet)
{
    uint32_t lba = get_be(packet + 2, 4), count = get_be(packet + 6, 3);

    if (packet[9] == 0 || count == 0)
        succeed(drive);
    else if ((packet[9] & 0xf8) == 0x10)
        start_read(drive, lba, count);
    else
        fail(drive, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
}

static void execute_reading(struct ide_drive *drive, const uint8_t *packet)
{
    switch (packet[0]) {
    case READ_10: start_read(drive, get_be(packet + 2, 4), get_be(packet + 7, 2)); break;
    case READ_12: start_read(drive, get_be(packet + 2, 4), get_be(packet + 6, 4)); break;
    case READ_CD: read_cd(drive, packet); break;
    case READ_TOC: read_toc(drive, packet); break;
    case READ_CAPACITY: read_capacity(drive); break;
    case READ_DISC_INFO: read_disc_info(drive, packet); break;
    case READ_SUBCHANNEL: read_subchannel(drive, packet); break;
    default: fail(drive, ILLEGAL_REQUEST, ASC_INVALID_COMMAND); break;
    }
}

static void execute(struct ide_drive *drive, const uint8_t *packet)
{
    trace_atapi_packet(drive->number, packet[0]);
    switch (packet[0]) {
    case TEST_UNIT_READY:
    case SEEK_10:
        if (has_medium(drive))
            succeed(drive);
        else
            fail(drive, NOT_READY, ASC_NO_MEDIUM);
        break;
    case REQUEST_SENSE: request_sense(drive, packet); break;
    case INQUIRY: inquiry(drive, packet); break;
    case MODE_SENSE_6: mode_sense(drive, packet, false); break;
    case MODE_SENSE_10: mode_sense(drive, packet, true); break;
    case START_STOP: start_stop(drive, packet); break;
    case PREVENT_REMOVAL:
        drive->locked = packet[4] & 1;
        succeed(drive);
        break;
    case GET_CONFIGURATION: get_configuration(drive, packet); break;
    case GET_EVENT: get_event(drive, packet); break;
    case MECHANISM_STATUS: mechanism_status(drive, packet); break;
    case SET_SPEED: succeed(drive); break;
    default: execute_reading(drive, packet); break;
    }
}

/* --- what ide.c and ata.c call --- */

void atapi_packet(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;

    drive->limit = (uint16_t)(drive->lba_mid[0] | drive->lba_high[0] << 8);
    drive->count[0] = REASON_COMMAND;
    drive->phase = IDE_PACKET;
    channel->pos = 0;
    channel->filled = PACKET_SIZE;
    ide_open_window(drive, PACKET_SIZE); /* no interrupt: word 0 of IDENTIFY says so */
}

void atapi_window_done(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;
    uint8_t packet[PACKET_SIZE];

    if (drive->phase == IDE_PACKET) {
        memcpy(packet, channel->buffer, sizeof packet);
        channel->pos = channel->end = channel->filled = 0;
        execute(drive, packet);
    } else if (channel->pos < channel->filled) {
        give_window(drive);
    } else if (drive->left && has_medium(drive)) {
        read_part(drive);
    } else {
        succeed(drive);
    }
}

/* IDENTIFY PACKET DEVICE (8.16) */
void atapi_identify(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;
    uint8_t *page = channel->buffer;
    uint8_t mode = drive->transfer_mode;
    char serial[] = "DB0000000";

    serial[sizeof serial - 2] = (char)('1' + drive->number);
    memset(page, 0, BLOCK_SECTOR);
    pci_put16(page, 0x85c0); /* CD, removable, DRQ within 50 us, 12-byte packets */
    ata_put_string(page + 20, serial, 20);
    ata_put_string(page + 46, "1.0", 8);
    ata_put_string(page + 54, "Doble CD-ROM", 40);
    pci_put16(page + 2 * 49, 0x0f00); /* DMA, LBA, IORDY */
    pci_put16(page + 2 * 53, 0x0006);
    pci_put16(page + 2 * 63,
              (uint16_t)(0x0007 | ((mode & 0xf8) == 0x20 ? 0x100 << (mode & 7) : 0)));
    pci_put16(page + 2 * 64, 0x0003);
    for (unsigned word = 65; word <= 68; word++)
        pci_put16(page + 2 * word, 120);
    pci_put16(page + 2 * 80, 0x007e);
    pci_put16(page + 2 * 82, 0x4210); /* NOP, DEVICE RESET, PACKET */
    pci_put16(page + 2 * 83, 0x4000);
    pci_put16(page + 2 * 85, 0x4210);
    pci_put16(page + 2 * 87, 0x4000);
    pci_put16(page + 2 * 88,
              (uint16_t)(0x003f | ((mode & 0xf8) == 0x40 ? 0x100 << (mode & 7) : 0)));
    pci_put16(page + 2 * 93, 0x600b);
    channel->pos = 0;
    channel->filled = BLOCK_SECTOR;
    drive->left = 0;
    drive->limit = 0; /* in one go */
    drive->phase = IDE_PIO_IN;
    ide_open_window(drive, BLOCK_SECTOR);
    ide_raise(drive);
}
