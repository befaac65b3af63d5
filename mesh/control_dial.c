/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "mesh/control_private.h"
#include "net/sock.h"

/*
 * From the name of a service to a connection. The addresses of one answer are tried one after the
 * other, from a random one on; when all failed, the channel backs off and asks for the name again.
 *
 * A connection that ends after it was of use is replaced at once. One that ended before a message
 * came counts as a failure, so that a peer that only hangs up is not dialed in a loop.
 *
 * A connection that is full is joined by another one: each service that an application calls needs three
 * streams, and there are peers that allow 100 on a connection. The other one is kept for a while after its
 * last stream, so that unary calls beside a full connection do not cost a handshake each.
 */
#define CONNECT_TIMEOUT_NS   NS_PER_S
#define HANDSHAKE_TIMEOUT_NS (5 * NS_PER_S)
#define KEEPALIVE_MS         10000 /* notices a dead peer behind a silent stream */
#define USER_TIMEOUT_MS      30000
#define CONNS_MAX            64
#define CONNS_CALM           (CONNS_MAX / 2) /* down here it has room again, and may be told anew */
#define SPARE_NS             (60 * NS_PER_S)
#define ROOM_NS              (100 * NS_PER_MS) /* a service tells only later how many streams it allows */
#define START_FAILURES       5 /* three seconds and more of back-off */

static const char *const state_doing[] = {
#define X(id, doing) [CONTROL_##id] = doing,
    CONTROL_STATES(X)
#undef X
};

static void set_state(struct control *c, enum control_state next)
{
    c->state = next;
    log_trace("channel to %s: %s", c->name, state_doing[next]);
}

/* Nothing is tried now. */
static void set_at_rest(struct control *c)
{
    set_state(c, c->conns_count > 0 ? CONTROL_OPEN : CONTROL_IDLE);
}

/* --- failure ---------------------------------------------------------------------------------- */

static void close_io(struct control *c)
{
    io_close(c->io);
    c->io = NULL;
    task_cancel(&c->dial);
    timer_cancel(c->loop, &c->timer);
}

static void note_problem(struct control *c, const char *what, int err, const char *detail)
{
    char at[ADDR_TEXT_BYTES];

    if (c->state == CONTROL_RESOLVE) {
        (void)snprintf(c->problem, sizeof(c->problem), "%s: %s", what, err_text(err));
    } else {
        (void)snprintf(c->problem, sizeof(c->problem), "%s (%s): %s", what,
                       addr_format(&c->addrs[c->addr_next], at),
                       detail != NULL ? detail : err_text(err));
    }
    log_debug("no connection to the %s service; service=%s reason=\"%s\"", c->name, c->authority,
              c->problem);
}

/* Nothing that was tried worked. The first time of an outage is worth a line; a service that was never
 * there is given time to start, beside a proxy that does so too. */
static void back_off(struct control *c)
{
    if (!c->was_open && c->failures < START_FAILURES) {
        log_info("the %s service is not there yet, trying on; service=%s reason=\"%s\"", c->name,
                 c->authority, c->problem);
    } else if (!c->is_out && c->conns_count == 0) {
        c->is_out = true;
        log_warn("the %s service cannot be reached, trying on; service=%s reason=\"%s\"", c->name,
                 c->authority, c->problem);
    }
    control_stats_gate(&c->stats, c->conns_count == 0);
    c->addrs_until_ns = 0;
    c->addr_tried = 0;
    set_state(c, CONTROL_BACKOFF);
    timer_arm_in(c->loop, &c->timer, control_backoff_ns(c->loop, c->failures++));
}

/* --- dialing ---------------------------------------------------------------------------------- */

static int start_dial(struct control *c)
{
    const struct sock_opts opts = {
        .keepalive_ms = KEEPALIVE_MS,
        .user_timeout_ms = USER_TIMEOUT_MS,
        .mark = c->mark,
    };

    set_state(c, CONTROL_DIAL);
    TRY(sock_dial(c->loop, &c->addrs[c->addr_next], &opts, &c->dial, &c->io));
    timer_arm_in(c->loop, &c->timer, CONNECT_TIMEOUT_NS);
    task_wake(c->loop, &c->dial);
    return 0;
}

/* Dial the address at hand, or the next that can be dialed; back off when there is none. */
static void dial_next(struct control *c)
{
    while (c->addr_tried < c->addr_count) {
        int rc = start_dial(c);

        if (rc == 0) {
            return;
        }
        note_problem(c, "cannot dial", rc, NULL);
        c->addr_tried++;
        c->addr_next = (c->addr_next + 1) % c->addr_count;
    }
    back_off(c);
}

