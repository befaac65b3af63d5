/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "http/grpc.h"

#define ATTEMPTS_MAX            4
#define FREE_EXCHANGES_MAX      256
#define GRPC_FAILURES           ((1u << 2) | (1u << 4) | (1u << 7) | (1u << 13) | (1u << 14) | (1u << 15))

static const struct stream_events dialed_events;

static void exchange_open(struct exchange *ex, struct link *link);
static void exchange_dispatch(struct exchange *ex);

/* --- life ---------------------------------------------------------------------------------------- */

void exchange_begin(struct conn *c, struct stream *accepted)
{
    struct proxy_worker *w = c->w;
    struct list *node = list_pop(&w->free_exchanges);
    struct exchange *ex;

    if (node != NULL) {
        ex = LIST_ITEM(node, struct exchange, node);
        w->free_exchanges_count--;
        memset(ex, 0, sizeof(*ex));
    } else {
        ex = mem_new(sizeof(*ex));
    }
    ex->conn = c;
    ex->a = accepted;
    ex->grpc_status = -1;
    list_append(&c->exchanges, &ex->node);
    w->in_flight[c->dir]++;
    stream_set_user(accepted, &exchange_accepted_events, ex);
}

/* Let go of the endpoint side: what waits is canceled, what is in use is given back. */
static void exchange_leave(struct exchange *ex)
{
    upstream_dial_cancel(&ex->dial);
    dest_wait_cancel(&ex->pick);
    if (ex->up != NULL) {
        ex->up->users--;
        ex->up->idle_since_ns = ex->conn->w->loop->now_ns;
        ex->up = NULL;
    }
    if (ex->member != NULL) {
        dest_end(ex->dest, ex->member);
        ex->member = NULL;
    }
}

static void exchange_record(struct exchange *ex)
{
    struct response_facts f = {.status = ex->status, .grpc_status = ex->grpc_status, .error = ""};

    if (ex->stats == NULL || !ex->is_counted) {
        return;
    }
    if (ex->failure != FAILURE_NONE) {
        f.error = failure_info(ex->failure)->label;
    }
    if (ex->is_grpc && ex->response_begun && ex->grpc_status < 0) {
        f.grpc_status = GRPC_UNKNOWN;
    }
    f.is_failure = ex->failure != FAILURE_NONE || (ex->status >= 500 && ex->status <= 599) ||
                   (ex->grpc_status > 0 && ex->grpc_status < 32 && (GRPC_FAILURES >> ex->grpc_status & 1u) != 0);
    f.latency_ns = (ex->first_byte_ns != 0 ? ex->first_byte_ns : ex->conn->w->loop->now_ns) - ex->start_ns;
    request_stats_response(ex->stats, &f);
    ex->is_counted = false;
}

static void exchange_free(struct exchange *ex)
{
    struct proxy_worker *w = ex->conn->w;

    exchange_leave(ex);
    if (ex->dest != NULL) {
        dest_release(ex->dest);
    }
    list_unlink(&ex->node);
    w->in_flight[ex->conn->dir]--;
    if (w->free_exchanges_count < FREE_EXCHANGES_MAX) {
        list_append(&w->free_exchanges, &ex->node);
        w->free_exchanges_count++;
    } else {
        mem_free(ex);
    }
}

void exchange_free_all(struct proxy_worker *w)
{
    struct list *node;

    while ((node = list_pop(&w->free_exchanges)) != NULL) {
        mem_free(LIST_ITEM(node, struct exchange, node));
    }
    w->free_exchanges_count = 0;
}

/* End both sides: `a_why` resets what the client still waits for, `d_why` what the server still does. */
static void exchange_end(struct exchange *ex, enum reset a_why, enum reset d_why)
{
    exchange_record(ex);
    if (ex->d != NULL) {
        stream_close(ex->d, d_why);
        ex->d = NULL;
    }
    if (ex->a != NULL) {
        stream_close(ex->a, a_why);
        ex->a = NULL;
    }
    exchange_free(ex);
}

void exchange_abort(struct exchange *ex)
{
    ex->failure = ex->failure == FAILURE_NONE ? FAILURE_CLIENT : ex->failure;
    exchange_end(ex, RESET_CANCEL, RESET_CANCEL);
}

static void exchange_check_end(struct exchange *ex)
{
    if (ex->response_ended && (ex->request_ended || ex->d == NULL)) {
        exchange_end(ex, RESET_NONE, RESET_NONE);
    }
}

/* --- failures ------------------------------------------------------------------------------------ */

