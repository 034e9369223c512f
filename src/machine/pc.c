/* pc.c - the motherboard: which chip is connected to what, as one list in order.
 *
 *     cpu/ ----------- engine/ (whoever executes)
 *      |  ^ INTR (ATTN_INTR), NMI, SMI, INIT
 *      |  |
 *      | dev/lapic.c <---- messages (dev/apic_bus.c) ---- dev/ioapic.c <--- GSI 0..23
 *      |  ^ LINT0                                                              ^
 *      |  +------------------ INTR ---- dev/i8259.c <--- IRQ 0..15             |
 *      |                                                   ^                   |
 *      |                     every ISA line goes to both --+--- (IRQ 0: GSI 2)-+
 *      |                                                   |                   |
 *      |                                       IRQ 0, 8  dev/hpet.c            | FED00000h
 *      |                                                   ^   +- GSI 20-23 ---+
 *   bus/bus.c                                      0   dev/i8254.c        ports 40h-43h, 61h
 *      |                                           1   dev/i8042.c (12)   60h, 64h  --> reset, A20
 *      +-- mem/memory.c (RAM)                      4   dev/ns16550.c      3F8h      <-> serial line
 *      +-- I/O ports and MMIO --> devices          8   dev/mc146818.c     70h, 71h
 *                                                  9   dev/acpi_pm.c      600h      --> power off
 *                                                  -   dev/reset_control.c (92h, CF9h --> reset)
 *                                                  -   dev/i440fx.c       CF8h, CFCh
 *   bus/clock.c: time and timers of all            -   dev/debug_ports.c  80h, E9h, exit
 *                                                  -   dev/fw_cfg.c       510h
 *
 * The firmware that a PC has is skipped when a kernel is started directly; what it would have
 * left behind (ACPI tables, the map of memory, interrupt controllers in virtual wire mode) is made
 * by pc_boot_kernel(). */
#include "machine/pc.h"

#include "cpu/tlb.h"
#include "dev/lapic_loan.h"
#include "firmware/e820.h"
#include "firmware/pci_setup.h"
#include "firmware/rom_file.h"
#include "machine/pc_firmware.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SMBIOS_ADDRESS UINT64_C(0xf0100)
#define ELCR1 0x4d0 /* IRQ 0-7: edge or level; IRQ 8-15 is the next port */

/* --- lines --- */

/* An ISA interrupt: to the PIC pair, and to the IOAPIC, where the timer's is input 2 because
 * input 0 is the PIC's (MADT: interrupt source override). A line of PCI's that was routed to it
 * keeps it high. */
static void drive_isa(struct pc *pc, unsigned number)
{
    bool level = (pc->isa_lines | pc->pci_lines) >> number & 1;

    i8259_set_irq(&pc->pic, number, level);
    ioapic_set_irq(&pc->ioapic, number == 0 ? 2 : number, level);
}

static void set_bit(uint16_t *bits, unsigned number, bool level)
{
    *bits = (uint16_t)((*bits & ~(1u << number)) | (unsigned)level << number);
}

static void isa_irq(void *opaque, unsigned number, bool level)
{
    struct pc *pc = opaque;

    set_bit(&pc->isa_lines, number, level);
    drive_isa(pc, number);
}

static void routed_irq(void *opaque, unsigned number, bool level)
{
    struct pc *pc = opaque;

    set_bit(&pc->pci_lines, number, level);
    drive_isa(pc, number);
}

/* A PIRQ line goes to the south bridge, which routes it, and to an IOAPIC input of its own. */
static void pirq_line(void *opaque, unsigned number, bool level)
{
    struct pc *pc = opaque;

    piix3_set_pirq(&pc->south_bridge, number, level);
    ioapic_set_irq(&pc->ioapic, PC_PIRQ_GSI + number, level);
}

static void pci_message(void *opaque, uint64_t address, uint32_t data)
{
    apic_deliver_msi(opaque, address, data);
}

/* The host bridge shows other memory than before. The writer of its registers is this CPU. */
static void memory_remapped(void *opaque)
{
    struct pc *pc = opaque;

    tlb_flush_all(pc->cpu);
}

static struct irq isa_line(struct pc *pc, unsigned number)
{
    return (struct irq){isa_irq, pc, number};
}

