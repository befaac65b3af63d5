/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "core/err.h"

/*
 * Who is asked about, and which series tell. Without `to` and `from` these are what the proxies of the
 * objects counted of inbound traffic. With `to`, what they counted of outbound traffic to the target, which
 * is in the dst_ labels; with `from`, what the source's proxies counted, grouped by the dst_ labels. A
 * Service has no proxy of its own: its clients' proxies tell, in dst_service. Nor has an authority, which is
 * a label of outbound traffic.
 */
#define WINDOW_DEFAULT  "1m"
#define WINDOW_MS_MAX   (31ull * 24 * 3600 * 1000)
#define NAME_BYTES_MAX  253
#define MATCH_BYTES_MAX 4096

/* --- reading the request ------------------------------------------------------------------------- */

static bool take_unit(struct bytes *rest, uint64_t *out_ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (bytes_starts(*rest, bytes_str(units[i].unit))) {
            *rest = bytes_from(*rest, strlen(units[i].unit));
            *out_ms = units[i].ms;
            return true;
        }
    }
    return false;
}

int window_parse(const char *text, uint64_t *out_ms)
{
    struct bytes rest = bytes_str(text[0] != '\0' ? text : WINDOW_DEFAULT);
    uint64_t total = 0;

    while (rest.len > 0) {
        uint64_t number, unit_ms;
        size_t digits = 0;

        while (digits < rest.len && rest.at[digits] >= '0' && rest.at[digits] <= '9') {
            digits++;
        }
        if (bytes_to_u64(bytes_first(rest, digits), WINDOW_MS_MAX, &number) != 0) {
            return E_CONFIG;
        }
        rest = bytes_from(rest, digits);
        if (!take_unit(&rest, &unit_ms) || number > WINDOW_MS_MAX / unit_ms) {
            return E_CONFIG;
        }
        total += number * unit_ms;
        if (total > WINDOW_MS_MAX) {
            return E_CONFIG;
        }
    }
    if (total < 1000) {
        return E_CONFIG;
    }
    *out_ms = total;
    return 0;
}

/* Names of Kubernetes, and host:port of an authority. */
static bool is_name(const char *text)
{
    return strlen(text) <= NAME_BYTES_MAX + 6 && strpbrk(text, "\"\\\n/ ") == NULL;
}

static int read_peer(struct stat_ask *ask, const Linkerd2__Public__Resource *peer, char *problem,
                     size_t problem_bytes)
{
    ask->peer = stat_kind_find(peer->type);
    ask->peer_ns = peer->namespace_;
    ask->peer_name = peer->name;
    if (ask->peer == NULL || !is_name(peer->name) || !is_name(peer->namespace_)) {
        (void)snprintf(problem, problem_bytes,
                       "\"%.64s\" is no kind of resource to look from or to", peer->type);
        return E_CONFIG;
    }
    if (ask->is_from && (ask->peer->kind == KIND_SERVICE || ask->peer->kind == KIND_COUNT)) {
        (void)snprintf(problem, problem_bytes,
                       "a %s sends nothing itself; name the workload, pod or namespace that does",
                       ask->peer->type);
        return E_CONFIG;
    }
    if (ask->kind == NULL || (ask->is_to && ask->kind->kind == KIND_SERVICE)) {
        (void)snprintf(problem, problem_bytes, "%s cannot be asked about together with from or to",
                       ask->kind == NULL ? "all kinds" : "what services send");
        return E_CONFIG;
    }
    return 0;
}

static int read_selection(struct stat_ask *ask, struct arena *a, char *problem,
                          size_t problem_bytes)
{
    const Linkerd2__Public__ResourceSelection *s = ask->message->selector;
    const Linkerd2__Public__Resource *r = s != NULL ? s->resource : NULL;

    if (r == NULL) {
        (void)snprintf(problem, problem_bytes, "no resource is named");
        return E_CONFIG;
    }
    ask->kind = stat_kind_find(r->type);
    ask->ns = r->namespace_;
    ask->name = r->name;
    if ((ask->kind == NULL && strcmp(r->type, "all") != 0) || !is_name(r->name) ||
        !is_name(r->namespace_)) {
        (void)snprintf(problem, problem_bytes,
                       "\"%.64s\" \"%.64s\" is no resource that has statistics", r->type, r->name);
        return E_CONFIG;
    }
    if (ask->kind != NULL && ask->kind->kind == KIND_NAMESPACE) {
        ask->ns = "";
    }
    if (s->label_selector[0] != '\0') {
        if (ask->kind != NULL && ask->kind->kind == KIND_COUNT) {
            (void)snprintf(problem, problem_bytes, "authorities have no labels to select by");
            return E_CONFIG;
        }
        TRY(label_selector_parse(a, s->label_selector, &ask->labels, problem, problem_bytes));
    }
    return 0;
}

