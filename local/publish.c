/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>

#define KEY_BYTES   192
#define ABOUT_BYTES (KEY_BYTES + 16)
#define CONTROL_KEY "control/"

/*
 * Service ports on the host's localhost: those of --publish, and those of Services of type
 * LoadBalancer (their port) and NodePort (their node port); and the control plane's ports that the CLI
 * uses, as Unix sockets.
 */
struct published {
    struct list node;
    struct net_publish *publish; /* NULL: it could not be opened */
    char key[KEY_BYTES];         /* "demo/web:80" */
    struct addr to;
    uint16_t asked_port; /* 0: any */
    uint16_t host_port;  /* 0: a Unix socket, or none yet */
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

static void unpublish(struct home *h, struct published *p)
{
    char about[ABOUT_BYTES];

    (void)snprintf(about, sizeof(about), "publish %s", p->key);
    home_problem_over(h, about);
    net_unpublish(p->publish);
    list_unlink(&p->node);
    mem_free(p);
}

/* One that could not be opened stays in the list, to be tried again, as long as it is wanted. */
static void open_one(struct home *h, struct published *p, const char *socket)
{
    char about[ABOUT_BYTES], problem[256] = "";
    int rc;

    (void)snprintf(about, sizeof(about), "publish %s", p->key);
    if (socket != NULL) {
        rc = net_publish_unix(h->net, &h->loop, socket, &p->to, &p->publish);
        (void)snprintf(problem, sizeof(problem), "%s", err_text(rc));
    } else {
        rc = net_publish(h->net, &h->loop, p->asked_port, &p->to, &p->publish, &p->host_port,
                         problem, sizeof(problem));
    }
    if (rc != 0) {
        p->publish = NULL;
        home_problem(h, about, "%s cannot be published%s%s: %s", p->key,
                     socket != NULL ? " at " : "", socket != NULL ? socket : "", problem);
        return;
    }
    home_problem_over(h, about);
    if (socket == NULL) {
        log_info("published; service=%s address=http://localhost:%u", p->key, p->host_port);
    }
}

static void want(struct home *h, const char *key, const struct addr *to, uint16_t port,
                 const char *socket)
{
    struct published *p = find(h, key);

    if (p != NULL && p->asked_port != port) {
        unpublish(h, p);
        p = NULL;
    }
    if (p == NULL) {
        p = mem_new(sizeof(*p));
        p->asked_port = port;
        (void)snprintf(p->key, sizeof(p->key), "%s", key);
        list_append(&h->publishes, &p->node);
    }
    p->is_wanted = true;
    if (p->publish != NULL && !addr_eq(&p->to, to)) {
        net_publish_retarget(p->publish, to);
    }
    p->to = *to;
    if (p->publish == NULL) {
        open_one(h, p, socket);
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
    char key[KEY_BYTES];
    size_t i;

    if (ip == NULL || addr_parse_ip(bytes_str(ip), &to) != 0) {
        return;
    }
    json_array_foreach(json_object_get(service->spec, "ports"), i, port)
    {
        const char *protocol = json_text(port, "protocol");
        int host;

        if (protocol != NULL && strcmp(protocol, "TCP") != 0) {
            continue;
        }
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

/* The controller's pod: a ready one if there is any. */
static const struct pod *control_pod(const struct home *h)
{
    const struct object *service = cluster_get(h->cluster, KIND_SERVICE, NAME_CONTROL_NS, "api");
    struct map_iter it = MAP_ITER(&h->pods);
    const struct pod *found = NULL;

    while (service != NULL && map_next(&it)) {
        const struct pod *p = it.value;

        if (strcmp(p->ns, NAME_CONTROL_NS) == 0 && p->phase < POD_LEAVING &&
            selector_matches(json_object_get(service->spec, "selector"),
                             json_at(p->json, "metadata.labels")) &&
            (found == NULL || (p->is_ready && !found->is_ready))) {
            found = p;
        }
    }
    return found;
}

/* The CLI's ways into the control plane: straight to the controller's pod. */
static void publish_control(struct home *h)
{
    static const struct {
        const char *name;
        uint16_t port;
    } ways[] = {
        {"api", PORT_PUBLIC_API}, {"destination", PORT_PROXY_API}, {"policy", PORT_POLICY_FRONT}};
    const struct pod *p = control_pod(h);
    char key[KEY_BYTES], path[HOME_PATH_MAX + 32];

    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct published *known;

        (void)snprintf(key, sizeof(key), "%s%s", CONTROL_KEY, ways[i].name);
        (void)snprintf(path, sizeof(path), "%s/run/%s.sock", h->path, ways[i].name);
        known = find(h, key);
        if (p != NULL) {
            struct addr to = p->net.ip4;

            to.port = ways[i].port;
            want(h, key, &to, 0, path);
        } else if (known != NULL) {
            known->is_wanted = true; /* between two pods of it */
        }
    }
}

/* What was asked for and no Service has: a slip of the pen, so `up` says so. */
static void check_asked(struct home *h)
{
    struct bytes rest = bytes_str(h->options->publish), item, name, port;
    char key[KEY_BYTES], about[ABOUT_BYTES];

    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &item, &rest);
        (void)bytes_split(item, '=', &name, &port);
        (void)snprintf(key, sizeof(key), BYTES_FMT, BYTES_ARG(name));
        (void)snprintf(about, sizeof(about), "publish %s", key);
        if (find(h, key) == NULL) {
            home_problem(h, about,
                         "--publish %s: there is no Service port of this name in the manifests",
                         key);
        } else if (find(h, key)->publish != NULL) {
            home_problem_over(h, about);
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
    publish_control(h);
    LIST_FOREACH(node, &h->publishes)
    {
        struct published *p = LIST_ITEM(node, struct published, node);

        if (!p->is_wanted) {
            unpublish(h, p);
        }
    }
    check_asked(h);
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
    while (!list_is_empty(&h->publishes)) {
        unpublish(h, LIST_ITEM(h->publishes.next, struct published, node));
    }
}