static void count_failure(struct exchange *ex, enum failure why)
{
    const struct failure_info *info = failure_info(why);
    struct metrics *m = &ex->conn->w->metrics;
    struct text labels;

    text_init(&labels, 512);
    label_add(&labels, "error", bytes_str(info->label));
    stat_count(m, ex->conn->dir == INBOUND ? STAT_INBOUND_HTTP_ERRORS : STAT_OUTBOUND_HTTP_ERRORS, text_bytes(&labels));
    text_reset(&labels);
    label_add(&labels, "hop", bytes_str(direction_name(ex->conn->dir)));
    label_add(&labels, "phase", bytes_str(phase_name(info->phase)));
    label_add(&labels, "cause", bytes_str(info->cause));
    stat_count(m, STAT_FAILURES, text_bytes(&labels));
    text_clear(&labels);
}

static void log_failure(const struct exchange *ex, enum failure why, unsigned status, const char *detail)
{
    char client[ADDR_TEXT_BYTES], target[ADDR_TEXT_BYTES], endpoint[ADDR_TEXT_BYTES] = "-";
    const struct failure_info *info = failure_info(why);
    const struct head *h = ex->request;

    if (ex->up != NULL) {
        addr_format(&ex->up->endpoint->addr, endpoint);
    }
    log_warn("%s request answered %u: %s; hop=%s phase=%s cause=%s client=%s target=%s endpoint=%s authority=" BYTES_FMT
             " detail=\"%s\"",
             direction_name(ex->conn->dir), status, info->text, direction_name(ex->conn->dir), phase_name(info->phase),
             info->cause, addr_format(&ex->conn->peer, client), addr_format(&ex->conn->target, target), endpoint,
             BYTES_ARG(h != NULL ? h->authority : BYTES_NONE), detail != NULL ? detail : "");
}

void exchange_fail(struct exchange *ex, enum failure why, unsigned status, const char *detail)
{
    const struct failure_info *info = failure_info(why);
    struct conn *c = ex->conn;
    bool headers = c->dir == OUTBOUND ? !c->w->config->hide_headers : c->client_id[0] != '\0';

    if (status == 0) {
        status = info->status;
    }
    ex->failure = why;
    count_failure(ex, why);
    log_failure(ex, why, status, detail);
    if (ex->response_begun || ex->a == NULL) {
        exchange_end(ex, RESET_INTERNAL, RESET_CANCEL);
        return;
    }
    if (failure_answer(ex->a, why, status, detail, ex->is_grpc, headers) != 0) {
        exchange_end(ex, RESET_INTERNAL, RESET_CANCEL);
        return;
    }
    if (c->server != NULL && info->closes && ex->a->version != HTTP_2) {
        http_server_close_after(c->server, ex->a);
    }
    exchange_end(ex, RESET_NONE, RESET_CANCEL);
}

/* --- the way to an endpoint ---------------------------------------------------------------------- */

static void on_link(struct dial *d, struct link *link, enum failure why, const char *detail)
{
    struct exchange *ex = CONTAINER_OF(d, struct exchange, dial);

    if (link != NULL) {
        exchange_open(ex, link);
    } else if (ex->dest != NULL && ++ex->attempts < ATTEMPTS_MAX) {
        exchange_leave(ex);
        exchange_dispatch(ex);
    } else {
        exchange_fail(ex, why, 0, detail);
    }
}

void exchange_to_upstream(struct exchange *ex, struct upstream *up)
{
    enum link_kind kind = upstream_kind(up, ex->is_orig_proto ? HTTP_11 : ex->a->version, ex->request->is_upgrade);
    struct link *link = ex->request->is_upgrade ? NULL : upstream_link(up, kind);

    ex->up = up;
    up->users++;
    if (link != NULL) {
        exchange_open(ex, link);
        return;
    }
    ex->dial.kind = kind;
    ex->dial.is_upgrade = ex->request->is_upgrade;
    ex->dial.on_link = on_link;
    upstream_dial(up, &ex->dial);
}

static void exchange_to_member(struct exchange *ex, struct member *m)
{
    dest_begin(ex->dest, m);
    ex->member = m;
    exchange_to_upstream(ex, member_upstream(m));
}

static void on_pick(struct pick *p, struct member *m, enum failure why)
{
    struct exchange *ex = CONTAINER_OF(p, struct exchange, pick);

    if (m != NULL) {
        exchange_to_member(ex, m);
    } else {
        exchange_fail(ex, why, 0, NULL);
    }
}

static void exchange_dispatch(struct exchange *ex)
{
    struct member *m = dest_pick(ex->dest);

    if (m != NULL) {
        exchange_to_member(ex, m);
    } else {
        ex->pick.on_pick = on_pick;
        dest_wait(ex->dest, &ex->pick);
    }
}