int stat_ask_read(struct stat_ask *ask, const Linkerd2__Public__StatSummaryRequest *m,
                  struct arena *a, char *problem, size_t problem_bytes)
{
    memset(ask, 0, sizeof(*ask));
    ask->message = m;
    ask->window = m->time_window[0] != '\0' ? m->time_window : WINDOW_DEFAULT;
    if (window_parse(m->time_window, &ask->window_ms) != 0) {
        (void)snprintf(problem, problem_bytes,
                       "the time window \"%.64s\" is none: from 1s to 31d, as 30s, 1m30s, 2h",
                       m->time_window);
        return E_CONFIG;
    }
    TRY(read_selection(ask, a, problem, problem_bytes));
    ask->is_to = m->outbound_case == LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_TO_RESOURCE;
    ask->is_from =
        m->outbound_case == LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_FROM_RESOURCE;
    if (ask->is_to) {
        return read_peer(ask, m->to_resource, problem, problem_bytes);
    }
    if (ask->is_from) {
        return read_peer(ask, m->from_resource, problem, problem_bytes);
    }
    return 0;
}

/* --- series -------------------------------------------------------------------------------------- */

/* Labels of who sent it, or of who got it. */
static void add_resource(struct text *match, const char *prefix, const struct stat_kind *k,
                         const char *ns, const char *name)
{
    char label[64];

    if (k->kind == KIND_COUNT) { /* of the request itself, whichever side */
        promql_add_match(match, k->label, name);
        if (ns[0] != '\0' && prefix[0] == '\0') {
            promql_add_match(match, "namespace", ns);
        }
        return;
    }
    if (k->kind != KIND_NAMESPACE && ns[0] != '\0') {
        (void)snprintf(label, sizeof(label), "%snamespace", prefix);
        promql_add_match(match, label, ns);
    }
    (void)snprintf(label, sizeof(label), "%s%s", prefix, k->label);
    promql_add_match(match, label, name);
}

/* Rows are told apart by the dst_ labels. */
static bool is_by_target(const struct stat_ask *ask, const struct stat_kind *k)
{
    return (ask->is_from && k->kind != KIND_COUNT) || k->kind == KIND_SERVICE;
}

void stat_scope_init(struct promql_scope *out, const struct stat_ask *ask,
                     const struct stat_kind *k)
{
    bool is_outbound = ask->peer != NULL || k->kind == KIND_SERVICE || k->kind == KIND_COUNT;
    const char *own = is_by_target(ask, k) ? "dst_" : "";

    memset(out, 0, sizeof(*out));
    text_init(&out->match, MATCH_BYTES_MAX);
    out->window_ms = ask->window_ms;
    out->peer = is_outbound ? "dst" : "src";
    promql_add_match(&out->match, "direction", is_outbound ? "outbound" : "inbound");
    if (ask->is_from && k->kind == KIND_COUNT) {
        promql_add_match(&out->match, k->label, ask->name); /* the namespace is the source's */
    } else {
        add_resource(&out->match, own, k, ask->ns, ask->name);
    }
    if (ask->is_to) {
        add_resource(&out->match, "dst_", ask->peer, ask->peer_ns, ask->peer_name);
    } else if (ask->is_from) {
        add_resource(&out->match, "", ask->peer, ask->peer_ns, ask->peer_name);
    }
    if (k->kind == KIND_NAMESPACE) {
        (void)snprintf(out->group, sizeof(out->group), "%snamespace", own);
    } else {
        (void)snprintf(out->group, sizeof(out->group), "%snamespace,%s%s", own, own, k->label);
    }
}

void stat_scope_row(const struct stat_ask *ask, const struct stat_kind *k, const json_t *sample,
                    const char **out_ns, const char **out_name)
{
    const char *own = is_by_target(ask, k) ? "dst_" : "";
    char label[64];

    (void)snprintf(label, sizeof(label), "%s%s", own, k->label);
    *out_name = prom_sample_label(sample, label);
    (void)snprintf(label, sizeof(label), "%snamespace", own);
    *out_ns = k->kind == KIND_NAMESPACE ? "" : prom_sample_label(sample, label);
}
