/* SPDX-License-Identifier: Apache-2.0 */
#include "local/validate_private.h"

#include "core/err.h"
#include "local/supervisor.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/*
 * What a pod is made of. What can be done here is listed; what concerns the choice of a node, the pull
 * of an image and the accounting of resources is let through, for there is nothing to do about it.
 */

/* --- probes -------------------------------------------------------------------------------------- */

static void check_command(struct checker *k, const json_t *map, const char *path, const char *key)
{
    const json_t *item;
    char full[FIELD_BYTES], misread[JSON_MISREAD_BYTES];
    size_t i;

    validate_list(k, map, path, key);
    json_array_foreach(json_object_get(map, key), i, item)
    {
        if (!json_is_string(item)) {
            validate_field(full, "%s.%s[%zu]", path, key, i);
            validate_refuse(k, E_CONFIG, full, "%s %s", full, json_misread(item, misread));
        }
    }
}

static void check_probe_target(struct checker *k, const json_t *probe, const char *path)
{
    const json_t *get = json_object_get(probe, "httpGet"),
                 *tcp = json_object_get(probe, "tcpSocket");
    const json_t *exec = json_object_get(probe, "exec");
    const char *scheme = json_text(get, "scheme");
    char full[FIELD_BYTES];

    if ((get != NULL) + (tcp != NULL) + (exec != NULL) != 1) {
        validate_refuse(k, E_CONFIG, path, "%s needs one of httpGet, tcpSocket and exec", path);
    }
    validate_field(full, "%s.httpGet", path);
    validate_only(k, get, full, ALLOWED("path", "port", "scheme"));
    validate_text(k, get, full, "path", false);
    if (scheme != NULL && strcmp(scheme, "HTTP") != 0) {
        validate_refuse(k, E_UNSUPPORTED, full, "%s.scheme must be HTTP", full);
    }
    if (get != NULL && json_object_get(get, "port") == NULL) {
        validate_refuse(k, E_CONFIG, full, "%s needs a port", full);
    }
    validate_port(k, get, full, "port", true);
    validate_field(full, "%s.tcpSocket", path);
    validate_only(k, tcp, full, ALLOWED("port"));
    if (tcp != NULL && json_object_get(tcp, "port") == NULL) {
        validate_refuse(k, E_CONFIG, full, "%s needs a port", full);
    }
    validate_port(k, tcp, full, "port", true);
    validate_field(full, "%s.exec", path);
    validate_only(k, exec, full, ALLOWED("command"));
    check_command(k, exec, full, "command");
    if (exec != NULL && json_array_size(json_object_get(exec, "command")) == 0) {
        validate_refuse(k, E_CONFIG, full, "%s needs a command", full);
    }
}

static void check_probe(struct checker *k, const json_t *container, const char *path,
                        const char *name)
{
    const json_t *probe = json_object_get(container, name);
    char full[FIELD_BYTES];

    if (probe == NULL) {
        return;
    }
    validate_field(full, "%s.%s", path, name);
    validate_only(k, probe, full,
                  ALLOWED("httpGet", "tcpSocket", "exec", "initialDelaySeconds", "periodSeconds",
                          "timeoutSeconds", "successThreshold", "failureThreshold"));
    validate_number(k, probe, full, "initialDelaySeconds", 0, INT_MAX);
    validate_number(k, probe, full, "periodSeconds", 1, INT_MAX);
    validate_number(k, probe, full, "timeoutSeconds", 1, INT_MAX);
    validate_number(k, probe, full, "successThreshold", 1, INT_MAX);
    validate_number(k, probe, full, "failureThreshold", 1, INT_MAX);
    check_probe_target(k, probe, full);
}

/* --- environment --------------------------------------------------------------------------------- */

static void check_key_ref(struct checker *k, const json_t *ref, const char *path)
{
    validate_only(k, ref, path, ALLOWED("name", "key", "optional"));
    if (ref != NULL) {
        validate_text(k, ref, path, "name", true);
        validate_text(k, ref, path, "key", true);
    }
}