void exchange_to_dest(struct exchange *ex, struct dest *dest)
{
    ex->dest = dest;
    exchange_dispatch(ex);
}

/* Could the request be sent again as if it had never been sent? Only when nothing of its body was taken. */
static bool may_repeat(const struct exchange *ex, enum reset why)
{
    bool untouched = why == RESET_REFUSED || why == RESET_GOAWAY;
    bool idempotent = bytes_eq(ex->request->method, BYTES("GET")) || bytes_eq(ex->request->method, BYTES("HEAD")) ||
                      bytes_eq(ex->request->method, BYTES("OPTIONS")) || bytes_eq(ex->request->method, BYTES("PUT")) ||
                      bytes_eq(ex->request->method, BYTES("DELETE"));

    return !ex->response_begun && !ex->body_begun && ex->attempts < ATTEMPTS_MAX &&
           (untouched || (why == RESET_CONNECTION && idempotent && ex->is_reused_link));
}

static void exchange_repeat(struct exchange *ex)
{
    struct upstream *up = ex->up;

    ex->attempts++;
    if (ex->dest != NULL) {
        exchange_leave(ex);
        exchange_dispatch(ex);
    } else {
        exchange_leave(ex);
        exchange_to_upstream(ex, up);
    }
}

static void exchange_open(struct exchange *ex, struct link *link)
{
    bool ends = ex->request->ends;
    int rc;

    headers_request(ex, link->kind);
    if (ex->has_ended_early && ex->trailers == NULL && ex->request->content_length <= 0) {
        ends = true;
    }
    ex->is_reused_link = link->is_reused;
    rc = http_client_open(link->client, &ex->forward, ends, &dialed_events, ex, &ex->d);
    if (rc != 0) {
        exchange_fail(ex, rc == E_LIMIT ? FAILURE_OVERLOAD : FAILURE_INTERNAL, 0, err_text(rc));
        return;
    }
    link->is_reused = true;
    if (ex->conn->dir == OUTBOUND) {
        ex->stats = ex->up->requests;
    }
    if (ex->stats != NULL && !ex->is_counted) {
        request_stats_request(ex->stats);
        ex->is_counted = true;
    }
    if (ends) {
        return;
    }
    if (ex->has_ended_early) {
        stream_send_end(ex->d, ex->trailers);
    } else if (ex->d->room > ex->a->credit) {
        stream_credit(ex->a, ex->d->room - ex->a->credit);
    }
}

/* --- events of the accepted stream --------------------------------------------------------------- */

static void a_on_head(void *user, struct head *head)
{
    struct exchange *ex = user;
    struct proxy_worker *w = ex->conn->w;

    ex->request = head;
    ex->start_ns = w->loop->now_ns;
    ex->request_ended = head->ends;
    ex->is_grpc = ex->a->version == HTTP_2 && head_is_grpc(head);
    if (w->in_flight[ex->conn->dir] > worker_side(w, ex->conn->dir)->max_in_flight) {
        exchange_fail(ex, FAILURE_OVERLOAD, 0, NULL);
    } else if (ex->conn->dir == INBOUND) {
        inbound_request(ex);
    } else {
        outbound_request(ex);
    }
}

static void a_on_data(void *user, struct chain *bytes)
{
    struct exchange *ex = user;

    ex->body_begun = true;
    if (ex->d != NULL) {
        stream_send_data(ex->d, bytes);
    } else {
        chain_clear(bytes);
    }
}

static void a_on_room(void *user, size_t bytes)
{
    struct exchange *ex = user;

    if (ex->d != NULL && ex->response_begun && !ex->response_ended) {
        stream_credit(ex->d, bytes);
    }
}

static void a_on_end(void *user, struct fields *trailers)
{
    struct exchange *ex = user;

    ex->request_ended = true;
    if (ex->d == NULL) {
        ex->has_ended_early = true;
        ex->trailers = trailers;
    } else {
        stream_send_end(ex->d, trailers);
        exchange_check_end(ex);
    }
}

static void a_on_reset(void *user, enum reset why, int err)
{
    struct exchange *ex = user;

    if (!ex->response_ended) {
        ex->failure = FAILURE_CLIENT;
        log_debug("the client gave up its request; why=%d err=%s", (int)why, err_name(err));
    }
    exchange_end(ex, RESET_NONE, why == RESET_REFUSED ? RESET_REFUSED : RESET_CANCEL);
}

const struct stream_events exchange_accepted_events = {
    .on_head = a_on_head,
    .on_data = a_on_data,
    .on_room = a_on_room,
    .on_end = a_on_end,
    .on_reset = a_on_reset,
};

/* --- events of the dialed stream ----------------------------------------------------------------- */

