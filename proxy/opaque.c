/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "net/splice.h"
#include "proxy/early.h"
#include "proxy/metered.h"

#define ATTEMPTS_MAX 64   /* endpoints that may fail, within the fail-fast time */
#define FIRST_MAX    4096 /* read of a server that speaks first, before it has its tunnel */

#define GREETING_BYTES 16 /* of them, what tells HTTP */

/*
 * Opaque connections: choose an endpoint once, dial it, and copy bytes both ways until both sides
 * are done.
 */
struct opaque {
    struct conn *conn;
    struct dest *dest; /* held; NULL: a single endpoint */
    struct member *member;
    struct upstream *up; /* used */
    struct dial dial;
    struct pick pick;
    unsigned attempts;
    uint64_t give_up_ns; /* 0: no endpoint has failed yet */
    struct tunnel tunnel;
    bool is_joined;
    struct tcp_meter src, dst;
    struct discovery_user follow; /* of the policy that let it in */
    /* opened early: the server's end until there is a tunnel, and what it said */
    struct task task;
    struct io *server;
    struct chain first;
    struct grave grave;
};

static void opaque_dial(struct opaque *o);

static struct opaque *opaque_new(struct conn *c)
{
    struct opaque *o = mem_new(sizeof(*o));

    assert(c->opaque == NULL);
    o->conn = c;
    chain_init(&o->first);
    c->opaque = o; /* freed with the connection */
    return o;
}

static bool is_early(const struct opaque *o)
{
    return o->conn->early == EARLY_OPEN;
}

/* --- the tunnel ------------------------------------------------------------------------------- */

static void opaque_leave(struct opaque *o)
{
    upstream_dial_cancel(&o->dial);
    dest_wait_cancel(&o->pick);
    if (o->up != NULL) {
        upstream_leave(o->up);
        o->up = NULL;
    }
    if (o->member != NULL) {
        dest_end(o->dest, o->member, o);
        o->member = NULL;
    }
}

size_t opaque_held(const struct conn *c, uint64_t *out_moved)
{
    const struct tunnel *t = &c->opaque->tunnel;

    *out_moved = t->a.bytes_written + t->b.bytes_written;
    return chain_memory(&t->a.pending) + chain_memory(&t->b.pending) + t->a.pipe_bytes +
           t->b.pipe_bytes;
}

void opaque_close(struct conn *c, int err)
{
    struct opaque *o = c->opaque;

    if (o == NULL) {
        return;
    }
    discovery_unfollow(&o->follow);
    tcp_meter_close(&o->src, err);
    tcp_meter_close(&o->dst, 0);
    if (o->is_joined) {
        o->is_joined = false;
        tunnel_close(&o->tunnel, err != 0 ? err : E_CANCELED);
    }
    task_cancel(&o->task);
    io_close(o->server);
    o->server = NULL;
    chain_clear(&o->first);
    opaque_leave(o);
    if (o->dest != NULL) {
        dest_release(o->dest);
        o->dest = NULL;
    }
}

static void on_tunnel_end(struct tunnel *t, int err)
{
    struct opaque *o = t->user;
    struct conn *c = o->conn;

    if (err != 0) {
        log_debug("an opaque connection broke; direction=%s err=%s", direction_name(c->dir),
                  err_name(err));
    }
    o->is_joined = false;
    tcp_meter_close(&o->src, t->a.err);
    tcp_meter_close(&o->dst, t->b.err);
    conn_close(c, t->a.err);
}

static void on_policy_changed(struct discovery_user *u, const struct snapshot *answer)
{
    struct opaque *o = CONTAINER_OF(u, struct opaque, follow);

    (void)answer;
    inbound_policy_changed(o->conn);
}

/* The tunnel wants both ios bare, to splice them; their meters stay here. */
static void opaque_join(struct opaque *o, struct io *client, struct chain *to_server,
                        struct io *server, struct chain *to_client)
{
    struct conn *c = o->conn;
    bool has_policy = c->dir == INBOUND && c->entry != NULL;

    conn_next(c, CONN_TUNNEL);
    o->is_joined = true;
    if (has_policy) {
        o->follow.on_change = on_policy_changed;
        discovery_follow(c->entry, &o->follow);
    }
    tunnel_open(&o->tunnel, c->w->loop, client, to_server, server, to_client, 0, on_tunnel_end, o);
    if (has_policy && c->entry->answer != c->policy) {
        inbound_policy_changed(c); /* while there was no server yet */
    }
}

/* --- before the client has spoken ------------------------------------------------------------- */

static void on_greeting(struct opaque *o)
{
    struct conn *c = o->conn;
    char buffer[GREETING_BYTES];
    struct bytes first = bytes_of(buffer, chain_peek(&o->first, buffer, sizeof(buffer)));
    bool is_http;

    if (http_detect_server(first, &is_http) != 0) {
        task_wake(c->w->loop, &o->task);
    } else if (is_http) {
        early_said_http(c);
    } else { /* nothing more is read until there is a tunnel */
        c->server_spoke = true;
        task_wake(c->w->loop, &c->task);
    }
}

