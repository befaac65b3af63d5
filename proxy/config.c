/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/config.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/worker.h"

#include <stdlib.h>

#define WORKERS_MAX 256

/*
 * Every setting is one line of config_from_env(): name, kind, where it goes, default. A sticky
 * reader keeps the first problem; the rest is skipped, so that there is one check at the end.
 */
struct reader {
    char *problem;
    size_t problem_bytes;
    int err;
};

static const char *env(const char *name)
{
    char full[128];
    const char *value;

    snprintf(full, sizeof(full), "LINKERD2_PROXY_%s", name);
    value = getenv(full);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static void bad(struct reader *r, const char *name, const char *value, const char *allowed)
{
    if (r->err == 0) {
        r->err = E_CONFIG;
        snprintf(r->problem, r->problem_bytes, "LINKERD2_PROXY_%s is \"%.200s\": %s", name, value,
                 allowed);
    }
}

static const char *read_required(struct reader *r, const char *name)
{
    const char *value = env(name);

    if (value == NULL && r->err == 0) {
        r->err = E_CONFIG;
        snprintf(r->problem, r->problem_bytes,
                 "LINKERD2_PROXY_%s is not set; the proxy cannot start without it", name);
    }
    return value;
}

static uint64_t read_duration(struct reader *r, const char *name, uint64_t fallback_ns)
{
    const char *value = env(name);
    uint64_t ns = fallback_ns;

    if (value != NULL && clock_parse_duration(bytes_str(value), &ns) != 0) {
        bad(r, name, value, "a duration such as 500ms, 10s, 2m, 1h or 0 is needed");
    }
    return ns;
}

static uint64_t read_number(struct reader *r, const char *name, uint64_t max, uint64_t fallback)
{
    const char *value = env(name);
    uint64_t n = fallback;

    if (value != NULL && bytes_to_u64(bytes_str(value), max, &n) != 0) {
        char allowed[80];

        snprintf(allowed, sizeof(allowed), "a number from 0 to %llu is needed",
                 (unsigned long long)max);
        bad(r, name, value, allowed);
    }
    return n;
}

/* A share from 0 to 1. */
static double read_share(struct reader *r, const char *name, double fallback)
{
    const char *value = env(name);
    char *end;
    double share;

    if (value == NULL) {
        return fallback;
    }
    share = strtod(value, &end);
    if (*end != '\0' || !(share >= 0 && share <= 1)) {
        bad(r, name, value, "a number from 0 to 1 is needed");
        return fallback;
    }
    return share;
}

static bool read_bool(struct reader *r, const char *name, bool fallback)
{
    const char *value = env(name);

    if (value == NULL) {
        return fallback;
    }
    if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        return value[0] == 't';
    }
    bad(r, name, value, "true or false is needed");
    return fallback;
}

static void read_addr(struct reader *r, const char *name, const char *fallback, struct addr *out)
{
    const char *value = env(name);

    if (addr_parse(bytes_str(value != NULL ? value : fallback), out) != 0) {
        bad(r, name, value != NULL ? value : fallback,
            "an address such as 0.0.0.0:4143 or [::]:4143 is needed");
    }
}

/* --- lists ------------------------------------------------------------------------------------ */

static size_t count_items(struct bytes text)
{
    size_t n = 1;

    for (size_t i = 0; i < text.len; i++) {
        n += text.at[i] == ',';
    }
    return n;
}

static void read_cidrs(struct reader *r, const char *name, struct cidr **out, size_t *out_count)
{
    struct bytes rest = bytes_str(env(name)), item;

    if (rest.len == 0) {
        return;
    }
    *out = mem_new_array(count_items(rest), sizeof(**out));
    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &item, &rest);
        item = bytes_trim(item, " \t\n");
        if (item.len > 0 && cidr_parse(item, &(*out)[*out_count]) != 0) {
            bad(r, name, env(name), "networks such as 10.0.0.0/8,fd00::/8 are needed");
            return;
        }
        *out_count += item.len > 0;
    }
}

static void read_ips(struct reader *r, const char *name, struct addr **out, size_t *out_count)
{
    struct bytes rest = bytes_str(env(name)), item;

    if (rest.len == 0) {
        return;
    }
    *out = mem_new_array(count_items(rest), sizeof(**out));
    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &item, &rest);
        item = bytes_trim(item, " \t\n");
        if (item.len > 0 && addr_parse_ip(item, &(*out)[*out_count]) != 0) {
            bad(r, name, env(name), "IP addresses, comma separated, are needed");
            return;
        }
        *out_count += item.len > 0;
    }
}

