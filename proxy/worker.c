/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/worker.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "proxy/accept.h"

#define SERIES_MAX   20000
#define SWEEP_NS     NS_PER_S

const struct side_config *worker_side(const struct proxy_worker *w, enum direction d)
{
    return d == INBOUND ? &w->config->inbound : &w->config->outbound;
}

/* --- the worker's life --------------------------------------------------------------------------- */

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct proxy_worker *w = ln->user;

    conn_accept(w, w->listen_side[ln - w->listeners], fd, peer);
}

static void start_listening(struct proxy_worker *w)
{
    for (size_t i = 0; i < w->listen_count; i++) {
        int rc = listener_open(&w->listeners[i], w->loop, w->listen_fds[i], on_accept, w);

        if (rc != 0) {
            log_error("a worker cannot accept connections: the proxy is of no use; err=%s", err_text(rc));
            abort();
        }
    }
}

static void conn_meters(struct proxy_worker *w)
{
    LIST_FOREACH(node, &w->conns) {
        conn_meter(LIST_ITEM(node, struct conn, node));
    }
    upstream_meters(w);
}

static void on_sweep(struct timer *t)
{
    struct proxy_worker *w = CONTAINER_OF(t, struct proxy_worker, sweep);

    dest_sweep(w);
    upstream_sweep(w);
    chunk_pool_trim(&w->loop->chunks);
    timer_arm_in(w->loop, &w->sweep, SWEEP_NS);
}

static void worker_setup(struct worker *worker)
{
    struct proxy_worker *w = worker->user;

    w->loop = &worker->loop;
    metrics_init(&w->metrics, SERIES_MAX, w->config->metrics_idle_ns);
    w->loop->metrics = &w->metrics;
    list_init(&w->conns);
    list_init(&w->links);
    list_init(&w->retired);
    list_init(&w->free_exchanges);
    map_init(&w->dests);
    map_init(&w->upstreams);
    w->cache = discovery_cache_new(w->loop, w->control, w->discovery, w->config->outbound.discovery_idle_ns,
                                   w->config->inbound.discovery_idle_ns);
    w->sweep.run = on_sweep;
    timer_arm_in(w->loop, &w->sweep, SWEEP_NS);
}

static void stop_listening(struct proxy_worker *w)
{
    for (size_t i = 0; i < w->listen_count; i++) {
        if (w->listeners[i].loop != NULL) {
            listener_close(&w->listeners[i]);
        } else {
            (void)close(w->listen_fds[i]);
        }
    }
    w->listen_count = 0;
}

static void worker_teardown(struct worker *worker)
{
    struct proxy_worker *w = worker->user;
    struct map_iter it = MAP_ITER(&w->upstreams);

    stop_listening(w);
    while (!list_is_empty(&w->conns)) {
        conn_close(LIST_ITEM(w->conns.next, struct conn, node), E_CANCELED);
    }
    dest_clear(w);
    while (map_next(&it)) {
        upstream_free(it.value);
    }
    upstream_sweep(w); /* those that had been retired */
    timer_cancel(w->loop, &w->sweep);
    exchange_free_all(w);
    discovery_cache_free(w->cache);
    tls_ctx_free(w->tls_server);
    tls_ctx_free(w->tls_client);
    while (loop_turn(w->loop, 0) && !list_is_empty(&w->loop->graves)) {
        /* what was closed is freed at the end of a turn, and may close more */
    }
    io_close_lingering(w->loop);
    tunnel_cache_clear();
    map_clear(&w->dests);
    map_clear(&w->upstreams);
    w->loop->metrics = NULL;
    metrics_clear(&w->metrics);
}

int proxy_worker_start(struct proxy_worker *w, unsigned index)
{
    w->worker.setup = worker_setup;
    w->worker.teardown = worker_teardown;
    w->worker.user = w;
    return worker_start(&w->worker, index, w->config->chunks_max);
}

/* --- messages from the control thread ------------------------------------------------------------ */

struct creds_message {
    struct message message;
    struct proxy_worker *worker;
    struct tls_creds *creds;
};

static void deliver_creds(struct message *m, struct loop *l)
{
    struct creds_message *cm = CONTAINER_OF(m, struct creds_message, message);
    struct proxy_worker *w = cm->worker;
    bool is_first = w->tls_server == NULL;

    (void)l;
    if (!w->loop->stopping) {
        tls_ctx_free(w->tls_server);
        tls_ctx_free(w->tls_client);
        w->tls_server = tls_ctx_new(cm->creds, true);
        w->tls_client = tls_ctx_new(cm->creds, false);
        if (is_first && !w->draining) {
            start_listening(w);
        }
    }
    tls_creds_unref(cm->creds);
    mem_free(cm);
}

void proxy_worker_set_creds(struct proxy_worker *w, struct tls_creds *creds)
{
    struct creds_message *cm = mem_new(sizeof(*cm));

    cm->message.deliver = deliver_creds;
    cm->worker = w;
    cm->creds = creds;
    tls_creds_ref(creds);
    loop_post(&w->worker.loop, &cm->message);
}

struct worker_message {
    struct message message;
    struct proxy_worker *worker;
};

static void deliver_drained(struct message *m, struct loop *l)
{
    struct worker_message *wm = CONTAINER_OF(m, struct worker_message, message);

    (void)l;
    proxy_on_drained(wm->worker->proxy);
    mem_free(wm);
}

/* A connection is gone: was it the last one of a worker that is to end? */
void proxy_worker_conn_gone(struct proxy_worker *w)
{
    struct worker_message *wm;

    if (!w->draining || w->conns_count > 0 || w->loop->stopping || w->said_drained) {
        return;
    }
    w->said_drained = true;
    wm = mem_new(sizeof(*wm));
    wm->message.deliver = deliver_drained;
    wm->worker = w;
    loop_post(w->control, &wm->message);
}

static void deliver_drain(struct message *m, struct loop *l)
{
    struct worker_message *wm = CONTAINER_OF(m, struct worker_message, message);
    struct proxy_worker *w = wm->worker;

    (void)l;
    if (!w->loop->stopping && !w->draining) {
        w->draining = true;
        stop_listening(w);
        LIST_FOREACH(node, &w->conns) {
            conn_drain(LIST_ITEM(node, struct conn, node));
        }
        proxy_worker_conn_gone(w);
    }
    mem_free(wm);
}

void proxy_worker_drain(struct proxy_worker *w)
{
    struct worker_message *wm = mem_new(sizeof(*wm));

    wm->message.deliver = deliver_drain;
    wm->worker = w;
    loop_post(&w->worker.loop, &wm->message);
}

static void deliver_scraped(struct message *m, struct loop *l)
{
    struct scrape *s = CONTAINER_OF(m, struct scrape, message);

    (void)l;
    s->on_done(s);
}

static void deliver_scrape(struct message *m, struct loop *l)
{
    struct scrape *s = CONTAINER_OF(m, struct scrape, message);

    if (!l->stopping) {
        conn_meters(s->worker);
        metrics_collect(&s->worker->metrics, &s->samples, l->now_ns);
    }
    m->deliver = deliver_scraped;
    loop_post(s->worker->control, m);
}

void proxy_worker_scrape(struct proxy_worker *w, struct scrape *s)
{
    s->worker = w;
    s->message.deliver = deliver_scrape;
    loop_post(&w->worker.loop, &s->message);
}
