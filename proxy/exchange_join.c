/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/err.h"
#include "core/log.h"

/*
 * Two streams joined: what the one has room for is the other's credit, so there is no buffer
 * between them (docs/internals/stream.md); but for what came of a request while it had no dialed
 * stream.
 */
/* --- the request ------------------------------------------------------------------------------ */

static bool waits_for_continue(const struct exchange *ex)
{
    return !ex->body_begun && fields_get(&ex->request->fields, FIELD_EXPECT) != NULL;
}

/* Over when the response is complete and the rest of the request was passed on, or nobody wants
 * it. */
static void exchange_check_end(struct exchange *ex)
{
    if (!ex->response_ended) {
        return;
    }
    if (ex->request_sent || ex->d == NULL) {
        exchange_end(ex, RESET_NONE, RESET_NONE);
    } else if (waits_for_continue(ex)) {
        /* RFC 9110 10.1.1: who waits for 100 and gets a final answer need not send its body. */
        exchange_end(ex, RESET_NONE, RESET_CANCEL);
    }
}

static void send_held(struct exchange *ex)
{
    size_t bytes = MIN(chain_size(&ex->held), ex->d->room);
    struct chain part;

    if (bytes > 0) {
        chain_init(&part);
        chain_move(&part, &ex->held, bytes);
        ex->body_begun = true;
        stream_send_data(ex->d, &part);
    }
}

void exchange_request_sent(struct exchange *ex)
{
    ex->request_sent = true;
    ex->ended_ns = ex->conn->w->loop->now_ns;
    if (ex->plan != NULL) {
        plan_request_sent(ex->plan);
    }
}

void exchange_pump(struct exchange *ex)
{
    struct stream *a = ex->a, *d = ex->d;

    if (ex->request_sent || d == NULL) {
        return;
    }
    send_held(ex);
    if (chain_size(&ex->held) > 0) {
        return; /* on_room() brings us back */
    }
    if (ex->request_ended) {
        stream_send_end(d, ex->trailers);
        exchange_request_sent(ex);
        exchange_check_end(ex);
    } else if (d->room > a->credit) {
        stream_credit(a, d->room - a->credit);
    }
}

static void a_on_head(void *user, struct head *head)
{
    struct exchange *ex = user;
    struct proxy_worker *w = ex->conn->w;

    ex->request = head;
    ex->start_ns = w->loop->now_ns;
    ex->request_ended = head->ends;
    ex->is_grpc = ex->a->version == HTTP_2 && head_is_grpc(head);
    if (UNLIKELY(w->spans != NULL)) {
        exchange_trace(ex);
    }
    if (w->in_flight[ex->conn->dir] > worker_side(w, ex->conn->dir)->max_in_flight) {
        exchange_fail(ex, FAILURE_OVERLOAD, 0, NULL);
    } else if (w->shed_level >= SHED_STREAMS || chunks_are_short(&w->loop->chunks)) {
        exchange_fail(ex, FAILURE_MEMORY, 0, NULL);
    } else if (ex->conn->dir == INBOUND) {
        inbound_request(ex);
    } else {
        outbound_request(ex);
    }
}

static void a_on_data(void *user, struct chain *bytes)
{
    struct exchange *ex = user;

    route_stats_frame(ex->route_stats, chain_size(bytes));
    if (ex->plan != NULL) {
        plan_request_data(ex->plan, bytes);
    }
    if (ex->d != NULL && chain_size(&ex->held) == 0 && chain_size(bytes) <= ex->d->room) {
        ex->body_begun = true;
        stream_send_data(ex->d, bytes);
        return;
    }
    chain_move_all(&ex->held, bytes);
    exchange_pump(ex);
}

static void a_on_room(void *user, size_t bytes)
{
    struct exchange *ex = user;

    bool is_pending = ex->plan != NULL && ex->plan->pending != NULL;

    if (ex->d != NULL && (ex->response_begun || is_pending) && !ex->response_ended) {
        stream_credit(ex->d, bytes);
    }
}