static void read_ports(struct reader *r, const char *name, struct port_ranges *out)
{
    struct bytes rest = bytes_str(env(name)), item, first, last;
    uint64_t from, to;

    if (rest.len == 0) {
        return;
    }
    out->at = mem_new_array(count_items(rest), sizeof(*out->at));
    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &item, &rest);
        item = bytes_trim(item, " \t\n");
        if (item.len == 0) {
            continue;
        }
        if (!bytes_split(item, '-', &first, &last)) {
            last = first;
        }
        if (bytes_to_u64(first, UINT16_MAX, &from) != 0 ||
            bytes_to_u64(last, UINT16_MAX, &to) != 0 || from > to) {
            bad(r, name, env(name), "ports and ranges such as 25,3000-3010 are needed");
            return;
        }
        out->at[out->count++] = (struct port_range){.first = (uint16_t)from, .last = (uint16_t)to};
    }
}

bool port_ranges_has(const struct port_ranges *r, uint16_t port)
{
    for (size_t i = 0; i < r->count; i++) {
        if (port >= r->at[i].first && port <= r->at[i].last) {
            return true;
        }
    }
    return false;
}

bool config_is_local_ip(const struct config *c, const struct addr *ip)
{
    for (size_t i = 0; i < c->inbound_ips_count; i++) {
        if (addr_ip_eq(&c->inbound_ips[i], ip)) {
            return true;
        }
    }
    return false;
}

/* --- services and sides ----------------------------------------------------------------------- */

static void read_service(struct reader *r, const char *prefix, struct service_config *out)
{
    char name[64];
    struct bytes text, port;
    const char *value;
    uint64_t number = 0;
    size_t colon;

    snprintf(name, sizeof(name), "%s_SVC_ADDR", prefix);
    value = read_required(r, name);
    if (value == NULL) {
        return;
    }
    text = bytes_str(value);
    colon = text.len;
    while (colon > 0 && text.at[colon - 1] != ':') {
        colon--;
    }
    port = bytes_from(text, colon);
    if (colon == 0 || bytes_to_u64(port, UINT16_MAX, &number) != 0 || number == 0 ||
        colon > sizeof(out->host)) {
        bad(r, name, value, "a host and port such as name.ns.svc.cluster.local.:8086 is needed");
        return;
    }
    snprintf(out->host, sizeof(out->host), BYTES_FMT, BYTES_ARG(bytes_first(text, colon - 1)));
    out->port = (uint16_t)number;
    if (strcmp(out->host, "localhost") != 0 && strcmp(out->host, "localhost.") != 0 &&
        strncmp(out->host, "127.", 4) != 0 && strcmp(out->host, "[::1]") != 0) {
        snprintf(name, sizeof(name), "%s_SVC_NAME", prefix);
        out->name = read_required(r, name);
    }
}

static const char *side_env(char *to, size_t bytes, const char *side, const char *name)
{
    snprintf(to, bytes, "%s_%s", side, name);
    return to;
}

#define NAME(n) side_env(name, sizeof(name), side, n)

/* Wire 2.1: the two bounds are set together. */
static void read_backoff(struct reader *r, const char *side, struct side_config *out, bool inbound)
{
    char name[96];
    bool has_min = env(NAME("CONNECT_EXP_BACKOFF_MIN")) != NULL,
         has_max = env(NAME("CONNECT_EXP_BACKOFF_MAX")) != NULL;

    out->backoff_min_ns = read_duration(r, NAME("CONNECT_EXP_BACKOFF_MIN"), 100 * NS_PER_MS);
    out->backoff_max_ns =
        read_duration(r, NAME("CONNECT_EXP_BACKOFF_MAX"), inbound ? 10 * NS_PER_S : 60 * NS_PER_S);
    out->backoff_jitter = read_share(r, NAME("CONNECT_EXP_BACKOFF_JITTER"), 0.1);
    if (has_min != has_max) {
        bad(r, NAME(has_min ? "CONNECT_EXP_BACKOFF_MAX" : "CONNECT_EXP_BACKOFF_MIN"), "",
            "it and its counterpart, the other bound of the back-off, are set together");
    } else if (out->backoff_min_ns > out->backoff_max_ns) {
        (void)NAME("CONNECT_EXP_BACKOFF_MIN");
        bad(r, name, env(name), "it may not be above the maximum");
    }
}

