/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/link.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "proxy/metered.h"
#include "proxy/transport.h"

static const struct http_client_events client_events;

static void link_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct link, grave));
}

/* Into another list of its upstream; NULL: into none. */
static void link_move(struct link *l, struct list *to)
{
    struct upstream *u = l->up;

    list_unlink(&l->node);
    if (l->is_idle) {
        u->h1_idle_count--;
    }
    l->is_idle = to == &u->h1_idle;
    if (l->is_idle) {
        u->h1_idle_count++;
    }
    if (to != NULL) {
        list_append(to, &l->node);
    }
}

/* Out of every list and timer; the memory goes at the end of the turn. Its connection is closed
 * or somebody else's. */
static void link_retire(struct link *l)
{
    struct upstream *u = l->up;

    assert(l->state != LINK_CLOSED && l->client == NULL && l->io == NULL);
    l->state = LINK_CLOSED;
    timer_cancel(u->w->loop, &l->timer);
    task_cancel(&l->task);
    link_move(l, NULL);
    if (l->kind == LINK_H2) {
        u->h2_count--;
    }
    loop_free_later(u->w->loop, &l->grave, link_bury);
    upstream_link_gone(u, l);
}

void link_close(struct link *l, int err)
{
    if (l->state == LINK_CLOSED) {
        return;
    }
    if (l->client != NULL) {
        http_client_close(l->client, err); /* does not tell of its end any more */
        l->client = NULL;
    }
    io_close(l->io);
    l->io = NULL;
    link_retire(l);
}

/* --- age -------------------------------------------------------------------------------------- */

#define AGE_JITTER 0.2 /* of LINK_AGE_NS: links that were made together do not end together */

static void link_born(struct link *l)
{
    struct loop *loop = l->up->w->loop;

    l->old_at_ns = loop->now_ns + LINK_AGE_NS +
                   (uint64_t)(rand_unit(&loop->rand) * AGE_JITTER * (double)LINK_AGE_NS);
    if (l->kind == LINK_H2) {
        timer_arm_in(loop, &l->timer, LINK_UNUSED_NS);
    }
}

bool link_is_old(const struct link *l)
{
    return l->up->w->loop->now_ns >= l->old_at_ns;
}

/* From time to time: an HTTP/2 link that nobody uses any more is closed. */
static void link_look(struct link *l)
{
    if (http_client_streams(l->client) == 0 && list_is_empty(&l->up->waiting) &&
        (!l->is_used || link_is_old(l))) {
        link_close(l, 0);
        return;
    }
    l->is_used = false;
    timer_arm_in(l->up->w->loop, &l->timer, LINK_UNUSED_NS);
}

/* --- dialing ---------------------------------------------------------------------------------- */

static void link_fail(struct link *l, int err)
{
    struct upstream *u = l->up;
    bool in_tls = l->state == LINK_TLS;
    enum failure why = failure_of_dial(err, in_tls);
    char detail[256], endpoint[ADDR_TEXT_BYTES];

    (void)snprintf(detail, sizeof(detail), "%s: %s", addr_format(&u->endpoint->addr, endpoint),
                   in_tls && l->io != NULL && err != E_TIMEOUT ? io_tls_problem(l->io)
                                                               : err_text(err));
    log_debug("cannot reach an endpoint; direction=%s endpoint=%s err=%s detail=\"%s\"",
              direction_name(u->dir), endpoint, err_name(err), detail);
    io_close(l->io);
    l->io = NULL;
    if (u->probe == l) {
        u->probe = NULL; /* it did decide */
    }
    link_retire(l);
    upstream_link_failed(u, l, why, detail);
}

static int send_transport_header(struct link *l)
{
    const struct endpoint *e = l->up->endpoint;
    struct chain bytes;
    int rc;

    chain_init(&bytes);
    rc = transport_print(&bytes, &l->up->w->loop->chunks, e->addr.port, e->authority_override,
                         l->kind == LINK_H2   ? TRANSPORT_HTTP2
                         : l->kind == LINK_H1 ? TRANSPORT_HTTP1
                                              : TRANSPORT_OPAQUE);
    if (rc == 0) {
        rc = io_send(l->io, &bytes); /* one small record: all of it, or nothing */
    }
    chain_clear(&bytes);
    return rc;
}

static void link_opened(struct link *l)
{
    struct upstream *u = l->up;
    struct http_limits limits = {
        .stream_window = u->w->config->stream_window,
        .connection_window = u->w->config->connection_window,
        .ping_interval_ns = u->endpoint->ping_interval_ns,
        .ping_timeout_ns = u->endpoint->ping_timeout_ns,
        .ping_while_idle = u->endpoint->ping_while_idle,
        .rtt_ns = upstream_uses_tls(u) ? l->rtt_ns : 0, /* a proxy: it reads for itself */
    };
    struct io *io;

    if (u->dir == INBOUND) {
        app_start_reached(&u->w->app_start, u->endpoint->addr.port);
    }
    upstream_count(u);
    io = io_metered_new(l->io, u->tcp, l->io->bytes_in, l->io->bytes_out);
    l->state = LINK_OPEN;
    timer_cancel(u->w->loop, &l->timer);
    link_born(l);
    l->io = NULL;
    if (l->kind == LINK_H2) {
        l->client = http2_client_new(io, &limits, &client_events, l);
    } else if (l->kind == LINK_H1) {
        l->client = http1_client_new(io, &limits, &client_events, l);
    } else {
        l->io = io;
    }
    upstream_link_open(u, l);
}

