/* SPDX-License-Identifier: Apache-2.0 */
#include "local/validate_private.h"

#include "core/err.h"
#include "core/near.h"
#include "local/supervisor.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define LABEL_BYTES_MAX 63

/* --- tools --------------------------------------------------------------------------------------- */

const char *validate_field(char to[FIELD_BYTES], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(to, FIELD_BYTES, format, args);
    va_end(args);
    return to;
}

void validate_refuse(struct checker *k, int err, const char *path, const char *format, ...)
{
    va_list args;

    if (k->err != 0) {
        return;
    }
    k->err = err;
    (void)snprintf(k->path, k->path_bytes, "%s", path);
    va_start(args, format);
    (void)vsnprintf(k->problem, k->problem_bytes, format, args);
    va_end(args);
}

static bool is_listed(const char *const *list, const char *name)
{
    for (; *list != NULL; list++) {
        if (strcmp(*list, name) == 0) {
            return true;
        }
    }
    return false;
}

static const char *nearest(const char *typed, const char *const *list)
{
    struct near n = NEAR(typed);

    for (; *list != NULL; list++) {
        near_try(&n, *list);
    }
    return near_word(&n);
}

void validate_only(struct checker *k, const json_t *map, const char *path,
                   const char *const *allowed)
{
    struct json_iter it = JSON_ITER(map);
    char full[FIELD_BYTES];
    const char *near;

    if (map != NULL && !json_is_object(map)) {
        validate_refuse(k, E_CONFIG, path, "%s must be a map", path);
        return;
    }
    while (json_next(&it)) {
        if (!is_listed(allowed, it.key)) {
            validate_field(full, "%s.%s", path, it.key);
            near = nearest(it.key, allowed);
            validate_refuse(k, E_UNSUPPORTED, full, "%s is not supported by the local home%s%s%s", full,
                            near != NULL ? "; did you mean " : "", near != NULL ? near : "",
                            near != NULL ? "?" : "");
        }
    }
}

void validate_number(struct checker *k, const json_t *map, const char *path, const char *key,
                     int64_t least, int64_t most)
{
    const json_t *value = json_object_get(map, key);
    char full[FIELD_BYTES];

    if (value != NULL && (!json_is_integer(value) || json_integer_value(value) < least ||
                          json_integer_value(value) > most)) {
        validate_field(full, "%s.%s", path, key);
        if (most == INT_MAX) {
            validate_refuse(k, E_CONFIG, full, "%s must be a number, at least %lld", full,
                            (long long)least);
        } else {
            validate_refuse(k, E_CONFIG, full, "%s must be a number from %lld to %lld", full,
                            (long long)least, (long long)most);
        }
    }
}

void validate_bool(struct checker *k, const json_t *map, const char *path, const char *key)
{
    const json_t *value = json_object_get(map, key);
    char full[FIELD_BYTES];

    if (value != NULL && !json_is_boolean(value)) {
        validate_field(full, "%s.%s", path, key);
        validate_refuse(k, E_CONFIG, full, "%s must be true or false", full);
    }
}

void validate_text(struct checker *k, const json_t *map, const char *path, const char *key,
                   bool is_needed)
{
    const json_t *value = json_object_get(map, key);
    char full[FIELD_BYTES], misread[JSON_MISREAD_BYTES];

    if (value == NULL && is_needed) {
        validate_refuse(k, E_CONFIG, path, "%s needs a %s", path, key);
    } else if (value != NULL && !json_is_string(value)) {
        validate_field(full, "%s.%s", path, key);
        validate_refuse(k, E_CONFIG, full, "%s %s", full, json_misread(value, misread));
    }
}

void validate_list(struct checker *k, const json_t *map, const char *path, const char *key)
{
    const json_t *value = json_object_get(map, key);
    char full[FIELD_BYTES];

    if (value != NULL && !json_is_array(value)) {
        validate_field(full, "%s.%s", path, key);
        validate_refuse(k, E_CONFIG, full, "%s must be a list", full);
    }
}

void validate_label(struct checker *k, const char *name, const char *path, const char *what)
{
    size_t len = name != NULL ? strlen(name) : 0;
    bool ok = len > 0 && len <= LABEL_BYTES_MAX && name[0] != '-' && name[len - 1] != '-';

    for (size_t i = 0; ok && i < len; i++) {
        char c = name[i];

        ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    }
    if (!ok) {
        validate_refuse(k, E_CONFIG, path,
                        "%s \"%.70s\" must be lower-case letters, digits and -, at most %d, with a "
                        "letter or digit at both ends",
                        what, name != NULL ? name : "", LABEL_BYTES_MAX);
    }
}

void validate_port(struct checker *k, const json_t *map, const char *path, const char *key,
                   bool may_be_name)
{
    const json_t *value = json_object_get(map, key);

    if (!may_be_name || !json_is_string(value)) {
        validate_number(k, map, path, key, 1, UINT16_MAX);
    }
}

