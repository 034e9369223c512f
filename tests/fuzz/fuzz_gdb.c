/* fuzz_gdb.c - a debugger that sends anything to a machine that runs a small guest.
 *
 *   choice  mode  bytes
 *
 * choice bit 0: the bytes are what the client sends. Otherwise they are lines, of which each
 * becomes a packet with a right checksum; a line of one byte below 20h is sent as it is, and an
 * empty line lets the guest run a while. */
#include "debug/gdb_commands.h"
#include "guest.h"
#include "input.h"
#include "machine.h"

#define MAX_LINES 64u
#define SLICE 300u

static struct machine machine;
static struct gdb_session session;
static unsigned pauses;

static void on_pause(void *opaque)
{
    (void)opaque;
    if (pauses++)
        fuzz_fail("the session pauses a machine that it has paused");
}

static void on_resume(void *opaque)
{
    (void)opaque;
    if (!pauses--)
        fuzz_fail("the session resumes a machine that runs");
}

static void on_end(void *opaque)
{
    (void)opaque;
}

static void take_answers(void)
{
    if (session.out_length)
        gdb_session_sent(&session, session.out_length);
}

/* While the session lets it. */
static void run_guest(void)
{
    struct pc *pc = &machine.pc;
    enum cpu_exit why;

    if (pauses)
        return;
    why = machine_run(pc, &engine_interpret, SLICE);
    if (why == EXIT_DEBUG || (why == EXIT_SHUTDOWN && cpu_debug_shutdown(pc->cpu)))
        gdb_session_stopped(&session);
    machine_check_cpu(pc->cpu);
}

static void client_sends(const uint8_t *bytes, size_t count)
{
    while (count && !session.finished && !session.failed) {
        size_t taken = gdb_session_receive(&session, bytes, count);

        bytes += taken;
        count -= taken;
        take_answers();
        run_guest();
        if (!taken && count) {
            if (session.out_length == 0 && gdb_session_receive(&session, bytes, count) == 0)
                fuzz_fail("the session takes nothing though all answers have been sent");
            break;
        }
    }
}

static void send_packet(const uint8_t *bytes, size_t count)
{
    static struct gdb_payload payload;
    static uint8_t frame[GDB_FRAME_SIZE(GDB_PACKET_MAX)];

    payload.length = 0;
    payload.overflow = false;
    gdb_put_binary(&payload, bytes, count);
    if (!payload.overflow)
        client_sends(frame, gdb_frame(&payload, frame));
}

static void send_lines(struct input *in)
{
    for (unsigned i = 0; i < MAX_LINES && in->left && !session.finished; i++) {
        const uint8_t *end = memchr(in->bytes, '\n', in->left);
        size_t count = end ? (size_t)(end - in->bytes) : in->left;

        if (count == 0)
            run_guest();
        else if (count == 1 && in->bytes[0] < 0x20)
            client_sends(in->bytes, 1);
        else
            send_packet(in->bytes, count);
        in->bytes += count + !!end;
        in->left -= count + !!end;
    }
}

/* Moves a few registers, stores to its data, and begins again. */
static void make_guest(struct pc *pc, unsigned mode)
{
    static const uint8_t code[] = {0x90, 0xb8, 1,    0,    0x89, 0xc3, 0x50, 0x5b,
                                   0xa5, 0xcc, 0xf4, 0x75, 0x01, 0x90, 0xeb, 0xf0};
    struct guest_choice choice = {
        .mode = (enum guest_mode)(mode % GUEST_MODES), .cpl = mode >> 6 & 3, .seed = mode};

    machine_reset(&machine);
    guest_make(pc->cpu, &choice);
    memcpy(memory_ram(&pc->mem, GUEST_CODE, sizeof code), code, sizeof code);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct pc *pc = &machine.pc;
    unsigned choice = input_u8(&in);
    struct gdb_machine debugged;
    const struct gdb_control control = {on_pause, on_resume, on_end, NULL};

    if (!pc->cpu)
        machine_init(&machine, GUEST_RAM, &engine_interpret);
    make_guest(pc, input_u8(&in));
    debugged = (struct gdb_machine){pc->cpu, pc->states, &pc->lapic, &pc->ioapic};
    pauses = 0;
    if (!gdb_session_open(&session, &debugged, &control))
        return 0;
    if (choice & 1)
        client_sends(in.bytes, in.left);
    else
        send_lines(&in);
    if (choice & 2)
        gdb_session_ended(&session, choice, 0);
    gdb_session_close(&session);
    if (pauses || pc->cpu->debug)
        fuzz_fail("the machine stays stopped, or debugged, without a client");
    machine_check_cpu(pc->cpu);
    machine_check_saving(pc);
    (void)machine_run(pc, &engine_interpret, SLICE);
    machine_check_cpu(pc->cpu);
    return 0;
}
