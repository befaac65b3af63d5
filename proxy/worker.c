/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/worker.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/splice.h"
#include "proxy/access_log.h"
#include "proxy/early.h"
#include "proxy/exchange.h"
#include "proxy/profile_route.h"
#include "proxy/shed.h"
#include "proxy/span_queue.h"

#include <unistd.h>

#define REST_NS  (10 * NS_PER_S)
#define SWEEP_NS NS_PER_S
#define END_NS                                                                                     \
    (3 * NS_PER_S) /* for what lingers when the worker ends: a dialed HTTP/2 connection, 1 s */
#define END_TURN_MS   20
#define SCRAPE_SERIES 512 /* in a turn */

/* --- listening -------------------------------------------------------------------------------- */

int proxy_worker_add_listener(struct proxy_worker *w, enum direction side, int fd)
{
    w->listeners = mem_resize(w->listeners, w->listen_count + 1, sizeof(*w->listeners));
    w->listeners[w->listen_count++] = (struct worker_listener){.fd = fd, .side = side};
    /* Now, not with the first certificate: who comes before it waits in the backlog. */
    return sock_set_accept_opts(fd, &worker_side(w, side)->accept_opts);
}

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct proxy_worker *w = ln->user;
    enum direction side = CONTAINER_OF(ln, struct worker_listener, listener)->side;

    if (shed_admits(w, side, ln, fd)) {
        conn_accept(w, side, fd, peer);
    }
}

static void start_listening(struct proxy_worker *w)
{
    for (size_t i = 0; i < w->listen_count; i++) {
        struct worker_listener *l = &w->listeners[i];
        int rc;

        if (l->fd < 0) {
            continue;
        }
        rc = listener_open(&l->listener, w->loop, l->fd, on_accept, w);
        l->fd = -1;
        if (rc != 0) {
            log_error("a worker cannot accept connections: the proxy is of no use; err=%s",
                      err_text(rc));
            abort();
        }
        listener_bound(&l->listener, worker_side(w, l->side)->backlog);
    }
}

static void pause_listening(struct proxy_worker *w, bool is_over)
{
    for (size_t i = 0; i < w->listen_count; i++) {
        struct worker_listener *l = &w->listeners[i];

        if (l->fd >= 0) {
            continue; /* it has not begun */
        }
        if (is_over) {
            listener_resume(&l->listener);
        } else {
            listener_pause(&l->listener);
        }
    }
}

void proxy_worker_drop_listeners(struct proxy_worker *w)
{
    for (size_t i = 0; i < w->listen_count; i++) {
        if (w->listeners[i].fd >= 0) {
            (void)close(w->listeners[i].fd);
        } else {
            listener_close(&w->listeners[i].listener);
        }
    }
    mem_free(w->listeners);
    w->listeners = NULL;
    w->listen_count = w->finishing = 0;
}

static void on_finished(struct listener *ln)
{
    struct proxy_worker *w = ln->user;

    assert(w->finishing > 0);
    if (--w->finishing == 0) {
        proxy_worker_drop_listeners(w);
        proxy_worker_conn_gone(w);
    }
}

/* Each worker has sockets of its own, and who waits in their queues can be accepted by nobody else. */
static void finish_listeners(struct proxy_worker *w)
{
    if (w->finishing > 0) {
        return;
    }
    for (size_t i = 0; i < w->listen_count; i++) {
        struct worker_listener *l = &w->listeners[i];

        if (l->fd < 0) { /* it has begun */
            listener_finish(&l->listener, on_finished);
            w->finishing++;
        }
    }
    if (w->finishing == 0) {
        proxy_worker_drop_listeners(w);
    }
}

/* --- the worker's life ------------------------------------------------------------------------ */

static void on_sweep(struct timer *t)
{
    struct proxy_worker *w = CONTAINER_OF(t, struct proxy_worker, sweep);
    bool is_more = parking_round(&w->known_parked); /* they hold some of the others */

    is_more = dest_sweep(w) || is_more;
    is_more = upstream_sweep(w) || is_more;
    is_more = parking_round(&w->profile_names_parked) || is_more;
    is_more = profile_sweep(w) || is_more;
    if (is_more) {
        proxy_worker_want_sweep(w);
    }
}

