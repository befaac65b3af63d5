/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/file.h"
#include "net/tls.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The control plane of a home: the same Deployments and Services as in a cluster, written here because
 * there is nothing to install; its certificates; and Prometheus with its configuration.
 */
#define ROOT_LIFE_NS (UINT64_C(365) * 24 * 3600 * NS_PER_S)
#define NS           NAME_CONTROL_NS

/* --- objects ------------------------------------------------------------------------------------- */

static json_t *metadata(const char *ns, const char *name)
{
    return ns != NULL ? json_pack("{s:s, s:s}", "name", name, "namespace", ns)
                      : json_pack("{s:s}", "name", name);
}

static json_t *account(const char *name)
{
    return json_pack("{s:s, s:s, s:o}", "apiVersion", "v1", "kind", "ServiceAccount", "metadata",
                     metadata(NS, name));
}

static json_t *service(const char *name, const char *component, bool headless,
                       const char *port_name, int port)
{
    json_t *spec =
        json_pack("{s:{s:s}, s:[{s:s, s:i, s:i}]}", "selector", LABEL_COMPONENT, component, "ports",
                  "name", port_name, "port", port, "targetPort", port);

    if (headless) {
        json_object_set_new(spec, "clusterIP", json_string("None"));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "apiVersion", "v1", "kind", "Service", "metadata",
                     metadata(NS, name), "spec", spec);
}

/* One container named as its component; probes on `admin`. */
static json_t *deployment(const char *name, const char *component, const char *sa, bool meshed,
                          json_t *container)
{
    /* The control plane does not wait for its own proxies: theirs need it to be ready. */
    json_t *template =
        json_pack("{s:{s:{s:s}, s:{s:s, s:s}}, s:{s:s, s:[o]}}", "metadata", "labels",
                  LABEL_COMPONENT, component, "annotations", ANNOTATION_INJECT,
                  meshed ? "enabled" : "disabled", ANNOTATION_CONFIG "proxy-await", "disabled",
                  "spec", "serviceAccountName", sa, "containers", container);

    return json_pack("{s:s, s:s, s:o, s:{s:i, s:{s:{s:s}}, s:o}}", "apiVersion", "apps/v1", "kind",
                     "Deployment", "metadata", metadata(NS, name), "spec", "replicas", 1,
                     "selector", "matchLabels", LABEL_COMPONENT, component, "template", template);
}

static json_t *named_port(const char *name, int port)
{
    return json_pack("{s:s, s:i}", "name", name, "containerPort", port);
}

static json_t *controller(const struct home *h, const char *name, json_t *components, json_t *ports,
                          int admin)
{
    json_t *command = json_array(), *item;
    size_t i;

    json_array_append_new(command, json_sprintf("%s/tulle-controller", h->bin));
    json_array_foreach(components, i, item)
    {
        json_array_append(command, item);
    }
    json_array_append_new(command, json_sprintf("--cluster-dir=%s/cluster", h->path));
    json_array_append_new(command,
                          json_sprintf("--identity-issuer-dir=%s/identity/issuer", h->path));
    json_array_append_new(
        command, json_sprintf("--identity-trust-anchors-file=%s/identity/anchors.pem", h->path));
    json_array_append_new(command, json_sprintf("--prometheus-url=http://prometheus.%s.svc.%s:%d",
                                                NS, h->values.cluster_domain, PORT_PROMETHEUS));
    if (h->options->allow_request_headers) {
        json_array_append_new(command, json_string("--allow-l5d-request-headers"));
    }
    json_array_append_new(command, json_sprintf("--log-level=%s", h->options->log_level != NULL
                                                                      ? h->options->log_level
                                                                      : "info"));
    json_decref(components);
    return json_pack("{s:s, s:s, s:o, s:o, s:{s:{s:s, s:i}, s:i}}", "name", name, "image",
                     "tulle/controller:" TULLE_VERSION, "command", command, "ports", ports,
                     "readinessProbe", "httpGet", "path", "/ready", "port", admin, "periodSeconds",
                     5);
}

static json_t *prometheus(const struct home *h)
{
    json_t *command = json_array(), *ports = json_array();

    json_array_append_new(command, json_string("prometheus"));
    json_array_append_new(command,
                          json_sprintf("--config.file=%s/prometheus/prometheus.yml", h->path));
    json_array_append_new(command, json_sprintf("--storage.tsdb.path=%s/prometheus/data", h->path));
    json_array_append_new(command, json_string("--storage.tsdb.retention.time=6h"));
    json_array_append_new(command, json_string("--log.level=warn"));
    json_array_append_new(ports, named_port("admin", PORT_PROMETHEUS));
    return json_pack("{s:s, s:s, s:o, s:o, s:{s:{s:s, s:i}, s:i}}", "name", "prometheus", "image",
                     "prometheus", "command", command, "ports", ports, "readinessProbe", "httpGet",
                     "path", "/-/ready", "port", PORT_PROMETHEUS, "periodSeconds", 5);
}

