/* ide.h - the IDE controller of Intel's PIIX3: two channels with two drives each, disks and CD
 * drives, PIO and bus-master DMA (82371SB data sheet 2.3 and 2.7; Programming Interface for Bus
 * Master IDE Controller 1.0).
 *
 *   channel 0: 1F0h-1F7h, 3F6h, interrupt 14      channel 1: 170h-177h, 376h, interrupt 15
 *   BAR 4: bus master registers, 8 ports for each channel
 *
 *   dev/ide.c       registers, interrupts, the bus master
 *   dev/ata.c       commands of ATA disks (ATA/ATAPI-6)
 *   dev/atapi.c     packets of CD drives (ATAPI, MMC-3)
 *
 *   command --> drive: ide_read_blocks() --> block/ --> window of the buffer --> data register, or
 *                                                  \--> PRD table --> guest memory
 *
 * A channel executes one command at a time. A disk's request runs on a thread of its own and ends
 * with the bus lock held; until then the drive is busy. A reset waits for it.
 *
 * All functions are called with the bus lock held, but for those that make a machine. */
#ifndef DOBLE_DEV_IDE_H
#define DOBLE_DEV_IDE_H

#include "base/state.h"
#include "block/block.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "bus/pci.h"

#define IDE_CHANNELS 2
#define IDE_BUFFER 8192u             /* PIO: at most so much without the next interrupt */
#define IDE_DMA_BUFFER (128 * 1024u) /* DMA: so much in one request to the disk */
#define IDE_MULTIPLE_MAX (IDE_BUFFER / BLOCK_SECTOR)

enum ide_status {
    IDE_ERR = 0x01,
    IDE_DRQ = 0x08,
    IDE_DSC = 0x10, /* seek complete */
    IDE_DF = 0x20,
    IDE_DRDY = 0x40,
    IDE_BSY = 0x80,
};
enum ide_error { IDE_ABRT = 0x04, IDE_IDNF = 0x10, IDE_UNC = 0x40 };

/* What the drive does with data at the moment. */
enum ide_phase {
    IDE_IDLE,
    IDE_PIO_IN,  /* blocks or a reply, to the data register */
    IDE_PIO_OUT, /* blocks from there */
    IDE_PACKET,  /* 12 bytes of an ATAPI command are expected */
    IDE_DMA_IN,  /* by the bus master, if it has been started */
    IDE_DMA_OUT,
    IDE_PHASES,
};

struct ide_channel;

struct ide_drive {
    struct ide_channel *channel;
    struct block *block; /* NULL: there is no drive, or no CD in it */
    bool present, cdrom;
    uint64_t sectors; /* of 512 bytes (CD: of 2048) */
    unsigned number;  /* 0 to 3, in the serial number */

    /* registers; [1] is what was written before (ATA-6, 5.6: 48-bit addresses) */
    uint8_t feature[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
    uint8_t error, status;
    uint8_t multiple;      /* sectors of READ and WRITE MULTIPLE; 0: not set */
    uint8_t heads, spt;    /* geometry in force for CHS addresses */
    uint8_t transfer_mode; /* as SET FEATURES wrote it */

    /* command in progress */
    uint8_t phase;      /* enum ide_phase */
    uint8_t per_window; /* ATA: sectors between two interrupts */
    uint64_t lba;       /* of the next sector */
    uint32_t left;      /* sectors that were not read or written yet */
    /* ATAPI */
    uint8_t sense, asc;
    uint8_t locked, ejected, media_event;
    uint16_t limit; /* bytes between two interrupts */
};

struct ide;

struct ide_channel {
    struct ide *ide;
    struct irq irq;
    struct ide_drive drives[2];
    struct block_request request;
    struct iovec iov;
    bool in_flight;      /* `request` is the disk's */
    bool cancelled;      /* what it brings is not wanted any more */
    uint8_t *dma_buffer; /* IDE_DMA_BUFFER bytes */
    uint32_t dma_bytes;  /* in it */

    uint8_t device, control; /* registers of both drives */
    bool irq_wanted;         /* INTRQ, before nIEN */
    uint8_t buffer[IDE_BUFFER];
    uint32_t filled;   /* bytes of the buffer that are data */
    uint32_t pos, end; /* the window: what is transferred before the next interrupt */
    uint8_t bm_command, bm_status;
    uint32_t bm_table; /* address of the PRD table */
    uint32_t prd_next; /* address of the next entry, while DMA runs */
    uint32_t prd_base, prd_left;
    bool prd_last;
};

struct ide {
    struct pci_device pci;
    struct ide_channel channels[IDE_CHANNELS];
};

/* The controller is function `devfn` of the bus. */
int ide_init(struct ide *ide, struct pci_bus *pci, int devfn, struct irq irq14, struct irq irq15,
             struct err *err) MUST_USE;
void ide_free(struct ide *ide);
void ide_attach(struct ide *ide, struct bus *bus);

/* Connects a disk or a CD drive as drive 0 or 1 of a channel; the block is attached to already. A
 * CD drive without a CD has no block. */
void ide_add_drive(struct ide *ide, unsigned channel, unsigned drive, struct block *block,
                   bool cdrom);

/* Waits for all that is in flight. */
void ide_drain(struct ide *ide);

extern const struct state_desc ide_channel_state_desc, ide_drive_state_desc;

/* --- between the files of the controller --- */

/* INTRQ. */
void ide_raise(struct ide_drive *drive);

/* The command has ended, with an interrupt. */
void ide_finish(struct ide_drive *drive);
void ide_fail(struct ide_drive *drive, uint8_t error);

/* Reads or writes `count` blocks of `size` bytes at drive->lba through the buffer (or the DMA
 * buffer), and calls ata_io_done() or atapi_io_done() then. The drive is busy. */
void ide_io(struct ide_drive *drive, enum block_op op, uint8_t *buffer, uint64_t offset,
            uint32_t bytes);

/* The next bytes of the buffer are for the data register (or from there). */
void ide_open_window(struct ide_drive *drive, uint32_t bytes);

/* Starts DMA for a command in IDE_DMA_IN or IDE_DMA_OUT, now or when the bus master is started. */
void ide_dma_ready(struct ide_drive *drive);
/* Bytes from the guest's memory, or to it; false: the PRD table has no more, or is bad. */
bool ide_dma_transfer(struct ide_channel *channel, uint8_t *bytes, uint32_t count, bool to_guest);
/* The bus master has nothing more to do. */
void ide_dma_end(struct ide_channel *channel, bool error);

void ide_set_signature(struct ide_drive *drive);

void ata_command(struct ide_drive *drive, uint8_t command);
void ata_window_done(struct ide_drive *drive); /* the host has read, or filled, the window */
void ata_dma_go(struct ide_drive *drive);
void ata_io_done(struct ide_drive *drive, int result);

void atapi_identify(struct ide_drive *drive);
void atapi_packet(struct ide_drive *drive); /* command A0h */
void atapi_window_done(struct ide_drive *drive);
void atapi_dma_go(struct ide_drive *drive);
void atapi_io_done(struct ide_drive *drive, int result);
/* A string of an IDENTIFY page: the bytes of each word are swapped, and blanks fill it. */
void ata_put_string(uint8_t *to, const char *text, unsigned bytes);

#endif
