/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/proxy.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/process.h"

#include <unistd.h>

#define CONTROL_CHUNKS_MAX 4096
#define CONTROL_SERIES_MAX 2000

/* --- the end ---------------------------------------------------------------------------------- */

void proxy_on_drained(struct proxy *p)
{
    p->drained++;
    if (p->drained == p->started) {
        loop_stop(&p->loop);
    }
}

static void on_grace(struct timer *t)
{
    struct proxy *p = CONTAINER_OF(t, struct proxy, grace);

    log_warn("connections were still open when the grace period ended: closed");
    loop_stop(&p->loop);
}

void proxy_drain(struct proxy *p, const char *why)
{
    if (p->is_draining) {
        return;
    }
    p->is_draining = true;
    log_info("shutting down: %s", why);
    timer_arm_in(&p->loop, &p->grace, p->config.shutdown_grace_ns);
    for (unsigned i = 0; i < p->started; i++) {
        proxy_worker_drain(&p->workers[i]);
    }
    if (p->started == 0) {
        loop_stop(&p->loop);
    }
}

static void on_signal(void *user, int signo)
{
    struct proxy *p = user;

    if (signo == SIGTERM || signo == SIGINT) {
        if (p->is_draining) {
            loop_stop(&p->loop); /* asked twice */
        } else {
            proxy_drain(p, signo == SIGTERM ? "received SIGTERM" : "received SIGINT");
        }
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
    for (unsigned i = 0; i < p->started; i++) {
        proxy_worker_set_creds(&p->workers[i], creds);
    }
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
    p->identity = identity_new(&p->loop, p->identity_channel, &identity, on_creds, p);
}

/*
 * One worker's listener. All share the port (SO_REUSEPORT), which would let a second proxy on, too:
 * the first one makes sure by asking for the port for itself alone.
 */
static int listen_one(struct proxy *p, struct proxy_worker *w, enum direction d,
                      const struct addr *at, char *problem, size_t problem_bytes)
{
    const struct side_config *side = d == INBOUND ? &p->config.inbound : &p->config.outbound;
    char text[ADDR_TEXT_BYTES];
    int fd, rc = 0;

    if (w == &p->workers[0]) {
        rc = sock_listen(at, false, 1, &fd);
        if (rc == 0) {
            (void)close(fd);
        }
    }
    if (rc == 0) {
        rc = sock_listen(at, true, side->backlog, &w->listen_fds[w->listen_count]);
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "cannot listen on %s (LINKERD2_PROXY_%s): %s",
                       addr_format(at, text),
                       d == INBOUND ? "INBOUND_LISTEN_ADDR" : "OUTBOUND_LISTEN_ADDR", err_text(rc));
        return rc;
    }
    w->listen_side[w->listen_count++] = d;
    return 0;
}

/* All sockets are bound here, once, so that they could as well come from the process before this
 * one. */
static int bind_workers(struct proxy *p, char *problem, size_t problem_bytes)
{
    const struct config *c = &p->config;

    p->workers = mem_new_array(c->workers, sizeof(*p->workers));
    for (unsigned i = 0; i < c->workers; i++) {
        struct proxy_worker *w = &p->workers[i];

        w->config = c;
        w->proxy = p;
        w->control = &p->loop;
        w->discovery = p->discovery;
        for (size_t k = 0; k < c->inbound.listen_count; k++) {
            TRY(listen_one(p, w, INBOUND, &c->inbound.listen[k], problem, problem_bytes));
        }
        for (size_t k = 0; k < c->outbound.listen_count; k++) {
            TRY(listen_one(p, w, OUTBOUND, &c->outbound.listen[k], problem, problem_bytes));
        }
    }
    return 0;
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
    for (size_t i = 0; i < ports->count; i++) {
        for (unsigned port = ports->at[i].first; port <= ports->at[i].last; port++) {
            discovery_watch_port(p->discovery, (uint16_t)port);
        }
    }
}

int proxy_open(struct proxy *p, char *problem, size_t problem_bytes)
{
    int rc = loop_open(&p->loop, 0, CONTROL_CHUNKS_MAX);

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
    if (p->config.ingress_mode) {
        log_warn(
            "ingress mode is not supported: requests go where their connection was going, whatever "
            "l5d-dst-override says");
    }
    open_control(p);
    TRY(bind_workers(p, problem, problem_bytes));
    TRY(admin_open(p, problem, problem_bytes));
    TRY(start_workers(p, problem, problem_bytes));
    watch_ports(p);
    return 0;
}

void proxy_close(struct proxy *p)
{
    for (unsigned i = 0; i < p->started; i++) {
        worker_stop(&p->workers[i].worker);
    }
    admin_close(p); /* after the workers: a scrape under way needs it no more */
    identity_free(p->identity);
    discovery_free(p->discovery);
    control_free(p->identity_channel);
    control_free(p->destination_channel);
    control_free(p->policy_channel);
    dns_close(p->dns);
    process_signals_close();
    timer_cancel(&p->loop, &p->grace);
    tls_ctx_free(p->tls_server);
    io_close_lingering(&p->loop);
    loop_close(&p->loop);
    metrics_clear(&p->metrics);
    mem_free(p->workers);
    config_clear(&p->config);
    arena_cache_clear();
}