static void check_value_from(struct checker *k, const json_t *from, const char *path)
{
    const json_t *field = json_object_get(from, "fieldRef");
    char full[FIELD_BYTES];

    validate_only(k, from, path, ALLOWED("fieldRef", "configMapKeyRef", "secretKeyRef"));
    if (from != NULL && json_object_size(from) != 1) {
        validate_refuse(k, E_CONFIG, path,
                        "%s needs one of fieldRef, configMapKeyRef and secretKeyRef", path);
    }
    validate_field(full, "%s.fieldRef", path);
    validate_only(k, field, full, ALLOWED("fieldPath", "apiVersion"));
    if (field != NULL) {
        validate_text(k, field, full, "fieldPath", true);
    }
    check_key_ref(k, json_object_get(from, "configMapKeyRef"),
                  validate_field(full, "%s.configMapKeyRef", path));
    check_key_ref(k, json_object_get(from, "secretKeyRef"),
                  validate_field(full, "%s.secretKeyRef", path));
}

static void check_env(struct checker *k, const json_t *container, const char *path)
{
    const json_t *item, *ref;
    char full[FIELD_BYTES], field[FIELD_BYTES];
    size_t i;

    validate_list(k, container, path, "env");
    validate_list(k, container, path, "envFrom");
    json_array_foreach(json_object_get(container, "env"), i, item)
    {
        const char *name = json_text(item, "name");

        validate_field(full, "%s.env[%zu]", path, i);
        validate_only(k, item, full, ALLOWED("name", "value", "valueFrom"));
        validate_text(k, item, full, "name", true);
        if (name != NULL && (name[0] == '\0' || strchr(name, '=') != NULL)) {
            validate_refuse(k, E_CONFIG, full, "%s.name \"%.80s\" cannot be the name of a variable",
                            full, name);
        }
        validate_text(k, item, full, "value", false);
        check_value_from(k, json_object_get(item, "valueFrom"),
                         validate_field(field, "%s.valueFrom", full));
    }
    json_array_foreach(json_object_get(container, "envFrom"), i, item)
    {
        validate_field(full, "%s.envFrom[%zu]", path, i);
        validate_only(k, item, full, ALLOWED("prefix", "configMapRef", "secretRef"));
        ref = json_object_get(item, "configMapRef");
        ref = ref != NULL ? ref : json_object_get(item, "secretRef");
        validate_only(k, ref, full, ALLOWED("name", "optional"));
        if (json_text(ref, "name") == NULL) {
            validate_refuse(k, E_CONFIG, full, "%s needs a configMapRef or secretRef with a name",
                            full);
        }
    }
}

/* --- users and capabilities ---------------------------------------------------------------------- */

static bool is_text_in(const json_t *value, const char *const *list)
{
    for (; json_is_string(value) && *list != NULL; list++) {
        if (strcmp(json_string_value(value), *list) == 0) {
            return true;
        }
    }
    return false;
}

static void check_seccomp(struct checker *k, const json_t *context, const char *path)
{
    const json_t *profile = json_object_get(context, "seccompProfile");
    char full[FIELD_BYTES];

    validate_field(full, "%s.seccompProfile", path);
    validate_only(k, profile, full, ALLOWED("type"));
    if (profile != NULL &&
        !is_text_in(json_object_get(profile, "type"), ALLOWED("RuntimeDefault", "Unconfined"))) {
        validate_refuse(k, E_UNSUPPORTED, full,
                        "%s.type must be RuntimeDefault (which is none here) or Unconfined", full);
    }
}

static void check_capabilities(struct checker *k, const json_t *context, const char *path)
{
    const json_t *capabilities = json_object_get(context, "capabilities"), *item;
    char full[FIELD_BYTES], field[FIELD_BYTES];
    size_t i;

    validate_field(full, "%s.capabilities", path);
    validate_only(k, capabilities, full, ALLOWED("add", "drop"));
    check_command(k, capabilities, full, "drop");
    json_array_foreach(json_object_get(capabilities, "add"), i, item)
    {
        if (!is_text_in(item, ALLOWED("NET_ADMIN", "NET_RAW", "CHOWN", "DAC_OVERRIDE", "FOWNER",
                                      "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
                                      "NET_BIND_SERVICE", "SYS_CHROOT", "SETFCAP"))) {
            validate_field(field, "%s.add[%zu]", full, i);
            validate_refuse(k, E_UNSUPPORTED, field,
                            "%s is not supported by the local home: NET_ADMIN and NET_RAW are",
                            field);
        }
    }
}

