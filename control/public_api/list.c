/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "api/names.h"
#include "cluster/view.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

/*
 * ListPods and ListServices. Whether Prometheus has heard of a pod's proxy, and when, is asked; without
 * Prometheus the pods are listed all the same, as unheard of (SelfCheck says what is wrong).
 */
enum { ASK_START, ASK_REPORT, ASK_COUNT };

static const char *const questions[ASK_COUNT] = {
    [ASK_START] = "max by (namespace,pod) (process_start_time_seconds{job=~\".*linkerd-proxy\"})",
    [ASK_REPORT] =
        "max by (namespace,pod) (timestamp(process_start_time_seconds{job=~\".*linkerd-proxy\"}))",
};

struct heard {
    double start_s, report_s;
};

struct pods_call;
struct pods_query {
    struct prom_query query;
    struct pods_call *call;
    unsigned what;
};
struct pods_call {
    struct call call;
    Linkerd2__Public__ListPodsRequest *message;
    const struct stat_kind *kind; /* NULL: pods of any kind */
    const char *ns, *name;
    const struct label_selector *labels;
    struct arena arena;
    struct map heard; /* "ns/name" to struct heard, in the arena */
    struct pods_query queries[ASK_COUNT];
    unsigned waiting;
};

static void pods_free(struct pods_call *p)
{
    for (size_t i = 0; i < ASK_COUNT; i++) {
        prom_query_cancel(&p->queries[i].query);
    }
    call_end(&p->call);
    map_clear(&p->heard);
    linkerd2__public__list_pods_request__free_unpacked(p->message, NULL);
    arena_clear(&p->arena);
    mem_free(p);
}

static void pods_abandon(struct call *c)
{
    pods_free(CONTAINER_OF(c, struct pods_call, call));
}

/* --- one pod ------------------------------------------------------------------------------------- */

static void fill_owner(const struct public_api *api, const struct object *o, struct arena *a,
                       Linkerd2__Public__Pod *pod)
{
    struct workload w;
    char *owner;

    pod_workload(api->env->cluster, o, &w);
    owner = arena_printf(a, "%s/%s", o->ns, w.name);
    if (strcmp(w.kind, "deployment") == 0) {
        pod->deployment = owner;
        pod->owner_case = LINKERD2__PUBLIC__POD__OWNER_DEPLOYMENT;
    } else if (strcmp(w.kind, "replicaset") == 0) {
        pod->replica_set = owner;
        pod->owner_case = LINKERD2__PUBLIC__POD__OWNER_REPLICA_SET;
    } else if (strcmp(w.kind, "replicationcontroller") == 0) {
        pod->replication_controller = owner;
        pod->owner_case = LINKERD2__PUBLIC__POD__OWNER_REPLICATION_CONTROLLER;
    } else if (strcmp(w.kind, "statefulset") == 0) {
        pod->stateful_set = owner;
        pod->owner_case = LINKERD2__PUBLIC__POD__OWNER_STATEFUL_SET;
    } else if (strcmp(w.kind, "daemonset") == 0) {
        pod->daemon_set = owner;
        pod->owner_case = LINKERD2__PUBLIC__POD__OWNER_DAEMON_SET;
    } else if (strcmp(w.kind, "job") == 0 || strcmp(w.kind, "cronjob") == 0) {
        pod->job = owner;
        pod->owner_case = LINKERD2__PUBLIC__POD__OWNER_JOB;
    }
}

static bool is_proxy_ready(const struct object *o)
{
    static const char *const lists[] = {"initContainerStatuses", "containerStatuses"};

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct json_iter it = JSON_ITER(json_object_get(o->status, lists[i]));

        while (json_next(&it)) {
            const char *name = json_text(it.value, "name");

            if (name != NULL && strcmp(name, CONTAINER_PROXY) == 0) {
                return json_flag(it.value, "ready", false);
            }
        }
    }
    return false;
}

static Google__Protobuf__Duration *duration(struct arena *a, double seconds)
{
    Google__Protobuf__Duration *d = arena_new(a, sizeof(*d));

    google__protobuf__duration__init(d);
    d->seconds = (int64_t)(seconds > 0 ? seconds : 0);
    d->nanos = (int32_t)((seconds > 0 ? seconds - (double)d->seconds : 0) * 1e9);
    return d;
}

static char *copy(struct arena *a, const char *text)
{
    return arena_strdup(a, bytes_str(text != NULL ? text : ""));
}

