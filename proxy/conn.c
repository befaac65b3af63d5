/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/conn.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "net/tls.h"
#include "proxy/accept.h"
#include "proxy/early.h"
#include "proxy/failure_scope.h"
#include "proxy/gateway.h"
#include "proxy/metered.h"
#include "proxy/profile_route.h"

#include <unistd.h>

/* --- life ------------------------------------------------------------------------------------- */

void conn_accept(struct proxy_worker *w, enum direction dir, int fd, const struct addr *peer)
{
    struct conn *c = mem_new(sizeof(*c));

    c->w = w;
    c->dir = dir;
    c->peer = *peer;
    c->task.run = conn_run;
    c->timer.run = conn_on_timeout;
    c->retry.run = conn_on_retry;
    c->no_tls_reason = "no_tls_from_remote";
    chain_init(&c->head);
    list_init(&c->exchanges);
    list_append(&w->conns, &c->node);
    w->conns_count++;
    if (sock_original_dst(fd, peer->family, &c->target) != 0) {
        log_info("cannot learn where an accepted connection was going: closed; direction=%s",
                 direction_name(dir));
        (void)close(fd);
        conn_close(c, E_INTERNAL);
        return;
    }
    c->io = io_tcp_accepted(w->loop, fd, &c->task);
    if (c->io == NULL) {
        conn_close(c, E_INTERNAL);
        return;
    }
    if (dir == INBOUND) {
        inbound_accepted(c);
    } else {
        outbound_accepted(c);
    }
}

static void conn_bury(struct grave *g)
{
    struct conn *c = CONTAINER_OF(g, struct conn, grave);

    mem_free(c->client_id);
    mem_free(c->sni);
    mem_free(c->gateway);
    mem_free(c->opaque);
    mem_free(c);
}

void conn_close(struct conn *c, int err)
{
    struct proxy_worker *w = c->w;

    if (c->state == CONN_CLOSED) {
        return;
    }
    c->state = CONN_CLOSED;
    early_closed(c);
    if (c->route != NULL) {
        outbound_route_closed(c, FAILURE_NONE, err);
    }
    while (!list_is_empty(&c->exchanges)) {
        exchange_abort(LIST_ITEM(c->exchanges.next, struct exchange, node));
    }
    opaque_close(c, err);
    if (c->server != NULL) {
        http_server_close(c->server, err);
    }
    io_close(c->io);
    c->io = NULL;
    chain_clear(&c->head);
    timer_cancel(w->loop, &c->timer);
    timer_cancel(w->loop, &c->retry);
    task_cancel(&c->task);
    discovery_wait_cancel(&c->waiter);
    gateway_close(c);
    conn_forget(c);
    if (c->entry != NULL) {
        discovery_release(w->cache, c->entry);
        c->entry = NULL;
    }
    snapshot_unref((struct snapshot *)(uintptr_t)c->policy);
    c->policy = NULL;
    tcp_stats_unref(c->tcp);
    c->tcp = NULL;
    list_unlink(&c->node);
    w->conns_count--;
    if (c->server == NULL) {
        loop_free_later(w->loop, &c->grave, conn_bury);
    } /* else the codec's last word, on_closed(), is still to come */
    proxy_worker_conn_gone(w);
}

void conn_fail(struct conn *c, enum failure why, int err, const char *detail)
{
    conn_fail_for(c, why, err, detail, NULL);
}

void conn_fail_for(struct conn *c, enum failure why, int err, const char *detail,
                   const struct meta *backend)
{
    const struct failure_info *info = failure_info(why);
    struct failure_scope scope;
    struct labels l;

    if (c->state == CONN_CLOSED) {
        return;
    }
    scope = conn_scope(c);
    scope.backend = backend;
    failure_log(&(struct failure_facts){
        .why = why,
        .is_outbound = c->dir == OUTBOUND,
        .is_starting = app_is_starting(&c->w->app_start, c->target.port, c->w->loop->now_ns),
        .client = &c->peer,
        .target = &c->target,
        .detail = detail,
        .err = err,
        .scope = scope,
    });
    labels_init(&l);
    label_add(&l.text, "error", bytes_str(info->label));
    labels_target(&l, &c->target);
    stat_count(&c->w->stats, c->dir == INBOUND ? STAT_INBOUND_TCP_ERRORS : STAT_OUTBOUND_TCP_ERRORS,
               &l);
    failure_count(&c->w->stats, direction_name(c->dir), why);
    if (c->route != NULL) {
        outbound_route_closed(c, why, err);
    }
    conn_close(c, err);
}

static void drain_codec(const struct conn *c)
{
    if (c->w->draining_gently) {
        http_server_leave(c->server);
    } else {
        http_server_drain(c->server);
    }
}

/* An HTTP/1 codec says `connection: close` in the answers to requests that it reads from now on;
 * those that are being answered should have it as well. */
static void drain_http(struct conn *c)
{
    drain_codec(c);
    LIST_FOREACH(node, &c->exchanges)
    {
        struct stream *a = LIST_ITEM(node, struct exchange, node)->a;

        if (a->version != HTTP_2 && !a->sent_head) {
            http_server_close_after(c->server, a);
        }
    }
}

