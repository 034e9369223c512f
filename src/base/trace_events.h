/* trace_events.h - the table of trace events; included several times, so it has no guard.
 *
 * TRACE_EVENT(name, (parameters), "format", arguments...)
 * Names begin with the module's name, so that `--trace 'ns16550_*'` selects a device. */

/* cpu */
TRACE_EVENT(cpu_exception, (unsigned vector, uint64_t error, uint64_t rip, uint64_t cr2),
            "vector=%u error=%#llx rip=%#llx cr2=%#llx", vector, (unsigned long long)error,
            (unsigned long long)rip, (unsigned long long)cr2)
TRACE_EVENT(cpu_interrupt, (unsigned vector, uint64_t rip), "vector=%u rip=%#llx", vector,
            (unsigned long long)rip)
TRACE_EVENT(cpu_triple_fault, (uint64_t rip), "rip=%#llx", (unsigned long long)rip)

/* engine */
TRACE_EVENT(translate, (uint64_t rip, unsigned insns, unsigned guest_bytes, unsigned host_bytes),
            "rip=%#llx instructions=%u guest_bytes=%u host_bytes=%u", (unsigned long long)rip, insns,
            guest_bytes, host_bytes)

/* kvm */
TRACE_EVENT(kvm_exit, (unsigned reason, const char *name), "reason=%u (%s)", reason, name)
TRACE_EVENT(kvm_emulate, (uint64_t rip, unsigned suberror), "rip=%#llx suberror=%u",
            (unsigned long long)rip, suberror)

/* bus */
TRACE_EVENT(bus_pio_unclaimed, (unsigned port, unsigned size, bool write),
            "port=%#x size=%u write=%d", port, size, write)
TRACE_EVENT(bus_mmio_unclaimed, (uint64_t gpa, unsigned size, bool write),
            "gpa=%#llx size=%u write=%d", (unsigned long long)gpa, size, write)

/* pci */
TRACE_EVENT(pci_config_read, (const char *name, unsigned offset, unsigned size, uint32_t value),
            "%s offset=%#x size=%u value=%#x", name, offset, size, value)
TRACE_EVENT(pci_config_write, (const char *name, unsigned offset, unsigned size, uint32_t value),
            "%s offset=%#x size=%u value=%#x", name, offset, size, value)
TRACE_EVENT(pci_message, (const char *name, uint64_t address, uint32_t data),
            "%s address=%#llx data=%#x", name, (unsigned long long)address, data)
TRACE_EVENT(pci_message_lost, (const char *name, uint64_t address), "%s address=%#llx", name,
            (unsigned long long)address)

/* gdb */
TRACE_EVENT(gdb_attach, (void), "a debugger has connected")
TRACE_EVENT(gdb_detach, (void), "the debugger has gone")
TRACE_EVENT(gdb_refuse, (void), "a second debugger was refused")

/* ns16550 */
TRACE_EVENT(ns16550_read, (unsigned reg, unsigned value), "reg=%u value=%#x", reg, value)
TRACE_EVENT(ns16550_write, (unsigned reg, unsigned value), "reg=%u value=%#x", reg, value)
TRACE_EVENT(ns16550_receive, (unsigned taken, unsigned level), "taken=%u level=%u", taken, level)

/* i8042 */
TRACE_EVENT(i8042_read, (unsigned port, unsigned value), "port=%#x value=%#x", port, value)
TRACE_EVENT(i8042_write, (unsigned port, unsigned value), "port=%#x value=%#x", port, value)

/* mc146818 */
TRACE_EVENT(mc146818_read, (unsigned reg, unsigned value), "reg=%#x value=%#x", reg, value)
TRACE_EVENT(mc146818_write, (unsigned reg, unsigned value), "reg=%#x value=%#x", reg, value)

/* acpi_pm */
TRACE_EVENT(acpi_pm_read, (unsigned offset, unsigned size, unsigned value),
            "offset=%u size=%u value=%#x", offset, size, value)
TRACE_EVENT(acpi_pm_write, (unsigned offset, unsigned size, unsigned value),
            "offset=%u size=%u value=%#x", offset, size, value)
TRACE_EVENT(acpi_pm_sleep, (unsigned type), "type=%u", type)

/* vga */
TRACE_EVENT(vga_dispi, (unsigned index, unsigned value), "index=%u value=%#x", index, value)

/* ide */
TRACE_EVENT(ide_command, (unsigned drive, unsigned command), "drive=%u command=%#x", drive, command)
TRACE_EVENT(ide_transfer, (unsigned drive, uint64_t lba, unsigned count, bool write),
            "drive=%u lba=%llu count=%u write=%d", drive, (unsigned long long)lba, count, write)
TRACE_EVENT(ide_fail, (unsigned drive, unsigned error), "drive=%u error=%#x", drive, error)
TRACE_EVENT(atapi_packet, (unsigned drive, unsigned command), "drive=%u command=%#x", drive,
            command)

/* debug_ports */
TRACE_EVENT(debug_ports_line, (const char *line), "%s", line)
TRACE_EVENT(debug_ports_post, (unsigned value), "value=%#x", value)
TRACE_EVENT(debug_ports_exit, (unsigned value), "value=%#x", value)

/* reset_control */
TRACE_EVENT(reset_control_write, (unsigned port, unsigned value), "port=%#x value=%#x", port, value)

/* linux_boot */
TRACE_EVENT(linux_boot_kernel, (uint64_t gpa, uint64_t size, uint64_t room, unsigned version),
            "gpa=%#llx size=%#llx room=%#llx version=%#x", (unsigned long long)gpa,
            (unsigned long long)size, (unsigned long long)room, version)
