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

/* bus */
TRACE_EVENT(bus_pio_unclaimed, (unsigned port, unsigned size, bool write),
            "port=%#x size=%u write=%d", port, size, write)
TRACE_EVENT(bus_mmio_unclaimed, (uint64_t gpa, unsigned size, bool write),
            "gpa=%#llx size=%u write=%d", (unsigned long long)gpa, size, write)