/* The keyboard controller and port 92h both drive the gate; the last one to move wins. */
static void a20_gate(void *opaque, unsigned number, bool level)
{
    struct pc *pc = opaque;

    (void)number;
    if (pc->a20 == level)
        return;
    pc->a20 = level;
    pc->mem.a20_mask = level ? UINT64_MAX : ~(UINT64_C(1) << 20);
    tlb_flush_all(pc->cpu); /* the writer of the gate is this CPU, or it is parked */
}

/* The local APIC's outputs; `number` is the attention bit. A level for INTR, events for the rest.
 */
static void cpu_line(void *opaque, unsigned number, bool level)
{
    if (level)
        cpu_signal(opaque, number);
    else
        cpu_unsignal(opaque, number);
}

/* A device has overwritten code, on whatever thread it runs. */
static void dma_pending(void *opaque)
{
    cpu_signal(opaque, ATTN_CODE);
}

static void request_reset(void *opaque)
{
    struct pc *pc = opaque;

    pc->config.outside.reset(pc->config.outside.opaque);
}

static void request_power_off(void *opaque)
{
    struct pc *pc = opaque;

    pc->config.outside.power_off(pc->config.outside.opaque);
}

static void debug_exit(void *opaque, uint32_t value)
{
    struct pc *pc = opaque;

    pc->config.outside.debug_exit(pc->config.outside.opaque, value);
}

static void serial_tx(void *opaque, const uint8_t *bytes, size_t count)
{
    struct pc *pc = opaque;

    pc->config.outside.serial_tx(pc->config.outside.opaque, bytes, count);
}

static void serial_ready(void *opaque)
{
    struct pc *pc = opaque;

    pc->config.outside.serial_ready(pc->config.outside.opaque);
}

/* --- the parts, in the order in which they depend on each other --- */

static int add_memory(struct pc *pc, struct err *err)
{
    const struct pc_config *c = &pc->config;
    int rc = c->vga ? memory_init_with_vga(&pc->mem, c->memory, err)
                    : memory_init(&pc->mem, c->memory, err);

    if (rc == 0 && c->firmware)
        rc = rom_file_add(&pc->mem, c->firmware, err);
    return rc;
}

static int add_cpu(struct pc *pc, struct err *err)
{
    int rc = cpu_model_new(pc->config.cpu, &pc->model, err);

    if (rc < 0)
        return rc;
    pc->cpu = cpu_new(&pc->mem, &pc->bus, &pc->clock, pc->model, 0);
    if (!pc->cpu)
        return err_set(err, -ENOMEM, "not enough memory for a CPU");
    memory_set_dma_listener(&pc->mem, dma_pending, pc->cpu);
    return 0;
}

static void add_local_apic(struct pc *pc)
{
    const struct lapic_wiring wiring = {
        .clock = &pc->clock,
        .bus = &pc->apic_bus,
        .tsc_offset = &pc->cpu->tsc_offset,
        .phys_bits = cpu_model_phys_bits(pc->model),
        .intr = {cpu_line, pc->cpu, ATTN_INTR},
        .nmi = {cpu_line, pc->cpu, ATTN_NMI},
        .smi = {cpu_line, pc->cpu, ATTN_SMI},
        .init = {cpu_line, pc->cpu, ATTN_INIT},
        .pic_acknowledge = i8259_acknowledge,
        .pic_opaque = &pc->pic,
    };

    apic_bus_init(&pc->apic_bus);
    lapic_init(&pc->lapic, pc->cpu->index, &wiring);
    apic_bus_add(&pc->apic_bus, &pc->lapic);
    pc->cpu->apic = (struct cpu_apic){
        .opaque = &pc->lapic,
        .acknowledge = lapic_acknowledge,
        .get_tpr = lapic_get_cr8,
        .set_tpr = lapic_set_cr8,
        .rdmsr = lapic_rdmsr,
        .wrmsr = lapic_wrmsr,
        .mmio_read = lapic_mmio_read,
        .mmio_write = lapic_mmio_write,
        .base = lapic_mmio_base,
        .tsc_changed = lapic_tsc_changed,
        .borrow = lapic_borrow,
        .give_back = lapic_give_back,
        .end_of_interrupt = lapic_end_of_interrupt,
    };
}

static void add_interrupt_controllers(struct pc *pc)
{
    ioapic_init(&pc->ioapic, &pc->apic_bus);
    ioapic_attach(&pc->ioapic, &pc->bus);
    i8259_init(&pc->pic, (struct irq){lapic_set_lint, &pc->lapic, 0});
    i8259_attach(&pc->pic, &pc->bus);
}

