/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/clock.h"
#include "mesh/control_private.h"

#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_S)
#define BACKOFF_JITTER 0.1

uint64_t control_backoff_ns(struct loop *l, unsigned failures)
{
    uint64_t base = MIN(BACKOFF_MIN_NS << MIN(failures, 16u), BACKOFF_MAX_NS);

    return base + (uint64_t)(rand_unit(&l->rand) * BACKOFF_JITTER * (double)base);
}

bool control_is_wanted(const struct control *c)
{
    return !list_is_empty(&c->waiting_calls) || !list_is_empty(&c->waiting_watches);
}

static void serve_run(struct task *t)
{
    struct control *c = CONTAINER_OF(t, struct control, serve);

    while (!list_is_empty(&c->waiting_calls)) {
        if (!control_call_open_next(c)) {
            control_crowded(c);
            return;
        }
    }
    while (!list_is_empty(&c->waiting_watches)) {
        if (!control_watch_open_next(c)) {
            control_crowded(c);
            return;
        }
    }
    control_trim(c);
}

void control_want(struct control *c)
{
    control_stats_queued(&c->stats);
    if (c->conns_count > 0) {
        task_wake(c->loop, &c->serve);
    } else {
        control_connect(c);
    }
}

void control_heard(struct control *c)
{
    c->failures = 0;
}

/* Wire 2.1: such a host is reached without TLS. */
static bool is_loopback_host(const char *host)
{
    struct bytes name = bytes_str(host);
    struct addr addr;

    if (bytes_ends(name, BYTES("."))) {
        name.len--;
    }
    return bytes_eq_nocase(name, BYTES("localhost")) ||
           (addr_parse_ip(name, &addr) == 0 && addr_is_loopback(&addr));
}

static char *authority_of(const char *host, uint16_t port)
{
    struct bytes name = bytes_str(host);

    if (bytes_ends(name, BYTES("."))) {
        name.len--;
    }
    return mem_printf(BYTES_FMT ":%u", BYTES_ARG(name), port);
}

struct control *control_new(struct loop *l, struct dns *dns, const struct control_config *config)
{
    struct control *c = mem_new(sizeof(*c));

    c->loop = l;
    c->dns = dns;
    c->name = mem_strdup(config->name);
    c->host = mem_strdup(config->host);
    c->port = config->port;
    c->mark = config->mark;
    c->authority = authority_of(config->host, config->port);
    c->is_local = is_loopback_host(config->host);
    if (!c->is_local) {
        assert(config->server_name != NULL);
        c->server_name = mem_strdup(config->server_name);
        c->first_message_ns = config->first_message_ns;
        c->idle_ns = config->idle_ns;
        c->lifetime_ns = config->lifetime_ns;
    }
    c->serve.run = serve_run;
    list_init(&c->conns);
    list_init(&c->waiting_watches);
    list_init(&c->open_watches);
    list_init(&c->waiting_calls);
    list_init(&c->open_calls);
    control_dial_init(c);
    control_stats_init(&c->stats, l->metrics, c->name, c->authority, c->server_name);
    return c;
}

void control_free(struct control *c)
{
    if (c == NULL) {
        return;
    }
    assert(!control_is_wanted(c));
    assert(list_is_empty(&c->open_watches) && list_is_empty(&c->open_calls));
    control_disconnect(c);
    task_cancel(&c->serve);
    tls_ctx_free(c->tls);
    control_stats_clear(&c->stats);
    mem_free(c->name);
    mem_free(c->host);
    mem_free(c->server_name);
    mem_free(c->authority);
    mem_free(c);
}

void control_set_creds(struct control *c, struct tls_creds *creds)
{
    if (c->is_local) {
        return;
    }
    tls_ctx_free(c->tls);
    c->tls = tls_ctx_new(creds, false);
    control_connect(c);
}

static size_t list_length(const struct list *l)
{
    size_t n = 0;

    LIST_FOREACH(node, l)
    {
        n++;
    }
    return n;
}

void control_collect(const struct control *c, struct metric_samples *to)
{
    control_stats_collect(&c->stats, to, c->addr_count, control_is_connected(c),
                          list_length(&c->waiting_calls) + list_length(&c->waiting_watches));
}

bool control_is_connected(const struct control *c)
{
    return c->conns_count > 0;
}

void control_hang_up(struct control *c)
{
    control_disconnect(c);
    c->failures = 0;    /* whoever asks for a new connection wants it now */
    control_connect(c); /* somebody may be waiting already */
}