json_t *builtin_objects(const struct home *h)
{
    json_t *all = json_array(), *ports = json_array();

    json_array_append_new(all, json_pack("{s:s, s:s, s:o}", "apiVersion", "v1", "kind", "Namespace",
                                         "metadata", metadata(NULL, NS)));
    json_array_append_new(all, json_pack("{s:s, s:s, s:o}", "apiVersion", "v1", "kind", "Namespace",
                                         "metadata", metadata(NULL, "default")));
    json_array_append_new(all, json_pack("{s:s, s:s, s:o}", "apiVersion", "v1", "kind", "Node",
                                         "metadata", metadata(NULL, "local")));
    json_array_append_new(all, json_pack("{s:s, s:s, s:o, s:{s:s}}", "apiVersion", "v1", "kind",
                                         "ConfigMap", "metadata",
                                         metadata(NS, "linkerd-identity-trust-roots"), "data",
                                         "ca-bundle.crt", h->anchors_pem));
    json_array_append_new(all, account("linkerd-identity"));
    json_array_append_new(all, account("linkerd-destination"));
    json_array_append_new(all, account("prometheus"));

    json_array_append_new(ports, named_port("ident-grpc", PORT_IDENTITY));
    json_array_append_new(ports, named_port("ident-admin", PORT_ADMIN_IDENTITY));
    json_array_append_new(all, deployment("linkerd-identity", "identity", "linkerd-identity", true,
                                          controller(h, "identity", json_pack("[s]", "identity"),
                                                     ports, PORT_ADMIN_IDENTITY)));

    ports = json_array();
    json_array_append_new(ports, named_port("public-api", PORT_PUBLIC_API));
    json_array_append_new(ports, named_port("dest-grpc", PORT_PROXY_API));
    json_array_append_new(ports, named_port("policy-grpc", PORT_POLICY_FRONT));
    json_array_append_new(ports, named_port("proxy-api-admin", PORT_ADMIN_PROXY_API));
    json_array_append_new(ports, named_port("dest-admin", PORT_ADMIN_DESTINATION));
    json_array_append_new(ports, named_port("policy-admin", PORT_ADMIN_POLICY));
    json_array_append_new(ports, named_port("api-admin", PORT_ADMIN_PUBLIC_API));
    json_array_append_new(
        all, deployment("linkerd-controller", "destination", "linkerd-destination", true,
                        controller(h, "controller",
                                   json_pack("[s, s, s, s]", "proxy-api", "destination", "policy",
                                             "public-api"),
                                   ports, PORT_ADMIN_PROXY_API)));
    json_array_append_new(
        all, deployment("prometheus", "prometheus", "prometheus", false, prometheus(h)));

    json_array_append_new(all,
                          service("linkerd-identity", "identity", false, "grpc", PORT_IDENTITY));
    json_array_append_new(
        all, service("linkerd-identity-headless", "identity", true, "grpc", PORT_IDENTITY));
    json_array_append_new(all,
                          service("linkerd-dst", "destination", false, "grpc", PORT_PROXY_API));
    json_array_append_new(
        all, service("linkerd-dst-headless", "destination", true, "grpc", PORT_PROXY_API));
    json_array_append_new(
        all, service("linkerd-policy", "destination", true, "grpc", PORT_POLICY_FRONT));
    json_array_append_new(all, service("api", "destination", false, "http", PORT_PUBLIC_API));
    json_array_append_new(all, service("prometheus", "prometheus", false, "http", PORT_PROMETHEUS));
    return all;
}

/* --- certificates -------------------------------------------------------------------------------- */

static int make_root(struct home *h, const char *dir)
{
    char path[HOME_PATH_MAX], name[128];
    char *cert = NULL, *key = NULL;
    int rc;

    (void)snprintf(name, sizeof(name), "identity.%s.%s", NS, h->values.trust_domain);
    rc = tls_make_root(bytes_str(name), ROOT_LIFE_NS, &cert, &key);
    (void)snprintf(path, sizeof(path), "%.3700s/issuer", dir);
    if (rc == 0) {
        rc = tree_make(path);
    }
    if (rc == 0) {
        (void)snprintf(path, sizeof(path), "%.3700s/issuer/key.pem", dir);
        rc = file_write(path, bytes_str(key), 0600);
    }
    if (rc == 0) {
        (void)snprintf(path, sizeof(path), "%.3700s/issuer/crt.pem", dir);
        rc = file_write(path, bytes_str(cert), 0644);
    }
    if (rc == 0) {
        (void)snprintf(path, sizeof(path), "%.3700s/anchors.pem", dir);
        rc = file_write(path, bytes_str(cert), 0644);
    }
    mem_free(cert);
    if (key != NULL) {
        explicit_bzero(key, strlen(key));
    }
    mem_free(key);
    return rc;
}

