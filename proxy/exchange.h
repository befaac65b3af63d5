/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_EXCHANGE_H
#define PROXY_EXCHANGE_H

/*
 * One request and its response: an accepted stream joined to a dialed one (decision D7).
 *
 * inbound.c or outbound.c decides where it goes and calls exchange_to_dest() or
 * exchange_to_upstream() or exchange_fail(); from then on the bytes flow by credit
 * (exchange_join.c), and the end is recorded here.
 *
 * An exchange has at most one dialed stream at a time. As long as nothing of the request's body was
 * passed on and no response has begun, it may be given another one; what comes of the body
 * meanwhile is held, at most what was credited.
 *
 * Ownership: recycled by the worker; lives from the accepted stream's begin until exchange_end(),
 * which closes both streams. Holds a use of its upstream, its destination and its figures.
 */
#include "proxy/conn.h"
#include "proxy/failure_log.h"
#include "proxy/plan.h"
#include "proxy/profile_use.h"
#include "proxy/trace.h"

struct ingress;
struct exchange {
    struct list node; /* in its connection's list */
    struct conn *conn;
    enum direction dir; /* its connection's; OUTBOUND once a gateway carries it on */
    struct stream *a, *d; /* accepted, dialed; NULL when not there (any more) */
    struct head *request;
    struct head forward;    /* the request head as it is sent on */
    uint64_t start_ns;      /* the request came */
    uint64_t sent_ns;       /* it was given to the endpoint at hand */
    uint64_t ended_ns;      /* all of it was; 0: not yet */
    uint64_t first_byte_ns; /* of the response's body; 0: none yet */
    /* where it goes */
    struct dest *dest;     /* held */
    struct member *member; /* begun */
    struct upstream *up;   /* used */
    struct link *link;     /* of a request for an upgrade, while there is a dialed stream */
    struct dial dial;
    struct pick pick;
    unsigned attempts, repeats;
    uint64_t give_up_ns;      /* no dial is tried again after; 0: none has failed yet */
    struct bytes required_id; /* l5d-require-id */
    bool has_required_id;
    bool wants_fresh;    /* not another kept connection: one was stale */
    bool is_reused_link; /* the link had carried a request before */
    struct ingress *ingress; /* the name that the request gave; NULL: none */
    struct plan *plan;   /* timeouts, retries, filters; NULL: it needs none */
    /* what it is */
    bool is_grpc;
    bool is_orig_proto; /* came as HTTP/1 inside HTTP/2 */
    bool is_prepared;   /* headers_prepare() was done */
    bool is_continued;  /* the client was told to send its body */
    bool is_probe;      /* inbound: of its pod's own probes */
    /* how far it is */
    struct chain held;       /* of the request's body, not passed on yet */
    struct fields *trailers; /* of the request */
    bool request_ended;      /* all of it came */
    bool request_sent;       /* and was passed on */
    bool body_begun;         /* some of it was passed on */
    bool response_begun, response_ended;
    /* what came of it */
    unsigned status;
    int64_t response_bytes; /* as the response announced; -1: not */
    int grpc_status; /* -1: none */
    uint64_t retry_after_ns; /* the endpoint's wish; 0: none */
    enum failure failure;
    enum reset reset;            /* why the endpoint's stream ended early */
    struct request_stats *stats; /* reference; NULL: not counted */
    struct profile_call profile; /* not begun: no service profile has a say */
    struct profile_wait *profile_wait; /* inbound: it is not known yet whether one has */
    bool is_grpc_route;          /* of the two that follow */
    struct stat_bundle *route_stats, *backend_stats; /* references; NULL: not counted */
};

extern const struct stream_events exchange_accepted_events, exchange_dialed_events;

/* --- exchange.c ------------------------------------------------------------------------------- */

void exchange_begin(struct conn *c, struct stream *accepted);
/* Wire 7.3, where no service profile says otherwise. */
bool exchange_is_failure(unsigned status, int grpc_status);
/* What the client gets, or got: the endpoint's, or that of the failure; 0: nothing yet. */
unsigned exchange_status(const struct exchange *ex);
/* Count the request, under the series of which its response will be counted, too. */
void exchange_count(struct exchange *ex, struct request_stats *stats);
/* Answer with a failure (or break off when the response has begun), count, log once. `code` is
 * an HTTP status, or a gRPC code where the request is gRPC; 0: the failure's own. */
void exchange_fail(struct exchange *ex, enum failure why, unsigned code, const char *detail);
/* The same, by a route or for a backend that the exchange does not know of. NULL is fine. */
void exchange_fail_by(struct exchange *ex, enum failure why, unsigned code, const char *detail,
                      const struct failure_scope *scope);
/* Answer with a redirect, which counts as a failure of its own. */
void exchange_redirect(struct exchange *ex, unsigned status, struct bytes location);
/* The response of an attempt that the client does not get: count it, and forget it. */
void exchange_attempt_over(struct exchange *ex);
/* The failure is told to nobody by an answer: count and log alone. */
void exchange_note(struct exchange *ex, enum failure why, const char *detail);
/* Tell of its request what is to be told, for it goes with the accepted stream: before that. Idempotent. */
void exchange_leave_request(struct exchange *ex);
/* End both sides: `a_why` resets what the client still waits for, `d_why` what the server still
 * does. */
void exchange_end(struct exchange *ex, enum reset a_why, enum reset d_why);
void exchange_abort(struct exchange *ex); /* its connection is going away */
void exchange_free_all(struct proxy_worker *w);

/* --- exchange_route.c: the way to an endpoint ------------------------------------------------- */

void exchange_to_dest(struct exchange *ex, struct dest *dest);
void exchange_to_upstream(struct exchange *ex, struct upstream *up);
void exchange_leave(struct exchange *ex); /* what waits is canceled, what is in use is given back */
bool exchange_may_repeat(const struct exchange *ex, enum reset why);
void exchange_repeat(struct exchange *ex);

/* --- exchange_join.c -------------------------------------------------------------------------- */

void exchange_request_sent(struct exchange *ex); /* all of it, to the endpoint at hand */
int exchange_grpc_status(const struct exchange *ex, const struct fields *fields); /* -1: none */

/* Pass on of the request what there is room for, and ask for more. May end the exchange. */
void exchange_pump(struct exchange *ex);

/* --- outbound_ingress.c ----------------------------------------------------------------------- */

struct bytes exchange_name(const struct exchange *ex); /* "host:port"; empty: it gave none */
void exchange_leave_name(struct exchange *ex); /* before its accepted stream goes; idempotent */

/* --- exchange_outcome.c: what a destination is told of an attempt ----------------------------- */

/* The head of a final response. */
void exchange_outcome_head(struct exchange *ex, const struct head *head);
/* The first byte of its body, when `ends` is not set; its end, whose gRPC status is known. */
void exchange_outcome_body(struct exchange *ex, bool ends);
void exchange_outcome_broken(struct exchange *ex); /* the endpoint's connection or stream broke */

/* --- headers.c: the fields that the proxy adds, rewrites and strips (wire 5.3 to 5.5) --------- */

/* E_LIMIT: the request has no room for a field that it must have. */
int headers_request(struct exchange *ex, enum link_kind kind) MUST_USE;
void headers_response(struct exchange *ex, struct head *response);
/* What the filters of its plan say. E_LIMIT: there is no room for a field. */
int headers_filter_response(struct exchange *ex, struct head *response) MUST_USE;

#endif
