/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "core/alloc.h"
#include "core/err.h"

#define REQUEST_BYTES_MAX 8192

/* --- events -------------------------------------------------------------------------------------- */

static void touch_name(struct policy *p, char letter, const char *ns, const char *name)
{
    char key[DEP_KEY_BYTES];

    topics_touch(&p->topics, dep_key_name(letter, ns, name, key), CHANGED);
}

static void touch_service(struct policy *p, const struct object *service)
{
    char key[DEP_KEY_BYTES];
    struct arena a;
    struct service_view v;

    arena_init(&a, VIEW_ARENA_BYTES);
    service_view_read(service, &a, &v);
    for (unsigned i = 0; i < v.cluster_ips_count; i++) {
        topics_touch(&p->topics, dep_key_addr(DEP_IP, &v.cluster_ips[i], false, key), CHANGED);
    }
    arena_clear(&a);
    touch_name(p, DEP_SERVICE, service->ns, service->name);
}

static void touch_key(void *user, struct bytes key)
{
    struct policy *p = user;

    topics_touch(&p->topics, key, CHANGED);
}

static void on_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                     const struct object *old)
{
    struct policy *p = CONTAINER_OF(w, struct policy, watch);

    if (check_matters(o, old)) {
        problems_touch(p);
    }
    if (o->kind == KIND_SERVER) {
        servers_on_event(&p->servers, e, o);
        touch_name(p, DEP_SERVERS, o->ns, "");
    } else if (o->kind == KIND_SERVICE) {
        if (old != NULL) {
            touch_service(p, old);
        }
        touch_service(p, o);
    } else if (o->kind == KIND_POD) {
        touch_name(p, DEP_POD, o->ns, o->name);
    } else if (o->kind == KIND_EXTERNAL_WORKLOAD) {
        touch_name(p, DEP_EXTERNAL, o->ns, o->name);
    } else if (attach_is_for(o->kind)) { /* of the others only problems are looked for */
        attach_on_event(&p->attach, e, o, old);
        if (old != NULL) {
            attach_keys(old, touch_key, p);
        }
        attach_keys(o, touch_key, p);
    }
}

static void on_synced(struct cluster_watch *w)
{
    struct policy *p = CONTAINER_OF(w, struct policy, watch);

    topics_synced(&p->topics);
    problems_touch(p);
}

/* --- questions ----------------------------------------------------------------------------------- */

/* `fresh` is the topic to add when there is none of that key; otherwise it is freed. */
static enum grpc_status subscribe(struct policy *p, const char *key, struct topic *fresh,
                                  struct subscriber *s, const char **out_why)
{
    struct topic *t = topics_find(&p->topics, bytes_str(key));

    if (t != NULL) {
        fresh->ops->free(fresh);
    } else {
        t = fresh;
        if (topics_add(&p->topics, t, bytes_str(key)) != 0) {
            t->ops->free(t);
            *out_why = "too many distinct questions";
            return GRPC_RESOURCE_EXHAUSTED;
        }
    }
    topic_subscribe(t, s);
    return GRPC_OK;
}

enum grpc_status policy_watch_port(struct policy *p, struct bytes request, struct subscriber *s,
                                   const char **out_why)
{
    Io__Linkerd__Proxy__Inbound__PortSpec *m = NULL;
    struct workload_name w;
    char key[TOPIC_KEY_BYTES];
    uint32_t port = 0;

    if (request.len <= REQUEST_BYTES_MAX) {
        m = io__linkerd__proxy__inbound__port_spec__unpack(
            NULL, request.len, (const uint8_t *)(const void *)request.at);
    }
    *out_why = "malformed request";
    if (m != NULL) {
        port = m->port;
        if (workload_name_parse(bytes_str(m->workload), &w) != 0) {
            *out_why = "the workload is not {\"ns\":\"...\",\"pod\":\"...\"}";
            port = 0;
        } else if (port == 0 || port > UINT16_MAX) {
            *out_why = "the port is none";
            port = 0;
        }
        io__linkerd__proxy__inbound__port_spec__free_unpacked(m, NULL);
    }
    if (port == 0) {
        return GRPC_INVALID_ARGUMENT;
    }
    snprintf(key, sizeof(key), "in %c %s/%s %u", w.is_external ? 'w' : 'p', w.ns, w.name, port);
    return subscribe(p, key, inbound_new(p, &w, (uint16_t)port), s, out_why);
}