static void add_timers(struct pc *pc)
{
    hpet_init(&pc->hpet, &pc->clock, (struct irq){ioapic_set_irq, &pc->ioapic, 0},
              HPET_ROUTES_DEFAULT, isa_line(pc, 0), isa_line(pc, 8));
    hpet_attach(&pc->hpet, &pc->bus);
    i8254_init(&pc->pit, &pc->clock, (struct irq){hpet_legacy_input, &pc->hpet, 0});
    i8254_attach(&pc->pit, &pc->bus);
    mc146818_init(&pc->rtc, &pc->clock, (struct irq){hpet_legacy_input, &pc->hpet, 1},
                  (struct irq){0}, mc146818_start_time(&pc->clock));
    mc146818_attach(&pc->rtc, &pc->bus);
    mc146818_describe_machine(&pc->rtc, memory_low_size(&pc->mem), memory_high_size(&pc->mem), 1);
}

static void add_peripherals(struct pc *pc)
{
    const struct irq a20 = {a20_gate, pc, 0};

    ns16550_init(&pc->com1, &pc->clock, isa_line(pc, 4));
    pc->com1.tx = serial_tx;
    pc->com1.can_receive = serial_ready;
    pc->com1.opaque = pc;
    ns16550_attach(&pc->com1, &pc->bus, "COM1", PC_COM1);

    i8042_init(&pc->kbc, &pc->clock, isa_line(pc, 1), isa_line(pc, 12), a20);
    pc->kbc.reset = request_reset;
    pc->kbc.opaque = pc;
    i8042_attach(&pc->kbc, &pc->bus);

    reset_control_init(&pc->reset_control, a20);
    pc->reset_control.reset = request_reset;
    pc->reset_control.opaque = pc;
    reset_control_attach(&pc->reset_control, &pc->bus);
}

static void add_power_and_debug(struct pc *pc)
{
    acpi_pm_init(&pc->pm, &pc->clock, isa_line(pc, PC_SCI), 32);
    pc->pm.power_off = request_power_off;
    pc->pm.opaque = pc;
    debug_ports_init(&pc->debug_ports, pc->config.debug_exit);
    pc->debug_ports.exit = debug_exit;
    pc->debug_ports.opaque = pc;
    debug_ports_attach(&pc->debug_ports, &pc->bus);
}

static int add_vga(struct pc *pc, struct err *err)
{
    uint32_t rom_size = 0;
    int rc = 0;

    if (!pc->config.vga)
        return 0;
    if (pc->config.vga_bios)
        rc = rom_file_read("display's BIOS", pc->config.vga_bios, VGA_ROM_MAX, &pc->vga_rom,
                           &rom_size, err);
    if (rc == 0)
        rc = vga_init(&pc->vga, &pc->pci, &pc->clock, pc->vga_rom, rom_size, err);
    if (rc < 0)
        return rc;
    pc->vga.remapped = memory_remapped;
    pc->vga.opaque = pc;
    vga_attach(&pc->vga, &pc->bus);
    return 0;
}

/* The place of a disk's drive: the first one that is free. CDs begin at the second channel. */
static int free_drive(const struct pc *pc, bool cdrom)
{
    static const uint8_t order[2][4] = {{0, 1, 3, 2}, {2, 3, 1, 0}};

    for (unsigned i = 0; i < 4; i++) {
        unsigned place = order[cdrom][i];

        if (!pc->ide.channels[place / 2].drives[place % 2].present)
            return (int)place;
    }
    return -1;
}

static int add_ide_disk(struct pc *pc, const struct disk_config *disk, struct err *err)
{
    int place = free_drive(pc, disk->cdrom);

    if (place < 0)
        return err_set(err, -ENOSPC,
                       "%s: the machine has room for four IDE drives; give others with if=virtio",
                       block_path(disk->block));
    ide_add_drive(&pc->ide, (unsigned)place / 2, (unsigned)place % 2, disk->block, disk->cdrom);
    return 0;
}