static void check_context(struct checker *k, const json_t *container, const char *path)
{
    const json_t *context = json_object_get(container, "securityContext");
    char full[FIELD_BYTES], field[FIELD_BYTES];

    validate_field(full, "%s.securityContext", path);
    validate_only(k, context, full,
                  ALLOWED("runAsUser", "runAsGroup", "runAsNonRoot", "allowPrivilegeEscalation",
                          "capabilities", "readOnlyRootFilesystem", "privileged",
                          "seccompProfile"));
    validate_number(k, context, full, "runAsUser", 0, INT_MAX);
    validate_number(k, context, full, "runAsGroup", 0, INT_MAX);
    validate_bool(k, context, full, "runAsNonRoot");
    validate_bool(k, context, full, "allowPrivilegeEscalation");
    validate_bool(k, context, full, "readOnlyRootFilesystem");
    check_capabilities(k, context, full);
    check_seccomp(k, context, full);
    if (json_is_true(json_object_get(context, "privileged"))) {
        validate_field(field, "%s.privileged", full);
        validate_refuse(k, E_UNSUPPORTED, field, "%s is not supported by the local home", field);
    }
}

static void check_pod_context(struct checker *k, const json_t *spec, const char *path)
{
    const json_t *context = json_object_get(spec, "securityContext");
    char full[FIELD_BYTES];

    validate_field(full, "%s.securityContext", path);
    validate_only(k, context, full,
                  ALLOWED("runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup",
                          "supplementalGroups", "seccompProfile"));
    validate_number(k, context, full, "runAsUser", 0, INT_MAX);
    validate_number(k, context, full, "runAsGroup", 0, INT_MAX);
    validate_number(k, context, full, "fsGroup", 0, INT_MAX);
    validate_bool(k, context, full, "runAsNonRoot");
    validate_list(k, context, full, "supplementalGroups");
    check_seccomp(k, context, full);
}

/* --- volumes ------------------------------------------------------------------------------------- */

static void check_path(struct checker *k, const json_t *map, const char *path, const char *key)
{
    struct bytes rest = bytes_str(json_text(map, key)), part;
    bool ok = rest.len == 0 || rest.at[0] != '/', more = rest.len > 0;
    char full[FIELD_BYTES];

    while (more && ok) {
        more = bytes_split(rest, '/', &part, &rest);
        ok = part.len > 0 && !bytes_eq(part, BYTES("..")) && !bytes_eq(part, BYTES("."));
    }
    if (!ok) {
        validate_field(full, "%s.%s", path, key);
        validate_refuse(k, E_CONFIG, full, "%s must be a path below the volume", full);
    }
}

static void check_items(struct checker *k, const json_t *source, const char *path, bool is_downward)
{
    const json_t *item;
    char full[FIELD_BYTES], field[FIELD_BYTES];
    size_t i;

    validate_list(k, source, path, "items");
    validate_number(k, source, path, "defaultMode", 0, 0777);
    json_array_foreach(json_object_get(source, "items"), i, item)
    {
        validate_field(full, "%s.items[%zu]", path, i);
        validate_text(k, item, full, "path", true);
        check_path(k, item, full, "path");
        validate_number(k, item, full, "mode", 0, 0777);
        if (is_downward) {
            validate_only(k, item, full, ALLOWED("path", "mode", "fieldRef"));
            validate_text(k, json_object_get(item, "fieldRef"),
                          validate_field(field, "%s.fieldRef", full), "fieldPath", true);
        } else {
            validate_only(k, item, full, ALLOWED("path", "mode", "key"));
            validate_text(k, item, full, "key", true);
        }
    }
}

static void check_projected(struct checker *k, const json_t *projected, const char *path)
{
    static const char *const objects[] = {"configMap", "secret"};
    const json_t *item, *source;
    char full[FIELD_BYTES], field[FIELD_BYTES];
    size_t i;

    validate_only(k, projected, path, ALLOWED("sources", "defaultMode"));
    validate_number(k, projected, path, "defaultMode", 0, 0777);
    json_array_foreach(json_object_get(projected, "sources"), i, item)
    {
        validate_field(full, "%s.sources[%zu]", path, i);
        validate_only(k, item, full,
                      ALLOWED("serviceAccountToken", "configMap", "secret", "downwardAPI"));
        validate_field(field, "%s.serviceAccountToken", full);
        validate_only(k, json_object_get(item, "serviceAccountToken"), field,
                      ALLOWED("path", "audience", "expirationSeconds"));
        check_path(k, json_object_get(item, "serviceAccountToken"), field, "path");
        for (size_t n = 0; n < ARRAY_LEN(objects); n++) {
            source = json_object_get(item, objects[n]);
            validate_field(field, "%s.%s", full, objects[n]);
            validate_only(k, source, field, ALLOWED("name", "items", "optional"));
            check_items(k, source, field, false);
        }
        validate_field(field, "%s.downwardAPI", full);
        validate_only(k, json_object_get(item, "downwardAPI"), field, ALLOWED("items"));
        check_items(k, json_object_get(item, "downwardAPI"), field, true);
    }
}

