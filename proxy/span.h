/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_SPAN_H
#define PROXY_SPAN_H

/*
 * A span: what one proxy did with one request of a trace, from one side (wire 5.9). A request makes
 * a server span, and below it a client span for each attempt; what is in them is in docs/tracing.md.
 *
 * It is told from the head of the request as that side saw it, of which the few fields that a span
 * shows are noted, and written down once, as OTLP's Span. Pure.
 *
 * Limits: SPAN_BYTES_MAX bytes a span; what a request says is cut at SPAN_TEXT_MAX bytes a piece and
 * made well-formed UTF-8, for a collector refuses all spans of a message in which one is not.
 */
#include "http/trace_context.h"

#define SPAN_BYTES_MAX 10240
#define SPAN_PATH_MAX  1024 /* of a path, of a query, and of a span's name */
#define SPAN_URL_MAX   2304
#define SPAN_TEXT_MAX  256  /* of every other piece */

/* Of a request's head; borrowed from its arena. */
struct span_request {
    struct bytes method, scheme, authority, path;
    struct bytes host; /* whom the client asked for: X-Forwarded-Host, else the authority */
    struct bytes user_agent, content_length, content_type, orig_proto;
};
void span_request_note(struct span_request *r, const struct head *h);

struct span {
    uint8_t trace_id[16], span_id[8], parent_id[8];
    uint8_t flags;
    bool is_client;   /* else server */
    bool is_outbound; /* which of the two proxies */
    uint64_t begin_wall_ns, end_wall_ns;
    const struct span_request *request;
    unsigned status;   /* of the response; 0: there was none */
    const char *cause; /* where the proxy failed or refused it (failure.def); NULL: it did not */
    bool is_error;     /* and the client is not to blame */
};
/* Bytes written to `to`. */
size_t span_pack(const struct span *s, uint8_t to[SPAN_BYTES_MAX]);

#endif
