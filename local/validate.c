/* SPDX-License-Identifier: Apache-2.0 */
#include "local/validate.h"

#include "core/err.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct checker {
    char *path, *problem;
    size_t path_bytes, problem_bytes;
    int err;
};

static void refuse(struct checker *k, int err, const char *path, const char *format, ...)
    PRINTF_LIKE(4, 5);
static void refuse(struct checker *k, int err, const char *path, const char *format, ...)
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

/* Every key of `map` must be one of `allowed`. */
static void only(struct checker *k, const json_t *map, const char *path, const char *const *allowed)
{
    const char *key;
    json_t *value;
    char full[512];

    if (map != NULL && !json_is_object(map)) {
        refuse(k, E_CONFIG, path, "%s must be a map", path);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)map, key, value)
    {
        if (!is_listed(allowed, key)) {
            (void)snprintf(full, sizeof(full), "%s.%s", path, key);
            refuse(k, E_UNSUPPORTED, full, "%s is not supported by the local home", full);
        }
    }
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char *text_of(const json_t *map, const char *key)
{
    return json_string_value(json_object_get(map, key));
}

/* --- containers ---------------------------------------------------------------------------------- */

static void check_probe(struct checker *k, const json_t *probe, const char *path)
{
    const char *scheme = json_text(probe, "httpGet.scheme");
    char full[512];

    only(k, probe, path,
         LIST("httpGet", "tcpSocket", "exec", "initialDelaySeconds", "periodSeconds",
              "timeoutSeconds", "successThreshold", "failureThreshold",
              "terminationGracePeriodSeconds"));
    (void)snprintf(full, sizeof(full), "%s.httpGet", path);
    only(k, json_object_get(probe, "httpGet"), full, LIST("path", "port", "scheme"));
    if (scheme != NULL && strcmp(scheme, "HTTP") != 0) {
        refuse(k, E_UNSUPPORTED, full, "%s.scheme must be HTTP", full);
    }
    if (probe != NULL && json_object_get(probe, "httpGet") == NULL &&
        json_object_get(probe, "tcpSocket") == NULL && json_object_get(probe, "exec") == NULL) {
        refuse(k, E_CONFIG, path, "%s needs httpGet, tcpSocket or exec", path);
    }
}

static void check_env(struct checker *k, const json_t *container, const char *path)
{
    const json_t *item;
    char full[512];
    size_t i;

    json_array_foreach(json_object_get(container, "env"), i, item)
    {
        (void)snprintf(full, sizeof(full), "%s.env[%zu]", path, i);
        if (text_of(item, "name") == NULL) {
            refuse(k, E_CONFIG, full, "%s needs a name", full);
        }
        if (json_object_get(item, "value") != NULL &&
            !json_is_string(json_object_get(item, "value"))) {
            refuse(k, E_CONFIG, full, "%s.value must be a string: put it in quotes", full);
        }
        (void)snprintf(full, sizeof(full), "%s.env[%zu].valueFrom", path, i);
        only(k, json_object_get(item, "valueFrom"), full,
             LIST("fieldRef", "configMapKeyRef", "secretKeyRef"));
    }
}

static void check_mounts(struct checker *k, const json_t *container, const char *path)
{
    const json_t *item;
    char full[512], real[PATH_MAX];
    size_t i;

    json_array_foreach(json_object_get(container, "volumeMounts"), i, item)
    {
        const char *at = text_of(item, "mountPath");

        (void)snprintf(full, sizeof(full), "%s.volumeMounts[%zu]", path, i);
        only(k, item, full, LIST("name", "mountPath", "readOnly", "subPath"));
        if (text_of(item, "name") == NULL || at == NULL || at[0] != '/') {
            refuse(k, E_CONFIG, full, "%s needs a name and an absolute mountPath", full);
        } else if (strchr(at + 1, '/') == NULL && realpath(at, real) == NULL) {
            refuse(k, E_UNSUPPORTED, full,
                   "%s.mountPath %s does not exist on this machine and cannot be made without a "
                   "trace: use a path below an "
                   "existing folder, such as /run%s",
                   full, at, at);
        }
    }
}

static void check_container(struct checker *k, const json_t *c, const char *path, bool is_init)
{
    static const char *const probes[] = {"readinessProbe", "livenessProbe", "startupProbe"};
    const char *restart = text_of(c, "restartPolicy");
    char full[512];

    only(k, c, path,
         LIST("name", "image", "imagePullPolicy", "command", "args", "workingDir", "env", "envFrom",
              "ports", "readinessProbe", "livenessProbe", "startupProbe", "volumeMounts",
              "resources", "securityContext", "restartPolicy", "terminationMessagePath",
              "terminationMessagePolicy"));
    if (text_of(c, "name") == NULL) {
        refuse(k, E_CONFIG, path, "%s needs a name", path);
    }
    if (json_array_size(json_object_get(c, "command")) == 0) {
        refuse(k, E_CONFIG, path,
               "%s needs a command: on one machine there is no image to take it from", path);
    }
    if (restart != NULL && (!is_init || strcmp(restart, "Always") != 0)) {
        refuse(k, E_UNSUPPORTED, path, "%s.restartPolicy can only be Always, of an init container",
               path);
    }
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        (void)snprintf(full, sizeof(full), "%s.%s", path, probes[i]);
        check_probe(k, json_object_get(c, probes[i]), full);
    }
    check_env(k, c, path);
    check_mounts(k, c, path);
}