TRACE_EVENT(linux_boot_initrd, (uint64_t gpa, uint64_t size), "gpa=%#llx size=%#llx",
            (unsigned long long)gpa, (unsigned long long)size)

/* boot_load */
TRACE_EVENT(boot_load_segment, (uint64_t gpa, uint64_t file_size, uint64_t room),
            "gpa=%#llx file_size=%#llx room=%#llx", (unsigned long long)gpa,
            (unsigned long long)file_size, (unsigned long long)room)
TRACE_EVENT(boot_load_module, (uint64_t gpa, uint64_t size), "gpa=%#llx size=%#llx",
            (unsigned long long)gpa, (unsigned long long)size)

/* kernel_image */
TRACE_EVENT(kernel_image_start, (const char *protocol, uint64_t entry), "protocol=%s entry=%#llx",
            protocol, (unsigned long long)entry)

/* fw_cfg */
TRACE_EVENT(fw_cfg_select, (unsigned key), "key=%#x", key)
TRACE_EVENT(fw_cfg_dma, (uint32_t control, uint32_t length, uint64_t address),
            "control=%#x length=%#x address=%#llx", control, length, (unsigned long long)address)

/* i8259 */
TRACE_EVENT(i8259_irq, (unsigned number, bool level), "irq=%u level=%d", number, level)
TRACE_EVENT(i8259_write, (unsigned chip, unsigned offset, unsigned value),
            "chip=%u offset=%u value=%#x", chip, offset, value)
TRACE_EVENT(i8259_acknowledge, (unsigned vector), "vector=%u", vector)

/* i8254 */
TRACE_EVENT(i8254_write, (unsigned offset, unsigned value), "offset=%u value=%#x", offset, value)

/* lapic */
TRACE_EVENT(lapic_read, (unsigned id, unsigned reg, uint32_t value), "id=%u reg=%#x value=%#x", id,
            reg, value)
TRACE_EVENT(lapic_write, (unsigned id, unsigned reg, uint64_t value), "id=%u reg=%#x value=%#llx",
            id, reg, (unsigned long long)value)
TRACE_EVENT(lapic_accept, (unsigned id, unsigned mode, unsigned vector, bool level),
            "id=%u mode=%u vector=%u level=%d", id, mode, vector, level)
TRACE_EVENT(lapic_acknowledge, (unsigned id, int vector), "id=%u vector=%d", id, vector)
TRACE_EVENT(lapic_eoi, (unsigned id, unsigned vector), "id=%u vector=%u", id, vector)
TRACE_EVENT(lapic_base, (unsigned id, uint64_t value), "id=%u value=%#llx", id,
            (unsigned long long)value)
TRACE_EVENT(lapic_error, (unsigned id, unsigned bits), "id=%u bits=%#x", id, bits)

/* apic_bus */
TRACE_EVENT(apic_bus_deliver, (uint32_t dest, bool logical, unsigned mode, unsigned vector),
            "dest=%#x logical=%d mode=%u vector=%u", dest, logical, mode, vector)

/* ioapic */
TRACE_EVENT(ioapic_irq, (unsigned pin, bool level), "pin=%u level=%d", pin, level)
TRACE_EVENT(ioapic_write, (unsigned reg, uint32_t value), "reg=%#x value=%#x", reg, value)
TRACE_EVENT(ioapic_send, (unsigned pin, uint64_t entry), "pin=%u entry=%#llx", pin,
            (unsigned long long)entry)

/* hpet */
TRACE_EVENT(hpet_write, (unsigned reg, uint64_t value), "reg=%#x value=%#llx", reg,
            (unsigned long long)value)
TRACE_EVENT(hpet_fire, (unsigned timer), "timer=%u", timer)

/* virtio */
TRACE_EVENT(virtio_broken, (const char *device, const char *why), "device=%s why=%s", device, why)
TRACE_EVENT(virtio_reset, (const char *device), "device=%s", device)
TRACE_EVENT(virtio_status, (const char *device, unsigned status, uint64_t features),
            "device=%s status=%#x features=%#llx", device, status, (unsigned long long)features)
TRACE_EVENT(virtio_notify, (const char *device, unsigned queue), "device=%s queue=%u", device,
            queue)
TRACE_EVENT(virtio_net_send, (unsigned bytes, unsigned flags, unsigned gso),
            "bytes=%u flags=%#x gso=%u", bytes, flags, gso)
TRACE_EVENT(virtio_net_receive, (size_t bytes, unsigned gso, unsigned fate),
            "bytes=%zu gso=%u fate=%u", bytes, gso, fate)
TRACE_EVENT(virtio_net_control, (unsigned class, unsigned command), "class=%u command=%u", class,
            command)

/* net */
TRACE_EVENT(net_guest_error, (const char *message), "%s", message)
TRACE_EVENT(net_tap_gone, (const char *error), "error=%s", error)
TRACE_EVENT(net_tap_lost, (const char *error), "error=%s", error)

/* block */
TRACE_EVENT(qcow2_corrupt, (const char *path, const char *what, uint64_t value), "%s: %s %#llx",
            path, what, (unsigned long long)value)
TRACE_EVENT(virtio_blk_done, (unsigned op, uint64_t offset, uint64_t length, int result),
            "op=%u offset=%#llx length=%llu result=%d", op, (unsigned long long)offset,
            (unsigned long long)length, result)
