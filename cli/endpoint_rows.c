/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include "core/alloc.h"

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

static const char *ip_text(const Io__Linkerd__Proxy__Destination__WeightedAddr *a,
                           json_t **out_owner)
{
    *out_owner = a->addr != NULL && a->addr->ip != NULL ? message_json(&a->addr->ip->base) : NULL;
    return *out_owner != NULL ? json_string_value(*out_owner) : "";
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

size_t endpoints_print_table(const struct endpoint_answer *answers, size_t count, struct text *to)
{
    static const char *const heads[] = {"NAMESPACE", "IP", "PORT", "POD", "SERVICE"};
    struct table *t = table_new(heads, ARRAY_LEN(heads), ARRAY_LEN(heads));
    size_t rows = 0;

    for (size_t i = 0; i < count; i++) {
        const Io__Linkerd__Proxy__Destination__WeightedAddrSet *set = set_of(&answers[i]);

        for (size_t k = 0; set != NULL && k < set->n_addrs; k++) {
            const Io__Linkerd__Proxy__Destination__WeightedAddr *a = set->addrs[k];
            json_t *ip;

            table_cell(t, "%s", set_label(set, "namespace"));
            table_cell(t, "%s", ip_text(a, &ip));
            table_cell(t, "%u", a->addr != NULL ? a->addr->port : 0);
            table_cell(t, "%s", addr_label(a, "pod"));
            table_cell(t, "%s.%s", set_label(set, "service"), set_label(set, "namespace"));
            json_decref(ip);
            rows++;
        }
    }
    if (rows > 0) {
        table_print(t, to);
    }
    table_free(t);
    return rows;
}

static json_t *endpoint_json(const struct endpoint *e)
{
    json_t *j = json_object(), *whole = message_json(&e->addr->base), *ip;
    const char *text = ip_text(e->addr, &ip);

    json_object_set_new(j, "namespace", json_string(set_label(e->set, "namespace")));
    json_object_set_new(j, "ip", json_string(text));
    json_object_set_new(j, "port", json_integer(e->addr->addr != NULL ? e->addr->addr->port : 0));
    json_object_set_new(j, "pod", json_string(addr_label(e->addr, "pod")));
    json_object_set_new(j, "service", json_string(set_label(e->set, "service")));
    json_object_set_new(j, "weight", json_integer(e->addr->weight));
    json_object_set_new(j, "identity", json_string(identity_of(e->addr)));
    json_object_set(j, "labels", json_object_get(whole, "metricLabels"));
    json_object_set(j, "protocolHint", json_object_get(whole, "protocolHint"));
    json_object_set(j, "http2", json_object_get(whole, "http2"));
    json_decref(ip);
    json_decref(whole);
    return j;
}

size_t endpoints_print_json(const struct endpoint_answer *answers, size_t count, struct text *to)
{
    json_t *all = json_array();
    size_t rows;
    char *dump;

    for (size_t i = 0; i < count; i++) {
        struct endpoint e = {.set = set_of(&answers[i])};

        for (size_t k = 0; e.set != NULL && k < e.set->n_addrs; k++) {
            e.addr = e.set->addrs[k];
            json_array_append_new(all, endpoint_json(&e));
        }
    }
    rows = json_array_size(all);
    dump = json_dumps(all, JSON_INDENT(2));
    assert(dump != NULL);
    text_str(to, dump);
    text_char(to, '\n');
    mem_free(dump);
    json_decref(all);
    return rows;
}
