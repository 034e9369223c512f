/* ide.c - registers, interrupts and the bus master; see ide.h.
 *
 * Both drives of a channel see every write; the selected one answers reads and executes commands
 * (ATA-6, 9). The data register is a window into the channel's buffer: when the host has gone
 * through it, the drive is asked what comes next. */
#include "dev/ide.h"

#include "base/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_SELECT 0x10u
#define DEVICE_ONES 0xa0u /* obsolete bits */

#define CONTROL_HOB 0x80u  /* read what was written before */
#define CONTROL_SRST 0x04u /* software reset */
#define CONTROL_NIEN 0x02u

#define BM_START 0x01u
#define BM_READ 0x08u /* to memory */
#define BM_ACTIVE 0x01u
#define BM_ERROR 0x02u
#define BM_INTERRUPT 0x04u
#define BM_KEEP 0x60u /* drives can do DMA: notes for software */

#define PRD_LAST 0x80000000u
#define PRD_ENTRIES_MAX 8192u /* a table is within 64 KiB */

#define COMMAND_DEVICE_RESET 0x08u

static struct ide_drive *selected(struct ide_channel *channel)
{
    return &channel->drives[channel->device & DEVICE_SELECT ? 1 : 0];
}

/* --- interrupts --- */

static void update_irq(struct ide_channel *channel)
{
    irq_set(&channel->irq, channel->irq_wanted && !(channel->control & CONTROL_NIEN));
}

void ide_raise(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;

    channel->irq_wanted = true;
    channel->bm_status |= BM_INTERRUPT;
    update_irq(channel);
}

static void lower(struct ide_channel *channel)
{
    channel->irq_wanted = false;
    update_irq(channel);
}

/* --- what drives use --- */

static void end_command(struct ide_drive *drive, uint8_t status)
{
    drive->phase = IDE_IDLE;
    drive->status = status;
    drive->left = 0;
    drive->channel->pos = drive->channel->end = drive->channel->filled = 0;
    ide_raise(drive);
}

void ide_finish(struct ide_drive *drive)
{
    drive->error = 0;
    end_command(drive, IDE_DRDY | IDE_DSC);
}

void ide_fail(struct ide_drive *drive, uint8_t error)
{
    trace_ide_fail(drive->number, error);
    drive->error = error;
    end_command(drive, IDE_DRDY | IDE_DSC | IDE_ERR);
}

void ide_open_window(struct ide_drive *drive, uint32_t bytes)
{
    struct ide_channel *channel = drive->channel;

    channel->end = channel->pos + bytes;
    drive->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
}

static void io_done(struct block_request *request, int result)
{
    struct ide_drive *drive = request->opaque;
    struct ide_channel *channel = drive->channel;

    channel->in_flight = false;
    if (channel->cancelled)
        return;
    if (drive->cdrom)
        atapi_io_done(drive, result);
    else
        ata_io_done(drive, result);
}

void ide_io(struct ide_drive *drive, enum block_op op, uint8_t *buffer, uint64_t offset,
            uint32_t bytes)
{
    struct ide_channel *channel = drive->channel;

    channel->iov = (struct iovec){buffer, bytes};
    channel->request = (struct block_request){
        .op = op,
        .offset = offset,
        .length = bytes,
        .iov = &channel->iov,
        .iov_count = 1,
        .done = io_done,
        .opaque = drive,
    };
    channel->in_flight = true;
    channel->cancelled = false;
    drive->status = IDE_DRDY | IDE_DSC | IDE_BSY;
    block_submit(drive->block, &channel->request);
    block_kick(drive->block);
}

/* Lets a request that is on its way end without effect. */
static void cancel_io(struct ide_channel *channel)
{
    struct ide_drive *drive = channel->request.opaque;

    channel->cancelled = true;
    if (channel->in_flight && drive->block)
        block_drain(drive->block);
}

/* --- bus master --- */

/* The next entry of the table (1.2): address, and a size in which 0 means 64 KiB. */
static bool next_prd(struct ide_channel *channel)
{
    uint32_t entry[2];

    if (channel->prd_last || channel->prd_next - channel->bm_table >= PRD_ENTRIES_MAX * 8 ||
        !pci_dma_read(&channel->ide->pci, channel->prd_next, entry, sizeof entry))
        return false;
    channel->prd_next += sizeof entry;
    channel->prd_base = entry[0] & ~1u;
    channel->prd_left = entry[1] & 0xfffe ? entry[1] & 0xfffe : 0x10000;
    channel->prd_last = entry[1] & PRD_LAST;
    return true;
}