static int link_start_tls(struct link *l)
{
    struct upstream *u = l->up;
    const struct endpoint *e = u->endpoint;
    bool has_header = e->transport_port != 0 || e->authority_override != NULL;

    if (!upstream_uses_tls(u)) {
        return 0;
    }
    l->state = LINK_TLS;
    if (u->w->tls_client == NULL) {
        return E_TLS;
    }
    l->io =
        io_tls_client_new(u->w->tls_client, l->io, bytes_str(e->server_name),
                          bytes_str(e->identity), has_header ? BYTES(ALPN_TRANSPORT) : BYTES_NONE);
    return io_handshake(l->io);
}

static void link_run(struct task *t)
{
    struct link *l = CONTAINER_OF(t, struct link, task);
    enum link_state before = l->state;
    int rc;

    if (l->state >= LINK_OPEN) {
        return; /* open: its codec's, or raw and not taken yet */
    }
    if (l->io == NULL) {
        link_fail(l, l->dial_err); /* not even the socket could be made */
        return;
    }
    rc = io_handshake(l->io);
    if (rc == 0 && l->state == LINK_CONNECT) {
        l->rtt_ns = MAX(l->up->w->loop->now_ns - l->dialed_ns, 1);
        rc = link_start_tls(l);
    }
    if (rc == 0 && l->state == LINK_TLS && io_tls_alpn_selected(l->io)) {
        rc = send_transport_header(l);
    }
    if (rc == 0) {
        link_opened(l);
    } else if (rc != E_AGAIN) {
        link_fail(l, rc);
    } else if (l->is_overdue && l->state == before) {
        link_fail(l, E_TIMEOUT);
    } else if (l->is_overdue) { /* connected: once more the same time for the handshake */
        l->is_overdue = false;
        timer_arm_in(l->up->w->loop, &l->timer, worker_side(l->up->w, l->up->dir)->connect_timeout_ns);
    }
}

static void on_timeout(struct timer *t)
{
    struct link *l = CONTAINER_OF(t, struct link, timer);

    if (l->state == LINK_OPEN && l->kind == LINK_H2) {
        link_look(l);
    } else if (l->state == LINK_OPEN) { /* idle in the pool for long enough */
        link_close(l, 0);
    } else if (list_is_linked(&l->task.node)) { /* something came, maybe in time, and it is we who are late */
        l->is_overdue = true;
    } else {
        link_fail(l, E_TIMEOUT);
    }
}

struct link *link_dial(struct upstream *u, enum link_kind kind, struct dial *d)
{
    const struct side_config *side = worker_side(u->w, u->dir);
    struct link *l = mem_new(sizeof(*l));
    struct addr to = u->endpoint->addr;
    struct sock_opts opts = side->connect_opts;

    if (upstream_uses_tls(u) && u->endpoint->transport_port != 0) {
        to.port = u->endpoint->transport_port;
    }
    opts.mark = u->w->config->mark;
    l->up = u;
    l->kind = kind;
    l->dial = d;
    l->dialed_ns = u->w->loop->now_ns;
    l->is_upgrade = d != NULL && d->is_upgrade;
    l->task.run = link_run;
    l->timer.run = on_timeout;
    if (kind == LINK_H2) {
        u->h2_count++;
    }
    list_append(kind == LINK_H2 ? &u->h2 : &u->other, &l->node);
    l->dial_err = sock_dial(u->w->loop, &to, &opts, &l->task, &l->io);
    timer_arm_in(u->w->loop, &l->timer, side->connect_timeout_ns);
    task_wake(u->w->loop, &l->task);
    return l;
}

/* --- an open link ----------------------------------------------------------------------------- */

void link_busy(struct link *l)
{
    timer_cancel(l->up->w->loop, &l->timer);
    link_move(l, &l->up->other);
}

void link_return(struct link *l)
{
    struct upstream *u = l->up;

    if (l->state != LINK_OPEN || l->kind == LINK_RAW) {
        return;
    }
    if (l->kind == LINK_H2) {
        if (link_is_old(l) && http_client_streams(l->client) == 0) {
            link_close(l, 0);
        }
        return;
    }
    if (l->is_upgrade || u->is_retired || link_is_old(l) ||
        u->h1_idle_count >= worker_side(u->w, u->dir)->pool_max) {
        link_close(l, 0);
        return;
    }
    link_move(l, &u->h1_idle);
    timer_arm_in(u->w->loop, &l->timer, worker_side(u->w, u->dir)->pool_idle_ns);
}

static void on_idle(void *user)
{
    link_return(user);
}

static void on_capacity(void *user)
{
    struct link *l = user;

    if (l->kind == LINK_H2) {
        upstream_h2_serve(l->up);
    }
}

/* No more streams. The codec finishes those that there are, and goes away by itself. */
static void on_closed(void *user, int err)
{
    struct link *l = user;
    struct upstream *u = l->up;
    bool has_waiting = l->kind == LINK_H2 && !list_is_empty(&u->waiting);

    (void)err;
    l->client = NULL;
    link_retire(l);
    if (has_waiting && u->h2_count == 0) {
        (void)link_dial(u, LINK_H2, NULL);
    }
}

static const struct http_client_events client_events = {
    .on_idle = on_idle,
    .on_capacity = on_capacity,
    .on_closed = on_closed,
};

struct io *link_take_io(struct link *l, struct tcp_meter *out_meter)
{
    struct io *io = l->io;

    assert(l->kind == LINK_RAW && l->state == LINK_OPEN);
    l->io = NULL;
    link_retire(l);
    return io_metered_strip(io, out_meter);
}

void link_taken(struct link *l)
{
    assert(l->kind == LINK_H1 && l->state == LINK_OPEN);
    http_client_close(l->client, 0); /* without its socket; it does not tell of its end */
    l->client = NULL;
    link_retire(l);
}