static void check_volume(struct checker *k, const json_t *volume, const char *path)
{
    const char *medium = json_text(volume, "emptyDir.medium");
    char full[FIELD_BYTES];

    validate_only(k, volume, path,
                  ALLOWED("name", "emptyDir", "configMap", "secret", "projected", "downwardAPI"));
    validate_label(k, json_text(volume, "name"), path, "the volume's name");
    if (json_object_size(volume) != 2) {
        validate_refuse(k, E_CONFIG, path,
                        "%s needs one of emptyDir, configMap, secret, projected and downwardAPI",
                        path);
    }
    validate_field(full, "%s.emptyDir", path);
    validate_only(k, json_object_get(volume, "emptyDir"), full, ALLOWED("medium", "sizeLimit"));
    if (medium != NULL && medium[0] != '\0' && strcmp(medium, "Memory") != 0) {
        validate_refuse(k, E_UNSUPPORTED, full, "%s.medium can only be Memory", full);
    }
    validate_field(full, "%s.configMap", path);
    validate_only(k, json_object_get(volume, "configMap"), full,
                  ALLOWED("name", "items", "optional", "defaultMode"));
    check_items(k, json_object_get(volume, "configMap"), full, false);
    validate_field(full, "%s.secret", path);
    validate_only(k, json_object_get(volume, "secret"), full,
                  ALLOWED("secretName", "items", "optional", "defaultMode"));
    check_items(k, json_object_get(volume, "secret"), full, false);
    validate_field(full, "%s.downwardAPI", path);
    validate_only(k, json_object_get(volume, "downwardAPI"), full, ALLOWED("items", "defaultMode"));
    check_items(k, json_object_get(volume, "downwardAPI"), full, true);
    check_projected(k, json_object_get(volume, "projected"),
                    validate_field(full, "%s.projected", path));
}

static bool has_volume(const json_t *spec, const char *name)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(spec, "volumes"), i, item)
    {
        const char *here = json_text(item, "name");

        if (here != NULL && strcmp(here, name) == 0) {
            return true;
        }
    }
    return false;
}

static void check_mount(struct checker *k, const json_t *spec, const json_t *mount,
                        const char *path)
{
    const char *at = json_text(mount, "mountPath"), *name = json_text(mount, "name");
    char real[PATH_MAX];

    validate_only(k, mount, path, ALLOWED("name", "mountPath", "readOnly", "subPath"));
    validate_bool(k, mount, path, "readOnly");
    check_path(k, mount, path, "subPath");
    if (name == NULL || at == NULL || at[0] != '/' || at[1] == '\0') {
        validate_refuse(k, E_CONFIG, path, "%s needs a name and an absolute mountPath", path);
    } else if (!has_volume(spec, name)) {
        validate_refuse(k, E_CONFIG, path, "%s.name \"%.70s\" is no volume of the pod", path, name);
    } else if (strchr(at + 1, '/') == NULL && realpath(at, real) == NULL) {
        validate_refuse(k, E_UNSUPPORTED, path,
                        "%s.mountPath %s does not exist on this machine and cannot be made without "
                        "a trace: use a path below "
                        "an existing folder, such as /run%s",
                        path, at, at);
    }
}

/* --- containers ---------------------------------------------------------------------------------- */

static void check_ports(struct checker *k, const json_t *container, const char *path)
{
    const json_t *item;
    char full[FIELD_BYTES];
    size_t i;

    validate_list(k, container, path, "ports");
    json_array_foreach(json_object_get(container, "ports"), i, item)
    {
        validate_field(full, "%s.ports[%zu]", path, i);
        validate_only(k, item, full, ALLOWED("name", "containerPort", "protocol"));
        validate_text(k, item, full, "name", false);
        if (json_object_get(item, "containerPort") == NULL) {
            validate_refuse(k, E_CONFIG, full, "%s needs a containerPort", full);
        }
        validate_port(k, item, full, "containerPort", false);
    }
}

