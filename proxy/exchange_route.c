/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "core/err.h"

/*
 * The way of an exchange to an endpoint: pick, dial, open a stream; and once more where that is
 * safe.
 */
#define REPEATS_MAX  4  /* of a request that an endpoint took and did not answer */
#define ATTEMPTS_MAX 64 /* endpoints that may fail to be reached, within the fail-fast time */

static void exchange_dispatch(struct exchange *ex);

void exchange_leave(struct exchange *ex)
{
    upstream_dial_cancel(&ex->dial);
    dest_wait_cancel(&ex->pick);
    if (ex->up != NULL) {
        upstream_leave(ex->up);
        ex->up = NULL;
    }
    if (ex->member != NULL) {
        dest_end(ex->dest, ex->member, ex);
        ex->member = NULL;
    }
}

static void exchange_open(struct exchange *ex, struct link *link)
{
    bool ends =
        ex->request->ends || (ex->request_ended && ex->trailers == NULL &&
                              chain_size(&ex->held) == 0 && ex->request->content_length <= 0);
    int rc;

    if (headers_request(ex, link->kind) != 0) {
        link_return(link);
        exchange_fail(ex, FAILURE_BAD_REQUEST, 0, "there is no room for another field");
        return;
    }
    rc = http_client_open(link->client, &ex->forward, ends, &exchange_dialed_events, ex, &ex->d);
    if (rc != 0) {
        link_return(link);
        exchange_fail(ex, rc == E_SYNTAX ? FAILURE_BAD_REQUEST : FAILURE_MEMORY, 0, err_text(rc));
        return;
    }
    ex->is_reused_link = link->is_reused;
    link->is_reused = true;
    ex->link = ex->request->is_upgrade ? link : NULL;
    ex->sent_ns = ex->conn->w->loop->now_ns;
    ex->ended_ns = 0;
    if (ex->dir == OUTBOUND) {
        exchange_count(ex, ex->up->requests);
    }
    if (ends) {
        exchange_request_sent(ex);
    } else {
        exchange_pump(ex);
    }
}

static void on_link(struct dial *d, struct link *link, enum failure why, const char *detail)
{
    struct exchange *ex = CONTAINER_OF(d, struct exchange, dial);
    struct proxy_worker *w = ex->conn->w;

    if (link != NULL) {
        exchange_open(ex, link);
        return;
    }
    if (ex->give_up_ns == 0) {
        ex->give_up_ns = w->loop->now_ns + w->config->outbound.failfast_ns;
    }
    if (why != FAILURE_OVERLOAD && ex->dest != NULL && w->loop->now_ns < ex->give_up_ns &&
        ++ex->attempts < ATTEMPTS_MAX) {
        exchange_leave(ex);
        exchange_dispatch(ex);
    } else if (ex->plan == NULL || ex->dest == NULL || !plan_takes_failure(ex->plan, why)) {
        exchange_fail(ex, why, 0, detail);
    }
}

/* Wire 5.5: who is not the one that is asked for gets no request, whichever attempt it is. */
static bool has_required_id(const struct exchange *ex, const struct upstream *up)
{
    return !ex->has_required_id ||
           (upstream_uses_tls(up) && bytes_eq(ex->required_id, bytes_str(up->endpoint->identity)));
}

void exchange_to_upstream(struct exchange *ex, struct upstream *up)
{
    bool is_upgrade = ex->request->is_upgrade;
    enum link_kind kind =
        upstream_kind(up, ex->is_orig_proto ? HTTP_11 : ex->a->version, is_upgrade);
    bool is_fresh = is_upgrade || (kind == LINK_H1 && ex->wants_fresh);
    struct link *link;

    ex->up = up;
    upstream_use(up);
    if (!has_required_id(ex, up)) {
        exchange_fail(ex, FAILURE_TLS_IDENTITY, 0,
                      "the endpoint does not have the required identity");
        return;
    }
    link = is_fresh ? NULL : upstream_link(up, kind);
    if (link != NULL) {
        exchange_open(ex, link);
        return;
    }
    ex->dial.kind = kind;
    ex->dial.is_upgrade = is_upgrade;
    ex->dial.on_link = on_link;
    upstream_dial(up, &ex->dial);
}

static void exchange_to_member(struct exchange *ex, struct member *m)
{
    dest_begin(ex->dest, m, ex);
    ex->member = m;
    exchange_to_upstream(ex, member_upstream(m));
}

static void on_pick(struct pick *p, struct member *m, enum failure why)
{
    struct exchange *ex = CONTAINER_OF(p, struct exchange, pick);

    if (m != NULL) {
        exchange_to_member(ex, m);
    } else if (ex->plan == NULL || !plan_takes_failure(ex->plan, why)) {
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
    dest_ref(dest);
    ex->dest = dest;
    exchange_dispatch(ex);
}

/* --- once more -------------------------------------------------------------------------------- */

/* RFC 9110 9.2.2 */
static bool is_idempotent(struct bytes method)
{
    static const struct bytes methods[] = {
        {"GET", 3}, {"HEAD", 4}, {"PUT", 3}, {"DELETE", 6}, {"OPTIONS", 7}, {"TRACE", 5},
    };

    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (bytes_eq(method, methods[i])) {
            return true;
        }
    }
    return false;
}

/* Could the request be sent again as if it had never been sent? */
bool exchange_may_repeat(const struct exchange *ex, enum reset why)
{
    bool untouched = why == RESET_REFUSED || why == RESET_GOAWAY;

    return !ex->response_begun && !ex->body_begun && ex->repeats < REPEATS_MAX &&
           (untouched ||
            (why == RESET_CONNECTION && ex->is_reused_link && is_idempotent(ex->request->method)));
}

void exchange_repeat(struct exchange *ex)
{
    struct upstream *up = ex->up;

    assert(ex->d == NULL);
    ex->repeats++;
    ex->wants_fresh = true; /* a kept connection may be stale, too */
    ex->request_sent = false;
    if (ex->dest != NULL) {
        exchange_leave(ex);
        exchange_dispatch(ex);
    } else {
        upstream_use(up); /* while it is in nobody's hands */
        exchange_leave(ex);
        exchange_to_upstream(ex, up);
        upstream_leave(up);
    }
}
