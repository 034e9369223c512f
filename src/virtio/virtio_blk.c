/* virtio_blk.c - see virtio_blk.h. */
#include "virtio/virtio_blk.h"

#include "base/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Features (5.2.3). */
#define F_SEG_MAX (UINT64_C(1) << 2)
#define F_RO (UINT64_C(1) << 5)
#define F_BLK_SIZE (UINT64_C(1) << 6)
#define F_FLUSH (UINT64_C(1) << 9)
#define F_MQ (UINT64_C(1) << 12)
#define F_DISCARD (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

/* Requests (5.2.6). */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};
_Static_assert(sizeof(struct header) == 16, "virtio 1.2, 5.2.6");

struct range {
    uint64_t sector;
    uint32_t sectors, flags; /* bit 0: unmap */
};
_Static_assert(sizeof(struct range) == 16, "virtio 1.2, 5.2.6");

#define QUEUE_SIZE 256
/* Sectors of one discard: it must end some day. */
#define MAX_RANGE (256 * MIB / BLOCK_SECTOR)

/* A request on its way. */
struct virtio_blk_job {
    struct virtio_blk *blk;
    struct virtio_blk_job *next;
    struct block_request request;
    struct virtq_chain chain;
    uint32_t written; /* bytes for the driver, but for the status */
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
};

/* --- jobs --- */

static struct virtio_blk_job *take_job(struct virtio_blk *blk)
{
    struct virtio_blk_job *job = blk->unused;

    if (job)
        blk->unused = job->next;
    else
        job = malloc(sizeof *job);
    if (job)
        job->blk = blk;
    return job;
}

static void put_job(struct virtio_blk_job *job)
{
    job->next = job->blk->unused;
    job->blk->unused = job;
}

/* The status is the last byte that we may write, wherever the data ended. */
static void finish(struct virtio_blk_job *job, uint8_t status)
{
    struct virtq *queue = job->chain.queue;

    if (virtq_writable(&job->chain) > 1)
        virtq_write_iov(&job->chain, virtq_writable(&job->chain) - 1, job->iov);
    virtq_write(&job->chain, &status, 1);
    virtq_push(&job->chain, job->written + 1);
    virtq_signal(queue);
    put_job(job);
}

static uint8_t status_of(int result)
{
    return result == 0 ? S_OK : result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;
}

static void done(struct block_request *request, int result)
{
    struct virtio_blk_job *job = request->opaque;

    trace_virtio_blk_done(request->op, request->offset, request->length, result);
    if (result == 0 && request->op != BLOCK_READ && request->op != BLOCK_FLUSH &&
        !virtio_has(&job->blk->virtio, F_FLUSH)) {
        request->op = BLOCK_FLUSH;
        block_submit(job->blk->block, request);
        block_kick(job->blk->block);
        return;
    }
    finish(job, status_of(result));
}

static void submit(struct virtio_blk_job *job, enum block_op op, uint64_t sector, uint64_t bytes)
{
    /* A sector that makes the offset overflow is beyond any disk. */
    job->request = (struct block_request){
        .op = op,
        .may_unmap = job->request.may_unmap,
        .offset = sector <= UINT64_MAX / BLOCK_SECTOR ? sector * BLOCK_SECTOR : UINT64_MAX,
        .length = bytes,
        .iov = job->iov,
        .iov_count = job->request.iov_count,
        .done = done,
        .opaque = job,
    };
    block_submit(job->blk->block, &job->request);
}

/* --- requests --- */

static void do_read(struct virtio_blk_job *job, uint64_t sector)
{
    job->written = virtq_writable(&job->chain) - 1; /* without the status */
    job->request.iov_count = virtq_write_iov(&job->chain, job->written, job->iov);
    submit(job, BLOCK_READ, sector, job->written);
}

static void do_write(struct virtio_blk_job *job, uint64_t sector)
{
    const uint32_t bytes = virtq_readable(&job->chain);

    job->request.iov_count = virtq_read_iov(&job->chain, bytes, job->iov);
    submit(job, BLOCK_WRITE, sector, bytes);
}

/* The driver's buffer need not have the length of our answer. */
static void do_get_id(struct virtio_blk_job *job)
{
    uint32_t room = virtq_writable(&job->chain) - 1;

    if (room > VIRTIO_BLK_ID_LENGTH)
        room = VIRTIO_BLK_ID_LENGTH;
    job->written = (uint32_t)virtq_write(&job->chain, job->blk->id, room);
    finish(job, S_OK);
}

/* Discard and write-zeroes: one range, as the configuration says. */
static void do_range(struct virtio_blk_job *job, enum block_op op)
{
    struct range range;

    if (virtq_readable(&job->chain) != sizeof range ||
        virtq_read(&job->chain, &range, sizeof range) != sizeof range ||
        range.sectors > MAX_RANGE) {
        finish(job, S_IOERR);
    } else if (range.flags & ~(op == BLOCK_WRITE_ZEROES ? 1u : 0u)) {
        finish(job, S_UNSUPP);
    } else {
        job->request.may_unmap = range.flags & 1;
        submit(job, op, range.sector, (uint64_t)range.sectors * BLOCK_SECTOR);
    }
}

