/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/proxy.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/process.h"
#include "proxy/handover.h"
#include "proxy/notify.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_CHUNKS_MAX 4096
#define CONTROL_SERIES_MAX 2000
#define CUT_NS             (3 * NS_PER_S) /* for what is cut to be told of, and its spans to be sent */

/* --- orders to the workers -------------------------------------------------------------------- */

void proxy_order(struct proxy *p, enum worker_order order)
{
    p->order_number++;
    p->order_left = p->started;
    for (unsigned i = 0; i < p->started; i++) {
        proxy_worker_order(&p->workers[i], order, p->order_number);
    }
    if (order == WORKER_PAUSE || order == WORKER_RESUME) {
        admin_pause(p, order == WORKER_RESUME);
    }
}

void proxy_on_obeyed(struct proxy *p, unsigned number)
{
    if (number == p->order_number && --p->order_left == 0) {
        handover_obeyed(p->handover);
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_exported(void *user)
{
    struct proxy *p = user;

    loop_stop(&p->loop);
}

void proxy_on_drained(struct proxy *p)
{
    p->drained++;
    if (p->drained == p->started && p->span_export != NULL) {
        span_export_finish(p->span_export, on_exported, p);
    } else if (p->drained == p->started) {
        loop_stop(&p->loop);
    }
}

static void on_grace(struct timer *t)
{
    struct proxy *p = CONTAINER_OF(t, struct proxy, grace);

    if (p->is_cut || p->drained == p->started) {
        loop_stop(&p->loop);
        return;
    }
    log_warn("connections were still open when the grace period ended: closed");
    p->is_cut = true;
    timer_arm_in(&p->loop, &p->grace, CUT_NS);
    proxy_order(p, WORKER_CUT);
}

static void drain(struct proxy *p, enum worker_order order)
{
    if (!p->is_draining) {
        timer_arm_in(&p->loop, &p->grace, p->config.shutdown_grace_ns);
        p->sockets_count = 0;
    }
    p->is_draining = true;
    p->is_gentle = order == WORKER_DRAIN_GENTLY;
    proxy_order(p, order);
    if (p->started == 0) {
        loop_stop(&p->loop);
    }
}

void proxy_drain(struct proxy *p, const char *why)
{
    if (p->is_draining && !p->is_gentle) {
        return;
    }
    log_info("shutting down: %s", why);
    drain(p, handover_drained(p->handover) ? WORKER_DRAIN_SHARED : WORKER_DRAIN);
}

static void on_signal(void *user, int signo)
{
    struct proxy *p = user;

    if (signo == SIGTERM || signo == SIGINT) {
        if (p->is_draining && !p->is_gentle) {
            loop_stop(&p->loop); /* asked twice */
        } else {
            proxy_drain(p, signo == SIGTERM ? "received SIGTERM" : "received SIGINT");
        }
    }
}

void proxy_on_want_look(struct proxy *p, struct proxy_worker *w)
{
    shed_look(&p->shed);
    proxy_worker_shed(w, p->shed.level);
}

/* --- to and from another process -------------------------------------------------------------- */

void proxy_add_socket(struct proxy *p, int fd)
{
    p->sockets = mem_resize(p->sockets, p->sockets_count + 1, sizeof(*p->sockets));
    p->sockets[p->sockets_count++] = fd;
}

void proxy_serving(struct proxy *p, const char *how)
{
    if (!p->is_serving) {
        p->is_serving = true;
        if (how != NULL) {
            log_info("serving: %s", how);
        }
        notify_serving();
    }
}

void proxy_take_over(struct proxy *p)
{
    char problem[256];

    if (admin_open(p, problem, sizeof(problem)) != 0) {
        log_error("the admin server does not serve: %s", problem);
    }
    proxy_order(p, WORKER_LISTEN);
}

void proxy_hand_over(struct proxy *p)
{
    log_info("handed over to a new proxy; this one finishes what is open");
    admin_drain(p);
    drain(p, WORKER_DRAIN_GENTLY);
}

void proxy_give_way(struct proxy *p, const char *why, bool has_accepted)
{
    log_error("cannot take over: %s", why);
    notify_status(why);
    p->has_failed = true;
    if (has_accepted) {
        drain(p, WORKER_DRAIN_GENTLY);
    } else {
        loop_stop(&p->loop);
    }
}

/* --- the beginning ---------------------------------------------------------------------------- */

static bool is_opaque_port(const void *user, uint16_t port)
{
    const struct config *c = user;

    return port_ranges_has(&c->opaque_ports, port);
}

static struct control *open_channel(struct proxy *p, const char *name,
                                    const struct service_config *s)
{
    struct control_config config = {
        .name = name,
        .host = s->host,
        .port = s->port,
        .server_name = s->name,
        .first_message_ns = p->config.stream_initial_ns,
        .idle_ns = p->config.stream_idle_ns,
        .lifetime_ns = p->config.stream_lifetime_ns,
        .mark = p->config.mark,
    };

    return control_new(&p->loop, p->dns, &config);
}

static void on_creds(void *user, struct tls_creds *creds)
{
    struct proxy *p = user;

    log_info("holding a certificate; identity=%s", p->config.local_name);
    tls_ctx_free(p->tls_server);
    p->tls_server = tls_ctx_new(creds, true);
    control_set_creds(p->destination_channel, creds);
    control_set_creds(p->policy_channel, creds);
    if (p->trace_channel != NULL) {
        control_set_creds(p->trace_channel, creds);
    }
    for (unsigned i = 0; i < p->started; i++) {
        proxy_worker_set_creds(&p->workers[i], creds);
    }
    handover_ready(p->handover);
    if (!handover_is_pending(p->handover) && !p->is_draining) {
        proxy_serving(p, NULL);
    }
}

static void open_tracing(struct proxy *p)
{
    struct trace_resource resource;
    int rc = trace_resource_read(&resource, &p->config.trace);

    if (rc != 0) {
        log_warn("attributes of traces cannot be read; path=%s err=%s",
                 p->config.trace.attributes_path, err_text(rc));
    }
    p->trace_channel = open_channel(p, "trace_collector", &p->config.trace_collector);
    p->span_export = span_export_open(&p->loop, p->trace_channel, &p->span_queue, &resource);
    trace_resource_clear(&resource);
}

static void open_control(struct proxy *p)
{
    const struct config *c = &p->config;
    struct identity_config identity = {
        .local_name = c->local_name,
        .dir = c->identity_dir,
        .anchors_pem = c->identity_anchors,
        .token_file = c->identity_token_file,
        .min_refresh_ns = c->identity_min_refresh_ns,
        .max_refresh_ns = c->identity_max_refresh_ns,
    };
    struct discovery_config discovery = {
        .context_token = c->context_token,
        .workload = c->workload,
        .profile_suffixes = c->profile_suffixes,
        .profile_networks = c->profile_networks,
        .profile_networks_count = c->profile_networks_count,
        .inbound_default = c->inbound_default,
        .cluster_networks = c->cluster_networks,
        .cluster_networks_count = c->cluster_networks_count,
        .is_opaque_by_default = is_opaque_port,
        .user = c,
        .inbound_detect_timeout_ns = c->inbound.detect_timeout_ns,
    };

    p->identity_channel = open_channel(p, "identity", &c->identity);
    p->destination_channel = open_channel(p, "destination", &c->destination);
    p->policy_channel = open_channel(p, "policy", &c->policy);
    p->discovery =
        discovery_new(&p->loop, p->dns, p->destination_channel, p->policy_channel, &discovery);
    if (c->trace_collector.port != 0) {
        open_tracing(p);
    }
    p->identity = identity_new(&p->loop, p->identity_channel, &identity, on_creds, p);
}

static int listen_problem(const struct addr *at, enum direction d, int rc, char *problem,
                          size_t problem_bytes)
{
    char text[ADDR_TEXT_BYTES];

    (void)snprintf(problem, problem_bytes, "cannot listen on %s (LINKERD2_PROXY_%s): %s",
                   addr_format(at, text),
                   d == INBOUND ? "INBOUND_LISTEN_ADDR" : "OUTBOUND_LISTEN_ADDR", err_text(rc));
    return rc;
}

static int add_listener(struct proxy *p, unsigned worker, enum direction d, int fd)
{
    proxy_add_socket(p, fd);
    return proxy_worker_add_listener(&p->workers[worker], d, fd);
}

/*
 * A socket for each worker at this address. Those of the proxy before this one are taken, all of
 * them, for connections wait in each; what is missing is made anew. All share the port
 * (SO_REUSEPORT), which would let a second proxy on, too: where nothing was handed over, it is asked
 * for exclusively first.
 */
static int listen_at(struct proxy *p, struct handover_taken *t, enum direction d,
                     const struct addr *at, char *problem, size_t problem_bytes)
{
    int backlog = (d == INBOUND ? &p->config.inbound : &p->config.outbound)->backlog;
    unsigned taken = 0;
    int fd, rc = 0;

    while (rc == 0 && (fd = handover_claim(t, at)) >= 0) {
        (void)listen(fd, backlog); /* only changes its backlog */
        rc = add_listener(p, taken++ % p->config.workers, d, fd);
    }
    if (taken == 0) {
        rc = sock_listen(at, false, 1, &fd);
        if (rc != 0) {
            return listen_problem(at, d, rc, problem, problem_bytes);
        }
        (void)close(fd);
    }
    for (unsigned i = taken; rc == 0 && i < p->config.workers; i++) {
        rc = sock_listen(at, true, backlog, &fd);
        if (rc == 0) {
            rc = add_listener(p, i, d, fd);
        }
    }
    return rc == 0 ? 0 : listen_problem(at, d, rc, problem, problem_bytes);
}

static int bind_all(struct proxy *p, struct handover_taken *t, char *problem, size_t problem_bytes)
{
    const struct config *c = &p->config;

    for (size_t k = 0; k < c->inbound.listen_count; k++) {
        TRY(listen_at(p, t, INBOUND, &c->inbound.listen[k], problem, problem_bytes));
    }
    for (size_t k = 0; k < c->outbound.listen_count; k++) {
        TRY(listen_at(p, t, OUTBOUND, &c->outbound.listen[k], problem, problem_bytes));
    }
    p->admin_fd = handover_claim(t, &c->admin_listen);
    TRY(admin_bind(p, problem, problem_bytes));
    proxy_add_socket(p, p->admin_fd);
    return 0;
}

/* A worker counts its own: each gets its share. */
static void share_in_flight(struct side_config *side, unsigned workers)
{
    side->max_in_flight = (side->max_in_flight + workers - 1) / workers;
}

static void init_workers(struct proxy *p)
{
    share_in_flight(&p->config.inbound, p->config.workers);
    share_in_flight(&p->config.outbound, p->config.workers);
    p->workers = mem_new_array(p->config.workers, sizeof(*p->workers));
    for (unsigned i = 0; i < p->config.workers; i++) {
        struct proxy_worker *w = &p->workers[i];

        w->config = &p->config;
        w->proxy = p;
        w->control = &p->loop;
        w->discovery = p->discovery;
        w->span_queue = p->span_export != NULL ? &p->span_queue : NULL;
    }
}

/* All sockets are bound here, once, or come from the process before this one (decision D15). */
static int open_sockets(struct proxy *p, char *problem, size_t problem_bytes)
{
    struct handover_taken taken = {.link_fd = -1};
    const char *at = getenv(ENV_PROXY_HANDOVER);
    int rc = 0;

    at = at != NULL && at[0] != '\0' ? at : NULL;
    if (at != NULL) {
        rc = handover_take(at, &taken, problem, problem_bytes);
    }
    if (rc == 0) {
        rc = bind_all(p, &taken, problem, problem_bytes);
    }
    if (rc == 0) {
        rc = handover_open(p, at, &taken, &p->handover, problem, problem_bytes);
    }
    handover_taken_clear(&taken);
    for (unsigned i = 0; i < p->config.workers; i++) {
        p->workers[i].is_held = handover_is_pending(p->handover);
    }
    return rc;
}

static int start_workers(struct proxy *p, char *problem, size_t problem_bytes)
{
    for (unsigned i = 0; i < p->config.workers; i++) {
        int rc = proxy_worker_start(&p->workers[i], i + 1);

        if (rc != 0) {
            (void)snprintf(problem, problem_bytes, "cannot start a worker thread: %s",
                           err_text(rc));
            return rc;
        }
        p->started++;
    }
    return 0;
}

static void watch_ports(struct proxy *p)
{
    const struct port_ranges *ports = &p->config.inbound_ports;

    discovery_watch_port(p->discovery, p->config.admin_listen.port);
    if (p->config.gateway_suffixes != NULL) {
        discovery_watch_port(p->discovery, p->config.inbound.listen[0].port);
    }
    for (size_t i = 0; i < ports->count; i++) {
        for (unsigned port = ports->at[i].first; port <= ports->at[i].last; port++) {
            discovery_watch_port(p->discovery, (uint16_t)port);
        }
    }
}

int proxy_open(struct proxy *p, char *problem, size_t problem_bytes)
{
    int rc = loop_open(&p->loop, 0, CONTROL_CHUNKS_MAX);

    p->admin_fd = -1;
    list_init(&p->scrapes);
    if (rc == 0) {
        metrics_init(&p->metrics, CONTROL_SERIES_MAX, p->config.metrics_idle_ns);
        p->loop.metrics = &p->metrics;
        p->grace.run = on_grace;
        rc = dns_open(&p->loop, &p->dns);
    }
    if (rc == 0) {
        rc = process_signals_open(&p->loop, on_signal, p);
    }
    if (rc != 0) {
        snprintf(problem, problem_bytes, "cannot set up the control thread: %s", err_text(rc));
        return rc;
    }
    open_control(p);
    init_workers(p);
    TRY(open_sockets(p, problem, problem_bytes));
    if (!handover_is_pending(p->handover)) {
        TRY(admin_open(p, problem, problem_bytes));
    }
    shed_open(&p->shed, p);
    for (unsigned i = 0; i < p->config.workers; i++) {
        p->workers[i].is_limited = p->shed.limit != 0;
    }
    TRY(start_workers(p, problem, problem_bytes));
    watch_ports(p);
    return 0;
}

void proxy_close(struct proxy *p)
{
    for (unsigned i = 0; i < p->started; i++) {
        worker_stop(&p->workers[i].worker);
    }
    for (unsigned i = p->started; p->workers != NULL && i < p->config.workers; i++) {
        proxy_worker_drop_listeners(&p->workers[i]);
    }
    admin_close(p); /* after the workers: a scrape under way needs it no more */
    if (p->admin_fd >= 0) {
        (void)close(p->admin_fd);
    }
    handover_close(p->handover);
    identity_free(p->identity);
    discovery_free(p->discovery);
    span_export_close(p->span_export);
    control_free(p->trace_channel);
    control_free(p->identity_channel);
    control_free(p->destination_channel);
    control_free(p->policy_channel);
    dns_close(p->dns);
    process_signals_close();
    timer_cancel(&p->loop, &p->grace);
    shed_close(&p->shed);
    tls_ctx_free(p->tls_server);
    io_close_lingering(&p->loop);
    loop_close(&p->loop);
    metrics_clear(&p->metrics);
    mem_free(p->workers);
    mem_free(p->sockets);
    config_clear(&p->config);
    arena_cache_clear();
}