/* A machine with firmware or with such disks has the controller. */
static int add_ide(struct pc *pc, struct err *err)
{
    const struct pc_config *c = &pc->config;
    bool wanted = c->firmware;
    int rc;

    for (unsigned i = 0; i < c->disk_count; i++)
        wanted |= c->disks[i].interface == DISK_IDE;
    if (!wanted)
        return 0;
    rc = ide_init(&pc->ide, &pc->pci, PCI_DEVFN(PIIX3_SLOT, 1), isa_line(pc, 14), isa_line(pc, 15),
                  err);
    if (rc == 0)
        ide_attach(&pc->ide, &pc->bus);
    for (unsigned i = 0; rc == 0 && i < c->disk_count; i++)
        if (c->disks[i].interface == DISK_IDE)
            rc = add_ide_disk(pc, &c->disks[i], err);
    return rc;
}

static int add_pci(struct pc *pc, struct err *err)
{
    struct io_range *pm = acpi_pm_attach(&pc->pm, &pc->bus, PC_PM_BASE);
    int rc;

    pci_bus_init(&pc->pci, &pc->bus, &pc->mem);
    pc->pci.msi = pci_message;
    pc->pci.msi_opaque = &pc->apic_bus;
    for (unsigned i = 0; i < ARRAY_SIZE(pc->pci.pirq); i++)
        pc->pci.pirq[i] = (struct irq){pirq_line, pc, i};
    rc = i440fx_init(&pc->host_bridge, &pc->pci, &reset_control_cf9_ops, &pc->reset_control, err);
    if (rc < 0)
        return rc;
    pc->host_bridge.remapped = memory_remapped;
    pc->host_bridge.opaque = pc;
    i440fx_attach(&pc->host_bridge, &pc->bus);
    rc = piix3_init(&pc->south_bridge, &pc->pci, (struct irq){routed_irq, pc, 0}, pm, err);
    return rc;
}

static int add_console(struct pc *pc, struct err *err)
{
    if (!pc->config.virtio_console)
        return 0;
    virtio_console_init(&pc->console, &pc->mem, &pc->clock);
    pc->console.transmit = serial_tx;
    pc->console.ready = pc->console.more = serial_ready;
    pc->console.opaque = pc;
    virtio_pci_init(&pc->console_pci, &pc->console.virtio);
    return pci_add(&pc->pci, &pc->console_pci.pci, PCI_ANY_SLOT, err);
}

/* For a guest that loads the drivers of virtio for another device anyway; they take a twelfth of a
 * small guest's start. */
static bool has_rng(const struct pc_config *c)
{
    bool wanted = c->net_count || c->virtio_console;

    for (unsigned i = 0; i < c->disk_count; i++)
        wanted |= c->disks[i].interface == DISK_VIRTIO;
    return wanted;
}

static int add_rng(struct pc *pc, struct err *err)
{
    if (!has_rng(&pc->config))
        return 0;
    virtio_rng_init(&pc->rng, &pc->mem, &pc->clock);
    virtio_pci_init(&pc->rng_pci, &pc->rng.virtio);
    return pci_add(&pc->pci, &pc->rng_pci.pci, PCI_ANY_SLOT, err);
}

static int add_virtio(struct pc *pc, struct err *err)
{
    int rc = add_rng(pc, err);

    if (rc == 0)
        rc = add_console(pc, err);
    for (unsigned i = 0; rc == 0 && i < pc->config.net_count; i++) {
        struct pc_nic *nic = &pc->nics[i];

        virtio_net_init(&nic->net, &pc->mem, &pc->bus, &pc->clock, pc->config.nets[i]);
        virtio_pci_init(&nic->pci, &nic->net.virtio);
        rc = pci_add(&pc->pci, &nic->pci.pci, PCI_ANY_SLOT, err);
    }
    return rc;
}

static void lock_devices(void *opaque)
{
    bus_lock(opaque);
}

static void unlock_devices(void *opaque)
{
    bus_unlock(opaque);
}

/* With virtual time, requests end at once, so that a run can be repeated. */
static int add_disks(struct pc *pc, struct err *err)
{
    const struct block_owner owner = {
        .lock = lock_devices,
        .unlock = unlock_devices,
        .opaque = &pc->bus,
        .synchronous = pc->clock.mode == CLOCK_VIRTUAL,
    };
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < pc->config.disk_count; i++)
        rc = block_attach(pc->config.disks[i].block, &owner, err);
    if (rc == 0)
        rc = add_ide(pc, err);
    if (rc == 0)
        rc = disks_init(&pc->disks, pc->config.disks, pc->config.disk_count, &pc->pci, err);
    return rc;
}