static void a_on_end(void *user, struct fields *trailers)
{
    struct exchange *ex = user;

    ex->request_ended = true;
    ex->trailers = trailers;
    exchange_pump(ex);
}

static void a_on_reset(void *user, enum reset why, int err)
{
    struct exchange *ex = user;

    if (!ex->response_ended) {
        log_debug("the client gave up its request; why=%d err=%s", (int)why, err_name(err));
        failure_count(&ex->conn->w->stats, direction_name(ex->conn->dir), FAILURE_CLIENT);
        ex->failure = FAILURE_CLIENT;
    }
    exchange_end(ex, RESET_NONE, RESET_CANCEL);
}

const struct stream_events exchange_accepted_events = {
    .on_head = a_on_head,
    .on_data = a_on_data,
    .on_room = a_on_room,
    .on_end = a_on_end,
    .on_reset = a_on_reset,
};

/* --- the response ----------------------------------------------------------------------------- */

int exchange_grpc_status(const struct exchange *ex, const struct fields *fields)
{
    const struct field *f = ex->is_grpc ? fields_get(fields, FIELD_GRPC_STATUS) : NULL;
    uint64_t value;

    return f != NULL && bytes_to_u64(f->value, INT32_MAX, &value) == 0 ? (int)value : -1;
}

static void note_grpc_status(struct exchange *ex, const struct fields *fields)
{
    int status = exchange_grpc_status(ex, fields);

    if (status >= 0) {
        ex->grpc_status = status;
    }
}

/* 101, or 2xx to CONNECT: the codecs let go of both sockets, and a tunnel joins them. */
static void exchange_upgrade(struct exchange *ex, struct head *head)
{
    struct conn *c = ex->conn;
    struct chain to_server, to_client, unread_client, unread_server;
    struct io *client = NULL, *server = NULL;
    struct upstream *up = ex->up;
    int rc;

    if (!ex->a->got_end || !ex->request_sent || ex->link == NULL) {
        exchange_fail(ex, FAILURE_BAD_RESPONSE, 0,
                      "the protocol was switched before the request ended");
        return;
    }
    ex->status = head->status;
    exchange_outcome_body(ex, true);
    rc = stream_send_head(ex->a, head, false);
    ex->response_begun = rc == 0;
    exchange_leave_request(ex);
    if (rc == 0) {
        rc = stream_take(ex->a, &client, &to_client, &unread_client);
    }
    if (rc != 0) {
        exchange_fail(ex, FAILURE_MEMORY, 0, "the upgrade could not be passed on");
        return;
    }
    ex->a = NULL;
    ex->response_ended = true;
    if (stream_take(ex->d, &server, &to_server, &unread_server) != 0) {
        exchange_note(ex, FAILURE_FIRST_BYTE,
                      "the connection broke while the protocol was switched");
        chain_clear(&to_client);
        chain_clear(&unread_client);
        io_close(client);
        exchange_end(ex, RESET_NONE, RESET_CANCEL);
        conn_close(c, E_CLOSED);
        return;
    }
    ex->d = NULL;
    link_taken(ex->link);
    chain_move_all(&to_server, &unread_client);
    chain_move_all(&to_client, &unread_server);
    upstream_use(up); /* for the tunnel */
    exchange_end(ex, RESET_NONE, RESET_NONE);
    opaque_upgraded(c, up, client, &to_server, server, &to_client);
}

/* An interim answer may be lost (RFC 9110 15.2); who was told to continue is not told again by
 * another attempt. */
static void pass_interim(struct exchange *ex, const struct head *head)
{
    if (head->status == 100) {
        if (ex->is_continued) {
            return;
        }
        ex->is_continued = true;
    }
    (void)!stream_send_head(ex->a, head, false);
}

/* False: that ended the exchange. */
static bool pass_head(struct exchange *ex, struct head *head)
{
    int rc = ex->plan != NULL ? headers_filter_response(ex, head) : 0;

    if (rc == 0) {
        rc = stream_send_head(ex->a, head, head->ends);
    }
    if (rc != 0) {
        exchange_fail(ex, rc == E_LIMIT ? FAILURE_MEMORY : FAILURE_BAD_RESPONSE, 0, err_text(rc));
        return false;
    }
    ex->status = head->status;
    ex->response_begun = true;
    if (ex->plan != NULL) {
        plan_response_begun(ex->plan);
    }
    note_grpc_status(ex, &head->fields);
    return true;
}

