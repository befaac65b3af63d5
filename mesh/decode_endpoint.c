/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/decode.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/metric.h"
#include "net/tls.h"

#define LABELS_MAX         64   /* of one endpoint */
#define LABELS_BYTES_MAX   2048 /* leaves room for the labels that metrics add */
#define LABEL_KEY_BYTES    64
#define OVERRIDE_BYTES_MAX 512
#define TRANSPORT_PORT_MAX 65534

typedef Io__Linkerd__Proxy__Destination__WeightedAddrSet__MetricLabelsEntry pb_set_label;
typedef Io__Linkerd__Proxy__Destination__TlsIdentity pb_tls_identity;
typedef Io__Linkerd__Proxy__Destination__ProtocolHint pb_hint;

/* --- addresses -------------------------------------------------------------------------------- */

static int ip_decode(const pb_ip *from, uint32_t port, struct addr *out)
{
    struct sockaddr_storage sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;

    if (from == NULL || port > UINT16_MAX) {
        return E_PROTOBUF;
    }
    if (from->ip_case == IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4) {
        *out = addr_v4(from->ipv4, (uint16_t)port);
        return 0;
    }
    if (from->ip_case != IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6) {
        return E_PROTOBUF;
    }
    memset(&sa, 0, sizeof(sa));
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    for (unsigned i = 0; i < 8; i++) {
        v6->sin6_addr.s6_addr[i] = (uint8_t)(from->ipv6->first >> (56 - 8 * i));
        v6->sin6_addr.s6_addr[8 + i] = (uint8_t)(from->ipv6->last >> (56 - 8 * i));
    }
    memset(out, 0, sizeof(*out));
    addr_from_sockaddr(&sa, out); /* makes a mapped IPv4 address an IPv4 address */
    return 0;
}

int addr_decode(const pb_addr *from, struct addr *out)
{
    return from == NULL ? E_PROTOBUF : ip_decode(from->ip, from->port, out);
}

void addr_encode_ip(const struct addr *from, pb_ip *to, Io__Linkerd__Proxy__Net__IPv6 *v6)
{
    io__linkerd__proxy__net__ipaddress__init(to);
    io__linkerd__proxy__net__ipv6__init(v6);
    if (from->family == AF_INET) {
        to->ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4;
        to->ipv4 = (uint32_t)from->ip[0] << 24 | (uint32_t)from->ip[1] << 16 |
                   (uint32_t)from->ip[2] << 8 | (uint32_t)from->ip[3];
        return;
    }
    for (unsigned i = 0; i < 8; i++) {
        v6->first = v6->first << 8 | from->ip[i];
        v6->last = v6->last << 8 | from->ip[8 + i];
    }
    to->ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6;
    to->ipv6 = v6;
}

int cidr_decode(const pb_network *from, struct cidr *out)
{
    char ip[ADDR_TEXT_BYTES], text[ADDR_TEXT_BYTES + 8];
    struct addr base;

    if (from == NULL || ip_decode(from->ip, 0, &base) != 0) {
        return E_PROTOBUF;
    }
    /* Through text, so that host bits are cleared and the prefix is checked in one place. */
    (void)snprintf(text, sizeof(text), "%s/%u", addr_format_ip(&base, ip), from->prefix_len);
    return cidr_parse(bytes_str(text), out) == 0 ? 0 : E_PROTOBUF;
}

/* --- labels ----------------------------------------------------------------------------------- */

struct label {
    char key[LABEL_KEY_BYTES + 4]; /* as metrics show it: "dst_pod" */
    const char *value;
};

static int label_cmp(const void *a, const void *b)
{
    return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

/* `dst_<key>` with what a label's name may hold. */
static void label_key(char to[LABEL_KEY_BYTES + 4], const char *key)
{
    (void)snprintf(to, LABEL_KEY_BYTES + 4, "dst_%s", key);
    for (char *c = to; *c != '\0'; c++) {
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9'))) {
            *c = '_';
        }
    }
}

/* Keys that are one in metrics are one here: a series with a label twice spoils a whole scrape. */
static void label_put(struct label *labels, size_t *io_count, const char *key, const char *value)
{
    struct label fresh = {.value = value};

    if (key[0] == '\0' || strlen(key) >= LABEL_KEY_BYTES) {
        return;
    }
    label_key(fresh.key, key);
    for (size_t i = 0; i < *io_count; i++) {
        if (strcmp(labels[i].key, fresh.key) == 0) {
            labels[i].value = value;
            return;
        }
    }
    if (*io_count < LABELS_MAX) {
        labels[(*io_count)++] = fresh;
    }
}