int builtin_identity(struct home *h, char *problem, size_t problem_bytes)
{
    char dir[HOME_PATH_MAX + 16], path[HOME_PATH_MAX + 32];
    size_t len;
    int rc = 0;

    (void)snprintf(dir, sizeof(dir), "%s/identity", h->path);
    (void)snprintf(path, sizeof(path), "%s/anchors.pem", dir);
    if (access(path, R_OK) != 0) {
        rc = make_root(h, dir);
    }
    if (rc == 0) {
        rc = file_read(path, 1u << 20, &h->anchors_pem, &len);
    }
    if (rc == 0) {
        (void)snprintf(path, sizeof(path), "%s/token.key", h->path);
        rc = token_key_create(path);
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the home's certificates cannot be made in %s: %s",
                       dir, err_text(rc));
    }
    return rc;
}

/* --- Prometheus ---------------------------------------------------------------------------------- */

static const char prometheus_yml[] =
    "# Written by tulle local: who is scraped stands in targets/, one file a job.\n"
    "global:\n"
    "  scrape_interval: 10s\n"
    "  scrape_timeout: 10s\n"
    "  evaluation_interval: 10s\n"
    "scrape_configs:\n"
    "- job_name: prometheus\n"
    "  static_configs:\n"
    "  - targets: ['localhost:9090']\n"
    "- job_name: linkerd-controller\n"
    "  file_sd_configs:\n"
    "  - files: ['targets/linkerd-controller.json']\n"
    "    refresh_interval: 10s\n"
    "- job_name: linkerd-proxy\n"
    "  file_sd_configs:\n"
    "  - files: ['targets/linkerd-proxy.json']\n"
    "    refresh_interval: 10s\n";

int builtin_prometheus(const struct home *h)
{
    char path[HOME_PATH_MAX + 64];

    (void)snprintf(path, sizeof(path), "%s/prometheus/targets", h->path);
    TRY(tree_make(path));
    (void)snprintf(path, sizeof(path), "%s/prometheus/data", h->path);
    TRY(tree_make(path));
    (void)snprintf(path, sizeof(path), "%s/prometheus/prometheus.yml", h->path);
    return file_write(path, bytes_str(prometheus_yml), 0644);
}

static json_t *target_labels(const struct pod *p)
{
    const char *component =
        json_string_value(json_object_get(json_at(p->json, "metadata.labels"), LABEL_COMPONENT));
    json_t *labels = json_pack("{s:s, s:s, s:s, s:s}", "namespace", p->ns, "pod", p->name,
                               "deployment", p->workload, "pod_template_hash", p->template_hash);

    if (component != NULL) {
        json_object_set_new(labels, "control_plane_component", json_string(component));
    }
    return labels;
}

static json_t *target(const struct pod *p, int port, json_t *labels)
{
    char ip[ADDR_TEXT_BYTES];

    return json_pack("{s:[o], s:o}", "targets",
                     json_sprintf("%s:%d", addr_format_ip(&p->net.ip4, ip), port), "labels",
                     labels);
}

static bool ends_with(const char *text, const char *end)
{
    return bytes_ends(bytes_str(text), bytes_str(end));
}

static void add_targets(const struct pod *p, json_t *proxies, json_t *controllers)
{
    const json_t *port;
    size_t k;

    for (size_t i = 0; i < p->count; i++) {
        json_array_foreach(json_object_get(p->containers[i].spec, "ports"), k, port)
        {
            const char *name = json_text(port, "name");
            int number = (int)json_number(port, "containerPort", 0);

            if (name != NULL && strcmp(name, PORT_NAME_ADMIN) == 0) {
                json_t *labels = target_labels(p);

                json_object_set_new(labels, "control_plane_ns", json_string(NS));
                json_array_append_new(proxies, target(p, number, labels));
            } else if (name != NULL && strcmp(p->ns, NS) == 0 && ends_with(name, "-admin")) {
                json_t *labels = target_labels(p);

                json_object_set_new(labels, "component", json_string(p->containers[i].name));
                json_array_append_new(controllers, target(p, number, labels));
            }
        }
    }
}

static void write_targets(const struct home *h, const char *job, json_t *targets)
{
    char path[HOME_PATH_MAX + 64], *dump = json_dumps(targets, JSON_INDENT(1) | JSON_SORT_KEYS),
                                   *before = NULL;
    size_t len = 0;

    (void)snprintf(path, sizeof(path), "%s/prometheus/targets/%s.json", h->path, job);
    if (file_read(path, 64u << 20, &before, &len) != 0 || strcmp(before, dump) != 0) {
        (void)!file_write(path, bytes_str(dump),
                          0644); /* the next change tries again; Prometheus keeps what it has */
    }
    mem_free(before);
    mem_free(dump);
    json_decref(targets);
}

void builtin_scrape_targets(const struct home *h)
{
    json_t *proxies = json_array(), *controllers = json_array();
    struct map_iter it = MAP_ITER(&h->pods);

    while (map_next(&it)) {
        const struct pod *p = it.value;

        if (p->phase != POD_GONE) {
            add_targets(p, proxies, controllers);
        }
    }
    write_targets(h, "linkerd-proxy", proxies);
    write_targets(h, "linkerd-controller", controllers);
}