static void read_http2(struct reader *r, const char *side, struct side_config *out)
{
    char name[96];

    out->ping_interval_ns = read_duration(r, NAME("SERVER_HTTP2_KEEP_ALIVE_INTERVAL"), 0);
    out->ping_timeout_ns = read_duration(r, NAME("SERVER_HTTP2_KEEP_ALIVE_TIMEOUT"), 3 * NS_PER_S);
    out->streams_max =
        (unsigned)read_number(r, NAME("SERVER_HTTP2_MAX_CONCURRENT_STREAMS"), INT32_MAX, 0);
    out->stream_window =
        (uint32_t)read_number(r, NAME("SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE"), INT32_MAX, 0);
    out->connection_window =
        (uint32_t)read_number(r, NAME("SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE"), INT32_MAX, 0);
}

static void read_side(struct reader *r, const char *side, struct side_config *out, bool inbound)
{
    char name[96];

    out->detect_timeout_ns = read_duration(r, NAME("DETECT_TIMEOUT"), 10 * NS_PER_S);
    out->connect_timeout_ns =
        read_duration(r, NAME("CONNECT_TIMEOUT"), inbound ? 300 * NS_PER_MS : NS_PER_S);
    out->discovery_idle_ns =
        read_duration(r, NAME("DISCOVERY_IDLE_TIMEOUT"), inbound ? 90 * NS_PER_S : 5 * NS_PER_S);
    out->pool_idle_ns = read_duration(r, NAME("HTTP1_CONNECTION_POOL_IDLE_TIMEOUT"), 3 * NS_PER_S);
    out->failfast_ns =
        read_duration(r, NAME("HTTP_FAILFAST_TIMEOUT"), inbound ? NS_PER_S : 3 * NS_PER_S);
    out->queue_capacity = (unsigned)read_number(r, NAME("HTTP_QUEUE_CAPACITY"), 1000000, 10000);
    out->max_in_flight = (unsigned)read_number(r, NAME("MAX_IN_FLIGHT"), 10000000, 100000);
    /* The inbound one has no prefix. */
    out->pool_max = (unsigned)read_number(
        r, inbound ? "MAX_IDLE_CONNS_PER_ENDPOINT" : "OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT",
        1000000, 10000);
    out->backlog = (int)read_number(r, NAME("TCP_LISTEN_BACKLOG"), 65535, 1024);
    out->accept_opts.keepalive_ms =
        (unsigned)(read_duration(r, NAME("ACCEPT_KEEPALIVE"), 0) / NS_PER_MS);
    out->accept_opts.user_timeout_ms =
        (unsigned)(read_duration(r, NAME("ACCEPT_USER_TIMEOUT"), 0) / NS_PER_MS);
    out->connect_opts.keepalive_ms =
        (unsigned)(read_duration(r, NAME("CONNECT_KEEPALIVE"), 0) / NS_PER_MS);
    out->connect_opts.user_timeout_ms =
        (unsigned)(read_duration(r, NAME("CONNECT_USER_TIMEOUT"), 0) / NS_PER_MS);
    read_backoff(r, side, out, inbound);
    read_http2(r, side, out);
}
#undef NAME

static void read_listeners(struct reader *r, struct config *c)
{
    const char *addrs = env("OUTBOUND_LISTEN_ADDRS");
    struct bytes rest = bytes_str(addrs), item;

    read_addr(r, "INBOUND_LISTEN_ADDR", "0.0.0.0:4143", &c->inbound.listen[0]);
    c->inbound.listen_count = 1;
    read_addr(r, "ADMIN_LISTEN_ADDR", "127.0.0.1:4191", &c->admin_listen);
    if (c->inbound.listen[0].port == c->admin_listen.port && c->admin_listen.port != 0) {
        bad(r, "ADMIN_LISTEN_ADDR",
            env("ADMIN_LISTEN_ADDR") != NULL ? env("ADMIN_LISTEN_ADDR") : "127.0.0.1:4191",
            "its port is that of LINKERD2_PROXY_INBOUND_LISTEN_ADDR");
    }
    if (addrs == NULL) {
        read_addr(r, "OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140", &c->outbound.listen[0]);
        c->outbound.listen_count = 1;
        return;
    }
    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &item, &rest);
        if (c->outbound.listen_count == ARRAY_LEN(c->outbound.listen) ||
            addr_parse(bytes_trim(item, " "), &c->outbound.listen[c->outbound.listen_count]) != 0) {
            bad(r, "OUTBOUND_LISTEN_ADDRS", addrs,
                "one or two addresses such as 127.0.0.1:4140,[::1]:4140 are needed");
            return;
        }
        c->outbound.listen_count++;
    }
}

