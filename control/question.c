/* SPDX-License-Identifier: Apache-2.0 */
#include "control/question.h"

#include "core/err.h"

#define PORT_DEFAULT 80

/* RFC 1123 2.1 by length and alphabet, as Kubernetes names objects. */
static int copy_name(struct bytes from, char *to, size_t to_bytes, bool with_dots)
{
    if (from.len == 0 || from.len >= to_bytes) {
        return E_SYNTAX;
    }
    for (size_t i = 0; i < from.len; i++) {
        char c = from.at[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i > 0) ||
              (c == '.' && with_dots))) {
            return E_SYNTAX;
        }
    }
    memcpy(to, from.at, from.len);
    to[from.len] = '\0';
    return 0;
}

static int parse_port(struct bytes text, uint16_t *out)
{
    uint64_t port;

    TRY(bytes_to_u64(text, UINT16_MAX, &port));
    if (port == 0) {
        return E_RANGE;
    }
    *out = (uint16_t)port;
    return 0;
}

/* "A.B.svc.DOMAIN" to "A.B"; the labels before are the caller's. */
static int strip_domain(struct bytes host, const char *cluster_domain, struct bytes *out)
{
    struct bytes domain = bytes_str(cluster_domain);
    struct bytes svc = BYTES(".svc.");

    if (!bytes_ends(host, domain)) {
        return E_SYNTAX;
    }
    host = bytes_first(host, host.len - domain.len);
    if (!bytes_ends(host, svc)) {
        return E_SYNTAX;
    }
    *out = bytes_first(host, host.len - svc.len);
    return 0;
}

int service_name_parse(struct bytes text, const char *cluster_domain, struct service_name *out)
{
    struct service_name n = {.port = PORT_DEFAULT};
    struct bytes host, port, first, second, third;

    if (bytes_split(text, ':', &host, &port) && parse_port(port, &n.port) != 0) {
        return E_SYNTAX;
    }
    if (bytes_ends(host, BYTES("."))) {
        host = bytes_first(host, host.len - 1);
    }
    TRY(strip_domain(host, cluster_domain, &host));
    if (!bytes_split(host, '.', &first, &second)) {
        return E_SYNTAX;
    }
    if (bytes_split(second, '.', &second, &third)) {
        TRY(copy_name(first, n.host, sizeof(n.host), false));
        first = second;
        second = third;
    }
    TRY(copy_name(first, n.name, sizeof(n.name), false));
    TRY(copy_name(second, n.ns, sizeof(n.ns), false));
    *out = n;
    return 0;
}

int address_parse(struct bytes text, struct addr *out)
{
    struct addr a;

    memset(&a, 0, sizeof(a));
    if (addr_parse_ip(text, &a) == 0) {
        a.port = PORT_DEFAULT;
    } else {
        TRY(addr_parse(text, &a));
    }
    *out = a;
    return 0;
}

static json_t *token_json(struct bytes token)
{
    json_error_t error;
    json_t *json = NULL;

    if (token.len > 0 && token.len <= TOKEN_TEXT_MAX && token.at[0] == '{') {
        json = json_loadb(token.at, token.len, 0, &error);
    }
    if (!json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static int json_name(const json_t *json, const char *key, char *to, size_t to_bytes, bool with_dots)
{
    return copy_name(bytes_str(json_string_value(json_object_get(json, key))), to, to_bytes,
                     with_dots);
}

void client_parse(struct bytes token, struct client *out)
{
    json_t *json;

    memset(out, 0, sizeof(*out));
    token = bytes_trim(token, " \t\r\n");
    if (bytes_starts(token, BYTES("ns:"))) {
        (void)copy_name(bytes_from(token, 3), out->ns, sizeof(out->ns),
                        false); /* else it stays "" */
        return;
    }
    json = token_json(token);
    if (json != NULL) {
        (void)json_name(json, "ns", out->ns, sizeof(out->ns), false);
        (void)json_name(json, "nodeName", out->node, sizeof(out->node), true);
        json_decref(json);
    }
}

static int workload_from_json(const json_t *json, struct workload_name *out)
{
    out->is_external = json_object_get(json, "pod") == NULL;
    TRY(json_name(json, "ns", out->ns, sizeof(out->ns), false));
    return json_name(json, out->is_external ? "external_workload" : "pod", out->name,
                     sizeof(out->name), true);
}

int workload_name_parse(struct bytes token, struct workload_name *out)
{
    struct workload_name w = {.is_external = false};
    struct bytes ns, pod;
    json_t *json;
    int rc;

    token = bytes_trim(token, " \t\r\n");
    json = token_json(token);
    if (json != NULL) {
        rc = workload_from_json(json, &w);
        json_decref(json);
        TRY(rc);
    } else if (bytes_split(token, ':', &ns, &pod)) {
        TRY(copy_name(ns, w.ns, sizeof(w.ns), false));
        TRY(copy_name(pod, w.name, sizeof(w.name), true));
    } else {
        return E_SYNTAX;
    }
    *out = w;
    return 0;
}
