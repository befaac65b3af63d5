/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

/*
 * Whether a Server has any port at all. One that selects no pod is obeyed by nobody, which looks like a
 * policy that is in effect.
 *
 * Looked at are descriptions of pods: what makes pods, and pods that nothing makes. So neither a Deployment
 * without replicas nor one whose pods are still to come is taken for a mistake. A namespace without any is
 * told in words of its own: a Server may be there first, but as often it is in the wrong namespace.
 */
struct reach {
    const struct policy *p;
    const struct object *server, *winner; /* winner: who has the port of the pod that was looked at last */
    bool has_pods, is_selecting, has_port, is_in_effect;
};

/* Where the description of the pods stands in the object. */
static const json_t *pod_of(const struct object *o)
{
    return o->kind == KIND_POD        ? o->json
           : o->kind == KIND_CRON_JOB ? json_at(o->spec, "jobTemplate.spec.template")
                                      : json_object_get(o->spec, "template");
}

static bool is_described(const struct object *o)
{
    return o->kind != KIND_POD ||
           json_array_size(json_object_get(o->metadata, "ownerReferences")) == 0;
}

static int64_t port_named(const json_t *containers, const char *name)
{
    for (size_t c = 0; c < json_array_size(containers); c++) {
        const json_t *ports = json_object_get(json_array_get(containers, c), "ports");

        for (size_t i = 0; i < json_array_size(ports); i++) {
            const json_t *port = json_array_get(ports, i);
            const char *has = json_text(port, "name");

            if (has != NULL && strcmp(has, name) == 0) {
                return json_number(port, "containerPort", 0);
            }
        }
    }
    return 0;
}

/* The port of the pod that the Server is for; 0: it has none. */
static int64_t port_on(const struct object *server, const json_t *pod)
{
    const char *name = json_text(server->spec, "port");
    int64_t port;

    if (name == NULL) {
        return json_number(server->spec, "port", 0);
    }
    port = port_named(json_at(pod, "spec.containers"), name);
    return port != 0 ? port : port_named(json_at(pod, "spec.initContainers"), name);
}

static bool is_selected(const struct object *server, const json_t *pod)
{
    const json_t *selector = json_object_get(server->spec, "podSelector");

    return selector != NULL && selector_matches(selector, json_at(pod, "metadata.labels"));
}

/* The Server that has that port of the pod in this one's place; NULL: none. */
static const struct object *winner_of(const struct reach *r, const json_t *pod, int64_t port)
{
    struct map_iter it = MAP_ITER(&r->p->env->cluster->objects[KIND_SERVER]);

    while (map_next(&it)) {
        const struct object *other = it.value;

        if (strcmp(other->ns, r->server->ns) == 0 && server_is_before(other, r->server) &&
            port_on(other, pod) == port && is_selected(other, pod)) {
            return other;
        }
    }
    return NULL;
}

static void reach_try(struct reach *r, const struct object *o)
{
    const json_t *pod;
    int64_t port;

    if (strcmp(o->ns, r->server->ns) != 0 || !is_described(o)) {
        return;
    }
    pod = pod_of(o);
    r->has_pods = true;
    if (!is_selected(r->server, pod)) {
        return;
    }
    r->is_selecting = true;
    port = port_on(r->server, pod);
    if (port == 0) {
        return;
    }
    r->has_port = true;
    r->winner = winner_of(r, pod, port);
    r->is_in_effect = r->winner == NULL;
}

bool reach_describes_pods(enum kind k)
{
    switch ((int)k) {
    case KIND_POD:
    case KIND_DEPLOYMENT:
    case KIND_REPLICA_SET:
    case KIND_STATEFUL_SET:
    case KIND_DAEMON_SET:
    case KIND_REPLICATION_CONTROLLER:
    case KIND_JOB:
    case KIND_CRON_JOB:
        return true;
    default:
        return false;
    }
}

bool reach_is_equal(const struct object *a, const struct object *b)
{
    const json_t *x = pod_of(a), *y = pod_of(b);

    if (a->kind == KIND_POD) { /* its containers do not change */
        x = a->labels;
        y = b->labels;
    }
    return x == y || json_equal(x, y) == 1;
}

void server_reach_check(const struct policy *p, struct reading *r, const struct object *server)
{
    const char *name = json_text(server->spec, "port");
    struct reach at = {.p = p, .server = server};

    for (unsigned k = 0; k < KIND_COUNT; k++) {
        struct map_iter it = MAP_ITER(&p->env->cluster->objects[k]);

        while (reach_describes_pods((enum kind)k) && !at.is_in_effect && map_next(&it)) {
            reach_try(&at, it.value);
        }
    }
    if (at.is_in_effect) {
        return;
    }
    if (!at.has_pods) {
        reading_at(r, "metadata.namespace");
        reading_refuse(r, "there is no pod in the namespace %s, nor anything that makes one", server->ns);
        reading_advise(r, "add them, or move it to their namespace");
    } else if (!at.is_selecting) {
        reading_at(r, "spec.podSelector");
        reading_refuse(r, "no pod of the namespace has the labels that it selects");
        reading_advise(r, "correct them, or the labels of the pods");
    } else if (at.has_port) {
        reading_at(r, "spec.port");
        reading_refuse(r,
                       "the Server %s/%s has that port of the pods that it selects, being older or, of "
                       "one age, first by name",
                       at.winner->ns, at.winner->name);
        reading_advise(r, "make one Server of the two");
    } else if (name != NULL && strncmp(name, "linkerd-", strlen("linkerd-")) != 0) {
        /* Names of the sidecar's own ports come with it. */
        reading_at(r, "spec.port");
        reading_refuse(r, "no container of the pods that it selects has a port called %.100s", name);
        reading_advise(r, "correct the name, name the port in the container, or write its number");
    }
}
