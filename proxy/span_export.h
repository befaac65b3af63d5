/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_SPAN_EXPORT_H
#define PROXY_SPAN_EXPORT_H

/*
 * Spans from the queue to the collector: OTLP over gRPC, one request at a time with all that has
 * come by then, at most EXPORT_SPANS_MAX spans (wire 5.9).
 *
 * A request that the collector did not take for the time being, or never got, is sent again after a
 * back-off of 1 to 10 s, EXPORT_TRIES_MAX times in all; one that it refuses for good is dropped, and
 * the next one backs off all the same. What waits meanwhile is bounded by the queue. The first
 * failure of an outage is logged, with what to look at, and its end.
 *
 * Metrics: opentelemetry_span_export_streams (a first request, and each first one after a failure),
 * opentelemetry_span_export_requests (each that was sent), opentelemetry_span_exports (spans that
 * the collector took); tulle_spans_dropped_total{reason="collector"}.
 *
 * Threads: the control thread's loop, in whose metrics it counts.
 */
#include "mesh/control.h"
#include "proxy/span_queue.h"
#include "proxy/trace_resource.h"

#define EXPORT_SPANS_MAX 1000
#define EXPORT_TRIES_MAX 20

struct span_export;
/* The channel and the queue outlive it; `resource` is needed no more. Takes batches from now on. */
struct span_export *span_export_open(struct loop *l, struct control *channel, struct span_queue *q,
                                     const struct trace_resource *resource);
/* Drops what it has. The channel has no call of it any more, and the queue drops from now on. NULL
 * is fine. */
void span_export_close(struct span_export *e);
/*
 * The process is to end: `on_done` comes from a timer when all is exported, an attempt has failed,
 * or after 3 s. Once.
 */
void span_export_finish(struct span_export *e, void (*on_done)(void *user), void *user);

#endif