void conn_drain(struct conn *c)
{
    /* One that is still being looked at is served, and asked to go away after its first answer;
     * one that has not said anything is not waited for long, unless there is all the time. */
    if (c->state == CONN_HTTP && c->server != NULL) {
        drain_http(c);
    } else {
        conn_hurry(c);
    }
}

/* --- what it knows ---------------------------------------------------------------------------- */

static void forget_requests(struct conn *c)
{
    profile_name_unref(c->profile_name);
    c->profile_name = NULL;
    if (c->single != NULL) {
        upstream_leave(c->single);
        c->single = NULL;
    }
    known_unref(c->known);
    c->known = NULL;
}

void conn_forget(struct conn *c)
{
    forget_requests(c);
    known_unref(c->own);
    c->own = NULL;
}

bool conn_refresh_policy(struct conn *c)
{
    if (c->entry == NULL || c->entry->answer == NULL || c->entry->answer == c->policy) {
        return false;
    }
    conn_forget(c); /* it points into the old one */
    snapshot_unref((struct snapshot *)(uintptr_t)c->policy);
    c->policy = c->entry->answer;
    snapshot_ref((struct snapshot *)(uintptr_t)c->policy);
    return true;
}

/* --- figures ---------------------------------------------------------------------------------- */

static const char loopback[] = "loopback";

static const char *reason_without_tls(const struct conn *c)
{
    return addr_is_loopback(&c->peer) || c->dir == OUTBOUND ? loopback : c->no_tls_reason;
}

void conn_tls_labels(const struct conn *c, struct labels *l)
{
    if (c->tls == CONN_TLS_MESH) {
        label_add(&l->text, "tls", BYTES("true"));
        label_add(&l->text, "client_id", conn_client_id(c));
    } else if (c->tls == CONN_TLS_FOREIGN) {
        label_add(&l->text, "tls", BYTES("opaque"));
        label_add(&l->text, "sni", bytes_str(c->sni));
    } else {
        label_add(&l->text, "tls", BYTES("no_identity"));
        label_add(&l->text, "no_tls_reason", bytes_str(reason_without_tls(c)));
    }
}

/* A client in TLS has labels of its own. It comes rarely, for its handshake costs much. */
struct known *conn_own(struct conn *c)
{
    bool is_alone = c->dir == INBOUND && c->tls != CONN_TLS_NONE;

    if (c->own == NULL) {
        c->own =
            known_get(c->w, c->policy, &c->target, is_alone ? NULL : reason_without_tls(c));
    }
    assert(c->own->policy == c->policy);
    return c->own;
}

/* Outbound requests are counted alike whoever sends them; and an outbound connection is labelled so, so
 * that this is its own where the policy is. */
void conn_know(struct conn *c, const struct snapshot *policy)
{
    if (c->known == NULL || c->known->policy != policy) {
        forget_requests(c);
        c->known = known_get(c->w, policy, &c->target, loopback);
    }
}

static NOINLINE struct tcp_stats *find_stats(const struct conn *c, struct bytes extra_labels)
{
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "direction", bytes_str(direction_name(c->dir)));
    label_add(&l.text, "peer", BYTES("src"));
    labels_target(&l, &c->target);
    conn_tls_labels(c, &l);
    labels_add(&l, extra_labels);
    return tcp_stats_get(&c->w->stats, labels_end(&l));
}

void conn_open_stats(struct conn *c, struct bytes extra_labels)
{
    struct known *own;

    assert(c->tcp == NULL && c->io != NULL);
    own = conn_own(c);
    if (own->tcp == NULL) {
        own->tcp = find_stats(c, extra_labels);
    }
    c->tcp = own->tcp;
    tcp_stats_ref(c->tcp);
    c->io = io_metered_new(c->io, c->tcp, c->overhead, 0);
}

/* --- HTTP ------------------------------------------------------------------------------------- */

static void on_stream(void *user, struct stream *s)
{
    exchange_begin(user, s);
}

static void on_closed(void *user, int err)
{
    struct conn *c = user;

    c->server = NULL;
    if (c->state == CONN_CLOSED) {
        loop_free_later(c->w->loop, &c->grave, conn_bury);
    } else if (c->state == CONN_HTTP) {
        conn_close(c, err);
    } /* else it was upgraded: its codec is gone, it goes on */
}

static const struct http_server_events server_events = {.on_stream = on_stream,
                                                        .on_closed = on_closed};

void conn_serve_http(struct conn *c, enum detected protocol)
{
    const struct side_config *side = worker_side(c->w, c->dir);
    struct http_limits limits = {
        .streams_max = side->streams_max,
        .stream_window =
            side->stream_window != 0 ? side->stream_window : c->w->config->stream_window,
        .connection_window = side->connection_window != 0 ? side->connection_window
                                                          : c->w->config->connection_window,
        .ping_interval_ns = side->ping_interval_ns,
        .ping_timeout_ns = side->ping_timeout_ns,
        .ping_while_idle = side->ping_interval_ns != 0,
    };
    struct io *io = c->io;

    conn_next(c, CONN_HTTP);
    c->io = NULL;
    c->server = protocol == DETECT_HTTP2
                    ? http2_server_new(io, &c->head, &limits, &server_events, c)
                    : http1_server_new(io, &c->head, &limits, &server_events, c);
    if (c->w->draining) {
        drain_codec(c);
    }
}