void proxy_worker_want_sweep(struct proxy_worker *w)
{
    if (!timer_is_armed(&w->sweep)) {
        timer_arm_in(w->loop, &w->sweep, SWEEP_NS);
    }
}

/* What was kept for the next request goes back to the system when none came for a while (D9). */
static void on_rest(struct timer *t)
{
    struct proxy_worker *w = CONTAINER_OF(t, struct proxy_worker, rest);

    if (w->exchanges != w->exchanges_at_rest) {
        proxy_worker_at_rest(w);
        return;
    }
    exchange_free_all(w);
    arena_cache_clear();
    chunk_pool_trim(&w->loop->chunks);
    shed_worker_rest(w);
    mem_trim();
}

void proxy_worker_at_rest(struct proxy_worker *w)
{
    if (!timer_is_armed(&w->rest)) {
        w->exchanges_at_rest = w->exchanges;
        timer_arm_in(w->loop, &w->rest, REST_NS);
    }
}

void proxy_worker_open(struct proxy_worker *w)
{
    w->loop = &w->worker.loop;
    w->loop->is_sole_owner = true;
    stats_open(&w->stats, stats_series_max(w->loop->chunks.used_max),
               w->config->metrics_idle_ns);
    w->loop->metrics = &w->stats.metrics;
    if (w->config->access_log != ACCESS_OFF) {
        w->access_log =
            access_log_new(w->loop, &w->stats, w->config->access_log, STDERR_FILENO);
    }
    if (w->span_queue != NULL) {
        w->spans = span_writer_new(w->loop, &w->stats, w->span_queue);
    }
    list_init(&w->conns);
    list_init(&w->retired);
    list_init(&w->all_upstreams);
    list_init(&w->free_exchanges);
    list_init(&w->scrapes);
    map_init(&w->dests);
    map_init(&w->upstreams);
    known_open(w);
    map_init(&w->profiles);
    profile_names_open(w);
    app_start_open(&w->app_start, clock_mono_ns());
    w->sweep.run = on_sweep;
    w->rest.run = on_rest;
    shed_worker_open(w);
    w->cache = discovery_cache_new(w->loop, w->control, w->discovery,
                                   w->config->outbound.discovery_idle_ns,
                                   w->config->inbound.discovery_idle_ns);
}

static void scrape_end(struct scrape *s);

/* Codecs say goodbye in the next turns, dialed HTTP/2 connections that we let go of may still wait for
 * their peers, and a last answer in TLS for its client to take it: their sockets and timers must be gone
 * before the loop is. */
static void turn_until_quiet(struct proxy_worker *w)
{
    do {
        (void)loop_turn(w->loop, 0);
    } while (!list_is_empty(&w->loop->ready) || !list_is_empty(&w->loop->late) ||
             !list_is_empty(&w->loop->graves));
}

static void finish_turns(struct proxy_worker *w)
{
    uint64_t until_ns = clock_mono_ns() + END_NS;

    turn_until_quiet(w);
    while (w->loop->watch_count > 1 && clock_mono_ns() < until_ns) { /* the mailbox has one */
        (void)loop_turn(w->loop, END_TURN_MS);
    }
    io_close_lingering(w->loop);
    turn_until_quiet(w);
}