/* What fw_cfg tells firmware and kernels about the machine, and where RAM is. */
static int add_fw_cfg(struct pc *pc, struct err *err)
{
    const struct e820_entry ram[] = {{0, memory_low_size(&pc->mem), E820_RAM},
                                     {MEMORY_HIGH_START, memory_high_size(&pc->mem), E820_RAM}};
    const unsigned count = memory_high_size(&pc->mem) ? 2 : 1, cpus = 1;
    struct fw_cfg *fw = &pc->fw_cfg;

    fw_cfg_init(fw, &pc->mem);
    fw_cfg_attach(fw, &pc->bus);
    if (fw_cfg_set_number(fw, FW_CFG_RAM_SIZE, pc->mem.size, 8) &&
        fw_cfg_set_number(fw, FW_CFG_NB_CPUS, cpus, 2) &&
        fw_cfg_set_number(fw, FW_CFG_MAX_CPUS, cpus, 2) &&
        fw_cfg_set_number(fw, FW_CFG_NOGRAPHIC, !pc->config.screen, 2) &&
        fw_cfg_set_number(fw, FW_CFG_BOOT_MENU, 0, 2) &&
        fw_cfg_set_number(fw, FW_CFG_IRQ0_OVERRIDE, 1, 1) && /* IRQ 0 is input 2 of the IOAPIC */
        fw_cfg_set_file(fw, "etc/e820", ram, (uint32_t)(count * sizeof ram[0])))
        return 0;
    return err_set(err, -ENOMEM, "not enough memory to describe the machine");
}

/* --- state --- */

/* Instances of virtio devices in a saved machine. */
enum {
    VIRTIO_RNG = 0,
    VIRTIO_CONSOLE = 1,
    VIRTIO_NETS = 2,
    VIRTIO_DISKS = VIRTIO_NETS + PC_MAX_NETS
};

static void board_before_save(void *object)
{
    struct pc *pc = object;

    pc->saved_a20 = pc->a20;
}

/* The chips drove the gate when they were loaded, in their order. */
static int board_loaded(void *object, struct err *err)
{
    struct pc *pc = object;

    (void)err;
    a20_gate(pc, 0, pc->saved_a20);
    return 0;
}

static const struct field board_fields[] = {
    FIELD(struct pc, saved_a20),
    FIELD(struct pc, isa_lines),
    FIELD(struct pc, pci_lines),
};

static const struct state_desc board_state_desc = {
    .name = "pc",
    .version = 1,
    .fields = board_fields,
    .field_count = ARRAY_SIZE(board_fields),
    .before_save = board_before_save,
    .loaded = board_loaded,
};

static void list_ide(struct pc *pc, struct state_list *list)
{
    for (unsigned i = 0; pc->ide.pci.pci && i < 4; i++) {
        struct ide_channel *channel = &pc->ide.channels[i / 2];

        if (i % 2 == 0)
            state_add(list, &ide_channel_state_desc, i / 2, channel);
        state_add(list, &ide_drive_state_desc, i, &channel->drives[i % 2]);
    }
}

/* Also the order in which `loaded` hooks run: interrupts flow from the end to the beginning. */
static int list_states(struct pc *pc, struct err *err)
{
    struct state_list *list = pc->states = state_list_new();

    if (!list)
        return err_set(err, -ENOMEM, "not enough memory for the list of devices");
    state_add(list, &cpu_state_desc, 0, pc->cpu);
    state_add(list, &lapic_state_desc, 0, &pc->lapic);
    state_add(list, &ioapic_state_desc, 0, &pc->ioapic);
    state_add(list, &i8259_state_desc, 0, &pc->pic);
    state_add(list, &i8254_state_desc, 0, &pc->pit);
    state_add(list, &hpet_state_desc, 0, &pc->hpet);
    state_add(list, &mc146818_state_desc, 0, &pc->rtc);
    pci_add_states(&pc->pci, list);
    state_add(list, &ns16550_state_desc, 0, &pc->com1);
    state_add(list, &i8042_state_desc, 0, &pc->kbc);
    state_add(list, &acpi_pm_state_desc, 0, &pc->pm);
    state_add(list, &reset_control_state_desc, 0, &pc->reset_control);
    state_add(list, &i440fx_state_desc, 0, &pc->host_bridge);
    list_ide(pc, list);
    if (pc->config.vga)
        state_add(list, &vga_state_desc, 0, &pc->vga);
    state_add(list, &debug_ports_state_desc, 0, &pc->debug_ports);
    state_add(list, &fw_cfg_state_desc, 0, &pc->fw_cfg);
    if (has_rng(&pc->config)) {
        virtio_pci_add_state(&pc->rng_pci, list, VIRTIO_RNG);
        state_add(list, &virtio_rng_state_desc, 0, &pc->rng);
    }
    if (pc->config.virtio_console) {
        virtio_pci_add_state(&pc->console_pci, list, VIRTIO_CONSOLE);
        state_add(list, &virtio_console_state_desc, 0, &pc->console);
    }
    for (unsigned i = 0; i < pc->config.net_count; i++) {
        virtio_pci_add_state(&pc->nics[i].pci, list, VIRTIO_NETS + i);
        state_add(list, &virtio_net_state_desc, i, &pc->nics[i].net);
    }
    disks_add_states(&pc->disks, list, VIRTIO_DISKS);
    state_add(list, &board_state_desc, 0, pc);
    return 0;
}