static void check_container(struct checker *k, const json_t *spec, const json_t *c,
                            const char *path, bool is_init)
{
    static const char *const probes[] = {"readinessProbe", "livenessProbe", "startupProbe"};
    const char *restart = json_text(c, "restartPolicy");
    const json_t *item;
    char full[FIELD_BYTES];
    size_t i;

    validate_only(k, c, path,
                  ALLOWED("name", "image", "imagePullPolicy", "command", "args", "workingDir",
                          "env", "envFrom", "ports", "readinessProbe", "livenessProbe",
                          "startupProbe", "volumeMounts", "resources", "securityContext",
                          "restartPolicy", "terminationMessagePath", "terminationMessagePolicy"));
    validate_label(k, json_text(c, "name"), path, "the container's name");
    check_command(k, c, path, "command");
    check_command(k, c, path, "args");
    if (json_array_size(json_object_get(c, "command")) == 0) {
        validate_refuse(k, E_CONFIG, path,
                        "%s needs a command: on one machine there is no image to take it from",
                        path);
    }
    if (restart != NULL && (!is_init || strcmp(restart, "Always") != 0)) {
        validate_refuse(k, E_UNSUPPORTED, path,
                        "%s.restartPolicy can only be Always, of an init container", path);
    }
    validate_text(k, c, path, "workingDir", false);
    check_ports(k, c, path);
    for (i = 0; i < ARRAY_LEN(probes); i++) {
        check_probe(k, c, path, probes[i]);
    }
    check_env(k, c, path);
    check_context(k, c, path);
    validate_list(k, c, path, "volumeMounts");
    json_array_foreach(json_object_get(c, "volumeMounts"), i, item)
    {
        check_mount(k, spec, item, validate_field(full, "%s.volumeMounts[%zu]", path, i));
    }
}

static void check_containers(struct checker *k, const json_t *spec, const char *path,
                             const char *list)
{
    const json_t *item, *other;
    char full[FIELD_BYTES];
    size_t i, n;

    validate_list(k, spec, path, list);
    json_array_foreach(json_object_get(spec, list), i, item)
    {
        const char *name = json_text(item, "name");

        validate_field(full, "%s.%s[%zu]", path, list, i);
        check_container(k, spec, item, full, strcmp(list, "initContainers") == 0);
        json_array_foreach(json_object_get(spec, "containers"), n, other)
        {
            const char *its = json_text(other, "name");

            if (item != other && name != NULL && its != NULL && strcmp(name, its) == 0) {
                validate_refuse(k, E_CONFIG, full, "%s: another container is called %s, too", full,
                                name);
            }
        }
    }
}

void validate_pod_spec(struct checker *k, const json_t *spec, const char *path)
{
    const char *restart = json_text(spec, "restartPolicy");
    const json_t *item;
    char full[FIELD_BYTES];
    size_t i;

    validate_only(k, spec, path,
                  ALLOWED("containers", "initContainers", "volumes", "serviceAccountName",
                          "serviceAccount", "securityContext", "terminationGracePeriodSeconds",
                          "restartPolicy", "automountServiceAccountToken", "enableServiceLinks",
                          "dnsPolicy", "imagePullSecrets", "nodeSelector", "tolerations",
                          "affinity", "topologySpreadConstraints", "priorityClassName",
                          "schedulerName"));
    if (json_array_size(json_object_get(spec, "containers")) == 0) {
        validate_refuse(k, E_CONFIG, path, "%s needs containers", path);
    }
    if (json_array_size(json_object_get(spec, "containers")) +
            json_array_size(json_object_get(spec, "initContainers")) >
        CONTAINERS_MAX - 2) {
        validate_refuse(k, E_LIMIT, path, "%s has more than %d containers", path,
                        CONTAINERS_MAX - 2);
    }
    if (restart != NULL && strcmp(restart, "Always") != 0) {
        validate_field(full, "%s.restartPolicy", path);
        validate_refuse(k, E_CONFIG, full, "%s of a Deployment can only be Always", full);
    }
    validate_text(k, spec, path, "serviceAccountName", false);
    validate_number(k, spec, path, "terminationGracePeriodSeconds", 0, INT_MAX);
    check_pod_context(k, spec, path);
    validate_list(k, spec, path, "volumes");
    json_array_foreach(json_object_get(spec, "volumes"), i, item)
    {
        check_volume(k, item, validate_field(full, "%s.volumes[%zu]", path, i));
    }
    check_containers(k, spec, path, "initContainers");
    check_containers(k, spec, path, "containers");
}
