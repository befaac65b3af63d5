/* SPDX-License-Identifier: Apache-2.0 */
#include "control/servers.h"

#include "core/alloc.h"

struct server_list { /* of a namespace, in the order in which they are asked */
    const struct object **at;
    size_t count;
};

void servers_init(struct servers *s)
{
    map_init(&s->by_ns);
}

void servers_clear(struct servers *s)
{
    struct map_iter it = MAP_ITER(&s->by_ns);

    while (map_next(&it)) {
        struct server_list *l = it.value;

        for (size_t i = 0; i < l->count; i++) {
            object_unref(l->at[i]);
        }
        mem_free(l->at);
        mem_free(l);
    }
    map_clear(&s->by_ns);
}

bool server_is_before(const struct object *a, const struct object *b)
{
    return a->created_ns != b->created_ns ? a->created_ns < b->created_ns
                                          : strcmp(a->name, b->name) < 0;
}

static void list_drop(struct server_list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->at[i]->name, name) == 0) {
            object_unref(l->at[i]);
            l->count--;
            memmove(&l->at[i], &l->at[i + 1], (l->count - i) * sizeof(l->at[0]));
            return;
        }
    }
}

static void list_add(struct server_list *l, const struct object *server)
{
    size_t at = 0;

    while (at < l->count && server_is_before(l->at[at], server)) {
        at++;
    }
    l->at = mem_resize(l->at, l->count + 1, sizeof(l->at[0]));
    memmove(&l->at[at + 1], &l->at[at], (l->count - at) * sizeof(l->at[0]));
    object_ref(server);
    l->at[at] = server;
    l->count++;
}

void servers_on_event(struct servers *s, enum cluster_event e, const struct object *server)
{
    struct server_list *l = map_get(&s->by_ns, bytes_str(server->ns));

    assert(server->kind == KIND_SERVER);
    if (l == NULL) {
        l = mem_new(sizeof(*l));
        (void)map_put(&s->by_ns, bytes_str(server->ns), l);
    }
    list_drop(l, server->name);
    if (e == CLUSTER_UPSERT) {
        list_add(l, server);
    }
    if (l->count == 0) {
        (void)map_remove(&s->by_ns, bytes_str(server->ns));
        mem_free(l->at);
        mem_free(l);
    }
}

static bool pod_has_named_port(const struct pod_view *pod, const char *name, uint16_t port)
{
    for (size_t c = 0; c < pod->containers_count; c++) {
        for (size_t p = 0; p < pod->containers[c].ports_count; p++) {
            const struct container_port *has = &pod->containers[c].ports[p];

            if (has->protocol == PORT_TCP && has->port == port && strcmp(has->name, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool external_has_named_port(const struct object *workload, const char *name, uint16_t port)
{
    const json_t *ports = json_object_get(workload->spec, "ports");
    struct json_iter it = JSON_ITER(ports);

    while (json_is_array(ports) && json_next(&it)) {
        const char *has = json_text(it.value, "name");

        if (has != NULL && strcmp(has, name) == 0 && json_number(it.value, "port", 0) == port) {
            return true;
        }
    }
    return false;
}

static bool server_has(const struct object *server, const struct object *workload,
                       const struct pod_view *pod, uint16_t port)
{
    const char *name = json_text(server->spec, "port");
    const char *selector = pod != NULL ? "podSelector" : "externalWorkloadSelector";

    if (name == NULL) {
        if (json_number(server->spec, "port", 0) != port) {
            return false;
        }
    } else if (pod != NULL ? !pod_has_named_port(pod, name, port)
                           : !external_has_named_port(workload, name, port)) {
        return false;
    }
    return selector_matches(json_object_get(server->spec, selector), workload->labels);
}

const struct object *servers_pick(const struct servers *s, const struct object *workload,
                                  const struct pod_view *pod, uint16_t port)
{
    const struct server_list *l = map_get(&s->by_ns, bytes_str(workload->ns));

    for (size_t i = 0; l != NULL && i < l->count; i++) {
        if (server_has(l->at[i], workload, pod, port)) {
            return l->at[i];
        }
    }
    return NULL;
}

bool server_is_opaque(const struct object *server)
{
    const char *protocol = server != NULL ? json_text(server->spec, "proxyProtocol") : NULL;

    return protocol != NULL && strcmp(protocol, "opaque") == 0;
}
