#include "virtio/virtio_console.h"

#include <string.h>

enum { RECEIVE = 0, TRANSMIT = 1, QUEUES = 2 };

#define F_SIZE (UINT64_C(1) << 0)
#define F_EMERG_WRITE (UINT64_C(1) << 2)

/* Sends the rest of a chain, or as much as *budget allows; false: its end was not reached. */
static bool transmit(struct virtio_console *console, struct virtq_chain *chain, size_t *budget)
{
    uint8_t piece[1024];
    size_t count;

    chain->read_done = console->sent < chain->readable ? console->sent : chain->readable;
    while (*budget && (count = virtq_read(chain, piece, sizeof piece)) > 0) {
        console->transmit(console->opaque, piece, count);
        console->sent += (uint32_t)count;
        *budget -= count < *budget ? count : *budget;
    }
    return virtq_readable(chain) == 0;
}

static void tell(void *opaque)
{
    struct virtio_console *console = opaque;

    console->untold = 0;
    virtq_signal(virtio_queue(&console->virtio, TRANSMIT));
}

static void tell_later(struct virtio_console *console)
{
    if (!timer_pending(&console->timer))
        timer_set(console->clock, &console->timer,
                  clock_now(console->clock) + VIRTIO_CONSOLE_DELAY);
}

/* A chain that is not all sent stays in the queue. */
void virtio_console_pump(struct virtio_console *console)
{
    struct virtq *queue = virtio_queue(&console->virtio, TRANSMIT);
    size_t budget = VIRTIO_CONSOLE_PIECE;
    struct virtq_chain chain;

    while (budget && virtq_pop(queue, &chain)) {
        if (!transmit(console, &chain, &budget)) {
            virtq_unpop(&chain);
            break;
        }
        console->sent = 0;
        virtq_push(&chain, 0);
        console->untold++;
    }
    if (console->untold >= queue->size / 2u)
        tell(console);
    else if (console->untold)
        tell_later(console);
    if (!budget)
        console->more(console->opaque);
}

size_t virtio_console_receive(struct virtio_console *console, const uint8_t *bytes, size_t count)
{
    struct virtq *queue = virtio_queue(&console->virtio, RECEIVE);
    struct virtq_chain chain;
    size_t done = 0;

    while (done < count && virtq_pop(queue, &chain)) {
        size_t written = virtq_write(&chain, bytes + done, count - done);

        virtq_push(&chain, (uint32_t)written);
        done += written;
    }
    if (done)
        virtq_signal(queue);
    return done;
}

static void notify(void *opaque, unsigned queue)
{
    struct virtio_console *console = opaque;

    if (queue == TRANSMIT)
        virtio_console_pump(console);
    else
        console->ready(console->opaque);
}

static void reset(void *opaque)
{
    struct virtio_console *console = opaque;

    console->sent = 0;
    console->untold = 0;
    timer_cancel(console->clock, &console->timer);
}

/* A character of a driver that has no queues yet. */
static void config_write(void *opaque, unsigned offset, uint32_t value, unsigned size)
{
    struct virtio_console *console = opaque;
    const uint8_t byte = (uint8_t)value;

    (void)size;
    if (offset == offsetof(struct virtio_console_config, emergency))
        console->transmit(console->opaque, &byte, 1);
}

void virtio_console_resize(struct virtio_console *console, uint16_t columns, uint16_t rows)
{
    if (console->config.columns == columns && console->config.rows == rows)
        return;
    console->config.columns = columns;
    console->config.rows = rows;
    virtio_config_changed(&console->virtio);
}

void virtio_console_init(struct virtio_console *console, struct memory *mem, struct clock *clock)
{
    static const struct virtio_ops ops = {
        .notify = notify, .reset = reset, .config_write = config_write};

    memset(console, 0, sizeof *console);
    console->clock = clock;
    timer_init(&console->timer, tell, console);
    console->config = (struct virtio_console_config){.columns = 80, .rows = 25, .max_ports = 1};
    virtio_init(&console->virtio,
                &(struct virtio_type){
                    .name = "virtio-console",
                    .id = VIRTIO_ID_CONSOLE,
                    .class_code = 0x078000,
                    .features = F_SIZE | F_EMERG_WRITE,
                    .queue_count = QUEUES,
                    .queue_size = 64,
                    .config = &console->config,
                    .config_size = sizeof console->config,
                    .ops = &ops,
                    .opaque = console,
                },
                mem);
}

static void before_save(void *object)
{
    struct virtio_console *console = object;

    console->due = console->timer.deadline;
}

static int loaded(void *object, struct err *err)
{
    struct virtio_console *console = object;

    (void)err;
    timer_set(console->clock, &console->timer, console->due);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct virtio_console, config.columns),
    FIELD(struct virtio_console, config.rows),
    FIELD(struct virtio_console, sent),
    FIELD(struct virtio_console, untold),
    FIELD(struct virtio_console, due),
};

const struct state_desc virtio_console_state_desc = {
    .name = "virtio-console",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .before_save = before_save,
    .loaded = loaded,
};