static void note_grpc_status(struct exchange *ex, const struct fields *fields)
{
    const struct field *f = ex->is_grpc ? fields_get(fields, FIELD_GRPC_STATUS) : NULL;
    uint64_t value;

    if (f != NULL && bytes_to_u64(f->value, 999, &value) == 0) {
        ex->grpc_status = (int)value;
    }
}

/* 101, or 2xx to CONNECT: the codecs let go of both sockets, and a tunnel joins them. */
static void exchange_upgrade(struct exchange *ex, struct head *head)
{
    struct conn *c = ex->conn;
    struct chain to_server, to_client, unread_client, unread_server;
    struct io *client = NULL, *server = NULL;
    struct tcp_meter meter = {0};
    struct upstream *up = ex->up;
    struct link *link = ex->dial.link;

    if (stream_send_head(ex->a, head, false) != 0 || link == NULL) {
        exchange_fail(ex, FAILURE_INTERNAL, 0, "the upgrade could not be passed on");
        return;
    }
    chain_init(&to_server);
    chain_init(&to_client);
    chain_init(&unread_client);
    chain_init(&unread_server);
    ex->response_ended = ex->request_ended = true;
    exchange_record(ex);
    if (stream_take(ex->a, &client, &to_client, &unread_client) != 0 ||
        stream_take(ex->d, &server, &to_server, &unread_server) != 0) {
        log_error("an upgraded connection could not be taken out of its codec");
        io_close(client);
        conn_close(c, E_INTERNAL);
        return;
    }
    link_taken(link, &meter);
    chain_move_all(&to_server, &unread_client);
    chain_move_all(&to_client, &unread_server);
    ex->a = ex->d = NULL;
    up->users++;
    exchange_free(ex);
    opaque_upgraded(c, up, client, &to_server, server, &to_client, &meter);
}

static void d_on_head(void *user, struct head *head)
{
    struct exchange *ex = user;
    int rc;

    if (head->status < 200 && !head->is_upgrade) {
        if (ex->a->version != HTTP_10) {
            headers_response(ex, head);
            (void)!stream_send_head(ex->a, head, false); /* an interim answer may be lost, RFC 9110 15.2 */
        }
        return;
    }
    ex->first_byte_ns = ex->conn->w->loop->now_ns;
    ex->status = head->status;
    note_grpc_status(ex, &head->fields);
    if (ex->member != NULL) {
        dest_observe(ex->dest, ex->member, ex->first_byte_ns - ex->start_ns);
    }
    headers_response(ex, head);
    if (head->is_upgrade) {
        exchange_upgrade(ex, head);
        return;
    }
    rc = stream_send_head(ex->a, head, head->ends);
    if (rc != 0) {
        exchange_fail(ex, FAILURE_BAD_RESPONSE, 0, err_text(rc));
        return;
    }
    ex->response_begun = true;
    if (head->ends) {
        ex->response_ended = true;
        exchange_check_end(ex);
    } else {
        stream_credit(ex->d, ex->a->room);
    }
}

static void d_on_data(void *user, struct chain *bytes)
{
    struct exchange *ex = user;

    stream_send_data(ex->a, bytes);
}

static void d_on_room(void *user, size_t bytes)
{
    struct exchange *ex = user;

    if (!ex->request_ended) {
        stream_credit(ex->a, bytes);
    }
}

static void d_on_end(void *user, struct fields *trailers)
{
    struct exchange *ex = user;

    if (trailers != NULL) {
        note_grpc_status(ex, trailers);
    }
    stream_send_end(ex->a, trailers);
    ex->response_ended = true;
    exchange_check_end(ex);
}

static void d_on_reset(void *user, enum reset why, int err)
{
    struct exchange *ex = user;
    enum failure failure = why == RESET_PROTOCOL ? FAILURE_BAD_RESPONSE
                           : ex->response_begun  ? FAILURE_BODY
                                                 : FAILURE_FIRST_BYTE;

    stream_close(ex->d, RESET_NONE);
    ex->d = NULL;
    if (ex->response_ended) {
        exchange_check_end(ex);
    } else if (may_repeat(ex, why)) {
        exchange_repeat(ex);
    } else if (ex->a->version == HTTP_2 && !ex->is_orig_proto && why != RESET_CONNECTION) {
        ex->failure = failure;
        exchange_end(ex, why, RESET_NONE); /* the same code goes on to the client */
    } else {
        exchange_fail(ex, failure, 0, err_text(err));
    }
}

static const struct stream_events dialed_events = {
    .on_head = d_on_head,
    .on_data = d_on_data,
    .on_room = d_on_room,
    .on_end = d_on_end,
    .on_reset = d_on_reset,
};