void proxy_worker_close(struct proxy_worker *w)
{
    proxy_worker_drop_listeners(w);
    while (!list_is_empty(&w->conns)) {
        conn_close(LIST_ITEM(w->conns.next, struct conn, node), E_CANCELED);
    }
    early_clear(w);
    known_clear(w);
    dest_clear(w);
    upstream_clear(w);
    profile_names_clear(w);
    profile_clear(w);
    timer_cancel(w->loop, &w->sweep);
    while (!list_is_empty(&w->scrapes)) {
        scrape_end(LIST_ITEM(w->scrapes.next, struct scrape, node));
    }
    shed_worker_close(w);
    finish_turns(w);
    timer_cancel(w->loop, &w->rest);
    assert(w->in_flight[INBOUND] == 0 && w->in_flight[OUTBOUND] == 0);
    exchange_free_all(w);
    access_log_free(w->access_log);
    w->access_log = NULL;
    span_writer_free(w->spans);
    w->spans = NULL;
    discovery_cache_free(w->cache);
    tls_ctx_free(w->tls_server);
    tls_ctx_free(w->tls_client);
    w->tls_server = w->tls_client = NULL;
    tunnel_cache_clear();
    w->loop->metrics = NULL;
    stats_close(&w->stats);
}

static void worker_setup(struct worker *worker)
{
    proxy_worker_open(worker->user);
}

static void worker_teardown(struct worker *worker)
{
    proxy_worker_close(worker->user);
}

int proxy_worker_start(struct proxy_worker *w, unsigned index)
{
    w->worker.setup = worker_setup;
    w->worker.teardown = worker_teardown;
    w->worker.user = w;
    return worker_start(&w->worker, index, w->config->chunks_max);
}

