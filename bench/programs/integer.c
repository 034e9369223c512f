/* integer.c - programs that live in integer registers, branches and the first-level cache. */
#include "bench.h"

#include <string.h>

/* --- a loop of dependent integer operations --- */

bool bench_loop(unsigned long count)
{
    uint64_t x = 0;

    bench_start();
    for (unsigned long unit = 0; unit < count; unit++) {
        x = 12345;
        BENCH_HIDE(x);
        for (unsigned i = 0; i < 1000000; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x += i;
        }
    }
    bench_stop();
    return x == UINT64_C(0x16cf9f46f7533dd6);
}

/* --- recursive calls --- */

static __attribute__((noinline)) unsigned fib(unsigned n)
{
    BENCH_HIDE(n); /* keeps the compiler from unrolling the recursion */
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

bool bench_fib(unsigned long count)
{
    bool right = true;

    bench_start();
    for (unsigned long unit = 0; unit < count; unit++)
        right &= fib(25) == 75025;
    bench_stop();
    return right;
}

/* --- calls through pointers, in an order that is hard to predict --- */

static uint32_t op_add(uint32_t a, uint32_t b)
{
    return a + b;
}
static uint32_t op_sub(uint32_t a, uint32_t b)
{
    return a - b;
}
static uint32_t op_xor(uint32_t a, uint32_t b)
{
    return a ^ b;
}
static uint32_t op_mul(uint32_t a, uint32_t b)
{
    return a * (b | 1);
}
static uint32_t op_rol(uint32_t a, uint32_t b)
{
    return (a << (b & 31)) | (a >> (-b & 31));
}
static uint32_t op_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b + 1;
}
static uint32_t op_avg(uint32_t a, uint32_t b)
{
    return (a >> 1) + (b >> 1) + 77;
}
static uint32_t op_not(uint32_t a, uint32_t b)
{
    return ~a + b;
}

static uint32_t (*const operations[8])(uint32_t, uint32_t) = {op_add, op_sub, op_xor, op_mul,
                                                              op_rol, op_min, op_avg, op_not};

bool bench_indirect(unsigned long count)
{
    uint32_t x = 0;

    bench_start();
    for (unsigned long unit = 0; unit < count; unit++) {
        uint32_t state = 1;

        x = 1;
        BENCH_HIDE(x);
        for (unsigned i = 0; i < 200000; i++) {
            uint32_t r = bench_random(&state);

            x = operations[r & 7](x, r);
        }
    }
    bench_stop();
    return x == 0xfd18b9a6;
}

/* --- mixed integer work, in the manner of CoreMark: a linked list, a small matrix, a state machine
 * over text, and a CRC over all results --- */

#define LIST_LENGTH 64
#define MATRIX_SIZE 12
#define MIXED_ROUNDS 40

struct node {
    struct node *next;
    int16_t key, value;
};

static uint16_t crc16(uint16_t crc, uint32_t value)
{
    for (unsigned i = 0; i < 32; i++) {
        bool bit = (crc ^ value) & 1;

        crc >>= 1;
        value >>= 1;
        if (bit)
            crc ^= 0xa001;
    }
    return crc;
}

static struct node *list_build(struct node *nodes, uint32_t seed)
{
    for (unsigned i = 0; i < LIST_LENGTH; i++) {
        nodes[i].next = i + 1 < LIST_LENGTH ? &nodes[i + 1] : NULL;
        nodes[i].key = (int16_t)bench_random(&seed);
        nodes[i].value = (int16_t)i;
    }
    return &nodes[0];
}

static struct node *list_reverse(struct node *list)
{
    struct node *reversed = NULL;

    while (list) {
        struct node *next = list->next;

        list->next = reversed;
        reversed = list;
        list = next;
    }
    return reversed;
}

static struct node *list_insert_sorted(struct node *sorted, struct node *node)
{
    struct node **link = &sorted;

    while (*link && (*link)->key < node->key)
        link = &(*link)->next;
    node->next = *link;
    *link = node;
    return sorted;
}

static uint32_t list_work(uint32_t seed)
{
    struct node nodes[LIST_LENGTH], *list = list_reverse(list_build(nodes, seed)), *sorted = NULL;
    uint32_t sum = 0, position = 0;

    while (list) {
        struct node *next = list->next;

        sorted = list_insert_sorted(sorted, list);
        list = next;
    }
    for (; sorted; sorted = sorted->next)
        sum += (uint32_t)sorted->value * ++position;
    return sum;
}

