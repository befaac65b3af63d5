/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/admin.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "mesh/route.h"

#define PEEK_NS NS_PER_S /* wire 2.2 */

/* A connection from its accept to the service. */
struct admin_conn {
    struct task task;
    struct timer timer;
    struct grave grave;
    struct list node;
    struct admin *admin;
    struct io *io;
    struct chain head;
    struct addr peer;
    struct discovery_waiter waiter;
    bool is_tls;
    bool is_waiting; /* for the policy, which comes in the first turns of the loop */
};

static void conn_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct admin_conn, grave));
}

/* Forget it; its io is closed, or was given away. */
static void conn_end(struct admin_conn *c)
{
    struct loop *l = &c->admin->proxy->loop;

    task_cancel(&c->task);
    timer_cancel(l, &c->timer);
    discovery_wait_cancel(&c->waiter);
    chain_clear(&c->head);
    io_close(c->io);
    list_unlink(&c->node);
    c->admin->conns_count--;
    loop_free_later(l, &c->grave, conn_bury);
}

static void on_timeout(struct timer *t)
{
    struct admin_conn *c = CONTAINER_OF(t, struct admin_conn, timer);

    log_debug("an admin connection did not show in time what it is: closed");
    conn_end(c);
}

/* It is HTTP whatever its policy says, and so each request is looked at by itself: a route may let
 * in whom the server does not, as the one for probes does. */
bool admin_allows(const struct admin *a, const struct service_request *r)
{
    const struct server_policy *policy =
        (const struct server_policy *)(const void *)a->policy->answer;
    struct client_facts facts = {
        .addr = r->peer, .is_tls = r->peer_id.at != NULL, .id = r->peer_id};
    struct authz_choice choice;
    char peer[ADDR_TEXT_BYTES];

    /* A port that was declared opaque has no routes. */
    if (policy_authorize(policy, &facts, policy->routes_count > 0 ? r->head : NULL, &choice,
                         NULL) == 0) {
        return true;
    }
    log_info("the policy of the admin port does not authorize a client; client=%s "
             "client_id=" BYTES_FMT " path=" BYTES_FMT,
             addr_format(&r->peer, peer), BYTES_ARG(r->peer_id), BYTES_ARG(r->path));
    return false;
}

static void conn_serve(struct admin_conn *c)
{
    struct bytes id = BYTES_NONE;
    struct io *io = c->io;

    if (c->is_tls && !io_tls_peer_id(io, &id)) {
        id = BYTES("");
    }
    c->io = NULL;
    io_set_owner(io, NULL);
    if (!c->is_tls) {
        io = io_peeked_new(io, &c->head);
    }
    service_accept_known(c->admin->service, io, &c->peer, id);
    conn_end(c);
}

static void on_policy(struct discovery_waiter *waiter, const struct snapshot *answer)
{
    (void)answer;
    conn_serve(CONTAINER_OF(waiter, struct admin_conn, waiter));
}

/* It is known what it is, and who. */
static void conn_known(struct admin_conn *c)
{
    struct admin *a = c->admin;

    if (a->policy->answer != NULL) {
        conn_serve(c);
        return;
    }
    c->is_waiting = true;
    c->waiter.on_answer = on_policy;
    discovery_wait(a->cache, a->policy, &c->waiter);
}

static void conn_handshake(struct admin_conn *c)
{
    int rc = io_handshake(c->io);

    if (rc == 0) {
        conn_known(c);
    } else if (rc != E_AGAIN) {
        log_debug("TLS handshake on the admin port failed; detail=\"%s\"", io_tls_problem(c->io));
        conn_end(c);
    }
}

/* Ours is TLS with our name; other TLS is nothing that we could serve. */
static void conn_peeked(struct admin_conn *c, bool is_tls, struct bytes sni)
{
    const struct proxy *p = c->admin->proxy;

    if (!is_tls) {
        conn_known(c);
    } else if (p->tls_server != NULL && bytes_eq_nocase(sni, bytes_str(p->config.local_name))) {
        c->io = io_tls_server_new(p->tls_server, io_peeked_new(c->io, &c->head), BYTES_NONE);
        c->is_tls = true;
        conn_handshake(c);
    } else {
        conn_end(c);
    }
}

static void conn_peek(struct admin_conn *c)
{
    char buffer[TLS_HELLO_MAX];
    struct bytes sni = BYTES_NONE;
    int rc = 0, verdict = E_AGAIN;
    size_t got;

    while (verdict == E_AGAIN && rc == 0) {
        rc = io_recv(c->io, &c->head, sizeof(buffer) - chain_size(&c->head), &got);
        if (chain_size(&c->head) > 0) {
            size_t n = chain_peek(&c->head, buffer, sizeof(buffer));

            verdict = tls_parse_client_hello(bytes_of(buffer, n), &sni);
        }
    }
    if (verdict == E_AGAIN && rc == E_AGAIN) {
        return;
    }
    if (verdict == E_AGAIN) { /* it ended, or no buffer could be had for it */
        conn_end(c);
        return;
    }
    conn_peeked(c, verdict == 0, sni);
}

static void conn_run(struct task *t)
{
    struct admin_conn *c = CONTAINER_OF(t, struct admin_conn, task);

    if (c->is_waiting) {
        return;
    }
    if (c->is_tls) {
        conn_handshake(c);
    } else {
        conn_peek(c);
    }
}

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct admin *a = ln->user;
    struct loop *l = &a->proxy->loop;
    struct admin_conn *c;

    if (a->conns_count >= ADMIN_CONNS_MAX) {
        conn_end(LIST_ITEM(a->conns.next, struct admin_conn, node));
    }
    c = mem_new(sizeof(*c));
    c->admin = a;
    c->peer = *peer;
    c->task.run = conn_run;
    c->timer.run = on_timeout;
    chain_init(&c->head);
    list_append(&a->conns, &c->node);
    a->conns_count++;
    c->io = io_tcp_new(l, fd, &c->task);
    if (c->io == NULL) {
        conn_end(c);
        return;
    }
    timer_arm_in(l, &c->timer, PEEK_NS);
    task_wake(l, &c->task);
}

int admin_listen(struct admin *a, int fd)
{
    struct proxy *p = a->proxy;
    struct addr key;

    list_init(&a->conns);
    memset(&key, 0, sizeof(key));
    key.port = p->config.admin_listen.port;
    a->cache =
        discovery_cache_new(&p->loop, &p->loop, p->discovery, p->config.outbound.discovery_idle_ns,
                            p->config.inbound.discovery_idle_ns);
    a->policy = discovery_ask(a->cache, QUESTION_INBOUND, addr_key(&key));
    return listener_open(&a->listener, &p->loop, fd, on_accept, a);
}

void admin_listen_close(struct admin *a)
{
    listener_close(&a->listener);
    while (!list_is_empty(&a->conns)) {
        conn_end(LIST_ITEM(a->conns.next, struct admin_conn, node));
    }
    discovery_release(a->cache, a->policy);
    discovery_cache_free(a->cache);
}
