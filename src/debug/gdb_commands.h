/* gdb_commands.h - GDB's remote protocol: what is answered to each packet, and when the machine
 * stops and goes on.
 *
 * A session is one debugger's connection, without the connection: bytes come in through
 * gdb_session_receive(), and what is to be sent collects in session->out. There is one thread
 * (number 1), and everything stops when it stops ("all-stop"). GDB manual, appendix E.
 *
 * Nothing that a client sends is believed: lengths are bounded by GDB_PACKET_MAX, addresses go
 * through the guest's page tables, registers through the processor's checks. Main thread. */
#ifndef DOBLE_DEBUG_GDB_COMMANDS_H
#define DOBLE_DEBUG_GDB_COMMANDS_H

#include "cpu/debug.h"
#include "debug/gdb_monitor.h"
#include "debug/gdb_packet.h"
#include "debug/gdb_registers.h"

/* While so much waits to be sent, nothing more is taken from the client. */
#define GDB_OUT_LIMIT (64 * 1024)
/* The most that one command can answer (monitor commands), as text. */
#define GDB_TEXT_LIMIT (256 * 1024)

/* What a session asks of the machine's owner. */
struct gdb_control {
    void (*pause)(void *opaque);  /* park the vCPU; calls don't nest */
    void (*resume)(void *opaque); /* after pause */
    void (*end)(void *opaque);    /* the machine is to end ("kill") */
    void *opaque;
};

struct gdb_session {
    struct gdb_machine machine;
    struct gdb_control control;
    struct cpu_debug *debug;
    enum gdb_arch arch;
    char *target_xml;
    size_t target_length;

    bool stopped; /* the machine, by us */
    bool no_ack;  /* QStartNoAckMode */
    bool swbreak; /* the client knows this reason of a stop */
    bool hwbreak;
    bool finished;   /* detached or killed: to be closed when everything is sent */
    gva_t stop_pc;   /* where the client last saw it stopped */
    unsigned signal; /* of the last stop */

    struct gdb_reader reader;
    struct gdb_payload reply;
    uint8_t *out; /* bytes to send */
    size_t out_length, out_size;
    uint8_t *last; /* the frame sent last, in case it got lost */
    size_t last_length;
    bool failed; /* out of memory: to be closed */
};

/* Stops the machine and attaches to its CPU. False: out of memory (and nothing was done). */
bool gdb_session_open(struct gdb_session *s, const struct gdb_machine *machine,
                      const struct gdb_control *control) MUST_USE;
/* Detaches, and lets the machine run on. */
void gdb_session_close(struct gdb_session *s);

/* Takes bytes of the client, as far as the answers have room; returns how many. */
size_t gdb_session_receive(struct gdb_session *s, const uint8_t *bytes, size_t count);
/* So many bytes of session->out have been sent. */
void gdb_session_sent(struct gdb_session *s, size_t count);

/* The CPU has left its engine with EXIT_DEBUG: stops the machine and tells the client. */
void gdb_session_stopped(struct gdb_session *s);
/* The machine has ended: by itself with a status, or by a signal (0: none). */
void gdb_session_ended(struct gdb_session *s, unsigned status, unsigned signal);

#endif
