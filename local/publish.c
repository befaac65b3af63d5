/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>

/*
 * Service ports on the host's localhost: those of --publish, and those of Services of type LoadBalancer (their port) and
 * NodePort (their node port); and the control plane's ports that the CLI uses, as Unix sockets.
 */
struct published {
    struct list node;
    struct net_publish *publish;
    char key[192]; /* "demo/web:80" */
    struct addr to;
    uint16_t host_port; /* 0: a Unix socket */
    bool is_wanted;
};

static struct published *find(struct home *h, const char *key)
{
    LIST_FOREACH(node, &h->publishes)
    {
        struct published *p = LIST_ITEM(node, struct published, node);

        if (strcmp(p->key, key) == 0) {
            return p;
        }
    }
    return NULL;
}

static void want(struct home *h, const char *key, const struct addr *to, uint16_t host_port,
                 const char *socket)
{
    struct published *p = find(h, key);
    char problem[256] = "";
    int rc;

    if (p != NULL) {
        p->is_wanted = true;
        if (!addr_eq(&p->to, to)) {
            p->to = *to;
            net_publish_retarget(p->publish, to);
        }
        return;
    }
    p = mem_new(sizeof(*p));
    p->to = *to;
    p->is_wanted = true;
    (void)snprintf(p->key, sizeof(p->key), "%s", key);
    if (socket != NULL) {
        rc = net_publish_unix(h->net, &h->loop, socket, to, &p->publish);
        (void)snprintf(problem, sizeof(problem), "%s", err_text(rc));
    } else {
        rc = net_publish(h->net, &h->loop, host_port, to, &p->publish, &p->host_port, problem,
                         sizeof(problem));
    }
    if (rc != 0) {
        home_problem(h, "%s cannot be published%s%s: %s", key, socket != NULL ? " at " : "",
                     socket != NULL ? socket : "", problem);
        mem_free(p);
        return;
    }
    list_append(&h->publishes, &p->node);
    if (socket == NULL) {
        log_info("published; service=%s address=http://localhost:%u", key, p->host_port);
    }
}

/* The host port that --publish "ns/name:port=host,..." asks for; -1 when it does not name this one. */
static int asked_port(const struct home *h, const char *key)
{
    struct bytes rest = bytes_str(h->options->publish), item, name, port;
    uint64_t value;

    while (rest.len > 0) {
        bool has_port;

        (void)bytes_split(rest, ',', &item, &rest);
        has_port = bytes_split(item, '=', &name, &port);
        if (bytes_eq(name, bytes_str(key))) {
            return has_port && bytes_to_u64(port, UINT16_MAX, &value) == 0 ? (int)value : 0;
        }
    }
    return -1;
}

static void publish_service(struct home *h, const struct object *service)
{
    const char *type = json_text(service->spec, "type"),
               *ip = json_text(service->spec, "clusterIP");
    const json_t *port;
    struct addr to;
    char key[192];
    size_t i;

    if (ip == NULL || addr_parse_ip(bytes_str(ip), &to) != 0) {
        return;
    }
    json_array_foreach(json_object_get(service->spec, "ports"), i, port)
    {
        int host;

        to.port = (uint16_t)json_number(port, "port", 0);
        (void)snprintf(key, sizeof(key), "%.60s/%.100s:%u", service->ns, service->name, to.port);
        host = asked_port(h, key);
        if (host < 0 && type != NULL && strcmp(type, "LoadBalancer") == 0) {
            host = to.port;
        }
        if (host < 0 && type != NULL && strcmp(type, "NodePort") == 0) {
            host = (int)json_number(port, "nodePort", 0);
        }
        if (host >= 0) {
            want(h, key, &to, (uint16_t)host, NULL);
        }
    }
}

/* The CLI's ways into the control plane: straight to the controller's pod, past its proxy's inbound policy. */
static void publish_control(struct home *h, const char *name, uint16_t port)
{
    const struct object *service = cluster_get(h->cluster, KIND_SERVICE, NAME_CONTROL_NS, "api");
    struct map_iter it = MAP_ITER(&h->pods);
    char key[64], path[HOME_PATH_MAX + 32];

    (void)snprintf(key, sizeof(key), "control/%s", name);
    (void)snprintf(path, sizeof(path), "%s/run/%s.sock", h->path, name);
    while (service != NULL && map_next(&it)) {
        const struct pod *p = it.value;

        if (p->phase < POD_LEAVING && selector_matches(json_object_get(service->spec, "selector"),
                                                       json_at(p->json, "metadata.labels"))) {
            struct addr to = p->net.ip4;

            to.port = port;
            want(h, key, &to, 0, path);
            return;
        }
    }
}

void service_publish(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_SERVICE]);

    LIST_FOREACH(node, &h->publishes)
    {
        LIST_ITEM(node, struct published, node)->is_wanted = false;
    }
    while (map_next(&it)) {
        publish_service(h, it.value);
    }
    publish_control(h, "api", PORT_PUBLIC_API);
    publish_control(h, "destination", PORT_PROXY_API);
    publish_control(h, "policy", PORT_POLICY_FRONT);
    LIST_FOREACH(node, &h->publishes)
    {
        struct published *p = LIST_ITEM(node, struct published, node);

        if (!p->is_wanted && strncmp(p->key, "control/", 8) != 0) {
            net_unpublish(p->publish);
            list_unlink(&p->node);
            mem_free(p);
        }
    }
}

void service_published(const struct home *h, json_t *to)
{
    LIST_FOREACH(node, &h->publishes)
    {
        const struct published *p = LIST_ITEM(node, struct published, node);

        if (p->host_port != 0) {
            json_object_set_new(to, p->key, json_integer(p->host_port));
        }
    }
}

void service_unpublish_all(struct home *h)
{
    struct list *node;

    while ((node = list_pop(&h->publishes)) != NULL) {
        struct published *p = LIST_ITEM(node, struct published, node);

        net_unpublish(p->publish);
        mem_free(p);
    }
}