bool ide_dma_transfer(struct ide_channel *channel, uint8_t *bytes, uint32_t count, bool to_guest)
{
    struct pci_device *pci = &channel->ide->pci;

    while (count) {
        uint32_t n;
        bool ok;

        if (!channel->prd_left && !next_prd(channel))
            return false;
        n = count < channel->prd_left ? count : channel->prd_left;
        ok = to_guest ? pci_dma_write(pci, channel->prd_base, bytes, n)
                      : pci_dma_read(pci, channel->prd_base, bytes, n);
        if (!ok)
            return false;
        channel->prd_base += n;
        channel->prd_left -= n;
        bytes += n;
        count -= n;
    }
    return true;
}

/* Active stays on if the table describes more memory than the drive had data (1.4). */
void ide_dma_end(struct ide_channel *channel, bool error)
{
    if (error)
        channel->bm_status |= BM_ERROR;
    if (error || (channel->prd_last && !channel->prd_left))
        channel->bm_status &= (uint8_t)~BM_ACTIVE;
}

void ide_dma_ready(struct ide_drive *drive)
{
    struct ide_channel *channel = drive->channel;

    if (!(channel->bm_command & BM_START) || !(channel->bm_status & BM_ACTIVE)) {
        drive->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
        return;
    }
    drive->status = IDE_DRDY | IDE_DSC | IDE_BSY;
    if (drive->cdrom)
        atapi_dma_go(drive);
    else
        ata_dma_go(drive);
}

static void start_bus_master(struct ide_channel *channel)
{
    struct ide_drive *drive = selected(channel);

    channel->bm_status |= BM_ACTIVE;
    channel->prd_next = channel->bm_table;
    channel->prd_left = 0;
    channel->prd_last = false;
    if (drive->phase == IDE_DMA_IN || drive->phase == IDE_DMA_OUT)
        ide_dma_ready(drive);
}

/* A transfer that is stopped on its way is lost (1.4); the drive's command ends with it. */
static void stop_bus_master(struct ide_channel *channel)
{
    struct ide_drive *drive = selected(channel);

    if (channel->in_flight && (drive->phase == IDE_DMA_IN || drive->phase == IDE_DMA_OUT)) {
        cancel_io(channel);
        ide_fail(drive, IDE_ABRT);
    }
    channel->bm_status &= (uint8_t)~BM_ACTIVE;
}

static void write_bm_command(struct ide_channel *channel, uint8_t value)
{
    bool starts = (value & BM_START) && !(channel->bm_command & BM_START);
    bool stops = !(value & BM_START) && (channel->bm_command & BM_START);

    channel->bm_command = value & (BM_START | BM_READ);
    if (starts)
        start_bus_master(channel);
    else if (stops)
        stop_bus_master(channel);
}

static uint64_t bm_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide *ide = opaque;
    struct ide_channel *channel = &ide->channels[offset >> 3 & 1];

    (void)size;
    switch (offset & 7) {
    case 0: return channel->bm_command;
    case 2: return channel->bm_status;
    case 4:
    case 5:
    case 6:
    case 7: return channel->bm_table >> 8 * (offset & 3) & 0xff;
    default: return 0;
    }
}

static void bm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide *ide = opaque;
    struct ide_channel *channel = &ide->channels[offset >> 3 & 1];
    unsigned shift = 8 * (offset & 3);

    (void)size;
    switch (offset & 7) {
    case 0: write_bm_command(channel, (uint8_t)value); break;
    case 2:
        channel->bm_status &= (uint8_t)(BM_ACTIVE | BM_ERROR | BM_INTERRUPT);
        channel->bm_status &= (uint8_t) ~(value & (BM_ERROR | BM_INTERRUPT));
        channel->bm_status |= (uint8_t)(value & BM_KEEP);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        channel->bm_table &= ~(UINT32_C(0xff) << shift);
        channel->bm_table |= (uint32_t)value << shift;
        channel->bm_table &= ~UINT32_C(3);
        break;
    default: break;
    }
}

static const struct io_ops bm_ops = {.read = bm_read, .write = bm_write, .max_size = 1};

/* --- reset --- */

