/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "proxy/transport.h"

#define PEEK_MAX      TLS_HELLO_MAX
#define DETECT_MAX    1024
#define TRANSPORT_MAX (TRANSPORT_HEADER_MAX + 64)

static const char *const state_doing[] = {
#define X(id, doing) [CONN_##id] = doing,
    CONN_STATES(X)
#undef X
};

/* --- reading the first bytes --------------------------------------------------------------------- */

/* Read on until `c->head` holds `bytes_max`. 0: something came; else the io's error. */
static int conn_fill(struct conn *c, size_t bytes_max)
{
    size_t got;

    if (chain_size(&c->head) >= bytes_max) {
        return E_LIMIT;
    }
    return io_recv(c->io, &c->head, bytes_max - chain_size(&c->head), &got);
}

/* The head's bytes in one piece, in `to` when they are spread over chunks. */
static struct bytes conn_head(const struct conn *c, char *to, size_t bytes_max)
{
    struct bytes first = chain_head(&c->head);

    if (first.len == chain_size(&c->head)) {
        return first;
    }
    return bytes_of(to, chain_peek(&c->head, to, bytes_max));
}

static void step_peek(struct conn *c)
{
    char buffer[PEEK_MAX];
    struct bytes sni = BYTES_NONE;
    int rc, verdict = E_AGAIN;

    do {
        rc = conn_fill(c, PEEK_MAX);
        if (chain_size(&c->head) > 0) {
            verdict = tls_parse_client_hello(conn_head(c, buffer, sizeof(buffer)), &sni);
        }
    } while (verdict == E_AGAIN && rc == 0);
    if (verdict == E_AGAIN && rc == E_AGAIN) {
        return;
    }
    if (verdict == E_AGAIN && rc != E_LIMIT && chain_size(&c->head) == 0) {
        conn_close(c, rc);
        return;
    }
    accept_peeked(c, verdict == 0, sni);
}

static void step_handshake(struct conn *c)
{
    struct bytes id;
    int rc = io_handshake(c->io);

    if (rc == E_AGAIN) {
        return;
    }
    if (rc != 0) {
        conn_fail(c, FAILURE_TLS, rc, io_tls_problem(c->io));
        return;
    }
    c->tls = CONN_TLS_MESH;
    if (io_tls_peer_id(c->io, &id)) {
        snprintf(c->client_id, sizeof(c->client_id), BYTES_FMT, BYTES_ARG(id));
    }
    accept_secured(c);
}

static void step_transport(struct conn *c)
{
    struct transport_header header;
    char *buffer;
    size_t used;
    int rc, verdict = E_AGAIN;

    do {
        rc = conn_fill(c, TRANSPORT_MAX);
        if (chain_size(&c->head) > 0) {
            buffer = mem_new(chain_size(&c->head)); /* once a connection, bounded by TRANSPORT_MAX */
            verdict = transport_parse(conn_head(c, buffer, chain_size(&c->head)), &header, &used);
            mem_free(buffer);
        }
    } while (verdict == E_AGAIN && rc == 0);
    if (verdict == E_AGAIN && rc == E_AGAIN) {
        return;
    }
    if (verdict != 0) {
        conn_fail(c, FAILURE_TLS, verdict == E_AGAIN ? rc : verdict, "no valid transport header came on the inbound port");
        return;
    }
    chain_drop(&c->head, used);
    accept_transport(c, &header);
}

static void step_detect(struct conn *c)
{
    char buffer[DETECT_MAX];
    enum detected protocol = DETECT_OPAQUE;
    int rc, verdict = E_AGAIN;

    do {
        if (chain_size(&c->head) > 0) {
            verdict = http_detect(conn_head(c, buffer, sizeof(buffer)), &protocol);
        }
        rc = verdict == E_AGAIN ? conn_fill(c, DETECT_MAX) : 0;
    } while (verdict == E_AGAIN && rc == 0);
    if (verdict == E_AGAIN && rc == E_AGAIN) {
        return;
    }
    if (verdict == E_AGAIN && chain_size(&c->head) == 0) {
        conn_close(c, rc == E_EOF ? 0 : rc);
        return;
    }
    accept_detected(c, verdict == 0 ? protocol : DETECT_OPAQUE);
}

static void conn_run(struct task *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, task);

    log_trace("connection: %s", state_doing[c->state]);
    switch (c->state) {
    case CONN_PEEK:
        step_peek(c);
        break;
    case CONN_HANDSHAKE:
        step_handshake(c);
        break;
    case CONN_TRANSPORT:
        step_transport(c);
        break;
    case CONN_DETECT:
        step_detect(c);
        break;
    case CONN_POLICY:
    case CONN_HTTP:
    case CONN_DIAL:
    case CONN_TUNNEL:
    case CONN_CLOSED:
        break;
    }
}

