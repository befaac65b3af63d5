/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "core/err.h"

#include <math.h>

/*
 * From objects, pods and figures to the rows of one table. Without `from` and `to` every object has its
 * row, with or without traffic; with them, every row of the figures has.
 */
struct row_build {
    Linkerd2__Public__StatTable__PodGroup__Row row;
    const struct object *object; /* NULL: gone, or an authority */
    Linkerd2__Public__StatTable__PodGroup__Row__ErrorsByPodEntry **errors;
    size_t errors_capacity;
};

struct builder {
    const struct public_api *api;
    const struct stat_ask *ask;
    const struct stat_kind *kind;
    const struct figures_map *figures;
    struct arena *arena;
    struct map rows; /* "ns/name" to struct row_build */
    Linkerd2__Public__StatTable__PodGroup__Row **all;
    size_t count, capacity, errors_count;
    bool is_full;
};

/* --- rows ---------------------------------------------------------------------------------------- */

static struct bytes key_of(const char *ns, const char *name, char to[1024])
{
    int n = snprintf(to, 1024, "%.400s/%.400s", ns, name);

    return bytes_of(to, (size_t)n);
}

static void fill_figures(struct builder *b, Linkerd2__Public__StatTable__PodGroup__Row *row,
                         const struct figures *f)
{
    if (f != NULL && f->has_responses) {
        Linkerd2__Public__BasicStats *s = arena_new(b->arena, sizeof(*s));

        linkerd2__public__basic_stats__init(s);
        s->success_count = f->success;
        s->failure_count = f->failure;
        s->latency_ms_p50 = (uint64_t)llround(f->quantiles[0]);
        s->latency_ms_p95 = (uint64_t)llround(f->quantiles[1]);
        s->latency_ms_p99 = (uint64_t)llround(f->quantiles[2]);
        row->stats = s;
    }
    if (f != NULL && f->has_tcp && b->ask->message->tcp_stats) {
        Linkerd2__Public__TcpStats *t = arena_new(b->arena, sizeof(*t));

        linkerd2__public__tcp_stats__init(t);
        t->open_connections = f->tcp_open;
        t->read_bytes_total = f->tcp_read;
        t->write_bytes_total = f->tcp_write;
        row->tcp_stats = t;
    }
}

static struct row_build *add_row(struct builder *b, const char *ns, const char *name,
                                 const struct object *o)
{
    Linkerd2__Public__Resource *r;
    struct row_build *rb;
    char space[1024];

    if (b->count >= ROWS_MAX) {
        b->is_full = true;
        return NULL;
    }
    if (b->count == b->capacity) {
        size_t capacity = MAX((size_t)64, 2 * b->capacity);
        Linkerd2__Public__StatTable__PodGroup__Row **grown =
            arena_new(b->arena, capacity * sizeof(*grown));

        if (b->count > 0) {
            memcpy(grown, b->all, b->count * sizeof(*grown));
        }
        b->all = grown;
        b->capacity = capacity;
    }
    rb = arena_new(b->arena, sizeof(*rb));
    r = arena_new(b->arena, sizeof(*r));
    linkerd2__public__stat_table__pod_group__row__init(&rb->row);
    linkerd2__public__resource__init(r);
    r->namespace_ = arena_strdup(b->arena, bytes_str(ns));
    r->name = arena_strdup(b->arena, bytes_str(name));
    r->type = arena_strdup(b->arena, bytes_str(b->kind->type));
    rb->object = o;
    rb->row.resource = r;
    rb->row.time_window = arena_strdup(b->arena, bytes_str(b->ask->window));
    fill_figures(b, &rb->row, figures_get(b->figures, ns, name));
    b->all[b->count++] = &rb->row;
    (void)map_put(&b->rows, key_of(ns, name, space), rb);
    return rb;
}

static void add_objects(struct builder *b)
{
    const struct cluster *c = b->api->env->cluster;
    struct map_iter it = MAP_ITER(&c->objects[b->kind->kind]);

    while (map_next(&it) && !b->is_full) {
        const struct object *o = it.value;

        if (object_is_selected(o, b->kind, b->ask->ns, b->ask->name, b->ask->labels)) {
            (void)add_row(b, b->kind->kind == KIND_NAMESPACE ? "" : o->ns, o->name, o);
        }
    }
}

/* Rows of traffic; their objects may be gone by now, which is why labels can only select present ones. */
static void add_figures(struct builder *b)
{
    const struct cluster *c = b->api->env->cluster;
    struct map_iter it = MAP_ITER(&b->figures->rows);

    while (map_next(&it) && !b->is_full) {
        char key[OBJECT_KEY_BYTES * 3];
        const struct figures *f = it.value;
        const struct object *o = NULL;
        char *slash;

        (void)snprintf(key, sizeof(key), BYTES_FMT, BYTES_ARG(it.key));
        slash = strchr(key, '/'); /* namespaces have none in them */
        *slash = '\0';
        if (b->kind->kind != KIND_COUNT) {
            o = cluster_get(c, b->kind->kind, key, slash + 1);
        }
        if ((!f->has_responses && !f->has_tcp) || (o == NULL && b->ask->labels != NULL) ||
            (o != NULL && !label_selector_matches(b->ask->labels, o->labels)) ||
            (o != NULL && b->kind->kind == KIND_POD && !pod_is_present(o))) {
            continue;
        }
        (void)add_row(b, key, slash + 1, o);
    }
}

