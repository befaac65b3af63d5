/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "core/alloc.h"
#include "core/err.h"
#include "http/grpc.h"
#include "proxy/access_log.h"
#include "proxy/failure_scope.h"
#include "proxy/profile_route.h"

#define FREE_EXCHANGES_MAX 256
#define GRPC_FAILURES                                                                              \
    ((1u << 2) | (1u << 4) | (1u << 7) | (1u << 13) | (1u << 14) | (1u << 15)) /* wire 7.3 */

/* --- life ------------------------------------------------------------------------------------- */

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
    ex->dir = c->dir;
    ex->a = accepted;
    ex->grpc_status = -1;
    chain_init(&ex->held);
    list_append(&c->exchanges, &ex->node);
    w->in_flight[c->dir]++;
    w->exchanges++;
    stream_set_user(accepted, &exchange_accepted_events, ex);
}

static void exchange_free(struct exchange *ex)
{
    struct proxy_worker *w = ex->conn->w;

    assert(ex->a == NULL && ex->d == NULL);
    exchange_leave(ex);
    if (ex->dest != NULL) {
        dest_release(ex->dest);
    }
    profile_call_end(&ex->profile);
    request_stats_unref(ex->stats);
    stat_bundle_unref(ex->route_stats);
    stat_bundle_unref(ex->backend_stats);
    chain_clear(&ex->held);
    list_unlink(&ex->node);
    w->in_flight[ex->conn->dir]--;
    if (w->free_exchanges_count < FREE_EXCHANGES_MAX) {
        list_append(&w->free_exchanges, &ex->node);
        w->free_exchanges_count++;
    } else {
        mem_free(ex);
    }
    if (w->in_flight[INBOUND] + w->in_flight[OUTBOUND] == 0) {
        proxy_worker_at_rest(w);
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

void exchange_abort(struct exchange *ex)
{
    if (ex->failure == FAILURE_NONE && !ex->response_ended && ex->conn->w->is_cut) {
        exchange_fail(ex, FAILURE_SHUTDOWN, 0, NULL); /* its codec says so before it closes */
        return;
    }
    if (ex->failure == FAILURE_NONE && !ex->response_ended) {
        ex->failure = FAILURE_CLIENT;
    }
    exchange_end(ex, RESET_CANCEL, RESET_CANCEL);
}

/* --- figures ---------------------------------------------------------------------------------- */

void exchange_count(struct exchange *ex, struct request_stats *stats)
{
    if (ex->stats == NULL) {
        request_stats_request(stats);
    }
    request_stats_ref(stats);
    request_stats_unref(ex->stats);
    ex->stats = stats;
}

/* Of the route, or of the attempt. */
static void outcome_of(const struct exchange *ex, uint64_t since_ns, struct route_outcome *out)
{
    *out = (struct route_outcome){
        .is_grpc = ex->is_grpc_route,
        .status = ex->status,
        .grpc_status = ex->grpc_status,
        .error = route_error(ex->failure, ex->reset),
        .elapsed_ns = since_ns > 0 ? ex->conn->w->loop->now_ns - since_ns : 0,
    };
}

bool exchange_is_failure(unsigned status, int grpc_status)
{
    return (status >= 500 && status <= 599) || (grpc_status > 0 && grpc_status <= GRPC_CODES_MAX &&
                                                (GRPC_FAILURES >> grpc_status & 1u) != 0);
}

unsigned exchange_status(const struct exchange *ex)
{
    if (ex->status != 0 || ex->failure == FAILURE_NONE) {
        return ex->status;
    }
    return ex->is_grpc ? 200 : failure_info(ex->failure)->status;
}

static struct response_facts facts_of(const struct exchange *ex)
{
    bool is_ours = ex->failure != FAILURE_NONE && ex->failure != FAILURE_CLIENT;
    uint64_t first_ns = ex->first_byte_ns != 0 ? ex->first_byte_ns : ex->conn->w->loop->now_ns;
    int grpc = MIN(ex->grpc_status, GRPC_CODES_MAX + 1);
    struct response_facts f = {
        .status = ex->status,
        .grpc_status = grpc,
        .is_failure = is_ours || exchange_is_failure(ex->status, grpc),
        .error = is_ours ? failure_info(ex->failure)->label : "",
        .latency_ns = first_ns - ex->start_ns,
    };

    if (ex->is_grpc && ex->response_ended && grpc < 0 && !is_ours) {
        f.grpc_status = GRPC_UNKNOWN; /* wire 7.3: and yet a success */
    }
    if (ex->profile.view != NULL && !is_ours) {
        f.is_failure = profile_call_is_failure(&ex->profile, ex->status, f.is_failure);
    }
    return f;
}

static bool is_app_starting(const struct conn *c)
{
    return app_is_starting(&c->w->app_start, c->target.port, c->w->loop->now_ns);
}

/* What a client did not wait for is nobody's response, and neither is what a probe learns of an
 * application that does not listen yet: that is what it asks (stats.h). */
static bool is_nobodys(const struct exchange *ex)
{
    return (ex->failure == FAILURE_CLIENT && !ex->response_begun) ||
           (ex->failure == FAILURE_CONNECT && ex->is_probe && is_app_starting(ex->conn));
}

/* The response of an attempt, once. */
static void exchange_record(struct exchange *ex, const struct response_facts *f)
{
    if (ex->backend_stats != NULL) {
        struct route_outcome o;

        outcome_of(ex, ex->ended_ns != 0 ? ex->ended_ns : ex->sent_ns, &o);
        backend_stats_end(ex->backend_stats, &o);
    }
    if (ex->stats != NULL && !is_nobodys(ex)) {
        request_stats_response(ex->stats, f);
    }
}

void exchange_attempt_over(struct exchange *ex)
{
    struct response_facts f = facts_of(ex);

    if (ex->plan != NULL && ex->plan->trace != NULL) {
        exchange_trace_attempt(ex, 0);
    }
    exchange_record(ex, &f);
    if (ex->profile.view != NULL) {
        profile_call_again(&ex->profile, &f);
    }
    request_stats_unref(ex->stats);
    stat_bundle_unref(ex->backend_stats);
    ex->stats = NULL;
    ex->backend_stats = NULL;
    ex->status = 0;
    ex->grpc_status = -1;
    ex->failure = FAILURE_NONE;
    ex->reset = RESET_NONE;
    ex->sent_ns = ex->ended_ns = ex->first_byte_ns = ex->retry_after_ns = 0;
}

void exchange_leave_request(struct exchange *ex)
{
    if (ex->request == NULL) {
        return;
    }
    /* Of policies that edited the request, the plan holds the last reference. */
    if (UNLIKELY(ex->conn->w->access_log != NULL) && ex->conn->dir == INBOUND) {
        access_log_exchange(ex->conn->w->access_log, ex);
    }
    exchange_unplan(ex);
    ex->request = NULL;
}

void exchange_end(struct exchange *ex, enum reset a_why, enum reset d_why)
{
    struct stream *a = ex->a, *d = ex->d;
    struct response_facts f = facts_of(ex);

    exchange_leave_request(ex);
    profile_wait_cancel(ex);
    exchange_record(ex, &f);
    if (ex->profile.view != NULL && !is_nobodys(ex)) {
        profile_call_response(&ex->profile, &f);
    }
    if (ex->route_stats != NULL) {
        struct route_outcome o;

        outcome_of(ex, ex->start_ns, &o);
        route_stats_end(ex->route_stats, &o);
    }
    ex->a = ex->d = NULL;
    if (d != NULL) {
        stream_close(d, d_why);
    }
    if (a != NULL) {
        stream_close(a, a_why);
    }
    exchange_free(ex);
}

/* --- failures --------------------------------------------------------------------------------- */

static void log_failure(const struct exchange *ex, enum failure why, const char *detail,
                        const struct failure_scope *scope)
{
    const struct conn *c = ex->conn;

    failure_log(&(struct failure_facts){
        .why = why,
        .is_outbound = ex->dir == OUTBOUND,
        .is_starting = is_app_starting(c),
        .is_request = true,
        .client = &c->peer,
        .target = &c->target,
        .endpoint = ex->up != NULL ? &ex->up->endpoint->addr : NULL,
        .authority = ex->request != NULL ? ex->request->authority : BYTES_NONE,
        .detail = detail,
        .scope = exchange_scope(ex, scope),
    });
}

static void note(struct exchange *ex, enum failure why, const char *detail,
                 const struct failure_scope *scope)
{
    struct conn *c = ex->conn;
    struct labels l;

    ex->failure = why;
    labels_init(&l);
    label_add(&l.text, "error", bytes_str(failure_info(why)->label));
    stat_count(&c->w->stats,
               c->dir == INBOUND ? STAT_INBOUND_HTTP_ERRORS : STAT_OUTBOUND_HTTP_ERRORS, &l);
    failure_count(&c->w->stats, direction_name(ex->dir), why);
    log_failure(ex, why, detail, scope);
}

void exchange_note(struct exchange *ex, enum failure why, const char *detail)
{
    note(ex, why, detail, NULL);
}

/* The last endpoint that was tried has this failure to its name, though it never saw the
 * request. */
static void count_unsent(struct exchange *ex)
{
    if (ex->stats == NULL && ex->dir == OUTBOUND && ex->up != NULL) {
        exchange_count(ex, ex->up->requests);
    }
}

/* What a filter answers is an answer like any other in the route's figures. */
static void note_filtered(struct exchange *ex, const struct failure_info *info, unsigned code)
{
    if (ex->is_grpc) {
        ex->status = 200;
        ex->grpc_status = (int)(code != 0 ? code : info->grpc_code);
    } else {
        ex->status = code != 0 ? code : info->status;
    }
}

static void fail(struct exchange *ex, enum failure why, struct failure_answer how,
                 const struct failure_scope *scope)
{
    const struct failure_info *info = failure_info(why);
    struct conn *c = ex->conn;
    struct stream *a = ex->a;
    int rc = E_CLOSED;

    how.is_grpc = ex->is_grpc;
    how.with_headers = c->dir == OUTBOUND ? !c->w->config->hide_headers : c->client_id != NULL;
    note(ex, why, how.detail, scope);
    if (why == FAILURE_INJECTED || why == FAILURE_INVALID_BACKEND || why == FAILURE_REDIRECTED) {
        note_filtered(ex, info, how.code);
    }
    count_unsent(ex);
    if (!ex->response_begun) {
        if (c->server != NULL && info->closes && a->version != HTTP_2) {
            http_server_close_after(c->server, a);
        }
        rc = failure_answer(a, why, &how);
    } else if (ex->is_grpc && !a->sent_end) {
        how.code = 0;
        rc = failure_trailers(a, why, &how);
    }
    exchange_end(ex, rc == 0 ? RESET_NONE : RESET_INTERNAL, RESET_CANCEL);
}

void exchange_fail(struct exchange *ex, enum failure why, unsigned code, const char *detail)
{
    exchange_fail_by(ex, why, code, detail, NULL);
}

void exchange_fail_by(struct exchange *ex, enum failure why, unsigned code, const char *detail,
                      const struct failure_scope *scope)
{
    fail(ex, why, (struct failure_answer){.code = code, .detail = detail}, scope);
}

void exchange_redirect(struct exchange *ex, unsigned status, struct bytes location)
{
    fail(ex, FAILURE_REDIRECTED,
         (struct failure_answer){.code = ex->is_grpc ? 0 : status, .location = location}, NULL);
}