/* Time to read the first bytes ran out: what came so far is all there is to tell by. */
static void on_timeout(struct timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);

    if (c->state == CONN_DETECT || (c->state == CONN_PEEK && chain_size(&c->head) == 0 && !c->is_direct)) {
        accept_detected(c, DETECT_OPAQUE);
    } else {
        conn_fail(c, FAILURE_TLS, E_TIMEOUT, "the client sent too little to tell its protocol");
    }
}

void conn_next(struct conn *c, enum conn_state next)
{
    bool reads = next == CONN_PEEK || next == CONN_HANDSHAKE || next == CONN_TRANSPORT || next == CONN_DETECT;

    assert(c->state != CONN_CLOSED);
    c->state = next;
    if (!reads) {
        timer_cancel(c->w->loop, &c->timer);
    } else if (!timer_is_armed(&c->timer)) {
        timer_arm_in(c->w->loop, &c->timer, worker_side(c->w, c->dir)->detect_timeout_ns);
    }
    task_wake(c->w->loop, &c->task);
}

/* --- the policy ---------------------------------------------------------------------------------- */

static void on_policy(struct discovery_waiter *waiter, const struct snapshot *answer)
{
    struct conn *c = CONTAINER_OF(waiter, struct conn, waiter);

    snapshot_unref((struct snapshot *)(uintptr_t)c->policy);
    c->policy = answer;
    snapshot_ref((struct snapshot *)(uintptr_t)answer);
    if (c->dir == INBOUND) {
        inbound_policy_known(c);
    } else {
        outbound_policy_known(c);
    }
}

void conn_wait_policy(struct conn *c, enum question q, const struct addr *key)
{
    struct addr zeroed;

    memset(&zeroed, 0, sizeof(zeroed));
    if (q == QUESTION_INBOUND) {
        zeroed.port = key->port;
    } else {
        zeroed = *key;
    }
    conn_next(c, CONN_POLICY);
    if (c->entry != NULL) {
        discovery_wait_cancel(&c->waiter);
        discovery_release(c->w->cache, c->entry);
    }
    c->entry = discovery_ask(c->w->cache, q, addr_key(&zeroed));
    c->waiter.on_answer = on_policy;
    discovery_wait(c->w->cache, c->entry, &c->waiter);
}

/* --- life ---------------------------------------------------------------------------------------- */

void conn_accept(struct proxy_worker *w, enum direction dir, int fd, const struct addr *peer)
{
    struct conn *c = mem_new(sizeof(*c));
    const struct side_config *side = worker_side(w, dir);

    c->w = w;
    c->dir = dir;
    c->peer = *peer;
    c->task.run = conn_run;
    c->timer.run = on_timeout;
    c->no_tls_reason = "no_tls_from_remote";
    chain_init(&c->head);
    list_init(&c->exchanges);
    list_append(&w->conns, &c->node);
    w->conns_count++;
    if (sock_set_opts(fd, &side->accept_opts) != 0 || sock_original_dst(fd, &c->target) != 0) {
        log_warn("cannot learn where an accepted connection was going: closed; direction=%s", direction_name(dir));
        (void)close(fd);
        conn_close(c, E_INTERNAL);
        return;
    }
    c->io = io_tcp_new(w->loop, fd, &c->task);
    if (c->io == NULL) {
        conn_close(c, E_INTERNAL);
        return;
    }
    c->served = c->io;
    if (dir == INBOUND) {
        inbound_accepted(c);
    } else {
        outbound_accepted(c);
    }
}

static void conn_bury(struct grave *g)
{
    struct conn *c = CONTAINER_OF(g, struct conn, grave);

    tcp_stats_clear(&c->tcp);
    request_stats_free(c->requests);
    snapshot_unref((struct snapshot *)(uintptr_t)c->policy);
    mem_free(c);
}

void conn_close(struct conn *c, int err)
{
    struct proxy_worker *w = c->w;

    if (c->state == CONN_CLOSED) {
        return;
    }
    conn_meter(c);
    c->state = CONN_CLOSED;
    LIST_FOREACH(node, &c->exchanges) {
        exchange_abort(LIST_ITEM(node, struct exchange, node));
    }
    opaque_cancel(c);
    if (c->server != NULL) {
        struct http_server *server = c->server;

        c->server = NULL;
        http_server_close(server, err);
    }
    io_close(c->io);
    c->io = NULL;
    chain_clear(&c->head);
    tcp_meter_close(&c->meter, err);
    timer_cancel(w->loop, &c->timer);
    task_cancel(&c->task);
    discovery_wait_cancel(&c->waiter);
    if (c->entry != NULL) {
        discovery_release(w->cache, c->entry);
        c->entry = NULL;
    }
    list_unlink(&c->node);
    w->conns_count--;
    loop_free_later(w->loop, &c->grave, conn_bury);
    proxy_worker_conn_gone(w);
}