static void execute(struct virtio_blk_job *job)
{
    struct header header;

    job->written = 0;
    job->request.iov_count = 0;
    job->request.may_unmap = false;
    if (virtq_read(&job->chain, &header, sizeof header) != sizeof header) {
        finish(job, S_IOERR);
        return;
    }
    switch (header.type) {
    case T_IN: do_read(job, header.sector); break;
    case T_OUT: do_write(job, header.sector); break;
    case T_FLUSH: submit(job, BLOCK_FLUSH, 0, 0); break;
    case T_GET_ID: do_get_id(job); break;
    case T_DISCARD: do_range(job, BLOCK_DISCARD); break;
    case T_WRITE_ZEROES: do_range(job, BLOCK_WRITE_ZEROES); break;
    default: finish(job, S_UNSUPP); break;
    }
}

/* Takes the next request. Without a byte for its status nobody would learn how it ended. */
static bool next_request(struct virtio_blk *blk, struct virtq *queue)
{
    struct virtio_blk_job *job = take_job(blk);

    if (!job)
        return false; /* no memory now: the next notification tries again */
    if (!virtq_pop(queue, &job->chain)) {
        put_job(job);
        return false;
    }
    if (job->chain.writable == 0) {
        virtq_push(&job->chain, 0);
        put_job(job);
        virtio_broken(&blk->virtio, "a request without a place for its status");
        return false;
    }
    execute(job);
    return true;
}

static void notify(void *opaque, unsigned number)
{
    struct virtio_blk *blk = opaque;
    struct virtq *queue = virtio_queue(&blk->virtio, number);

    do {
        virtq_set_notify(queue, false);
        while (next_request(blk, queue))
            continue;
        virtq_set_notify(queue, true);
    } while (virtq_ready(queue) && next_request(blk, queue));
    block_kick(blk->block);
}

static void drain(void *opaque)
{
    struct virtio_blk *blk = opaque;

    block_drain(blk->block);
}

/* --- making, freeing --- */

static uint64_t features_of(const struct block_info *info)
{
    uint64_t features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_MQ;

    return features | (info->read_only ? F_RO : F_DISCARD | F_WRITE_ZEROES);
}

static struct virtio_blk_config config_of(const struct block_info *info, unsigned queues)
{
    const uint32_t cluster = info->cluster ? info->cluster : 4096;

    return (struct virtio_blk_config){
        .capacity = info->size / BLOCK_SECTOR,
        .seg_max = QUEUE_SIZE - 2, /* header and status */
        .blk_size = BLOCK_SECTOR,
        .num_queues = (uint16_t)queues,
        .max_discard_sectors = MAX_RANGE,
        .max_discard_seg = 1,
        .discard_sector_alignment = cluster / BLOCK_SECTOR,
        .max_write_zeroes_sectors = MAX_RANGE,
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };
}

void virtio_blk_init(struct virtio_blk *blk, struct block *block, const char *id, unsigned queues,
                     struct memory *mem)
{
    static const struct virtio_ops ops = {.notify = notify, .drain = drain};
    const struct block_info *info = block_info(block);

    blk->block = block;
    blk->unused = NULL;
    blk->config = config_of(info, queues);
    memset(blk->id, 0, sizeof blk->id);
    if (id)
        memcpy(blk->id, id, strnlen(id, sizeof blk->id));
    virtio_init(&blk->virtio,
                &(struct virtio_type){
                    .name = "virtio-blk",
                    .id = VIRTIO_ID_BLOCK,
                    .class_code = 0x010000,
                    .features = features_of(info),
                    .queue_count = queues,
                    .queue_size = QUEUE_SIZE,
                    .config = &blk->config,
                    .config_size = sizeof blk->config,
                    .ops = &ops,
                    .opaque = blk,
                },
                mem);
}

void virtio_blk_free(struct virtio_blk *blk)
{
    while (blk->unused) {
        struct virtio_blk_job *next = blk->unused->next;

        free(blk->unused);
        blk->unused = next;
    }
}

/* --- state --- */

static void before_save(void *object)
{
    struct virtio_blk *blk = object;
    const struct block_info *info = block_info(blk->block);

    blk->saved_size = info->size;
    blk->saved_read_only = info->read_only;
    memcpy(blk->saved_id, blk->id, sizeof blk->id);
}

static int loaded(void *object, struct err *err)
{
    const struct virtio_blk *blk = object;
    const struct block_info *info = block_info(blk->block);
    const char *path = block_path(blk->block);

    if (blk->saved_size != info->size)
        return err_set(
            err, -EINVAL,
            "%s: has %llu bytes, and the saved machine's disk has %llu; give it the disk "
            "that it had",
            path, (unsigned long long)info->size, (unsigned long long)blk->saved_size);
    if (blk->saved_read_only != info->read_only)
        return err_set(err, -EINVAL, "%s: the saved machine's disk was %s", path,
                       blk->saved_read_only ? "read-only" : "not read-only");
    if (memcmp(blk->saved_id, blk->id, sizeof blk->id) != 0)
        return err_set(err, -EINVAL, "%s: the saved machine's disk had the serial number '%.20s'",
                       path, blk->saved_id);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct virtio_blk, saved_size),
    FIELD(struct virtio_blk, saved_read_only),
    FIELD_BYTES(struct virtio_blk, saved_id),
};

const struct state_desc virtio_blk_state_desc = {
    .name = "virtio-blk",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .before_save = before_save,
    .loaded = loaded,
};
