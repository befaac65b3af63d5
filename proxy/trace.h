/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_TRACE_H
#define PROXY_TRACE_H

/*
 * A request that belongs to a trace, where there is a collector (wire 5.9). It has a plan, and its
 * trace hangs there, so that a request without one pays nothing but the look for it.
 *
 * The proxy puts itself into the trace, sampled or not: a server span whose parent is the one that
 * the request named, and below it a client span for each attempt, which is what the request names
 * further on. Of a sampled trace each is written when the response's head has come (for a request
 * that is repeated as if it had never been sent, there is one attempt), or when it is known that
 * none will.
 *
 * Ownership: in the arena of the accepted stream, as its plan.
 */
#include "proxy/span.h"

struct exchange;

struct trace {
    struct trace_context from;         /* as the request had it */
    uint8_t server_id[8], client_id[8]; /* of our spans; that of the attempt at hand */
    bool is_attempt, is_answered; /* an attempt is open; the server span is written */
    /* of a sampled one */
    uint64_t begin_wall_ns, begin_ns; /* the same instant on two clocks */
    uint64_t attempt_ns;
    struct span_request asked, sent; /* as it came; as it went on */
};

/* exchange_trace.c */
void exchange_trace(struct exchange *ex); /* its head came; it may get a plan */
/* The rest is for exchanges whose plan has a trace. */
void exchange_trace_sent(struct exchange *ex); /* its head is about to go to an endpoint */
void exchange_trace_attempt(struct exchange *ex, unsigned status); /* the attempt's answer; 0: none */
void exchange_trace_answered(struct exchange *ex); /* the client gets ex->status */
void exchange_trace_end(struct exchange *ex); /* nothing will come that has not */

#endif