static void read_identity(struct reader *r, struct config *c)
{
    c->identity_dir = env("IDENTITY_DIR");
    c->identity_anchors = read_required(r, "IDENTITY_TRUST_ANCHORS");
    c->identity_token_file = read_required(r, "IDENTITY_TOKEN_FILE");
    c->local_name = read_required(r, "IDENTITY_LOCAL_NAME");
    c->identity_min_refresh_ns = read_duration(r, "IDENTITY_MIN_REFRESH", 10 * NS_PER_S);
    c->identity_max_refresh_ns = read_duration(r, "IDENTITY_MAX_REFRESH", 24 * 3600 * NS_PER_S);
    if (env("IDENTITY_DISABLED") != NULL) {
        bad(r, "IDENTITY_DISABLED", env("IDENTITY_DISABLED"),
            "identity cannot be disabled; remove the variable");
    }
}

static void read_policy(struct reader *r, struct config *c)
{
    const char *name = env("INBOUND_DEFAULT_POLICY");

    if (default_policy_parse(bytes_str(name != NULL ? name : "all-unauthenticated"),
                             &c->inbound_default) != 0) {
        bad(r, "INBOUND_DEFAULT_POLICY", name,
            "deny, all-authenticated, all-unauthenticated, cluster-authenticated, "
            "cluster-unauthenticated or audit is needed");
    }
    read_cidrs(r, "POLICY_CLUSTER_NETWORKS", &c->cluster_networks, &c->cluster_networks_count);
    read_cidrs(r, "DESTINATION_PROFILE_NETWORKS", &c->profile_networks, &c->profile_networks_count);
    c->profile_timeout_ns =
        read_duration(r, "DESTINATION_PROFILE_INITIAL_TIMEOUT", 500 * NS_PER_MS);
    read_ports(r, "INBOUND_PORTS", &c->inbound_ports);
    read_ports(r, "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", &c->opaque_ports);
    read_ips(r, "INBOUND_IPS", &c->inbound_ips, &c->inbound_ips_count);
    if (c->cluster_networks_count == 0 && name != NULL &&
        (strncmp(name, "cluster-", 8) == 0 || strcmp(name, "audit") == 0)) {
        bad(r, "INBOUND_DEFAULT_POLICY", name,
            "this policy needs LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS too");
    }
}

/* Wire 2.1: initial <= idle <= lifetime, where they are set. */
static void read_streams(struct reader *r, struct config *c)
{
    static const char rule[] =
        "the bounds of control streams must grow: initial timeout, idle timeout, lifetime";

    c->stream_initial_ns = read_duration(r, "CONTROL_STREAM_INITIAL_TIMEOUT", 0);
    c->stream_idle_ns = read_duration(r, "CONTROL_STREAM_IDLE_TIMEOUT", 0);
    c->stream_lifetime_ns = read_duration(r, "CONTROL_STREAM_LIFETIME", 0);
    if (c->stream_idle_ns != 0 && c->stream_initial_ns > c->stream_idle_ns) {
        bad(r, "CONTROL_STREAM_IDLE_TIMEOUT", env("CONTROL_STREAM_IDLE_TIMEOUT"), rule);
    }
    if (c->stream_lifetime_ns != 0 &&
        MAX(c->stream_initial_ns, c->stream_idle_ns) > c->stream_lifetime_ns) {
        bad(r, "CONTROL_STREAM_LIFETIME", env("CONTROL_STREAM_LIFETIME"), rule);
    }
}

/* One per core that we are allowed to use, within the bounds that are set. */
static unsigned read_workers(struct reader *r)
{
    uint64_t cores = read_number(r, "CORES", WORKERS_MAX, 0);
    uint64_t least = read_number(r, "CORES_MIN", WORKERS_MAX, 1),
             most = read_number(r, "CORES_MAX", WORKERS_MAX, WORKERS_MAX);
    double share = read_share(r, "CORES_MAX_RATIO", 0);
    unsigned all = worker_default_count();

    if (cores == 0) {
        cores = share > 0 ? (uint64_t)((double)all * share + 0.5) : all;
        cores = MAX(MIN(cores, most), least);
    }
    return (unsigned)MAX(cores, (uint64_t)1);
}

/* Half of the memory limit may be buffers, shared by the workers; at least 64 chunks (1 MiB)
 * each. */
static size_t chunks_of_limit(unsigned workers)
{
    uint64_t limit = worker_memory_limit();

    if (limit == UINT64_MAX) {
        limit = UINT64_C(2) << 30;
    }
    return MAX((size_t)(limit / 2 / workers / CHUNK_BYTES), (size_t)64);
}