static void check_containers(struct checker *k, const json_t *spec, const char *path,
                             const char *list)
{
    const json_t *item;
    char full[512];
    size_t i;

    json_array_foreach(json_object_get(spec, list), i, item)
    {
        (void)snprintf(full, sizeof(full), "%s.%s[%zu]", path, list, i);
        check_container(k, item, full, strcmp(list, "initContainers") == 0);
    }
}

static void check_pod_spec(struct checker *k, const json_t *spec, const char *path)
{
    const json_t *item;
    char full[512];
    size_t i;

    only(k, spec, path,
         LIST("containers", "initContainers", "volumes", "serviceAccountName", "serviceAccount",
              "securityContext", "terminationGracePeriodSeconds", "restartPolicy",
              "automountServiceAccountToken", "enableServiceLinks", "dnsPolicy", "imagePullSecrets",
              "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName",
              "schedulerName"));
    if (json_array_size(json_object_get(spec, "containers")) == 0) {
        refuse(k, E_CONFIG, path, "%s needs containers", path);
    }
    check_containers(k, spec, path, "initContainers");
    check_containers(k, spec, path, "containers");
    json_array_foreach(json_object_get(spec, "volumes"), i, item)
    {
        (void)snprintf(full, sizeof(full), "%s.volumes[%zu]", path, i);
        only(k, item, full,
             LIST("name", "emptyDir", "configMap", "secret", "projected", "downwardAPI"));
        if (text_of(item, "name") == NULL) {
            refuse(k, E_CONFIG, full, "%s needs a name", full);
        }
    }
}

/* --- kinds --------------------------------------------------------------------------------------- */

static void check_deployment(struct checker *k, const struct object *o)
{
    const json_t *template = json_object_get(o->spec, "template");

    only(k, o->spec, "spec",
         LIST("replicas", "selector", "template", "strategy", "minReadySeconds",
              "revisionHistoryLimit", "progressDeadlineSeconds"));
    if (!selector_matches(json_object_get(o->spec, "selector"),
                          json_at(template, "metadata.labels"))) {
        refuse(k, E_CONFIG, "spec.selector",
               "spec.selector does not match spec.template.metadata.labels");
    }
    if (json_object_get(o->spec, "replicas") != NULL &&
        !json_is_integer(json_object_get(o->spec, "replicas"))) {
        refuse(k, E_CONFIG, "spec.replicas", "spec.replicas must be a number");
    }
    check_pod_spec(k, json_object_get(template, "spec"), "spec.template.spec");
}

static void check_service(struct checker *k, const struct object *o)
{
    const char *type = text_of(o->spec, "type");
    const json_t *item;
    char full[64];
    size_t i;

    only(k, o->spec, "spec",
         LIST("ports", "selector", "type", "clusterIP", "clusterIPs", "ipFamilies",
              "ipFamilyPolicy", "sessionAffinity", "publishNotReadyAddresses",
              "internalTrafficPolicy", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"));
    if (type != NULL && strcmp(type, "ClusterIP") != 0 && strcmp(type, "NodePort") != 0 &&
        strcmp(type, "LoadBalancer") != 0) {
        refuse(k, E_UNSUPPORTED, "spec.type", "spec.type %s is not supported by the local home",
               type);
    }
    json_array_foreach(json_object_get(o->spec, "ports"), i, item)
    {
        int64_t port = json_number(item, "port", 0);

        (void)snprintf(full, sizeof(full), "spec.ports[%zu]", i);
        only(k, item, full,
             LIST("name", "port", "targetPort", "protocol", "appProtocol", "nodePort"));
        if (port < 1 || port > 65535) {
            refuse(k, E_CONFIG, full, "%s.port must be a number from 1 to 65535", full);
        }
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
    case KIND_POD:
    case KIND_REPLICA_SET:
    case KIND_REPLICATION_CONTROLLER:
    case KIND_STATEFUL_SET:
    case KIND_DAEMON_SET:
    case KIND_JOB:
    case KIND_CRON_JOB:
    case KIND_NODE:
    case KIND_LEASE:
    case KIND_ENDPOINT_SLICE:
    case KIND_EXTERNAL_WORKLOAD:
        refuse(&k, E_UNSUPPORTED, "kind",
               "the kind %s is not supported by the local home; a Deployment is",
               kind_info(o->kind)->name);
        break;
    default: /* data for the control plane */
        break;
    }
    return k.err;
}