/* --- messages from the control thread --------------------------------------------------------- */

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

    if (!l->stopping) {
        tls_ctx_free(w->tls_server);
        tls_ctx_free(w->tls_client);
        w->tls_server = tls_ctx_new(cm->creds, true);
        w->tls_client = tls_ctx_new(cm->creds, false);
        if (is_first && !w->is_held && !w->draining) {
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
    enum worker_order order;
    unsigned number;
    enum shed_level level;
};

static void deliver_drained(struct message *m, struct loop *l)
{
    struct worker_message *wm = CONTAINER_OF(m, struct worker_message, message);

    (void)l;
    proxy_on_drained(wm->worker->proxy);
    mem_free(wm);
}

void proxy_worker_conn_gone(struct proxy_worker *w)
{
    struct worker_message *wm;

    if (!w->draining || w->finishing > 0 || w->conns_count > 0 || w->loop->stopping || w->said_drained) {
        return;
    }
    w->said_drained = true;
    if (w->spans != NULL) {
        span_writer_flush(w->spans); /* before the control thread hears of the end */
    }
    wm = mem_new(sizeof(*wm));
    wm->message.deliver = deliver_drained;
    wm->worker = w;
    loop_post(w->control, &wm->message);
}

static void worker_drain(struct proxy_worker *w, enum worker_order order)
{
    bool gently = order == WORKER_DRAIN_GENTLY;
    bool is_news = !w->draining || (w->draining_gently && !gently);

    if (order == WORKER_DRAIN) {
        finish_listeners(w);
    } else {
        proxy_worker_drop_listeners(w);
    }
    if (is_news && !gently) {
        w->draining_ns = w->loop->now_ns;
    }
    w->draining_gently = gently && (!w->draining || w->draining_gently);
    w->draining = true;
    if (is_news) {
        LIST_FOREACH(node, &w->conns)
        {
            conn_drain(LIST_ITEM(node, struct conn, node));
        }
        proxy_worker_conn_gone(w);
    }
}

/* What is in flight is told of, and told as drained once it is gone. Nobody is let in behind it. */
static void worker_cut(struct proxy_worker *w)
{
    w->is_cut = true;
    proxy_worker_drop_listeners(w);
    while (!list_is_empty(&w->conns)) {
        struct conn *c = LIST_ITEM(w->conns.next, struct conn, node);

        if (c->state == CONN_TUNNEL) {
            conn_fail(c, FAILURE_SHUTDOWN, E_CANCELED, NULL);
        } else {
            conn_close(c, E_CANCELED);
        }
    }
    proxy_worker_conn_gone(w);
}

static void worker_obey(struct proxy_worker *w, enum worker_order order)
{
    switch (order) {
    case WORKER_LISTEN:
        w->is_held = false;
        if (w->tls_server != NULL && !w->draining) {
            start_listening(w);
        }
        break;
    case WORKER_PAUSE:
    case WORKER_RESUME:
        pause_listening(w, order == WORKER_RESUME);
        break;
    case WORKER_DRAIN:
    case WORKER_DRAIN_SHARED:
    case WORKER_DRAIN_GENTLY:
        worker_drain(w, order);
        break;
    case WORKER_CUT:
        worker_cut(w);
        break;
    }
}

static void deliver_want_look(struct message *m, struct loop *l)
{
    struct worker_message *wm = CONTAINER_OF(m, struct worker_message, message);

    if (!l->stopping) {
        proxy_on_want_look(wm->worker->proxy, wm->worker);
    }
    mem_free(wm);
}

void proxy_worker_want_look(struct proxy_worker *w)
{
    struct worker_message *wm = mem_new(sizeof(*wm));

    wm->message.deliver = deliver_want_look;
    wm->worker = w;
    loop_post(w->control, &wm->message);
}

static void deliver_shed(struct message *m, struct loop *l)
{
    struct worker_message *wm = CONTAINER_OF(m, struct worker_message, message);

    if (!l->stopping) {
        shed_worker_set(wm->worker, wm->level);
    }
    mem_free(wm);
}

void proxy_worker_shed(struct proxy_worker *w, enum shed_level level)
{
    struct worker_message *wm = mem_new(sizeof(*wm));

    wm->message.deliver = deliver_shed;
    wm->worker = w;
    wm->level = level;
    loop_post(&w->worker.loop, &wm->message);
}

static void deliver_obeyed(struct message *m, struct loop *l)
{
    struct worker_message *wm = CONTAINER_OF(m, struct worker_message, message);

    if (!l->stopping) {
        proxy_on_obeyed(wm->worker->proxy, wm->number);
    }
    mem_free(wm);
}

static void deliver_order(struct message *m, struct loop *l)
{
    struct worker_message *wm = CONTAINER_OF(m, struct worker_message, message);

    if (l->stopping) {
        mem_free(wm);
        return;
    }
    worker_obey(wm->worker, wm->order);
    m->deliver = deliver_obeyed;
    loop_post(wm->worker->control, m);
}

void proxy_worker_order(struct proxy_worker *w, enum worker_order order, unsigned number)
{
    struct worker_message *wm = mem_new(sizeof(*wm));

    wm->message.deliver = deliver_order;
    wm->worker = w;
    wm->order = order;
    wm->number = number;
    loop_post(&w->worker.loop, &wm->message);
}

static void deliver_scraped(struct message *m, struct loop *l)
{
    struct scrape *s = CONTAINER_OF(m, struct scrape, message);

    (void)l;
    s->on_done(s);
}

static void scrape_end(struct scrape *s)
{
    struct proxy_worker *w = s->worker;

    timer_cancel(w->loop, &s->timer);
    list_unlink(&s->node);
    metrics_collect_end(&w->stats.metrics, &s->at);
    s->message.deliver = deliver_scraped;
    loop_post(w->control, &s->message);
}

/* A piece in a turn, so that no request waits for the whole. */
static void scrape_run(struct timer *t)
{
    struct scrape *s = CONTAINER_OF(t, struct scrape, timer);
    struct proxy_worker *w = s->worker;

    if (stats_collect_some(&w->stats, &s->samples, w->loop->now_ns, SCRAPE_SERIES, &s->at)) {
        timer_arm_in(w->loop, &s->timer, 0);
    } else {
        scrape_end(s);
    }
}

static void deliver_scrape(struct message *m, struct loop *l)
{
    struct scrape *s = CONTAINER_OF(m, struct scrape, message);

    if (l->stopping) {
        m->deliver = deliver_scraped;
        loop_post(s->worker->control, m);
        return;
    }
    s->timer.run = scrape_run;
    list_append(&s->worker->scrapes, &s->node);
    scrape_run(&s->timer);
}

void proxy_worker_scrape(struct proxy_worker *w, struct scrape *s)
{
    s->worker = w;
    s->message.deliver = deliver_scrape;
    loop_post(&w->worker.loop, &s->message);
}