static void d_on_head(void *user, struct head *head)
{
    struct exchange *ex = user;

    headers_response(ex, head);
    if (head->is_upgrade) {
        exchange_upgrade(ex, head);
        return;
    }
    if (head->status < 200) {
        pass_interim(ex, head);
        return;
    }
    exchange_outcome_head(ex, head);
    if ((ex->plan != NULL && plan_takes_head(ex->plan, head)) || !pass_head(ex, head)) {
        return;
    }
    if (head->ends) {
        exchange_outcome_body(ex, true);
        ex->response_ended = true;
        exchange_check_end(ex);
    } else {
        stream_credit(ex->d, ex->a->room);
    }
}

static void d_on_data(void *user, struct chain *bytes)
{
    struct exchange *ex = user;

    if (ex->plan != NULL) {
        plan_frame(ex->plan);
        if (ex->plan->pending != NULL && !pass_head(ex, plan_takes_data(ex->plan))) {
            return;
        }
    }
    exchange_outcome_body(ex, false);
    backend_stats_frame(ex->backend_stats, chain_size(bytes));
    stream_send_data(ex->a, bytes);
}

static void d_on_room(void *user, size_t bytes)
{
    (void)bytes;
    exchange_pump(user);
}

static void d_on_end(void *user, struct fields *trailers)
{
    struct exchange *ex = user;

    if (ex->plan != NULL && ex->plan->pending != NULL &&
        (plan_takes_end(ex->plan, trailers != NULL ? exchange_grpc_status(ex, trailers) : -1) ||
         !pass_head(ex, plan_release_head(ex->plan)))) {
        return;
    }
    if (trailers != NULL) {
        note_grpc_status(ex, trailers);
    }
    exchange_outcome_body(ex, true);
    stream_send_end(ex->a, trailers);
    if (!ex->a->sent_end) { /* what the client has must not pass for the whole */
        exchange_fail(ex, FAILURE_MEMORY, 0, "no buffer for the end of a response");
        return;
    }
    ex->response_ended = true;
    exchange_check_end(ex);
}

static void d_on_reset(void *user, enum reset why, int err)
{
    struct exchange *ex = user;
    bool is_bad = why == RESET_PROTOCOL || err == E_H2_PROTOCOL || err == E_H2_UNSPOKEN;
    enum failure failure = is_bad               ? FAILURE_BAD_RESPONSE
                           : ex->response_begun ? FAILURE_BODY
                           : err == E_RESET     ? FAILURE_RESET
                                                : FAILURE_FIRST_BYTE;

    stream_close(ex->d, RESET_NONE);
    ex->d = NULL;
    ex->reset = why;
    if (ex->plan != NULL) {
        ex->plan->pending = NULL; /* it went with the stream */
    }
    if (ex->response_ended) {
        exchange_check_end(ex);
        return;
    }
    if (ex->plan != NULL && why == RESET_REFUSED && plan_takes_failure(ex->plan, FAILURE_RESET)) {
        log_debug("the endpoint refused the stream of a request that is retried");
        return;
    }
    if (exchange_may_repeat(ex, why)) {
        exchange_repeat(ex);
        return;
    }
    exchange_outcome_broken(ex);
    if (ex->a->version == HTTP_2 && !ex->is_orig_proto && why != RESET_CONNECTION) {
        exchange_note(ex, failure, err_text(err));
        exchange_end(ex, why, RESET_NONE); /* the same code goes on to the client */
    } else {
        exchange_fail(ex, failure, 0, err_text(err));
    }
}

const struct stream_events exchange_dialed_events = {
    .on_head = d_on_head,
    .on_data = d_on_data,
    .on_room = d_on_room,
    .on_end = d_on_end,
    .on_reset = d_on_reset,
};