static void on_server(struct task *t)
{
    struct opaque *o = CONTAINER_OF(t, struct opaque, task);
    size_t got;
    int rc = io_recv(o->server, &o->first, FIRST_MAX, &got);

    if (rc == 0) {
        on_greeting(o);
    } else if (rc != E_AGAIN) { /* short of memory it is the first to go, too */
        early_failed(o->conn);
    }
}

static void on_early_link(struct opaque *o, struct link *link)
{
    if (link == NULL) {
        early_failed(o->conn);
        return;
    }
    o->server = link_take_io(link, &o->dst);
    o->task.run = on_server;
    io_set_owner(o->server, &o->task);
    task_wake(o->conn->w->loop, &o->task);
}

static void opaque_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct opaque, grave));
}

void opaque_drop(struct conn *c)
{
    struct opaque *o = c->opaque;

    opaque_close(c, 0);
    c->opaque = NULL;
    loop_free_later(c->w->loop, &o->grave, opaque_bury);
}

void opaque_adopt(struct conn *c)
{
    struct opaque *o = c->opaque;
    struct io *client = c->io, *server = o->server;

    if (server == NULL) {
        conn_next(c, CONN_DIAL); /* still under way; on_link() goes on */
        return;
    }
    task_cancel(&o->task);
    c->io = NULL;
    o->server = NULL;
    opaque_join(o, io_metered_strip(client, &o->src), &c->head, server, &o->first);
}

/* --- the way to an endpoint ------------------------------------------------------------------- */

static void on_link(struct dial *d, struct link *link, enum failure why, const char *detail)
{
    struct opaque *o = CONTAINER_OF(d, struct opaque, dial);
    struct conn *c = o->conn;
    struct io *client = c->io, *server;
    uint64_t now_ns = c->w->loop->now_ns;

    if (is_early(o)) {
        on_early_link(o, link);
        return;
    }
    if (link != NULL) {
        server = link_take_io(link, &o->dst);
        c->io = NULL;
        opaque_join(o, io_metered_strip(client, &o->src), &c->head, server, NULL);
        return;
    }
    if (o->give_up_ns == 0) {
        o->give_up_ns = now_ns + c->w->config->outbound.failfast_ns;
    }
    if (o->dest != NULL && now_ns < o->give_up_ns && ++o->attempts < ATTEMPTS_MAX) {
        opaque_leave(o);
        opaque_dial(o);
    } else {
        conn_fail(c, why, E_CLOSED, detail);
    }
}

static void opaque_to_upstream(struct opaque *o, struct upstream *up)
{
    o->up = up;
    upstream_use(up);
    o->dial.kind = LINK_RAW;
    o->dial.on_link = on_link;
    upstream_dial(up, &o->dial);
}

static void on_pick(struct pick *p, struct member *m, enum failure why)
{
    struct opaque *o = CONTAINER_OF(p, struct opaque, pick);

    if (m == NULL && is_early(o)) {
        early_failed(o->conn);
        return;
    }
    if (m == NULL) {
        conn_fail(o->conn, why, E_NO_ENDPOINT, NULL);
        return;
    }
    dest_begin(o->dest, m, o);
    o->member = m;
    opaque_to_upstream(o, member_upstream(m));
}

static void opaque_dial(struct opaque *o)
{
    struct member *m = dest_pick(o->dest);

    if (m != NULL) {
        on_pick(&o->pick, m, FAILURE_NONE);
    } else {
        o->pick.on_pick = on_pick;
        dest_wait(o->dest, &o->pick);
    }
}

void opaque_to_backend(struct conn *c, const struct backend *b, const struct meta *parent,
                       enum dest_kind kind)
{
    struct opaque *o = opaque_new(c);

    if (!is_early(o)) {
        conn_next(c, CONN_DIAL);
    }
    o->dest = dest_hold(c->w, b, parent, kind);
    opaque_dial(o);
}

void opaque_to_endpoint(struct conn *c, const struct endpoint *e)
{
    struct opaque *o = opaque_new(c);

    if (!is_early(o)) {
        conn_next(c, CONN_DIAL);
    }
    opaque_to_upstream(o, upstream_single(c->w, c->gateway != NULL ? OUTBOUND : c->dir, e));
}

void opaque_upgraded(struct conn *c, struct upstream *up, struct io *client,
                     struct chain *to_server, struct io *server, struct chain *to_client)
{
    struct opaque *o = opaque_new(c);
    struct io *bare = io_metered_strip(client, &o->src);

    o->up = up;
    opaque_join(o, bare, to_server, io_metered_strip(server, &o->dst), to_client);
}