/* --- kinds --------------------------------------------------------------------------------------- */

static void check_strategy(struct checker *k, const json_t *spec)
{
    const char *type = json_text(spec, "strategy.type");

    /* New pods are ready before old ones leave, or the other way round: no numbers in between. */
    validate_only(k, json_object_get(spec, "strategy"), "spec.strategy",
                  ALLOWED("type", "rollingUpdate"));
    if (type != NULL && strcmp(type, "Recreate") != 0 && strcmp(type, "RollingUpdate") != 0) {
        validate_refuse(k, E_CONFIG, "spec.strategy.type",
                        "spec.strategy.type must be Recreate or RollingUpdate");
    }
}

static void check_deployment(struct checker *k, const struct object *o)
{
    const json_t *template = json_object_get(o->spec, "template");

    validate_only(k, o->spec, "spec",
                  ALLOWED("replicas", "selector", "template", "strategy", "revisionHistoryLimit",
                          "progressDeadlineSeconds"));
    validate_number(k, o->spec, "spec", "replicas", 0, REPLICAS_MAX);
    check_strategy(k, o->spec);
    validate_only(k, template, "spec.template", ALLOWED("metadata", "spec"));
    if (!json_is_object(template) || !json_is_object(json_object_get(template, "spec"))) {
        validate_refuse(k, E_CONFIG, "spec", "spec.template.spec is missing");
    }
    if (!selector_matches(json_object_get(o->spec, "selector"),
                          json_at(template, "metadata.labels"))) {
        validate_refuse(k, E_CONFIG, "spec.selector",
                        "spec.selector does not match spec.template.metadata.labels");
    }
    validate_pod_spec(k, json_object_get(template, "spec"), "spec.template.spec");
}

static bool is_one_of(const char *text, const char *const *list)
{
    return text == NULL || is_listed(list, text);
}

/* As Kubernetes has it: by its name a port is told from the others in the Service's EndpointSlices. */
static void check_service_port_name(struct checker *k, const json_t *spec, const json_t *port, size_t i,
                                    const char *full)
{
    const json_t *ports = json_object_get(spec, "ports");
    const char *name = json_text(port, "name");
    char field[FIELD_BYTES];

    validate_text(k, port, full, "name", false);
    if (json_array_size(ports) < 2) {
        return;
    }
    if (name == NULL || name[0] == '\0') {
        validate_refuse(k, E_CONFIG, full,
                        "%s needs a name: a Service with several ports tells them apart by it", full);
        return;
    }
    for (size_t n = 0; n < i; n++) {
        const char *other = json_text(json_array_get(ports, n), "name");

        if (other != NULL && strcmp(name, other) == 0) {
            validate_field(field, "%s.name", full);
            validate_refuse(k, E_CONFIG, field, "%s is the name of spec.ports[%zu], too", field, n);
        }
    }
}

static void check_service_port(struct checker *k, const json_t *spec, const json_t *port, size_t i)
{
    const json_t *other;
    char full[FIELD_BYTES], field[FIELD_BYTES];
    size_t n;

    validate_field(full, "spec.ports[%zu]", i);
    validate_only(k, port, full,
                  ALLOWED("name", "port", "targetPort", "protocol", "appProtocol", "nodePort"));
    check_service_port_name(k, spec, port, i, full);
    if (json_object_get(port, "port") == NULL) {
        validate_refuse(k, E_CONFIG, full, "%s needs a port", full);
    }
    validate_port(k, port, full, "port", false);
    validate_port(k, port, full, "targetPort", true);
    validate_port(k, port, full, "nodePort", false);
    if (!is_one_of(json_text(port, "protocol"), ALLOWED("TCP", "UDP"))) {
        validate_field(field, "%s.protocol", full);
        validate_refuse(k, E_UNSUPPORTED, field, "%s must be TCP or UDP", field);
    }
    json_array_foreach(json_object_get(spec, "ports"), n, other)
    {
        const char *mine = json_text(port, "protocol"), *its = json_text(other, "protocol");

        if (n < i && json_number(port, "port", 0) == json_number(other, "port", 0) &&
            strcmp(mine != NULL ? mine : "TCP", its != NULL ? its : "TCP") == 0) {
            validate_refuse(k, E_CONFIG, full, "%s has the same port as spec.ports[%zu]", full, n);
        }
    }
}

