/* pc.h - the machine: a PC, its parts and how they are wired.
 *
 * The board owns memory, bus, clock, CPU and devices; it knows neither engines nor files of the
 * user nor terminals. What leaves the machine (power going off, bytes on the serial line) are the
 * calls of `struct pc_outside`, made with the bus lock held on the thread that ran the device.
 *
 * Functions are for the main thread; those that say so may be called while the machine runs. */
#ifndef DOBLE_MACHINE_PC_H
#define DOBLE_MACHINE_PC_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/pci.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "dev/acpi_pm.h"
#include "dev/apic_bus.h"
#include "dev/debug_ports.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i440fx.h"
#include "dev/i8042.h"
#include "dev/i8254.h"
#include "dev/i8259.h"
#include "dev/ide.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/mc146818.h"
#include "dev/ns16550.h"
#include "dev/piix3.h"
#include "dev/reset_control.h"
#include "dev/vga.h"
#include "firmware/kernel_image.h"
#include "machine/disks.h"
#include "mem/memory.h"
#include "virtio/pci_transport.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"

/* Addresses that the board chooses; the ACPI tables repeat them. */
#define PC_COM1 0x3f8
#define PC_PM_BASE 0x600
#define PC_SCI 9                      /* interrupt of ACPI: a level */
#define PC_PCI_WINDOW_END 0xfec00000u /* base registers end where the IOAPIC begins */
#define PC_PIRQ_GSI 16                /* PIRQA# to PIRQD# are these inputs of the IOAPIC */

/* What the machine does to the world. None may be NULL. */
struct pc_outside {
    void (*power_off)(void *opaque);
    void (*reset)(void *opaque); /* wanted by the guest; done later with pc_reset() */
    void (*debug_exit)(void *opaque, uint32_t value);
    void (*serial_tx)(void *opaque, const uint8_t *bytes, size_t count);
    void (*serial_ready)(void *opaque); /* call pc_serial_receive() and pc_serial_pump() again */
    void *opaque;
};

#define PC_MAX_NETS 4

/* What firmware tries to start from, as the BIOS numbers it. */
enum pc_boot { PC_BOOT_NOTHING, PC_BOOT_DISK = 2, PC_BOOT_CD = 3, PC_BOOT_NET = 4 };
#define PC_BOOT_DEVICES 3

struct pc_config {
    uint64_t memory; /* bytes */
    const char *cpu; /* model and features, as cpu_model_new() reads them; NULL: the default */
    enum clock_mode time;
    int debug_exit;                /* port, or DEBUG_PORTS_NO_EXIT */
    bool virtio_console;           /* beside the serial port, at the same far end */
    struct net *nets[PC_MAX_NETS]; /* what the network cards are connected to; the caller's */
    unsigned net_count;
    const struct disk_config *disks; /* in their order on the bus; not copied */
    unsigned disk_count;
    const char *firmware; /* file with a BIOS, which starts the machine; NULL: none */
    bool vga;
    bool screen; /* somebody looks at it; else the firmware's text goes to the serial port, too */
    const char *vga_bios;               /* file with the display's BIOS; NULL: none */
    enum pc_boot boot[PC_BOOT_DEVICES]; /* with firmware: the first one first */
    struct pc_outside outside;
};

/* A network card and the function that it is behind. */
struct pc_nic {
    struct virtio_net net;
    struct virtio_pci pci;
};

struct pc {
    struct pc_config config;
    struct memory mem;
    struct bus bus;
    struct clock clock;
    struct cpu_model *model;
    struct cpu *cpu;
    struct state_list *states;

    struct apic_bus apic_bus;
    struct lapic lapic;
    struct ioapic ioapic;
    struct i8259 pic;
    struct i8254 pit;
    struct hpet hpet;
    struct mc146818 rtc;
    struct ns16550 com1;
    struct i8042 kbc;
    struct acpi_pm pm;
    struct reset_control reset_control;
    struct pci_bus pci;
    struct i440fx host_bridge;
    struct piix3 south_bridge;
    struct disks disks; /* of virtio */
    struct vga vga;     /* if config.vga */
    uint8_t *vga_rom;
    struct ide ide; /* not on the bus: there is none */
    struct debug_ports debug_ports;
    struct fw_cfg fw_cfg;
    struct virtio_rng rng; /* in a machine with other devices of virtio */
    struct virtio_pci rng_pci;
    struct pc_nic nics[PC_MAX_NETS];
    struct virtio_console console; /* if config.virtio_console */
    struct virtio_pci console_pci;

    uint16_t isa_lines, pci_lines; /* ISA interrupts as devices drive them, and as PIRQs do */
    bool a20;                      /* address line 20 is not masked */
    bool saved_a20;                /* the same, while the state is saved or loaded */
};

/* Makes the machine in its power-on state, with guest time standing still at 0. On an error nothing
 * is left. */
int pc_init(struct pc *pc, const struct pc_config *config, struct err *err) MUST_USE;
void pc_free(struct pc *pc);

/* Everything back to power-on, but for RAM, and the time and memory of the RTC. The vCPU is parked.
 */
void pc_reset(struct pc *pc);

/* What firmware does to the chip set of a machine that was just made or reset: RAM instead of ROM,
 * the ports of power management, addresses and interrupts of the PCI devices. */
int pc_set_up_chip_set(struct pc *pc, struct err *err) MUST_USE;

/* A kernel that is started without firmware; as in struct kernel_config. */
struct pc_kernel {
    const char *kernel, *initrd, *cmdline;
    enum kernel_protocol protocol;
};

/* Lets the firmware start a machine that was just made or reset. */
int pc_boot_firmware(struct pc *pc, struct err *err) MUST_USE;

/* Loads a kernel into a machine that was just made or reset, and does what firmware would have done
 * before it. */
int pc_boot_kernel(struct pc *pc, const struct pc_kernel *kernel, struct err *err) MUST_USE;

/* Waits until no device has anything in flight. The vCPU is parked. */
void pc_drain(struct pc *pc);

/* While the machine runs: */

/* Presses the power button. */
void pc_power_button(struct pc *pc);
/* Bytes for the first serial port, or for the console on virtio once its driver is there; returns
 * how many it took. */
size_t pc_serial_receive(struct pc *pc, const uint8_t *bytes, size_t count);
/* Goes on with output that the console on virtio has more of. */
void pc_serial_pump(struct pc *pc);
/* The size of the window that the console on virtio is in. */
void pc_console_resize(struct pc *pc, uint16_t columns, uint16_t rows);

#endif