/* ATA-6, 9.12: by this, software tells disks from CD drives. */
void ide_set_signature(struct ide_drive *drive)
{
    drive->count[0] = 1;
    drive->lba_low[0] = 1;
    drive->lba_mid[0] = drive->cdrom ? 0x14 : 0;
    drive->lba_high[0] = drive->cdrom ? 0xeb : 0;
    drive->error = 1; /* passed its diagnostics */
    drive->status = drive->cdrom ? 0 : IDE_DRDY | IDE_DSC;
}

static void reset_drive(struct ide_drive *drive)
{
    drive->phase = IDE_IDLE;
    drive->left = 0;
    drive->multiple = 0;
    drive->sense = drive->asc = 0;
    drive->heads = 16;
    drive->spt = 63;
    ide_set_signature(drive);
}

static void reset_channel(struct ide_channel *channel)
{
    cancel_io(channel);
    channel->device = 0;
    channel->pos = channel->end = channel->filled = 0;
    reset_drive(&channel->drives[0]);
    reset_drive(&channel->drives[1]);
    lower(channel);
}

static void ide_reset(void *opaque)
{
    struct ide *ide = opaque;

    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *channel = &ide->channels[i];

        reset_channel(channel);
        channel->control = 0;
        channel->bm_command = channel->bm_status = 0;
        channel->bm_table = channel->prd_next = channel->prd_base = channel->prd_left = 0;
        channel->prd_last = false;
        channel->drives[0].locked = channel->drives[1].locked = 0;
    }
}

static void write_control(struct ide_channel *channel, uint8_t value)
{
    bool resets = (value & CONTROL_SRST) && !(channel->control & CONTROL_SRST);
    bool ends = !(value & CONTROL_SRST) && (channel->control & CONTROL_SRST);

    channel->control = value;
    if (resets) {
        reset_channel(channel);
        channel->drives[0].status = channel->drives[1].status = IDE_BSY;
    } else if (ends) {
        ide_set_signature(&channel->drives[0]);
        ide_set_signature(&channel->drives[1]);
    }
    update_irq(channel);
}

/* --- data register --- */

static void window_done(struct ide_drive *drive)
{
    if (drive->cdrom)
        atapi_window_done(drive);
    else
        ata_window_done(drive);
}

static uint64_t data_read(struct ide_channel *channel, unsigned size)
{
    struct ide_drive *drive = selected(channel);
    uint64_t value = 0;
    uint32_t n = channel->end - channel->pos;

    if (drive->phase != IDE_PIO_IN || !(drive->status & IDE_DRQ))
        return 0;
    n = n < size ? n : size;
    memcpy(&value, channel->buffer + channel->pos, n);
    channel->pos += n;
    if (channel->pos == channel->end)
        window_done(drive);
    return value;
}

static void data_write(struct ide_channel *channel, uint64_t value, unsigned size)
{
    struct ide_drive *drive = selected(channel);
    uint32_t n = channel->end - channel->pos;

    if ((drive->phase != IDE_PIO_OUT && drive->phase != IDE_PACKET) || !(drive->status & IDE_DRQ))
        return;
    n = n < size ? n : size;
    memcpy(channel->buffer + channel->pos, &value, n);
    channel->pos += n;
    if (channel->pos == channel->end)
        window_done(drive);
}

/* --- command block --- */

static uint8_t read_register(struct ide_channel *channel, unsigned offset)
{
    struct ide_drive *drive = selected(channel);
    unsigned old = channel->control & CONTROL_HOB ? 1 : 0;

    if (!drive->present)
        return 0;
    switch (offset) {
    case 1: return drive->error;
    case 2: return drive->count[old];
    case 3: return drive->lba_low[old];
    case 4: return drive->lba_mid[old];
    case 5: return drive->lba_high[old];
    case 6: return channel->device | DEVICE_ONES;
    default: lower(channel); return drive->status;
    }
}

static void shift_in(uint8_t pair[2], uint8_t value)
{
    pair[1] = pair[0];
    pair[0] = value;
}

static void write_parameter(struct ide_drive *drive, unsigned offset, uint8_t value)
{
    switch (offset) {
    case 1: shift_in(drive->feature, value); break;
    case 2: shift_in(drive->count, value); break;
    case 3: shift_in(drive->lba_low, value); break;
    case 4: shift_in(drive->lba_mid, value); break;
    default: shift_in(drive->lba_high, value); break;
    }
}

