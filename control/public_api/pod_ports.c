/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "cluster/view.h"

/*
 * Which ports of a pod anybody speaks of: its containers, their probes, and the Services that select it.
 */
typedef Linkerd2__Public__Pod__ServicePort service_port_message;

static void add_own_ports(const struct pod_view *view, struct arena *a, Linkerd2__Public__Pod *to)
{
    size_t count = view->probes_count;

    for (size_t c = 0; c < view->containers_count; c++) {
        count += view->containers[c].ports_count;
    }
    to->ports = arena_new(a, (count + 1) * sizeof(to->ports[0]));
    for (size_t c = 0; c < view->containers_count; c++) {
        for (size_t i = 0; i < view->containers[c].ports_count; i++) {
            to->ports[to->n_ports++] = view->containers[c].ports[i].port;
        }
    }
    for (size_t i = 0; i < view->probes_count; i++) {
        to->ports[to->n_ports++] = view->probes[i].port;
    }
}

static uint16_t target_of(const struct service_port *port, const struct pod_view *pod)
{
    uint16_t named = 0;

    return port->target_name != NULL && !pod_view_port(pod, port->target_name, &named) ? 0
           : port->target_name != NULL                                                  ? named
                                                                                        : port->target_port;
}

static void add_service(const struct object *service, const struct pod_view *pod, struct arena *a,
                        Linkerd2__Public__Pod *to)
{
    struct service_view view;

    service_view_read(service, a, &view);
    if (view.selector == NULL || !selector_matches(view.selector, pod->object->labels)) {
        return;
    }
    for (size_t i = 0; i < view.ports_count && to->n_service_ports < POD_SERVICE_PORTS_MAX; i++) {
        uint16_t target = target_of(&view.ports[i], pod);
        service_port_message *m;

        if (view.ports[i].protocol != PORT_TCP || target == 0) {
            continue;
        }
        m = arena_new(a, sizeof(*m));
        linkerd2__public__pod__service_port__init(m);
        m->service = arena_strdup(a, bytes_str(service->name));
        m->port = view.ports[i].port;
        m->target = target;
        to->service_ports[to->n_service_ports++] = m;
    }
}

void pod_ports_fill(const struct public_api *api, const struct object *pod, struct arena *a,
                    Linkerd2__Public__Pod *to)
{
    struct map_iter it = MAP_ITER(&api->env->cluster->objects[KIND_SERVICE]);
    struct pod_view view;

    pod_view_read(pod, a, &view);
    add_own_ports(&view, a, to);
    to->service_ports = arena_new(a, POD_SERVICE_PORTS_MAX * sizeof(to->service_ports[0]));
    while (map_next(&it)) {
        const struct object *service = it.value;

        if (strcmp(service->ns, pod->ns) == 0) {
            add_service(service, &view, a, to);
        }
    }
}