static void dial_failed(struct control *c, const char *what, int err, const char *detail)
{
    note_problem(c, what, err, detail);
    close_io(c);
    c->addr_tried++;
    c->addr_next = (c->addr_next + 1) % c->addr_count;
    dial_next(c);
}

/* --- an open connection ----------------------------------------------------------------------- */

static void forget_conn(struct control_conn *conn)
{
    list_unlink(&conn->node);
    conn->control->conns_count--;
    conn->control->is_full = conn->control->is_full && conn->control->conns_count > CONNS_CALM;
    mem_free(conn);
}

static void on_change(void *user)
{
    const struct control_conn *conn = user;

    task_wake(conn->control->loop, &conn->control->serve);
}

static void on_idle(void *user)
{
    struct control_conn *conn = user;

    conn->used_ns = conn->control->loop->now_ns;
    on_change(user);
}

/* No stream can be opened on it any more; those that are open end by themselves. */
static void on_closed(void *user, int err)
{
    struct control_conn *conn = user;
    struct control *c = conn->control;

    log_debug("a connection to the %s service ended; service=%s err=%s", c->name, c->authority,
              err_name(err));
    forget_conn(conn);
    if (c->state != CONTROL_OPEN || c->conns_count > 0) {
        return; /* another one is there, or on its way */
    }
    timer_cancel(c->loop, &c->timer);
    (void)snprintf(c->problem, sizeof(c->problem), "the connection ended: %s",
                   err != 0 ? err_text(err) : "the service closed it");
    if (c->failures > 0) {
        back_off(c);
        return;
    }
    c->failures = 1; /* until the next message */
    c->addrs_until_ns = 0;
    set_state(c, CONTROL_IDLE);
    control_connect(c);
}

static const struct http_client_events client_events = {
    .on_idle = on_idle,
    .on_capacity = on_change,
    .on_closed = on_closed,
};

static void connected(struct control *c)
{
    struct control_conn *conn = mem_new(sizeof(*conn));
    char at[ADDR_TEXT_BYTES];
    struct io *io = c->io;

    c->io = NULL;
    task_cancel(&c->dial);
    timer_cancel(c->loop, &c->timer);
    c->addr_tried = 0;
    c->problem[0] = '\0';
    c->was_open = true;
    control_stats_gate(&c->stats, false);
    set_state(c, CONTROL_OPEN);
    conn->control = c;
    conn->used_ns = c->loop->now_ns;
    conn->client = http2_client_new(io, NULL, &client_events, conn);
    list_append(&c->conns, &conn->node);
    c->conns_count++;
    (void)addr_format(&c->addrs[c->addr_next], at);
    if (c->is_out) {
        c->is_out = false;
        log_info("the %s service is reachable again; service=%s addr=%s", c->name, c->authority,
                 at);
    } else {
        log_debug("connected to the %s service; service=%s addr=%s", c->name, c->authority, at);
    }
    task_wake(c->loop, &c->serve);
}

static void start_tls(struct control *c)
{
    struct bytes name = bytes_str(c->server_name);

    set_state(c, CONTROL_HANDSHAKE);
    c->io = io_tls_client_new(c->tls, c->io, name, name, BYTES_NONE);
    io_set_owner(c->io, &c->dial);
    timer_arm_in(c->loop, &c->timer, HANDSHAKE_TIMEOUT_NS);
}

static void dial_run(struct task *t)
{
    struct control *c = CONTAINER_OF(t, struct control, dial);
    int rc = io_handshake(c->io);

    if (rc == 0 && c->state == CONTROL_DIAL && !c->is_local) {
        start_tls(c);
        rc = io_handshake(c->io);
    }
    if (rc == 0) {
        connected(c);
    } else if (rc != E_AGAIN && c->state == CONTROL_DIAL) {
        dial_failed(c, "cannot connect", rc, NULL);
    } else if (rc != E_AGAIN) {
        char detail[160];

        (void)snprintf(detail, sizeof(detail), "%s", io_tls_problem(c->io)); /* goes with the io */
        dial_failed(c, "the TLS handshake failed", rc, detail);
    }
}

/* --- resolving -------------------------------------------------------------------------------- */

static void on_resolved(struct dns_query *q, int err, const struct dns_answer *answer)
{
    struct control *c = CONTAINER_OF(q, struct control, query);

    assert(c->state == CONTROL_RESOLVE);
    if (err != 0 || answer->count == 0) {
        note_problem(c, "cannot resolve the name", err != 0 ? err : E_DNS_NAME, NULL);
        back_off(c);
        return;
    }
    control_stats_addrs(&c->stats, c->addrs, c->addr_count, answer->addrs,
                        MIN(answer->count, (size_t)CONTROL_ADDRS_MAX));
    c->addr_count = MIN(answer->count, (size_t)CONTROL_ADDRS_MAX);
    memcpy(c->addrs, answer->addrs, c->addr_count * sizeof(*c->addrs));
    c->addr_next = rand_below(&c->loop->rand, c->addr_count);
    c->addr_tried = 0;
    c->addrs_until_ns = c->loop->now_ns + answer->ttl_ns;
    dial_next(c);
}