void conn_fail(struct conn *c, enum failure why, int err, const char *detail)
{
    const struct failure_info *info = failure_info(why);
    char client[ADDR_TEXT_BYTES], target[ADDR_TEXT_BYTES];
    struct text labels;

    log_info("%s connection ended: %s; hop=%s phase=%s cause=%s client=%s target=%s err=%s detail=\"%s\"",
             direction_name(c->dir), info->text, direction_name(c->dir), phase_name(info->phase), info->cause,
             addr_format(&c->peer, client), addr_format(&c->target, target), err_name(err), detail != NULL ? detail : "");
    text_init(&labels, 512);
    label_add(&labels, "error", bytes_str(info->label));
    labels_target(&labels, &c->target);
    stat_count(&c->w->metrics, c->dir == INBOUND ? STAT_INBOUND_TCP_ERRORS : STAT_OUTBOUND_TCP_ERRORS, text_bytes(&labels));
    text_reset(&labels);
    label_add(&labels, "hop", bytes_str(direction_name(c->dir)));
    label_add(&labels, "phase", bytes_str(phase_name(info->phase)));
    label_add(&labels, "cause", bytes_str(info->cause));
    stat_count(&c->w->metrics, STAT_FAILURES, text_bytes(&labels));
    text_clear(&labels);
    conn_close(c, err);
}

void conn_drain(struct conn *c)
{
    if (c->state == CONN_HTTP && c->server != NULL) {
        http_server_drain(c->server);
    } else if (c->state == CONN_POLICY || c->state == CONN_PEEK || c->state == CONN_DETECT) {
        c->is_closing = true; /* it is served, and asked to go away after its first answer */
    }
}

/* --- figures ------------------------------------------------------------------------------------- */

void conn_meter(struct conn *c)
{
    struct io *io = c->served;

    if (c->is_tunnel_open) {
        opaque_meter(c);
        return;
    }
    if (c->server != NULL) {
        io = http_server_io(c->server);
    }
    if (io == NULL || c->state == CONN_CLOSED) {
        return;
    }
    while (io->below != NULL) {
        io = io->below;
    }
    tcp_meter_update(&c->meter, io->bytes_in, io->bytes_out);
}

void conn_tls_labels(const struct conn *c, struct text *t)
{
    if (c->tls == CONN_TLS_MESH) {
        label_add(t, "tls", BYTES("true"));
        label_add(t, "client_id", bytes_str(c->client_id));
    } else if (c->tls == CONN_TLS_FOREIGN) {
        label_add(t, "tls", BYTES("opaque"));
        label_add(t, "sni", bytes_str(c->sni));
    } else {
        label_add(t, "tls", BYTES("no_identity"));
        label_add(t, "no_tls_reason",
                  addr_is_loopback(&c->peer) || c->dir == OUTBOUND ? BYTES("loopback") : bytes_str(c->no_tls_reason));
    }
}

void conn_open_stats(struct conn *c, struct bytes extra_labels)
{
    struct text t;

    if (c->meter.stats != NULL) {
        return;
    }
    text_init(&t, 4096);
    label_add(&t, "direction", bytes_str(direction_name(c->dir)));
    label_add(&t, "peer", BYTES("src"));
    labels_target(&t, &c->target);
    conn_tls_labels(c, &t);
    if (extra_labels.len > 0) {
        text_char(&t, ',');
        text_add(&t, extra_labels);
    }
    tcp_stats_init(&c->tcp, &c->w->metrics, text_bytes(&t));
    text_clear(&t);
    tcp_meter_open(&c->meter, &c->tcp);
}

/* --- HTTP ---------------------------------------------------------------------------------------- */

static void on_stream(void *user, struct stream *s)
{
    exchange_begin(user, s);
}

static void on_closed(void *user, int err)
{
    struct conn *c = user;

    c->server = NULL;
    c->served = NULL;
    if (c->state == CONN_HTTP) {
        conn_close(c, err);
    }
}

static const struct http_server_events server_events = {.on_stream = on_stream, .on_closed = on_closed};

void conn_serve_http(struct conn *c, enum detected protocol)
{
    const struct side_config *side = worker_side(c->w, c->dir);
    struct http_limits limits = {
        .stream_window = c->w->config->stream_window,
        .connection_window = c->w->config->connection_window,
        .ping_interval_ns = side->ping_interval_ns,
        .ping_timeout_ns = side->ping_timeout_ns,
        .ping_while_idle = side->ping_interval_ns != 0,
    };
    struct io *io = c->io;

    conn_next(c, CONN_HTTP);
    c->io = NULL;
    c->served = io;
    c->server = protocol == DETECT_HTTP2 ? http2_server_new(io, &c->head, &limits, &server_events, c)
                                         : http1_server_new(io, &c->head, &limits, &server_events, c);
    if (c->is_closing || c->w->draining) {
        http_server_drain(c->server);
    }
}
