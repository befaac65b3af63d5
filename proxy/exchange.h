/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_EXCHANGE_H
#define PROXY_EXCHANGE_H

/*
 * One request and its response: an accepted stream joined to a dialed one (decision D7).
 *
 * inbound.c or outbound.c decides where it goes and calls exchange_to_dest() or exchange_to_upstream() or
 * exchange_fail(); from then on the bytes flow by credit, and the end is recorded here.
 * Ownership: recycled by the worker; lives from the accepted stream's head to the end of both streams.
 */
#include "proxy/conn.h"

struct exchange {
    struct list node;             /* in its connection's list */
    struct conn *conn;
    struct stream *a, *d;         /* accepted, dialed; NULL when not there (any more) */
    struct head *request;
    struct head forward;          /* the request head as it is sent on */
    uint64_t start_ns, first_byte_ns;
    /* where it goes */
    struct dest *dest;
    struct member *member;
    struct upstream *up;
    struct dial dial;
    struct pick pick;
    unsigned attempts;
    /* what it is */
    bool is_grpc, is_orig_proto /* came as HTTP/1 inside HTTP/2 */, is_upgraded_hop /* leaves so */;
    bool is_reused_link;          /* the link had carried a request before: a stale one may be replaced */
    bool request_ended, response_begun, response_ended, body_begun;
    struct fields *trailers;      /* of a request that ended before it was dialed */
    bool has_ended_early;
    /* what came of it */
    unsigned status;
    int grpc_status;
    enum failure failure;
    struct request_stats *stats;
    bool is_counted;
};

extern const struct stream_events exchange_accepted_events;
void exchange_begin(struct conn *c, struct stream *accepted);
void exchange_to_dest(struct exchange *ex, struct dest *dest /* held: taken over */);
void exchange_to_upstream(struct exchange *ex, struct upstream *up);
/* Answer with a failure (or break off when the response has begun), count, log once. `status` 0: the failure's own. */
void exchange_fail(struct exchange *ex, enum failure why, unsigned status, const char *detail);
void exchange_abort(struct exchange *ex); /* its connection is going away */
void exchange_free_all(struct proxy_worker *w);

/* headers.c: the fields that the proxy adds, rewrites and strips (wire 5.3 to 5.5). */
void headers_request(struct exchange *ex, enum link_kind kind);
void headers_response(struct exchange *ex, struct head *response);

#endif
