/* debug_ports.c - see debug_ports.h. */
#include "dev/debug_ports.h"

#include "base/trace.h"

#include <string.h>

#define CONSOLE_READBACK 0xe9u

static uint64_t post_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct debug_ports *ports = opaque;

    (void)offset, (void)size;
    return ports->post;
}

static void post_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_ports *ports = opaque;

    (void)offset, (void)size;
    ports->post = (uint8_t)value;
    trace_debug_ports_post(ports->post);
}

static uint64_t console_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return CONSOLE_READBACK;
}

static void add_to_line(struct debug_ports *ports, char c)
{
    bool end = c == '\n' || ports->length == sizeof ports->line - 2;

    if (c != '\n')
        ports->line[ports->length++] = c >= ' ' && c <= '~' ? c : '.';
    if (!end)
        return;
    ports->line[ports->length] = '\0';
    trace_debug_ports_line(ports->line);
    ports->length = 0;
}

static void console_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_ports *ports = opaque;

    (void)offset, (void)size;
    add_to_line(ports, (char)value);
    if (ports->console)
        ports->console(ports->opaque, (uint8_t)value);
}

static uint64_t exit_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return 0;
}

static void exit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_ports *ports = opaque;

    (void)offset, (void)size;
    trace_debug_ports_exit((unsigned)value);
    if (ports->exit)
        ports->exit(ports->opaque, (uint32_t)value);
}

void debug_ports_init(struct debug_ports *ports, int exit_port)
{
    memset(ports, 0, sizeof *ports);
    ports->exit_port = exit_port;
}

void debug_ports_reset(struct debug_ports *ports)
{
    ports->post = 0;
}

void debug_ports_attach(struct debug_ports *ports, struct bus *bus)
{
    static const struct io_ops post = {.read = post_read, .write = post_write};
    static const struct io_ops console = {.read = console_read, .write = console_write};
    static const struct io_ops leave = {.read = exit_read, .write = exit_write, .max_size = 4};

    bus_add_pio(bus, "post", 0x80, 1, &post, ports);
    bus_add_pio(bus, "debug_console", 0xe9, 1, &console, ports);
    bus_add_pio(bus, "debug_console", 0x402, 1, &console, ports);
    if (ports->exit_port >= 0 && ports->exit_port <= 0xffff)
        bus_add_pio(bus, "debug_exit", (uint16_t)ports->exit_port,
                    ports->exit_port <= 0xfffc ? 4 : 1, &leave, ports);
}

static const struct field fields[] = {FIELD(struct debug_ports, post)};

const struct state_desc debug_ports_state_desc = {
    .name = "debug_ports",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
};
