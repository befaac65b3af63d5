/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/profile_use.h"

#include "core/alloc.h"

struct profile_figures {                     /* of one route */
    struct request_stats *routed, *attempts; /* references; attempts NULL: inbound */
    struct series *retried, *skipped;        /* references; NULL: the route is not retried */
};

struct profile_use {
    struct proxy_worker *w;
    enum direction dir;
    struct bytes key; /* owned; in the worker's table */
    struct budget budget;
    struct budget_terms terms;
    struct profile_view *newest; /* reference */
    unsigned views;
    uint64_t used_ns;
};

struct profile_view {
    struct profile_use *use;
    unsigned refs;
    const struct snapshot *held; /* reference */
    const struct service_profile *service;
    struct dest **dests;              /* of the backends; held; NULL: not used yet */
    struct profile_figures figures[]; /* routes_count, and those of `other` */
};

/* --- figures ---------------------------------------------------------------------------------- */

static void figures_open(const struct profile_view *v, const struct profile_route *route,
                         struct profile_figures *f)
{
    struct stats *s = &v->use->w->stats;
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "direction", bytes_str(direction_name(v->use->dir)));
    label_add(&l.text, "dst", v->service->dst);
    labels_add(&l, route->labels);
    f->routed = request_stats_get_of(s, REQUESTS_ROUTED, labels_end(&l));
    if (v->use->dir == INBOUND) {
        return;
    }
    f->attempts = request_stats_get_of(s, REQUESTS_ATTEMPTS, labels_end(&l));
    if (route->is_retryable) {
        f->retried = stat_series(s, STAT_PROFILE_RETRYABLE, &l);
        label_add(&l.text, "skipped", BYTES("no_budget"));
        f->skipped = stat_series(s, STAT_PROFILE_RETRYABLE, &l);
    }
}

static void figures_close(struct profile_figures *f)
{
    request_stats_unref(f->routed);
    request_stats_unref(f->attempts);
    series_unref(f->retried);
    series_unref(f->skipped);
}

/* --- views and uses --------------------------------------------------------------------------- */

static struct profile_view *view_new(struct profile_use *use, const struct snapshot *held,
                                     const struct service_profile *service)
{
    struct profile_view *v =
        mem_new(sizeof(*v) + (service->routes_count + 1) * sizeof(v->figures[0]));

    v->use = use;
    v->refs = 1;
    v->held = held;
    snapshot_ref((struct snapshot *)(uintptr_t)held);
    v->service = service;
    v->dests = mem_new_array(service->backends_count, sizeof(struct dest *));
    use->views++;
    return v;
}

/* By somebody else than its use. */
static bool use_is_held(const struct profile_use *use)
{
    return use->views > 1 || (use->newest != NULL && use->newest->refs > 1);
}

static void view_leave_dests(struct profile_view *v)
{
    for (size_t i = 0; i < v->service->backends_count; i++) {
        if (v->dests[i] != NULL) {
            dest_release(v->dests[i]);
            v->dests[i] = NULL;
        }
    }
}

static void view_free(struct profile_view *v)
{
    view_leave_dests(v);
    mem_free(v->dests);
    for (size_t i = 0; i <= v->service->routes_count; i++) {
        figures_close(&v->figures[i]);
    }
    assert(v->use->views > 0);
    v->use->views--;
    snapshot_unref((struct snapshot *)(uintptr_t)v->held);
    mem_free(v);
}

void profile_view_unref(struct profile_view *v)
{
    struct profile_use *use;

    if (v == NULL) {
        return;
    }
    use = v->use;
    assert(v->refs > 0);
    if (--v->refs == 0) {
        view_free(v);
    }
    if (!use_is_held(use)) {
        view_leave_dests(use->newest);
        use->used_ns = use->w->loop->now_ns;
        proxy_worker_want_sweep(use->w);
    }
}

const struct service_profile *profile_view_service(const struct profile_view *v)
{
    return v->service;
}

struct dest *profile_view_dest(struct profile_view *v, size_t backend)
{
    if (v->dests[backend] == NULL) {
        v->dests[backend] = dest_hold(v->use->w, &v->service->backends[backend],
                                      &v->service->parent, DEST_HTTP);
    }
    return v->dests[backend];
}