static uint32_t matrix_work(uint32_t seed)
{
    int16_t a[MATRIX_SIZE][MATRIX_SIZE], b[MATRIX_SIZE][MATRIX_SIZE];
    uint32_t sum = 0;

    for (unsigned i = 0; i < MATRIX_SIZE; i++)
        for (unsigned j = 0; j < MATRIX_SIZE; j++) {
            a[i][j] = (int16_t)bench_random(&seed);
            b[i][j] = (int16_t)bench_random(&seed);
        }
    for (unsigned i = 0; i < MATRIX_SIZE; i++)
        for (unsigned j = 0; j < MATRIX_SIZE; j++) {
            int32_t product = 0;

            for (unsigned k = 0; k < MATRIX_SIZE; k++)
                product += (a[i][k] >> 4) * (b[k][j] >> 4);
            sum = (sum << 1 | sum >> 31) ^ (uint32_t)product;
        }
    return sum;
}

/* Which words of the text are integers, which are numbers with a fraction, which are neither? */
static uint32_t text_work(uint32_t seed)
{
    static const char letters[] = "0123456789.-x ";
    enum { START, SIGN, INTEGER, FRACTION, OTHER, STATES } state = START;
    uint32_t counts[STATES] = {0};

    for (unsigned i = 0; i < 400; i++) {
        char c = letters[bench_random(&seed) % (sizeof(letters) - 1)];

        switch (c) {
        case ' ':
            counts[state]++;
            state = START;
            break;
        case '-': state = state == START ? SIGN : OTHER; break;
        case '.': state = state == INTEGER ? FRACTION : OTHER; break;
        case 'x': state = OTHER; break;
        default:
            if (state == START || state == SIGN)
                state = INTEGER;
        }
    }
    return counts[INTEGER] << 16 ^ counts[FRACTION] << 8 ^ counts[OTHER];
}

bool bench_mixed(unsigned long count)
{
    uint32_t crc = 0;

    bench_start();
    for (unsigned long unit = 0; unit < count; unit++) {
        crc = 0xffff;
        BENCH_HIDE(crc);
        for (uint32_t round = 0; round < MIXED_ROUNDS; round++) {
            crc = crc16((uint16_t)crc, list_work(round));
            crc = crc16((uint16_t)crc, matrix_work(round));
            crc = crc16((uint16_t)crc, text_work(round));
        }
    }
    bench_stop();
    return crc == 0xfaae;
}

/* --- an interpreter of bytecode: how long is the longest Collatz sequence below a limit? --- */

enum op {
    OP_SET,
    OP_ADD,
    OP_ADDI,
    OP_MULI,
    OP_HALF,
    OP_JODD,
    OP_JLE,
    OP_JLT,
    OP_MOV,
    OP_JMP,
    OP_END
};

struct bytecode {
    uint8_t op, a, b;
    int32_t c;
};

/* r0 number, r1 its sequence's current value, r2 length, r3 longest, r4 limit, r5 one */
static const struct bytecode collatz[] = {
    {OP_SET, 0, 0, 1},  {OP_SET, 3, 0, 0},   {OP_SET, 5, 0, 1},
    {OP_MOV, 1, 0, 0},  {OP_SET, 2, 0, 1}, /* 3: next number */
    {OP_JLE, 1, 5, 12},                    /* 5: next value */
    {OP_ADDI, 2, 0, 1}, {OP_JODD, 1, 0, 10}, {OP_HALF, 1, 0, 0},
    {OP_JMP, 0, 0, 5},  {OP_MULI, 1, 1, 3},  {OP_JMP, 0, 0, 5}, /* 10: odd */
    {OP_JLE, 2, 3, 14}, {OP_MOV, 3, 2, 0},                      /* 12: the sequence is complete */
    {OP_ADDI, 0, 0, 1}, {OP_JLT, 0, 4, 3},   {OP_END, 0, 0, 0},
};

static __attribute__((noinline)) int64_t interpret(const struct bytecode *code, int64_t limit)
{
    int64_t r[8] = {[4] = limit};

    for (const struct bytecode *pc = code;;) {
        const struct bytecode *in = pc++;

        switch ((enum op)in->op) {
        case OP_SET: r[in->a] = in->c; break;
        case OP_ADD: r[in->a] += r[in->b]; break;
        case OP_ADDI: r[in->a] += in->c; break;
        case OP_MULI: r[in->a] = r[in->b] * in->c + 1; break;
        case OP_HALF: r[in->a] >>= 1; break;
        case OP_MOV: r[in->a] = r[in->b]; break;
        case OP_JMP: pc = code + in->c; break;
        case OP_JODD: pc = r[in->a] & 1 ? code + in->c : pc; break;
        case OP_JLE: pc = r[in->a] <= r[in->b] ? code + in->c : pc; break;
        case OP_JLT: pc = r[in->a] < r[in->b] ? code + in->c : pc; break;
        case OP_END: return r[3];
        }
    }
}

bool bench_bytecode(unsigned long count)
{
    bool right = true;

    bench_start();
    for (unsigned long unit = 0; unit < count; unit++) {
        int64_t limit = 1500;

        BENCH_HIDE(limit);
        right &= interpret(collatz, limit) == 182; /* 1161 has the longest one below 1500 */
    }
    bench_stop();
    return right;
}