/* --- making, resetting, freeing --- */

int pc_init(struct pc *pc, const struct pc_config *config, struct err *err)
{
    int rc;

    memset(pc, 0, sizeof *pc);
    pc->config = *config;
    pc->a20 = true;
    bus_init(&pc->bus);
    clock_init(&pc->clock, config->time);
    rc = add_memory(pc, err);
    if (rc == 0)
        rc = add_cpu(pc, err);
    if (rc < 0)
        goto out;
    add_local_apic(pc);
    add_interrupt_controllers(pc);
    add_timers(pc);
    add_peripherals(pc);
    add_power_and_debug(pc);
    rc = add_pci(pc, err);
    if (rc == 0)
        rc = add_vga(pc, err);
    if (rc == 0)
        rc = add_virtio(pc, err);
    if (rc == 0)
        rc = add_disks(pc, err);
    if (rc == 0)
        rc = add_fw_cfg(pc, err);
    if (rc == 0 && config->firmware)
        rc = pc_describe_to_firmware(pc, err);
    if (rc == 0)
        rc = list_states(pc, err);
out:
    if (rc < 0) {
        pc_free(pc);
        return rc;
    }
    bus_lock(&pc->bus);
    pci_bus_reset(&pc->pci);
    bus_unlock(&pc->bus);
    return 0;
}

void pc_free(struct pc *pc)
{
    for (unsigned i = 0; i < pc->config.disk_count; i++)
        block_detach(pc->config.disks[i].block);
    disks_free(&pc->disks);
    state_list_free(pc->states);
    fw_cfg_free(&pc->fw_cfg);
    ide_free(&pc->ide);
    free(pc->vga_rom);
    cpu_free(pc->cpu);
    cpu_model_free(pc->model);
    memory_free(&pc->mem);
    bus_free(&pc->bus);
}

void pc_drain(struct pc *pc)
{
    bus_lock(&pc->bus);
    disks_drain(&pc->disks);
    ide_drain(&pc->ide);
    bus_unlock(&pc->bus);
}

void pc_reset(struct pc *pc)
{
    pc_drain(pc);
    bus_lock(&pc->bus);
    cpu_reset(pc->cpu, false);
    lapic_reset(&pc->lapic);
    ioapic_reset(&pc->ioapic);
    i8259_reset(&pc->pic);
    i8254_reset(&pc->pit);
    hpet_reset(&pc->hpet);
    mc146818_reset(&pc->rtc);
    ns16550_reset(&pc->com1);
    i8042_reset(&pc->kbc);
    acpi_pm_reset(&pc->pm);
    reset_control_reset(&pc->reset_control);
    i440fx_reset(&pc->host_bridge);
    pci_bus_reset(&pc->pci);
    debug_ports_reset(&pc->debug_ports);
    fw_cfg_reset(&pc->fw_cfg);
    bus_unlock(&pc->bus);
}

/* --- starting a kernel --- */