static struct profile_use *use_new(struct proxy_worker *w, enum direction dir, struct bytes key,
                                   const struct budget_terms *terms)
{
    struct profile_use *use = mem_new(sizeof(*use));

    use->w = w;
    use->dir = dir;
    use->key = bytes_of(bytes_dup(key), key.len);
    use->terms = *terms;
    budget_init(&use->budget, terms, w->config->workers, w->loop->now_ns);
    (void)map_put(&w->profiles, use->key, use);
    return use;
}

struct profile_view *profile_view_get(struct proxy_worker *w, enum direction dir,
                                      const struct snapshot *held,
                                      const struct service_profile *service)
{
    char key[PROFILE_DST_MAX + 1];
    struct bytes whole;
    struct profile_use *use;

    assert(service->dst.len <= PROFILE_DST_MAX);
    key[0] = dir == INBOUND ? 'i' : 'o';
    memcpy(key + 1, service->dst.at, service->dst.len);
    whole = bytes_of(key, service->dst.len + 1);
    use = map_get(&w->profiles, whole);
    if (use == NULL) {
        use = use_new(w, dir, whole, &service->budget);
    } else if (!budget_terms_eq(&use->terms, &service->budget)) {
        use->terms = service->budget;
        budget_init(&use->budget, &use->terms, w->config->workers, w->loop->now_ns);
    }
    if (use->newest == NULL || use->newest->service != service) {
        struct profile_view *before = use->newest;

        use->newest = view_new(use, held, service);
        profile_view_unref(before);
    }
    use->newest->refs++;
    return use->newest;
}

static void use_free(struct profile_use *use)
{
    assert(use->views == 1 && use->newest->refs == 1); /* whoever has one gives it back before */
    (void)map_remove(&use->w->profiles, use->key);
    view_free(use->newest);
    mem_free((char *)(uintptr_t)use->key.at);
    mem_free(use);
}

bool profile_sweep(struct proxy_worker *w)
{
    struct map_iter it = MAP_ITER(&w->profiles);
    bool is_more = false;

    while (map_next(&it)) {
        struct profile_use *use = it.value;

        if (!use_is_held(use) && w->loop->now_ns - use->used_ns >= PROFILE_IDLE_NS) {
            use_free(use);
        } else {
            is_more = is_more || !use_is_held(use);
        }
    }
    return is_more;
}

void profile_clear(struct proxy_worker *w)
{
    struct map_iter it = MAP_ITER(&w->profiles);

    while (map_next(&it)) {
        use_free(it.value);
    }
    map_clear(&w->profiles);
}

/* --- calls ------------------------------------------------------------------------------------ */

void profile_call_begin(struct profile_call *call, struct profile_view *v, const struct head *h)
{
    const struct service_profile *service = v->service;
    size_t index;

    call->route = profile_choose(service, h, NULL);
    index = call->route == &service->other ? service->routes_count
                                           : (size_t)(call->route - service->routes);
    call->figures = &v->figures[index];
    if (call->figures->routed == NULL) {
        figures_open(v, call->route, call->figures);
    }
    call->view = v;
    v->refs++;
    request_stats_request(call->figures->routed);
    if (v->use->dir == OUTBOUND) {
        request_stats_request(call->figures->attempts);
        budget_deposit(&v->use->budget, v->use->w->loop->now_ns);
    }
}

void profile_call_end(struct profile_call *call)
{
    profile_view_unref(call->view);
    call->view = NULL;
}

bool profile_call_is_failure(const struct profile_call *call, unsigned status, bool by_rule)
{
    enum profile_verdict verdict = profile_classify(call->route, status);

    return verdict == PROFILE_UNDECIDED ? by_rule : verdict == PROFILE_FAILURE;
}

bool profile_call_pay(struct profile_call *call)
{
    struct profile_use *use = call->view->use;

    if (budget_withdraw(&use->budget, use->w->loop->now_ns)) {
        return true;
    }
    series_add(call->figures->skipped, 1);
    return false;
}

void profile_call_again(struct profile_call *call, const struct response_facts *f)
{
    series_add(call->figures->retried, 1);
    request_stats_response(call->figures->attempts, f);
    request_stats_request(call->figures->attempts);
}

void profile_call_response(struct profile_call *call, const struct response_facts *f)
{
    request_stats_response(call->figures->routed, f);
    if (call->figures->attempts != NULL) {
        request_stats_response(call->figures->attempts, f);
    }
}