static void write_command(struct ide_channel *channel, uint8_t command)
{
    struct ide_drive *drive = selected(channel);

    if (command == COMMAND_DEVICE_RESET && drive->cdrom)
        cancel_io(channel);
    else if (!drive->present || (drive->status & IDE_BSY) || channel->in_flight)
        return;
    lower(channel);
    channel->pos = channel->end = channel->filled = 0;
    channel->drives[0].phase = channel->drives[1].phase = IDE_IDLE;
    drive->left = 0;
    drive->error = 0;
    trace_ide_command(drive->number, command);
    ata_command(drive, command);
}

static void write_register(struct ide_channel *channel, unsigned offset, uint8_t value)
{
    channel->control &= (uint8_t)~CONTROL_HOB;
    if (offset == 7) {
        write_command(channel, value);
    } else if (selected(channel)->status & (IDE_BSY | IDE_DRQ)) {
        return; /* a drive that executes a command takes no parameters (ATA-6, 7.2) */
    } else if (offset == 6) {
        channel->device = value;
    } else {
        write_parameter(&channel->drives[0], offset, value);
        write_parameter(&channel->drives[1], offset, value);
    }
}

/* --- ports --- */

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *channel = opaque;

    if (offset == 0)
        return data_read(channel, size);
    return size == 1 ? read_register(channel, (unsigned)offset) : UINT64_MAX;
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_channel *channel = opaque;

    if (offset == 0)
        data_write(channel, value, size);
    else if (size == 1)
        write_register(channel, (unsigned)offset, (uint8_t)value);
}

static uint64_t control_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *channel = opaque;
    const struct ide_drive *drive = selected(channel);

    (void)offset, (void)size;
    return drive->present ? drive->status : 0;
}

static void control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset, (void)size;
    write_control(opaque, (uint8_t)value);
}

/* --- life --- */

static const struct pci_info info = {
    .name = "ide",
    .vendor = 0x8086,
    .device = 0x7010,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x010180, /* both channels where they always were; bus master */
    .bars = {[4] = {PCI_BAR_IO, 16, &bm_ops, false}},
    .reset = ide_reset,
};

static void init_channel(struct ide *ide, unsigned index, struct irq irq)
{
    struct ide_channel *channel = &ide->channels[index];

    channel->ide = ide;
    channel->irq = irq;
    for (unsigned i = 0; i < 2; i++) {
        channel->drives[i].channel = channel;
        channel->drives[i].number = 2 * index + i;
        reset_drive(&channel->drives[i]);
    }
}

int ide_init(struct ide *ide, struct pci_bus *pci, int devfn, struct irq irq14, struct irq irq15,
             struct err *err)
{
    memset(ide, 0, sizeof *ide);
    init_channel(ide, 0, irq14);
    init_channel(ide, 1, irq15);
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        if (!(ide->channels[i].dma_buffer = malloc(IDE_DMA_BUFFER)))
            return err_set(err, -ENOMEM, "not enough memory for the IDE controller");
    pci_device_init(&ide->pci, &info, ide);
    pci_put16(ide->pci.initial + PCI_STATUS, 0x0280);
    for (unsigned reg = 0x40; reg < 0x44; reg++)
        ide->pci.writable[reg] = 0xff;                      /* timing */
    ide->pci.initial[0x41] = ide->pci.initial[0x43] = 0x80; /* channels are switched on */
    return pci_add(pci, &ide->pci, devfn, err);
}

void ide_free(struct ide *ide)
{
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        free(ide->channels[i].dma_buffer);
}

void ide_attach(struct ide *ide, struct bus *bus)
{
    static const struct io_ops command = {.read = port_read, .write = port_write, .max_size = 4};
    static const struct io_ops control = {.read = control_read, .write = control_write};
    static const uint16_t ports[IDE_CHANNELS] = {0x1f0, 0x170};

    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        bus_add_pio(bus, "ide", ports[i], 8, &command, &ide->channels[i]);
        bus_add_pio(bus, "ide", (uint16_t)(ports[i] + 0x206), 1, &control, &ide->channels[i]);
    }
}

void ide_add_drive(struct ide *ide, unsigned channel, unsigned index, struct block *block,
                   bool cdrom)
{
    struct ide_drive *drive = &ide->channels[channel].drives[index];
    uint64_t size = block ? block_info(block)->size : 0;

    drive->block = block;
    drive->present = true;
    drive->cdrom = cdrom;
    drive->sectors = cdrom ? size / 2048 : size / BLOCK_SECTOR;
    reset_drive(drive);
}