/* --- pods ---------------------------------------------------------------------------------------- */

static void add_errors(struct builder *b, struct row_build *rb, const struct object *pod)
{
    Linkerd2__Public__StatTable__PodGroup__Row__ErrorsByPodEntry *e;
    Linkerd2__Public__PodErrors *errors;

    if (b->errors_count >= ERRORS_PODS_MAX || pod_is_ready(pod)) {
        return;
    }
    errors = pod_errors(pod, b->arena);
    if (errors == NULL) {
        return;
    }
    b->errors_count++;
    if (rb->row.n_errors_by_pod == rb->errors_capacity) {
        size_t capacity = MAX((size_t)4, 2 * rb->errors_capacity);

        rb->row.errors_by_pod = arena_new(b->arena, capacity * sizeof(rb->row.errors_by_pod[0]));
        if (rb->errors_capacity > 0) {
            memcpy(rb->row.errors_by_pod, rb->errors,
                   rb->errors_capacity * sizeof(rb->row.errors_by_pod[0]));
        }
        rb->errors = rb->row.errors_by_pod;
        rb->errors_capacity = capacity;
    }
    e = arena_new(b->arena, sizeof(*e));
    linkerd2__public__stat_table__pod_group__row__errors_by_pod_entry__init(e);
    e->key = arena_strdup(b->arena, bytes_str(pod->name));
    e->value = errors;
    rb->row.errors_by_pod[rb->row.n_errors_by_pod++] = e;
}

static void count_pod(struct builder *b, struct row_build *rb, const struct object *pod)
{
    const char *phase = json_text(pod->status, "phase");

    if (pod_is_present(pod)) {
        rb->row.running_pod_count++;
        rb->row.meshed_pod_count += pod_is_meshed(pod, b->api->env->control_ns);
        add_errors(b, rb, pod);
    } else if (phase != NULL && strcmp(phase, "Failed") == 0) {
        rb->row.failed_pod_count++;
        add_errors(b, rb, pod);
    }
}

/* The row of the workload that has this pod; a ReplicaSet or Job that is itself owned may have been named. */
static struct row_build *find_row(struct builder *b, const struct object *pod)
{
    const struct cluster *c = b->api->env->cluster;
    char space[1024];
    struct workload owner;

    if (b->kind->kind == KIND_POD) {
        return map_get(&b->rows, key_of(pod->ns, pod->name, space));
    }
    if (b->kind->kind == KIND_NAMESPACE) {
        return map_get(&b->rows, key_of("", pod->ns, space));
    }
    if (b->ask->name[0] != '\0') {
        struct row_build *rb = map_get(&b->rows, key_of(pod->ns, b->ask->name, space));

        return rb != NULL && rb->object != NULL && pod_belongs(c, pod, b->kind, rb->object) ? rb
                                                                                            : NULL;
    }
    pod_workload(c, pod, &owner);
    return strcmp(owner.kind, b->kind->type) == 0
               ? map_get(&b->rows, key_of(pod->ns, owner.name, space))
               : NULL;
}

static void add_pods(struct builder *b)
{
    const struct cluster *c = b->api->env->cluster;
    struct map_iter it = MAP_ITER(&c->objects[KIND_POD]);

    if (b->kind->kind == KIND_SERVICE || b->kind->kind == KIND_COUNT) {
        return; /* shown as "-" */
    }
    while (map_next(&it)) {
        const struct object *pod = it.value;
        struct row_build *rb = find_row(b, pod);

        if (rb == NULL) {
            continue;
        }
        count_pod(b, rb, pod);
        if (b->kind->kind == KIND_POD) {
            char word[64];

            pod_status_word(pod, word);
            rb->row.status = arena_strdup(b->arena, bytes_str(word));
        }
    }
}

/* --- the table ----------------------------------------------------------------------------------- */

int stat_table_build(const struct public_api *api, const struct stat_ask *ask,
                     const struct stat_kind *k, const struct figures_map *f, struct arena *a,
                     Linkerd2__Public__StatTable **out)
{
    struct builder b = {.api = api, .ask = ask, .kind = k, .figures = f, .arena = a};
    Linkerd2__Public__StatTable *table = arena_new(a, sizeof(*table));
    Linkerd2__Public__StatTable__PodGroup *group = arena_new(a, sizeof(*group));

    map_init(&b.rows);
    if (ask->peer != NULL || k->kind == KIND_COUNT) {
        add_figures(&b);
    } else {
        add_objects(&b);
    }
    add_pods(&b);
    map_clear(&b.rows);
    if (b.is_full || f->is_full) {
        return E_LIMIT;
    }
    linkerd2__public__stat_table__init(table);
    linkerd2__public__stat_table__pod_group__init(group);
    group->rows = b.all;
    group->n_rows = b.count;
    table->pod_group = group;
    table->table_case = LINKERD2__PUBLIC__STAT_TABLE__TABLE_POD_GROUP;
    *out = table;
    return 0;
}
