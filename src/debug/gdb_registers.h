/* gdb_registers.h - the registers of a vCPU as GDB sees them: a table, from which follow the target
 * description (XML), reading and writing.
 *
 * Two sets: x86-64, and i386 for a CPU that is not in long mode. The names, sizes and features are
 * those that GDB knows (org.gnu.gdb.i386.core, .sse, .avx, .segments; GDB manual, appendix G.4.7),
 * and org.doble.x86.system for control registers, descriptor tables and some MSRs. Numbers are the
 * places in the table, which is also the order of the `g` packet.
 *
 * The vCPU must be parked. Main thread. */
#ifndef DOBLE_DEBUG_GDB_REGISTERS_H
#define DOBLE_DEBUG_GDB_REGISTERS_H

#include "cpu/cpu.h"

#include <stdio.h>

#define GDB_REGISTER_MAX 16 /* bytes of the largest */

enum gdb_arch { GDB_ARCH_I386, GDB_ARCH_X86_64 };

/* The set that suits the CPU's mode. */
enum gdb_arch gdb_arch_of(const struct cpu *cpu);

/* The target description. */
void gdb_print_target(const struct cpu *cpu, enum gdb_arch arch, FILE *out);

/* Registers have the numbers 0 to count - 1. */
unsigned gdb_register_count(const struct cpu *cpu, enum gdb_arch arch);
/* The bytes of register `number`; 0: there is none. */
unsigned gdb_register_size(const struct cpu *cpu, enum gdb_arch arch, uint64_t number);
/* Reads a register, little-endian, of gdb_register_size() bytes. */
void gdb_register_read(struct cpu *cpu, enum gdb_arch arch, unsigned number, void *bytes);
/* False: the processor could not have that value there; nothing is changed. */
bool gdb_register_write(struct cpu *cpu, enum gdb_arch arch, unsigned number,
                        const void *bytes) MUST_USE;

#endif
