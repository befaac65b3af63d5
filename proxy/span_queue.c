/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/span_queue.h"

#include "core/alloc.h"
#include "core/clock.h"

#define FLUSH_NS NS_PER_S

static_assert(SPAN_BATCH_BYTES >= SPAN_BYTES_MAX, "an empty batch has room for a span");

/* --- batches ---------------------------------------------------------------------------------- */

/* NULL: there are enough. */
static struct span_batch *batch_new(struct span_queue *q)
{
    struct span_batch *b;

    if (atomic_fetch_add_explicit(&q->batches, 1, memory_order_relaxed) >= SPAN_BATCHES_MAX) {
        atomic_fetch_sub_explicit(&q->batches, 1, memory_order_relaxed);
        return NULL;
    }
    b = mem_new(sizeof(*b));
    b->queue = q;
    return b;
}

void span_batch_free(struct span_batch *b)
{
    atomic_fetch_sub_explicit(&b->queue->batches, 1, memory_order_relaxed);
    list_unlink(&b->node);
    mem_free(b);
}

static void deliver(struct message *m, struct loop *l)
{
    struct span_batch *b = CONTAINER_OF(m, struct span_batch, message);
    struct span_queue *q = b->queue;

    (void)l;
    if (q->on_batch != NULL) {
        q->on_batch(q, b);
    } else {
        span_batch_free(b);
    }
}

/* --- writing ---------------------------------------------------------------------------------- */

struct span_writer {
    struct loop *loop;
    struct stats *stats;
    struct span_queue *queue;
    struct span_batch *batch; /* NULL until there is something to write */
    struct timer flush;       /* armed while there is one */
};

static void on_flush(struct timer *t)
{
    span_writer_flush(CONTAINER_OF(t, struct span_writer, flush));
}

struct span_writer *span_writer_new(struct loop *l, struct stats *stats, struct span_queue *q)
{
    struct span_writer *w = mem_new(sizeof(*w));

    w->loop = l;
    w->stats = stats;
    w->queue = q;
    w->flush.run = on_flush;
    return w;
}

void span_writer_free(struct span_writer *w)
{
    if (w != NULL) {
        span_writer_flush(w);
        mem_free(w);
    }
}

void span_writer_flush(struct span_writer *w)
{
    struct span_batch *b = w->batch;

    if (b == NULL) {
        return;
    }
    timer_cancel(w->loop, &w->flush);
    w->batch = NULL;
    b->message.deliver = deliver;
    loop_post(w->queue->loop, &b->message);
}

void span_writer_drop(struct span_writer *w, const char *reason)
{
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "reason", bytes_str(reason));
    stat_count(w->stats, STAT_SPANS_DROPPED, &l);
}

void span_writer_add(struct span_writer *w, const struct span *s)
{
    struct span_batch *b = w->batch;

    if (b == NULL) {
        b = w->batch = batch_new(w->queue);
        if (b == NULL) {
            span_writer_drop(w, "queue");
            return;
        }
        timer_arm_in(w->loop, &w->flush, FLUSH_NS);
    }
    b->bytes += span_pack(s, b->packed + b->bytes);
    b->ends[b->count++] = (uint32_t)b->bytes;
    if (b->count == SPAN_BATCH_SPANS || SPAN_BATCH_BYTES - b->bytes < SPAN_BYTES_MAX) {
        span_writer_flush(w);
    }
}