static char *labels_text(const struct label *labels, size_t count)
{
    struct text t;
    char *result;

    text_init(&t, LABELS_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        size_t before = t.len;

        label_add(&t, labels[i].key, bytes_str(labels[i].value));
        if (t.err != 0) { /* a label goes in whole or not at all */
            result = mem_strndup(t.at != NULL ? t.at : "", before);
            text_clear(&t);
            return result;
        }
    }
    result = mem_strndup(t.at != NULL ? t.at : "", t.len);
    text_clear(&t);
    return result;
}

static void read_labels(const pb_weighted_addr *from, pb_set_label **set_labels, size_t set_count,
                        struct endpoint *to)
{
    struct label labels[LABELS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < set_count; i++) {
        label_put(labels, &count, set_labels[i]->key, set_labels[i]->value);
    }
    for (size_t i = 0; i < from->n_metric_labels; i++) {
        label_put(labels, &count, from->metric_labels[i]->key, from->metric_labels[i]->value);
    }
    qsort(labels, count, sizeof(*labels), label_cmp);
    to->labels = labels_text(labels, count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(labels[i].key, "dst_zone_locality") == 0) {
            to->zone_locality = strcmp(labels[i].value, "local") == 0    ? 'l'
                                : strcmp(labels[i].value, "remote") == 0 ? 'r'
                                                                         : 0;
        }
    }
}

/* --- identity and the rest -------------------------------------------------------------------- */

static char *name_dup(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= TLS_NAME_MAX ? mem_strndup(name, len) : NULL;
}

/* Wire 3.2: a DNS-like name doubles as SNI, a URI needs a server name beside it. */
static int read_identity(const pb_tls_identity *from, struct endpoint *to)
{
    if (from == NULL ||
        from->strategy_case == IO__LINKERD__PROXY__DESTINATION__TLS_IDENTITY__STRATEGY__NOT_SET) {
        return 0;
    }
    if (from->server_name != NULL) {
        to->server_name = name_dup(from->server_name->name);
        if (to->server_name == NULL) {
            return E_PROTOBUF;
        }
    }
    if (from->strategy_case ==
        IO__LINKERD__PROXY__DESTINATION__TLS_IDENTITY__STRATEGY_URI_LIKE_IDENTITY) {
        to->identity = name_dup(from->uri_like_identity->uri);
    } else {
        to->identity = name_dup(from->dns_like_identity->name);
        if (to->server_name == NULL) {
            to->server_name = name_dup(from->dns_like_identity->name);
        }
    }
    return to->identity != NULL && to->server_name != NULL ? 0 : E_PROTOBUF;
}

static void read_hint(const pb_hint *from, struct endpoint *to)
{
    if (from == NULL) {
        return;
    }
    if (from->protocol_case == IO__LINKERD__PROXY__DESTINATION__PROTOCOL_HINT__PROTOCOL_H2) {
        to->hint = ENDPOINT_HINT_H2;
    } else if (from->protocol_case ==
               IO__LINKERD__PROXY__DESTINATION__PROTOCOL_HINT__PROTOCOL_OPAQUE) {
        to->hint = ENDPOINT_HINT_OPAQUE;
    }
    if (from->opaque_transport != NULL &&
        from->opaque_transport->inbound_port <= TRANSPORT_PORT_MAX) {
        to->transport_port = (uint16_t)from->opaque_transport->inbound_port;
    }
}

static uint64_t duration_ns(const pb_duration *from)
{
    bool is_sane = from != NULL && from->seconds >= 0 && from->seconds < 24 * 3600 &&
                   from->nanos >= 0 && from->nanos < (int32_t)NS_PER_S;

    return is_sane ? (uint64_t)from->seconds * NS_PER_S + (uint64_t)from->nanos : 0;
}

static void read_http2(const Io__Linkerd__Proxy__Destination__Http2ClientParams *from,
                       struct endpoint *to)
{
    if (from != NULL && from->keep_alive != NULL) {
        to->ping_interval_ns = duration_ns(from->keep_alive->interval);
        to->ping_timeout_ns = duration_ns(from->keep_alive->timeout);
        to->ping_while_idle = from->keep_alive->while_idle;
    }
}

struct endpoint *endpoint_new(const pb_weighted_addr *from, pb_set_label **set_labels,
                              size_t set_labels_count)
{
    struct addr addr;
    struct endpoint *e;

    if (addr_decode(from->addr, &addr) != 0) {
        return NULL;
    }
    e = endpoint_new_plain(&addr);
    e->weight = from->weight;
    if (read_identity(from->tls_identity, e) != 0) {
        endpoint_unref(e);
        return NULL;
    }
    read_labels(from, set_labels, set_labels_count, e);
    read_hint(from->protocol_hint, e);
    read_http2(from->http2, e);
    if (from->authority_override != NULL &&
        from->authority_override->authority_override[0] != '\0' &&
        strlen(from->authority_override->authority_override) <= OVERRIDE_BYTES_MAX) {
        e->authority_override = mem_strdup(from->authority_override->authority_override);
    }
    return e;
}