static Linkerd2__Public__Pod *pod_message(struct pods_call *p, const struct object *o)
{
    Linkerd2__Public__Pod *pod = arena_new(&p->arena, sizeof(*pod));
    double now_s = (double)clock_wall_ns() / (double)NS_PER_S;
    const struct heard *heard;
    char word[64];

    linkerd2__public__pod__init(pod);
    pod->name = arena_printf(&p->arena, "%s/%s", o->ns, o->name);
    pod->podip = copy(&p->arena, json_text(o->status, "podIP"));
    fill_owner(p->call.api, o, &p->arena, pod);
    pod_status_word(o, word);
    pod->status = copy(&p->arena, word);
    pod->controllernamespace = copy(&p->arena, object_label(o, LABEL_CONTROL_NS));
    pod->controlplane = object_label(o, LABEL_COMPONENT) != NULL;
    pod->proxyready = is_proxy_ready(o);
    pod->proxyversion = copy(&p->arena, object_annotation(o, ANNOTATION_PROXY_VERSION));
    pod->resourceversion = copy(&p->arena, json_text(o->metadata, "resourceVersion"));
    heard = map_get(&p->heard, bytes_str(pod->name));
    if (heard != NULL) {
        pod->added = heard->report_s > 0;
        pod->sincelastreport = duration(&p->arena, now_s - heard->report_s);
        pod->uptime = duration(&p->arena, heard->start_s > 0 ? now_s - heard->start_s : 0);
    }
    return pod;
}

/* --- the list ------------------------------------------------------------------------------------ */

static bool is_wanted(const struct pods_call *p, const struct object *pod)
{
    const struct cluster *c = p->call.api->env->cluster;
    const struct object *owner;

    if (!pod_is_present(pod) || (p->ns[0] != '\0' && strcmp(pod->ns, p->ns) != 0) ||
        !label_selector_matches(p->labels, pod->labels)) {
        return false;
    }
    if (p->kind == NULL || p->name[0] == '\0') {
        return true;
    }
    owner = cluster_get(c, p->kind->kind, p->kind->kind == KIND_NAMESPACE ? "" : pod->ns, p->name);
    return owner != NULL && pod_belongs(c, pod, p->kind, owner);
}

static void pods_finish(struct pods_call *p)
{
    struct service_request *r = p->call.request;
    struct map_iter it = MAP_ITER(&p->call.api->env->cluster->objects[KIND_POD]);
    Linkerd2__Public__Pod **pods = mem_new_array(ROWS_MAX, sizeof(*pods));
    Linkerd2__Public__ListPodsResponse response;
    size_t count = 0;
    bool is_full = false;

    while (map_next(&it) && !is_full) {
        if (is_wanted(p, it.value)) {
            is_full = count == ROWS_MAX;
            if (!is_full) {
                pods[count] = pod_message(p, it.value);
                if (p->message->with_ports && count < PORTS_PODS_MAX) {
                    pod_ports_fill(p->call.api, it.value, &p->arena, pods[count]);
                }
                count++;
            }
        }
    }
    linkerd2__public__list_pods_response__init(&response);
    response.pods = pods;
    response.n_pods = count;
    if (is_full) {
        answer_error(r, 413, "there are more than %d pods; name a namespace", ROWS_MAX);
    } else {
        answer_message(r, &response.base);
    }
    mem_free(pods);
    pods_free(p);
}

static void take_sample(struct pods_query *q, const json_t *sample)
{
    const char *ns = prom_sample_label(sample, "namespace"),
               *name = prom_sample_label(sample, "pod");
    struct pods_call *p = q->call;
    struct heard *h;
    char *key;
    double value;

    if (name[0] == '\0' || !prom_sample_value(sample, &value) ||
        map_count(&p->heard) >= 2 * ROWS_MAX) {
        return;
    }
    key = mem_printf("%s/%s", ns, name);
    h = map_get(&p->heard, bytes_str(key));
    if (h == NULL) {
        h = arena_new(&p->arena, sizeof(*h));
        (void)map_put(&p->heard, bytes_str(key), h);
    }
    mem_free(key);
    *(q->what == ASK_START ? &h->start_s : &h->report_s) = value;
}

static void on_answer(struct prom_query *query, int err, const json_t *samples, const char *problem)
{
    struct pods_query *q = query->user;
    struct pods_call *p = q->call;

    if (err != 0) {
        log_warn("pods are listed without what Prometheus knows of them; reason=\"%s\"", problem);
    }
    for (size_t i = 0; i < json_array_size(samples); i++) {
        take_sample(q, json_array_get(samples, i));
    }
    if (--p->waiting == 0) {
        pods_finish(p);
    }
}