static int place_tables(struct pc *pc, const struct e820_map *map, struct err *err)
{
    const struct e820_entry *region = e820_find(map, E820_ACPI, 0);
    const struct e820_entry *nvs = e820_find(map, E820_NVS, 0);
    const struct acpi_places places = {ACPI_RSDP_ADDRESS, region->base, region->size, nvs->base};
    struct acpi_tables tables;
    struct smbios smbios;
    int rc = pc_make_acpi(pc, &tables, err);

    if (rc == 0)
        rc = acpi_tables_place(&tables, &pc->mem, &places, err);
    if (rc == 0 && pc_make_smbios(pc, &smbios))
        rc = smbios_place(&smbios, &pc->mem, SMBIOS_ADDRESS, err);
    return rc;
}

/* What kernels read of the BIOS's data area (segment 40h): the serial port, where the extended area
 * begins, and the KiB of RAM below it. Xen puts its start-up code there. */
static int write_bios_data(struct pc *pc, struct err *err)
{
    const uint16_t com1 = PC_COM1, ebda = E820_EBDA >> 4, ram_kib = E820_EBDA / KIB;
    const uint8_t ebda_kib = 1; /* its first byte is its size */

    if (memory_write(&pc->mem, 0x400, &com1, sizeof com1) &&
        memory_write(&pc->mem, 0x40e, &ebda, sizeof ebda) &&
        memory_write(&pc->mem, 0x413, &ram_kib, sizeof ram_kib) &&
        memory_write(&pc->mem, E820_EBDA, &ebda_kib, sizeof ebda_kib))
        return 0;
    return err_set(err, -ENOMEM, "the guest has no memory for the data of a BIOS");
}

/* There is no BIOS to call. Kernels that try (Xen does, from real mode) get the answer that a BIOS
 * gives to what it doesn't know: a return with the carry flag set. */
static int write_bios_vectors(struct pc *pc, struct err *err)
{
    static const uint8_t answer[] = {0x67, 0x80, 0x4c, 0x24, 0x04, 0x01, /* orb $1, 4(%esp) */
                                     0xcf};                              /* iret */
    const uint32_t place = 0xf000ff53; /* where the IBM PC's BIOS has an IRET for this */
    uint32_t vectors[256];

    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++)
        vectors[i] = place;
    if (memory_write(&pc->mem, 0, vectors, sizeof vectors) &&
        memory_write(&pc->mem, 0xfff53, answer, sizeof answer))
        return 0;
    return err_set(err, -ENOMEM, "the guest has no memory for interrupt vectors");
}

/* The ISA interrupts of PIRQA# to PIRQD#; firmware makes the same choice. */
static const uint8_t pirq_routes[4] = {10, 10, 11, 11};

static void config_write(struct pc *pc, unsigned function, unsigned reg, uint32_t value,
                         unsigned size)
{
    pci_config_write(&pc->pci, (uint32_t)PCI_DEVFN(PIIX3_SLOT, function) << 8 | reg, value, size);
}

int pc_set_up_chip_set(struct pc *pc, struct err *err)
{
    struct pci_setup_config config = {
        .io = 0xc000,
        .io_end = 0x10000,
        .memory = pc_pci_window(pc),
        .memory_end = PC_PCI_WINDOW_END,
    };
    int rc;

    memcpy(config.irq, pirq_routes, sizeof config.irq);
    bus_lock(&pc->bus);
    i440fx_open_shadow(&pc->host_bridge);
    for (unsigned i = 0; i < ARRAY_SIZE(pirq_routes); i++)
        config_write(pc, 0, PIIX3_PIRQ_ROUTES + i, pirq_routes[i], 1);
    config_write(pc, 3, PIIX4_PM_BASE, PC_PM_BASE | 1, 4);
    config_write(pc, 3, PIIX4_PM_MISC, PIIX4_PM_MISC_ENABLE, 1);
    rc = pci_setup(&pc->pci, &config, err);
    bus_unlock(&pc->bus);
    return rc;
}

/* What firmware does to the interrupt controllers: the PIC's interrupts pass through the local
 * APIC, and those of ACPI and PCI are levels. */
static void set_up_interrupts(struct pc *pc)
{
    uint16_t levels = 1u << PC_SCI;

    for (unsigned i = 0; i < ARRAY_SIZE(pirq_routes); i++)
        levels |= (uint16_t)(1u << pirq_routes[i]);
    bus_lock(&pc->bus);
    lapic_set_virtual_wire(&pc->lapic);
    bus_unlock(&pc->bus);
    bus_pio_write(&pc->bus, ELCR1, levels, 2);
}