static void read_process(struct reader *r, struct config *c)
{
    const char *format = env("LOG_FORMAT"), *access = env("ACCESS_LOG");

    c->ingress_mode = read_bool(r, "INGRESS_MODE", false);
    c->gateway_suffixes = env("INBOUND_GATEWAY_SUFFIXES");
    c->hide_headers = read_bool(r, "OUTBOUND_DISABLE_INFORMATIONAL_HEADERS", c->ingress_mode);
    c->hostname_labels = read_bool(r, "OUTBOUND_METRICS_HOSTNAME_LABELS", false);
    c->metrics_idle_ns = read_duration(r, "METRICS_RETAIN_IDLE", 600 * NS_PER_S);
    c->early_grace_ns = 20 * NS_PER_MS;
    c->shutdown_grace_ns = read_duration(r, "SHUTDOWN_GRACE_PERIOD", 120 * NS_PER_S);
    c->shutdown_endpoint = read_bool(r, "SHUTDOWN_ENDPOINT_ENABLED", false);
    c->stream_window =
        (uint32_t)read_number(r, "HTTP2_INITIAL_STREAM_WINDOW_SIZE", INT32_MAX, 65535);
    c->connection_window =
        (uint32_t)read_number(r, "HTTP2_INITIAL_CONNECTION_WINDOW_SIZE", INT32_MAX, 1048576);
    c->mark = (uint32_t)read_number(r, "SOCKET_MARK", UINT32_MAX, 0);
    c->workers = read_workers(r);
    c->chunks_max = chunks_of_limit(c->workers);
    c->log_filter = env("LOG") != NULL ? env("LOG") : "warn,linkerd=info";
    c->log_json = format != NULL && bytes_eq_nocase(bytes_str(format), BYTES("json"));
    if (format != NULL && !c->log_json && !bytes_eq_nocase(bytes_str(format), BYTES("plain"))) {
        bad(r, "LOG_FORMAT", format, "PLAIN or JSON is needed");
    }
    if (access != NULL) {
        c->access_log = bytes_eq_nocase(bytes_str(access), BYTES("json")) ? ACCESS_JSON : ACCESS_APACHE;
        if (c->access_log != ACCESS_JSON && !bytes_eq_nocase(bytes_str(access), BYTES("apache"))) {
            bad(r, "ACCESS_LOG", access, "apache or json is needed");
        }
    }
}

/* Wire 2.1: without a collector the rest has no meaning. */
static void read_trace(struct reader *r, struct config *c)
{
    if (env("TRACE_COLLECTOR_SVC_ADDR") == NULL) {
        return;
    }
    read_service(r, "TRACE_COLLECTOR", &c->trace_collector);
    c->trace = (struct trace_settings){
        .service_name = env("TRACE_SERVICE_NAME"),
        .attributes_path = env("TRACE_ATTRIBUTES_PATH"),
        .extra_attributes = env("TRACE_EXTRA_ATTRIBUTES"),
        .otel_attributes = getenv("OTEL_RESOURCE_ATTRIBUTES"),
        .host_name = getenv("HOSTNAME"),
    };
}

int config_from_env(struct config *c, char *problem, size_t problem_bytes)
{
    struct reader r = {.problem = problem, .problem_bytes = problem_bytes};
    const char *suffixes = env("DESTINATION_PROFILE_SUFFIXES");

    memset(c, 0, sizeof(*c));
    read_listeners(&r, c);
    read_side(&r, "INBOUND", &c->inbound, true);
    read_side(&r, "OUTBOUND", &c->outbound, false);
    read_identity(&r, c);
    read_service(&r, "IDENTITY", &c->identity);
    read_service(&r, "DESTINATION", &c->destination);
    read_service(&r, "POLICY", &c->policy);
    c->workload = read_required(&r, "POLICY_WORKLOAD");
    c->context_token = env("DESTINATION_CONTEXT") != NULL ? env("DESTINATION_CONTEXT") : "";
    c->profile_suffixes = suffixes != NULL ? suffixes : "svc.cluster.local.";
    read_policy(&r, c);
    read_streams(&r, c);
    read_process(&r, c);
    read_trace(&r, c);
    return r.err;
}

void config_clear(struct config *c)
{
    mem_free(c->profile_networks);
    mem_free(c->cluster_networks);
    mem_free(c->inbound_ips);
    mem_free(c->inbound_ports.at);
    mem_free(c->opaque_ports.at);
    memset(c, 0, sizeof(*c));
}