static void drain(struct ide_channel *channel)
{
    struct ide_drive *drive = channel->request.opaque;

    if (channel->in_flight && drive->block)
        block_drain(drive->block);
}

void ide_drain(struct ide *ide)
{
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        drain(&ide->channels[i]);
}

/* --- state --- */

/* What is on its way arrives first: only then do registers and buffer say everything. */
static void channel_before_save(void *object)
{
    drain(object);
}

static int channel_loaded(void *object, struct err *err)
{
    struct ide_channel *channel = object;

    if (channel->filled > IDE_BUFFER || channel->end > channel->filled ||
        channel->pos > channel->end)
        return err_set(err, -EINVAL, "ide: the buffer's window is outside of it");
    channel->bm_command &= BM_START | BM_READ;
    channel->bm_status &= BM_ACTIVE | BM_ERROR | BM_INTERRUPT | BM_KEEP;
    channel->bm_table &= ~UINT32_C(3);
    update_irq(channel);
    return 0;
}

static const struct field channel_fields[] = {
    FIELD(struct ide_channel, device),     FIELD(struct ide_channel, control),
    FIELD(struct ide_channel, irq_wanted), FIELD_BYTES(struct ide_channel, buffer),
    FIELD(struct ide_channel, filled),     FIELD(struct ide_channel, pos),
    FIELD(struct ide_channel, end),        FIELD(struct ide_channel, bm_command),
    FIELD(struct ide_channel, bm_status),  FIELD(struct ide_channel, bm_table),
    FIELD(struct ide_channel, prd_next),   FIELD(struct ide_channel, prd_base),
    FIELD(struct ide_channel, prd_left),   FIELD(struct ide_channel, prd_last),
};

const struct state_desc ide_channel_state_desc = {
    .name = "ide_channel",
    .version = 1,
    .fields = channel_fields,
    .field_count = ARRAY_SIZE(channel_fields),
    .before_save = channel_before_save,
    .loaded = channel_loaded,
};

/* A drive that is busy waits for a request, and none is saved. */
static int drive_loaded(void *object, struct err *err)
{
    struct ide_drive *drive = object;

    if (drive->phase >= IDE_PHASES || drive->multiple > IDE_MULTIPLE_MAX ||
        drive->per_window > IDE_MULTIPLE_MAX)
        return err_set(err, -EINVAL, "ide: drive %u is in a state that there is not",
                       drive->number);
    if (drive->left && (drive->lba > drive->sectors || drive->left > drive->sectors - drive->lba))
        return err_set(err, -EINVAL, "ide: drive %u transfers sectors beyond its end",
                       drive->number);
    if (!drive->present || (!drive->block && drive->left))
        drive->phase = IDE_IDLE;
    if (!drive->heads || !drive->spt) {
        drive->heads = 16;
        drive->spt = 63;
    }
    return 0;
}

static const struct field drive_fields[] = {
    FIELD_ARRAY(struct ide_drive, feature),
    FIELD_ARRAY(struct ide_drive, count),
    FIELD_ARRAY(struct ide_drive, lba_low),
    FIELD_ARRAY(struct ide_drive, lba_mid),
    FIELD_ARRAY(struct ide_drive, lba_high),
    FIELD(struct ide_drive, error),
    FIELD(struct ide_drive, status),
    FIELD(struct ide_drive, multiple),
    FIELD(struct ide_drive, heads),
    FIELD(struct ide_drive, spt),
    FIELD(struct ide_drive, transfer_mode),
    FIELD(struct ide_drive, phase),
    FIELD(struct ide_drive, per_window),
    FIELD(struct ide_drive, lba),
    FIELD(struct ide_drive, left),
    FIELD(struct ide_drive, sense),
    FIELD(struct ide_drive, asc),
    FIELD(struct ide_drive, locked),
    FIELD(struct ide_drive, ejected),
    FIELD(struct ide_drive, media_event),
    FIELD(struct ide_drive, limit),
};

const struct state_desc ide_drive_state_desc = {
    .name = "ide_drive",
    .version = 1,
    .fields = drive_fields,
    .field_count = ARRAY_SIZE(drive_fields),
    .loaded = drive_loaded,
};