/* An item whose address or size has more than 32 bits cannot be told. */
static bool describe_range(struct fw_cfg *fw, uint16_t addr_key, uint16_t size_key,
                           uint16_t data_key, const struct boot_range *range)
{
    bool told = range->base <= UINT32_MAX && range->size <= UINT32_MAX;
    uint32_t size = told ? (uint32_t)range->size : 0;

    return fw_cfg_set_number(fw, addr_key, told ? range->base : 0, 4) &&
           fw_cfg_set_number(fw, size_key, size, 4) &&
           fw_cfg_set_ram(fw, data_key, range->base, size);
}

/* What the kernel can read from fw_cfg about itself. */
static int describe_kernel(struct pc *pc, const struct e820_map *map, const char *cmdline,
                           const struct boot_state *start, struct err *err)
{
    struct fw_cfg *fw = &pc->fw_cfg;
    uint32_t length = (uint32_t)strlen(cmdline) + 1;

    if (describe_range(fw, FW_CFG_KERNEL_ADDR, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_DATA,
                       &start->kernel) &&
        describe_range(fw, FW_CFG_INITRD_ADDR, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_DATA,
                       &start->initrd) &&
        fw_cfg_set_number(fw, FW_CFG_KERNEL_ENTRY, start->rip, 4) &&
        fw_cfg_set_number(fw, FW_CFG_CMDLINE_SIZE, length, 4) &&
        fw_cfg_set_bytes(fw, FW_CFG_CMDLINE_DATA, cmdline, length) &&
        fw_cfg_set_file(fw, "etc/e820", map->entries,
                        (uint32_t)(map->count * sizeof map->entries[0])))
        return 0;
    return err_set(err, -ENOMEM, "not enough memory to describe the kernel");
}

/* The processor begins at its reset vector, which is in the ROM. */
int pc_boot_firmware(struct pc *pc, struct err *err)
{
    if (pc->config.firmware)
        return 0;
    return err_set(err, -ENOENT, "the machine has no firmware that could start it");
}

int pc_boot_kernel(struct pc *pc, const struct pc_kernel *kernel, struct err *err)
{
    struct e820_map map;
    const struct kernel_config config = {
        .kernel = kernel->kernel,
        .initrd = kernel->initrd,
        .cmdline = kernel->cmdline,
        .e820 = &map,
        .rsdp = ACPI_RSDP_ADDRESS,
        .vga = false,
        .protocol = kernel->protocol,
    };
    struct boot_state start;
    int rc = e820_build(&map, memory_low_size(&pc->mem), memory_high_size(&pc->mem), err);

    if (rc == 0)
        rc = pc_set_up_chip_set(pc, err);
    if (rc == 0)
        rc = place_tables(pc, &map, err);
    if (rc == 0)
        rc = write_bios_data(pc, err);
    if (rc == 0)
        rc = write_bios_vectors(pc, err);
    if (rc == 0)
        rc = kernel_image_load(&pc->mem, &config, &start, err);
    if (rc == 0)
        rc = describe_kernel(pc, &map, kernel->cmdline ? kernel->cmdline : "", &start, err);
    if (rc < 0)
        return rc;
    boot_state_apply(&start, pc->cpu);
    set_up_interrupts(pc);
    return 0;
}

/* --- while it runs --- */

void pc_power_button(struct pc *pc)
{
    bus_lock(&pc->bus);
    acpi_pm_power_button(&pc->pm);
    bus_unlock(&pc->bus);
}

size_t pc_serial_receive(struct pc *pc, const uint8_t *bytes, size_t count)
{
    size_t taken = 0;

    bus_lock(&pc->bus);
    if (!virtio_running(&pc->console.virtio))
        taken = ns16550_receive(&pc->com1, bytes, count);
    else if (!pc->clock.stopped)
        taken = virtio_console_receive(&pc->console, bytes, count);
    bus_unlock(&pc->bus);
    return taken;
}

void pc_serial_pump(struct pc *pc)
{
    if (!pc->config.virtio_console)
        return;
    bus_lock(&pc->bus);
    if (!pc->clock.stopped)
        virtio_console_pump(&pc->console);
    bus_unlock(&pc->bus);
}

void pc_console_resize(struct pc *pc, uint16_t columns, uint16_t rows)
{
    if (!pc->config.virtio_console)
        return;
    bus_lock(&pc->bus);
    virtio_console_resize(&pc->console, columns, rows);
    bus_unlock(&pc->bus);
}
