/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include "core/alloc.h"

#include <stdlib.h>

/* The names that protobuf-c makes are longer than a line. */
#define label_entry Io__Linkerd__Proxy__Destination__WeightedAddr__MetricLabelsEntry
#define set_entry   Io__Linkerd__Proxy__Destination__WeightedAddrSet__MetricLabelsEntry

struct endpoint {
    const Io__Linkerd__Proxy__Destination__WeightedAddrSet *set;
    const Io__Linkerd__Proxy__Destination__WeightedAddr *addr;
};

static const char *set_label(const Io__Linkerd__Proxy__Destination__WeightedAddrSet *s,
                             const char *key)
{
    for (size_t i = 0; i < s->n_metric_labels; i++) {
        const set_entry *e = s->metric_labels[i];

        if (strcmp(e->key, key) == 0) {
            return e->value;
        }
    }
    return "";
}

static const char *addr_label(const Io__Linkerd__Proxy__Destination__WeightedAddr *a,
                              const char *key)
{
    for (size_t i = 0; i < a->n_metric_labels; i++) {
        const label_entry *e = a->metric_labels[i];

        if (strcmp(e->key, key) == 0) {
            return e->value;
        }
    }
    return "";
}

static const char *identity_of(const Io__Linkerd__Proxy__Destination__WeightedAddr *a)
{
    const Io__Linkerd__Proxy__Destination__TlsIdentity *t = a->tls_identity;

    if (t != NULL &&
        t->strategy_case ==
            IO__LINKERD__PROXY__DESTINATION__TLS_IDENTITY__STRATEGY_DNS_LIKE_IDENTITY) {
        return t->dns_like_identity->name;
    }
    if (t != NULL &&
        t->strategy_case ==
            IO__LINKERD__PROXY__DESTINATION__TLS_IDENTITY__STRATEGY_URI_LIKE_IDENTITY) {
        return t->uri_like_identity->uri;
    }
    return "";
}

static const Io__Linkerd__Proxy__Destination__WeightedAddrSet *
set_of(const struct endpoint_answer *a)
{
    return a->update->update_case == IO__LINKERD__PROXY__DESTINATION__UPDATE__UPDATE_ADD
               ? a->update->add
               : NULL;
}

/* --- all of them, in order ----------------------------------------------------------------------- */

static int compare_ips(const Io__Linkerd__Proxy__Net__IPAddress *a,
                       const Io__Linkerd__Proxy__Net__IPAddress *b)
{
    uint64_t x[3] = {a->ip_case, a->ipv4, 0}, y[3] = {b->ip_case, b->ipv4, 0};

    if (a->ip_case == IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6) {
        x[1] = a->ipv6->first;
        x[2] = a->ipv6->last;
    }
    if (b->ip_case == IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6) {
        y[1] = b->ipv6->first;
        y[2] = b->ipv6->last;
    }
    for (size_t i = 0; i < ARRAY_LEN(x); i++) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}

/* By namespace, service and address. */
static int compare(const void *a, const void *b)
{
    const struct endpoint *x = a, *y = b;
    int order = strcmp(set_label(x->set, "namespace"), set_label(y->set, "namespace"));

    order = order != 0 ? order : strcmp(set_label(x->set, "service"), set_label(y->set, "service"));
    if (order == 0) {
        order = compare_ips(x->addr->addr->ip, y->addr->addr->ip);
    }
    return order != 0 ? order : (int)x->addr->addr->port - (int)y->addr->addr->port;
}

/* Those that have an address; the caller frees. */
static struct endpoint *gather(const struct endpoint_answer *answers, size_t count,
                               size_t *out_rows)
{
    size_t total = 0, rows = 0;
    struct endpoint *all;

    for (size_t i = 0; i < count; i++) {
        total += set_of(&answers[i]) != NULL ? set_of(&answers[i])->n_addrs : 0;
    }
    all = mem_new_array(total + 1, sizeof(*all));
    for (size_t i = 0; i < count; i++) {
        const Io__Linkerd__Proxy__Destination__WeightedAddrSet *set = set_of(&answers[i]);

        for (size_t k = 0; set != NULL && k < set->n_addrs; k++) {
            if (set->addrs[k]->addr != NULL && set->addrs[k]->addr->ip != NULL) {
                all[rows++] = (struct endpoint){.set = set, .addr = set->addrs[k]};
            }
        }
    }
    if (rows > 0) {
        qsort(all, rows, sizeof(*all), compare);
    }
    *out_rows = rows;
    return all;
}

size_t endpoints_print_table(const struct endpoint_answer *answers, size_t count, struct text *to)
{
    static const char *const heads[] = {"NAMESPACE", "IP", "PORT", "POD", "SERVICE"};
    struct table *t = table_new(heads, ARRAY_LEN(heads), ARRAY_LEN(heads));
    size_t rows;
    struct endpoint *all = gather(answers, count, &rows);

    for (size_t i = 0; i < rows; i++) {
        const struct endpoint *e = &all[i];
        json_t *ip = message_json(&e->addr->addr->ip->base);

        table_cell(t, "%s", set_label(e->set, "namespace"));
        table_cell(t, "%s", json_string_value(ip));
        table_cell(t, "%u", e->addr->addr->port);
        table_cell(t, "%s", addr_label(e->addr, "pod"));
        table_cell(t, "%s.%s", set_label(e->set, "service"), set_label(e->set, "namespace"));
        json_decref(ip);
    }
    if (rows > 0) {
        table_print(t, to);
    }
    table_free(t);
    mem_free(all);
    return rows;
}

static json_t *endpoint_json(const struct endpoint *e)
{
    json_t *j = json_object(), *whole = message_json(&e->addr->base);

    json_object_set_new(j, "namespace", json_string(set_label(e->set, "namespace")));
    json_object_set_new(j, "ip", message_json(&e->addr->addr->ip->base));
    json_object_set_new(j, "port", json_integer(e->addr->addr->port));
    json_object_set_new(j, "pod", json_string(addr_label(e->addr, "pod")));
    json_object_set_new(j, "service", json_string(set_label(e->set, "service")));
    json_object_set_new(j, "weight", json_integer(e->addr->weight));
    json_object_set_new(j, "identity", json_string(identity_of(e->addr)));
    json_object_set(j, "labels", json_object_get(whole, "metricLabels"));
    json_object_set(j, "protocolHint", json_object_get(whole, "protocolHint"));
    json_object_set(j, "http2", json_object_get(whole, "http2"));
    json_decref(whole);
    return j;
}

size_t endpoints_print_json(const struct endpoint_answer *answers, size_t count, struct text *to)
{
    json_t *list = json_array();
    size_t rows;
    struct endpoint *all = gather(answers, count, &rows);
    char *dump;

    for (size_t i = 0; i < rows; i++) {
        json_array_append_new(list, endpoint_json(&all[i]));
    }
    dump = json_dumps(list, JSON_INDENT(2));
    assert(dump != NULL);
    text_str(to, dump);
    text_char(to, '\n');
    mem_free(dump);
    mem_free(all);
    json_decref(list);
    return rows;
}