/* The namespace of who asks is part of the question: its routes and EgressNetworks count (wire 9.6). */
static enum grpc_status outbound_topic(struct policy *p,
                                       const Io__Linkerd__Proxy__Outbound__TrafficSpec *m,
                                       char key[TOPIC_KEY_BYTES], struct topic **out,
                                       const char **out_why)
{
    struct workload_name w = {.ns = ""};
    struct service_name name;
    struct addr at;
    char text[ADDR_TEXT_BYTES];

    if (m->source_workload[0] != '\0' &&
        workload_name_parse(bytes_str(m->source_workload), &w) != 0) {
        *out_why = "the source workload is not {\"ns\":\"...\",\"pod\":\"...\"}";
        return GRPC_INVALID_ARGUMENT;
    }
    if (m->target_case == IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_ADDR) {
        if (message_addr_read(m->addr, &at) != 0 || at.port == 0) {
            *out_why = "the address is malformed";
            return GRPC_INVALID_ARGUMENT;
        }
        snprintf(key, TOPIC_KEY_BYTES, "out %s %s", w.ns, addr_format(&at, text));
        *out = outbound_new_address(p, &at, w.ns);
        return GRPC_OK;
    }
    if (m->target_case != IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_AUTHORITY) {
        *out_why = "a target is needed";
        return GRPC_INVALID_ARGUMENT;
    }
    /* Names that are no service's are somebody else's: the proxy then goes on without us. */
    if (service_name_parse(bytes_str(m->authority), p->env->cluster_domain, &name) != 0 ||
        name.host[0] != '\0') {
        *out_why = "the authority is no service of this cluster";
        return GRPC_NOT_FOUND;
    }
    snprintf(key, TOPIC_KEY_BYTES, "out %s %s.%s:%u", w.ns, name.name, name.ns, name.port);
    *out = outbound_new_name(p, &name, w.ns);
    return GRPC_OK;
}

enum grpc_status policy_watch_outbound(struct policy *p, struct bytes request, struct subscriber *s,
                                       const char **out_why)
{
    Io__Linkerd__Proxy__Outbound__TrafficSpec *m = NULL;
    struct topic *t = NULL;
    char key[TOPIC_KEY_BYTES];
    enum grpc_status status;

    if (request.len <= REQUEST_BYTES_MAX) {
        m = io__linkerd__proxy__outbound__traffic_spec__unpack(
            NULL, request.len, (const uint8_t *)(const void *)request.at);
    }
    if (m == NULL) {
        *out_why = "malformed request";
        return GRPC_INVALID_ARGUMENT;
    }
    status = outbound_topic(p, m, key, &t, out_why);
    io__linkerd__proxy__outbound__traffic_spec__free_unpacked(m, NULL);
    return status == GRPC_OK ? subscribe(p, key, t, s, out_why) : status;
}

/* --- life ---------------------------------------------------------------------------------------- */

static uint64_t watched_kinds(void)
{
    return checked_kinds() | UINT64_C(1) << KIND_EXTERNAL_WORKLOAD;
}

struct policy *policy_new(const struct control_env *env)
{
    struct policy *p = mem_new(sizeof(*p));

    p->env = env;
    topics_init(&p->topics, env->loop, env->metrics, "policy");
    servers_init(&p->servers);
    attach_init(&p->attach);
    problems_init(&p->problems);
    p->watch = (struct cluster_watch){
        .kinds = watched_kinds(),
        .on_event = on_event,
        .on_synced = on_synced,
    };
    cluster_watch_add(env->cluster, &p->watch);
    return p;
}

bool policy_is_synced(const struct policy *p)
{
    return p->topics.synced;
}

void policy_free(struct policy *p)
{
    if (p != NULL) {
        cluster_watch_remove(&p->watch);
        topics_clear(&p->topics);
        servers_clear(&p->servers);
        attach_clear(&p->attach);
        problems_clear(p);
        mem_free(p);
    }
}
