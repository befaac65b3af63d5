/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_SPAN_QUEUE_H
#define PROXY_SPAN_QUEUE_H

/*
 * Finished spans, on their way from the workers to the control thread, in batches: a worker writes
 * into one of its own, and hands it over when it is full or a second old.
 *
 * Limits: a batch has SPAN_BATCH_BYTES and SPAN_BATCH_SPANS; of all workers together there are at
 * most SPAN_BATCHES_MAX, those that wait for the collector included: half a mebibyte. What finds no
 * room is dropped and counted in tulle_spans_dropped_total; nothing ever waits.
 * Ownership: a batch belongs to who holds it; span_batch_free() may be called on any thread. The
 * queue outlives both loops.
 * Threads: a writer belongs to one worker; on_batch is called on the control thread.
 */
#include "core/mailbox.h"
#include "proxy/span.h"
#include "proxy/stats.h"

#include <stdatomic.h>

#define SPAN_BATCH_BYTES 32768
#define SPAN_BATCH_SPANS 128
#define SPAN_BATCHES_MAX 16

struct span_batch;
struct span_queue {
    struct loop *loop; /* of who takes them */
    /* Takes a batch. NULL: nobody takes any more, and they are dropped. */
    void (*on_batch)(struct span_queue *q, struct span_batch *b);
    void *user;               /* its */
    _Atomic unsigned batches; /* that exist */
};

struct span_batch {
    struct message message;
    struct list node; /* its holder's */
    struct span_queue *queue;
    unsigned count;
    size_t bytes;
    uint32_t ends[SPAN_BATCH_SPANS]; /* where each span ends */
    uint8_t packed[SPAN_BATCH_BYTES]; /* each an OTLP Span */
};
void span_batch_free(struct span_batch *b);
static inline struct bytes span_batch_at(const struct span_batch *b, unsigned i)
{
    size_t from = i > 0 ? b->ends[i - 1] : 0;

    return bytes_of(b->packed + from, b->ends[i] - from);
}

struct span_writer; /* a worker's */
struct span_writer *span_writer_new(struct loop *l, struct stats *stats, struct span_queue *q);
void span_writer_free(struct span_writer *w); /* hands over what it has; NULL is fine */
void span_writer_add(struct span_writer *w, const struct span *s);
void span_writer_drop(struct span_writer *w, const char *reason); /* one that was not to be made */
void span_writer_flush(struct span_writer *w); /* now, however young */

#endif