static void on_timer(struct timer *t)
{
    struct control *c = CONTAINER_OF(t, struct control, timer);

    switch (c->state) {
    case CONTROL_BACKOFF:
        set_at_rest(c);
        control_connect(c);
        break;
    case CONTROL_DIAL:
        dial_failed(c, "cannot connect", E_TIMEOUT, NULL);
        break;
    case CONTROL_HANDSHAKE:
        dial_failed(c, "the TLS handshake did not end", E_TIMEOUT, NULL);
        break;
    case CONTROL_OPEN:
        control_connect(c);
        break;
    case CONTROL_IDLE:
    case CONTROL_RESOLVE:
        assert(!"no timer in this state");
    }
}

static void on_spare(struct timer *t)
{
    struct control *c = CONTAINER_OF(t, struct control, spare);

    task_wake(c->loop, &c->serve);
}

void control_dial_init(struct control *c)
{
    c->spare.run = on_spare;
    c->dial.run = dial_run;
    c->timer.run = on_timer;
    c->query.on_answer = on_resolved;
    c->query.client = c->name;
}

void control_connect(struct control *c)
{
    if ((c->state != CONTROL_IDLE && c->state != CONTROL_OPEN) || !control_is_wanted(c) ||
        (!c->is_local && c->tls == NULL)) {
        return;
    }
    if (control_room(c) != NULL) {
        task_wake(c->loop, &c->serve);
        return;
    }
    if (c->conns_count >= CONNS_MAX) {
        if (!c->is_full) {
            c->is_full = true;
            log_warn("no more streams to the %s service can be opened: questions wait; service=%s "
                     "connections=%zu",
                     c->name, c->authority, c->conns_count);
        }
        return;
    }
    timer_cancel(c->loop, &c->timer);
    if (c->addr_count > 0 && c->loop->now_ns < c->addrs_until_ns) {
        dial_next(c);
        return;
    }
    set_state(c, CONTROL_RESOLVE);
    /* Only names of the cluster have SRV records; asking for one of an address makes no sense. */
    dns_resolve(c->dns, &c->query, bytes_str(c->host), c->port, !c->is_local);
}

void control_crowded(struct control *c)
{
    if (c->state == CONTROL_IDLE) {
        control_connect(c);
    } else if (c->state == CONTROL_OPEN && !timer_is_armed(&c->timer)) {
        timer_arm_in(c->loop, &c->timer, ROOM_NS);
    }
}

struct http_client *control_room(const struct control *c)
{
    LIST_FOREACH(node, &c->conns)
    {
        struct http_client *client = LIST_ITEM(node, struct control_conn, node)->client;

        if (http_client_capacity(client) > 0) {
            return client;
        }
    }
    return NULL;
}

static void close_conn(struct control_conn *conn)
{
    struct http_client *client = conn->client;

    forget_conn(conn);
    http_client_close(client, E_CANCELED);
}

/* Has no other connection room for the next stream? */
static bool is_only_room(const struct control_conn *conn)
{
    LIST_FOREACH(node, &conn->control->conns)
    {
        const struct control_conn *other = LIST_ITEM(node, struct control_conn, node);

        if (other != conn && http_client_capacity(other->client) > 0) {
            return false;
        }
    }
    return true;
}

void control_trim(struct control *c)
{
    LIST_FOREACH(node, &c->conns)
    {
        struct control_conn *conn = LIST_ITEM(node, struct control_conn, node);
        uint64_t until_ns = conn->used_ns + SPARE_NS;

        if (c->conns_count == 1 || http_client_streams(conn->client) > 0) {
            continue;
        }
        if (until_ns > c->loop->now_ns && is_only_room(conn)) {
            timer_arm(c->loop, &c->spare, until_ns);
        } else {
            close_conn(conn);
        }
    }
}

void control_disconnect(struct control *c)
{
    dns_cancel(&c->query);
    close_io(c);
    timer_cancel(c->loop, &c->spare);
    c->addrs_until_ns = 0;
    c->addr_tried = 0;
    set_state(c, CONTROL_IDLE);
    while (!list_is_empty(&c->conns)) {
        close_conn(LIST_ITEM(c->conns.next, struct control_conn, node));
    }
}
