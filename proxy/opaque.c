/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/err.h"
#include "core/log.h"

/*
 * Opaque connections: choose an endpoint once, dial it, and copy bytes both ways until both sides are done.
 */
#define ATTEMPTS_MAX 4

static void opaque_dial(struct conn *c);

static void opaque_leave(struct conn *c)
{
    upstream_dial_cancel(&c->dial);
    dest_wait_cancel(&c->pick);
    if (c->up != NULL) {
        c->up->users--;
        c->up->idle_since_ns = c->w->loop->now_ns;
        c->up = NULL;
    }
    if (c->member != NULL) {
        dest_end(c->dest, c->member);
        c->member = NULL;
    }
}

void opaque_meter(struct conn *c)
{
    const struct tunnel *t = &c->tunnel;

    tcp_meter_update(&c->meter, c->base_read + t->a.bytes_read, c->base_written + t->a.bytes_written);
    tcp_meter_update(&c->dst_meter, c->dst_base_read + t->b.bytes_read, c->dst_base_written + t->b.bytes_written);
}

void opaque_cancel(struct conn *c)
{
    if (c->is_tunnel_open) {
        c->is_tunnel_open = false;
        tunnel_close(&c->tunnel, E_CANCELED);
    }
    tcp_meter_close(&c->dst_meter, 0);
    opaque_leave(c);
    if (c->dest != NULL) {
        dest_release(c->dest);
        c->dest = NULL;
    }
}

static void on_tunnel_end(struct tunnel *t, int err)
{
    struct conn *c = t->user;

    opaque_meter(c);
    c->is_tunnel_open = false;
    tcp_meter_close(&c->dst_meter, c->tunnel.b.err);
    conn_close(c, c->tunnel.a.err);
    if (err != 0) {
        log_debug("an opaque connection broke; direction=%s err=%s", direction_name(c->dir), err_name(err));
    }
}

static void count_base(struct io *io, uint64_t *out_read, uint64_t *out_written)
{
    while (io->below != NULL) {
        io = io->below;
    }
    *out_read = io->bytes_in;
    *out_written = io->bytes_out;
}

static void opaque_join(struct conn *c, struct io *client, struct chain *to_server, struct io *server, struct chain *to_client)
{
    count_base(client, &c->base_read, &c->base_written);
    count_base(server, &c->dst_base_read, &c->dst_base_written);
    c->served = NULL;
    conn_next(c, CONN_TUNNEL);
    c->is_tunnel_open = true;
    tunnel_open(&c->tunnel, c->w->loop, client, to_server, server, to_client, 0, on_tunnel_end, c);
}

static void on_link(struct dial *d, struct link *link, enum failure why, const char *detail)
{
    struct conn *c = CONTAINER_OF(d, struct conn, dial);
    struct io *client = c->io, *server;

    if (link == NULL) {
        if (c->dest != NULL && ++c->attempts < ATTEMPTS_MAX) {
            opaque_leave(c);
            opaque_dial(c);
        } else {
            conn_fail(c, why, E_CLOSED, detail);
        }
        return;
    }
    server = link_take_io(link, &c->dst_meter);
    c->dial.link = NULL;
    c->io = NULL;
    opaque_join(c, client, &c->head, server, NULL);
}

static void opaque_to_upstream(struct conn *c, struct upstream *up)
{
    c->up = up;
    up->users++;
    c->dial.kind = LINK_RAW;
    c->dial.on_link = on_link;
    upstream_dial(up, &c->dial);
}

static void on_pick(struct pick *p, struct member *m, enum failure why)
{
    struct conn *c = CONTAINER_OF(p, struct conn, pick);

    if (m == NULL) {
        conn_fail(c, why, E_NO_ENDPOINT, NULL);
        return;
    }
    dest_begin(c->dest, m);
    c->member = m;
    opaque_to_upstream(c, member_upstream(m));
}

static void opaque_dial(struct conn *c)
{
    struct member *m = dest_pick(c->dest);

    if (m != NULL) {
        on_pick(&c->pick, m, FAILURE_NONE);
    } else {
        c->pick.on_pick = on_pick;
        dest_wait(c->dest, &c->pick);
    }
}

void opaque_to_backend(struct conn *c, const struct backend *b)
{
    conn_next(c, CONN_DIAL);
    c->dest = dest_hold(c->w, b, true);
    opaque_dial(c);
}

void opaque_to_endpoint(struct conn *c, const struct endpoint *e)
{
    conn_next(c, CONN_DIAL);
    opaque_to_upstream(c, upstream_single(c->w, c->dir, e));
}

void opaque_upgraded(struct conn *c, struct upstream *up, struct io *client, struct chain *to_server, struct io *server,
                     struct chain *to_client, struct tcp_meter *server_meter)
{
    c->up = up; /* its use count was taken over from the exchange */
    c->dst_meter = *server_meter;
    opaque_join(c, client, to_server, server, to_client);
}