/* The field that stood for the whole selector in the first versions of the API: clients may still fill it. */
static const char *old_namespace(const Linkerd2__Public__ListPodsRequest *m)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return m->namespace_;
#pragma GCC diagnostic pop
}

static int read_request(struct pods_call *p, char *problem, size_t problem_bytes)
{
    const Linkerd2__Public__ResourceSelection *s = p->message->selector;
    const Linkerd2__Public__Resource *r = s != NULL ? s->resource : NULL;

    p->ns = r != NULL && r->namespace_[0] != '\0' ? r->namespace_ : old_namespace(p->message);
    p->name = r != NULL ? r->name : "";
    if (r != NULL && r->type[0] != '\0') {
        p->kind = stat_kind_find(r->type);
        if (p->kind == NULL || p->kind->kind == KIND_COUNT) {
            (void)snprintf(problem, problem_bytes, "\"%.64s\" is no kind of resource that has pods",
                           r->type);
            return E_CONFIG;
        }
    }
    if (s != NULL && s->label_selector[0] != '\0') {
        return label_selector_parse(&p->arena, s->label_selector, &p->labels, problem,
                                    problem_bytes);
    }
    return 0;
}

void call_list_pods(struct public_api *api, struct service_request *r)
{
    Linkerd2__Public__ListPodsRequest *m = linkerd2__public__list_pods_request__unpack(
        NULL, r->body.len, (const uint8_t *)(const void *)r->body.at);
    struct pods_call *p;
    char problem[512];

    if (m == NULL) {
        answer_error(r, 400, "the request is no ListPodsRequest");
        return;
    }
    p = mem_new(sizeof(*p));
    p->message = m;
    arena_init(&p->arena, SIZE_MAX); /* pods are bounded in number, their names in length */
    map_init(&p->heard);
    if (read_request(p, problem, sizeof(problem)) != 0) {
        answer_error(r, 400, "%s", problem);
        pods_free(p);
        return;
    }
    if (!call_begin(api, &p->call, r, pods_abandon)) {
        pods_free(p);
        return;
    }
    for (unsigned i = 0; i < ASK_COUNT; i++) {
        struct pods_query *q = &p->queries[i];

        q->call = p;
        q->what = i;
        q->query.on_answer = on_answer;
        q->query.user = q;
        p->waiting++;
        prometheus_ask(api->prometheus, &q->query, bytes_str(questions[i]));
    }
}

/* --- services ------------------------------------------------------------------------------------ */

static Linkerd2__Public__Service *service_message(const struct object *o, struct arena *a)
{
    Linkerd2__Public__Service *s = arena_new(a, sizeof(*s));
    struct service_view view;

    linkerd2__public__service__init(s);
    s->name = copy(a, o->name);
    s->namespace_ = copy(a, o->ns);
    service_view_read(o, a, &view);
    s->ports = arena_new(a, (view.ports_count + 1) * sizeof(s->ports[0]));
    for (size_t i = 0; i < view.ports_count; i++) {
        if (view.ports[i].protocol == PORT_TCP) {
            s->ports[s->n_ports++] = view.ports[i].port;
        }
    }
    return s;
}

void call_list_services(struct public_api *api, struct service_request *r)
{
    Linkerd2__Public__ListServicesRequest *m = linkerd2__public__list_services_request__unpack(
        NULL, r->body.len, (const uint8_t *)(const void *)r->body.at);
    struct map_iter it = MAP_ITER(&api->env->cluster->objects[KIND_SERVICE]);
    Linkerd2__Public__ListServicesResponse response;
    struct arena arena;
    size_t count = 0;

    if (m == NULL) {
        answer_error(r, 400, "the request is no ListServicesRequest");
        return;
    }
    arena_init(&arena, SIZE_MAX);
    linkerd2__public__list_services_response__init(&response);
    response.services = arena_new(&arena, ROWS_MAX * sizeof(response.services[0]));
    while (map_next(&it) && count < ROWS_MAX) {
        const struct object *o = it.value;

        if (m->namespace_[0] == '\0' || strcmp(m->namespace_, o->ns) == 0) {
            response.services[count++] = service_message(o, &arena);
        }
    }
    response.n_services = count;
    answer_message(r, &response.base);
    arena_clear(&arena);
    linkerd2__public__list_services_request__free_unpacked(m, NULL);
}