static void check_service_families(struct checker *k, const struct object *o)
{
    const json_t *families = json_object_get(o->spec, "ipFamilies");
    const char *policy = json_text(o->spec, "ipFamilyPolicy"), *first;

    validate_text(k, o->spec, "spec", "ipFamilyPolicy", false);
    validate_list(k, o->spec, "spec", "ipFamilies");
    if (!is_one_of(policy, ALLOWED("SingleStack", "PreferDualStack", "RequireDualStack"))) {
        validate_refuse(k, E_CONFIG, "spec.ipFamilyPolicy",
                        "spec.ipFamilyPolicy must be SingleStack, PreferDualStack or RequireDualStack");
    }
    for (size_t i = 0; i < json_array_size(families); i++) {
        const char *family = json_string_value(json_array_get(families, i));

        if (family == NULL || !is_one_of(family, ALLOWED("IPv4", "IPv6"))) {
            validate_refuse(k, E_CONFIG, "spec.ipFamilies", "spec.ipFamilies[%zu] must be IPv4 or IPv6", i);
        }
    }
    first = json_string_value(json_array_get(families, 0));
    if (first != NULL && strcmp(first, "IPv6") == 0 && service_is_ipv4_only(o->spec)) {
        validate_refuse(k, E_UNSUPPORTED, "spec.ipFamilies",
                        "spec.ipFamilies: IPv6 alone is not supported by the local home");
    }
}

static void check_service(struct checker *k, const struct object *o)
{
    const char *type = json_text(o->spec, "type"), *ip = json_text(o->spec, "clusterIP");
    const json_t *item;
    size_t i;

    validate_label(k, o->name, "metadata.name", "the name");
    validate_only(k, o->spec, "spec",
                  ALLOWED("ports", "selector", "type", "clusterIP", "clusterIPs", "ipFamilies",
                          "ipFamilyPolicy", "sessionAffinity", "publishNotReadyAddresses",
                          "internalTrafficPolicy", "externalTrafficPolicy",
                          "allocateLoadBalancerNodePorts"));
    if (!is_one_of(type, ALLOWED("ClusterIP", "NodePort", "LoadBalancer"))) {
        validate_refuse(k, E_UNSUPPORTED, "spec.type",
                        "spec.type %s is not supported by the local home", type);
    }
    if (ip != NULL && ip[0] != '\0' && strcmp(ip, "None") != 0) {
        validate_refuse(k, E_UNSUPPORTED, "spec.clusterIP",
                        "spec.clusterIP can only be None: the home chooses addresses");
    }
    if (!is_one_of(json_text(o->spec, "sessionAffinity"), ALLOWED("None"))) {
        validate_refuse(
            k, E_UNSUPPORTED, "spec.sessionAffinity",
            "spec.sessionAffinity can only be None: it is not supported by the local home");
    }
    validate_bool(k, o->spec, "spec", "publishNotReadyAddresses");
    check_service_families(k, o);
    validate_list(k, o->spec, "spec", "ports");
    json_array_foreach(json_object_get(o->spec, "ports"), i, item)
    {
        check_service_port(k, o->spec, item, i);
    }
}

/* Its values are strings; of a Secret's data base64. */
static void check_data(struct checker *k, const struct object *o, const char *map, bool is_base64)
{
    struct json_iter it = JSON_ITER(json_object_get(o->json, map));
    char full[FIELD_BYTES];

    while (json_next(&it)) {
        struct text decoded;

        validate_text(k, json_object_get(o->json, map), map, it.key, true);
        text_init(&decoded, 16u << 20);
        if (is_base64 && json_is_string(it.value) &&
            secret_decode(json_string_value(it.value), &decoded) != 0) {
            validate_field(full, "%s.%s", map, it.key);
            validate_refuse(k, E_CONFIG, full, "%s is no base64", full);
        }
        if (decoded.at != NULL) {
            explicit_bzero(decoded.at, decoded.len);
        }
        text_clear(&decoded);
    }
}

int validate_object(const struct object *o, char *path, size_t path_bytes, char *problem,
                    size_t problem_bytes)
{
    struct checker k = {
        .path = path, .path_bytes = path_bytes, .problem = problem, .problem_bytes = problem_bytes};

    switch ((int)o->kind) {
    case KIND_DEPLOYMENT:
        check_deployment(&k, o);
        break;
    case KIND_SERVICE:
        check_service(&k, o);
        break;
    case KIND_ENDPOINT_SLICE:
        validate_slice(&k, o);
        break;
    case KIND_CONFIG_MAP:
        check_data(&k, o, "data", false);
        check_data(&k, o, "binaryData", true);
        break;
    case KIND_SECRET:
        check_data(&k, o, "data", true);
        check_data(&k, o, "stringData", false);
        break;
    case KIND_POD:
    case KIND_REPLICA_SET:
    case KIND_REPLICATION_CONTROLLER:
    case KIND_STATEFUL_SET:
    case KIND_DAEMON_SET:
    case KIND_JOB:
    case KIND_CRON_JOB:
        validate_refuse(&k, E_UNSUPPORTED, "kind",
                        "the kind %s is not supported by the local home; a Deployment is",
                        kind_info(o->kind)->name);
        break;
    case KIND_NODE:
    case KIND_LEASE:
    case KIND_EXTERNAL_WORKLOAD:
        validate_refuse(&k, E_UNSUPPORTED, "kind",
                        "the kind %s is not supported by the local home",
                        kind_info(o->kind)->name);
        break;
    default: /* data for the control plane */
        break;
    }
    return k.err;
}
