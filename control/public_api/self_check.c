/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "control/policy/policy.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

/*
 * SelfCheck: are the cluster's objects read, is what they say in effect, does Prometheus answer, and does it
 * scrape the proxies? A pod that has become ready just now is given time to be noticed.
 *
 * Each thing that is wrong with an object is a result of its own, up to PROBLEMS_MAX.
 */
#define NOTICE_NS  (40 * NS_PER_S) /* discovery and a scrape, 10 s each, and a missed one of each */
#define NAMES_MAX    5
#define PROBLEMS_MAX 40
#define CHECKS_MAX   (3 + PROBLEMS_MAX + 1)

struct check_call {
    struct call call;
    struct prom_query query;
};

static const char scraped_promql[] = "max by (namespace,pod) (up{job=~\".*linkerd-proxy\"})";

static void check_free(struct check_call *c)
{
    prom_query_cancel(&c->query);
    call_end(&c->call);
    mem_free(c);
}

static void check_abandon(struct call *call)
{
    check_free(CONTAINER_OF(call, struct check_call, call));
}

/* --- results ------------------------------------------------------------------------------------- */

struct results {
    struct arena arena;
    Linkerd2__Public__CheckResult *items[CHECKS_MAX];
    size_t count;
};

static Linkerd2__Public__CheckResult *add(struct results *rs, const char *subsystem, const char *description,
                                          const char *problem)
{
    Linkerd2__Public__CheckResult *r = arena_new(&rs->arena, sizeof(*r));

    assert(rs->count < CHECKS_MAX);
    linkerd2__public__check_result__init(r);
    r->subsystemname = arena_strdup(&rs->arena, bytes_str(subsystem));
    r->checkdescription = arena_strdup(&rs->arena, bytes_str(description));
    r->status =
        problem == NULL ? LINKERD2__PUBLIC__CHECK_STATUS__OK : LINKERD2__PUBLIC__CHECK_STATUS__FAIL;
    r->friendlymessagetouser = arena_strdup(&rs->arena, bytes_str(problem != NULL ? problem : ""));
    rs->items[rs->count++] = r;
    return r;
}

/* --- what the objects say ------------------------------------------------------------------------ */

#define OBJECTS_CHECK "policies, routes, profiles and annotations are in effect"

static void add_problem(struct results *rs, const struct policy_problem *m)
{
    static const char *const effects[] = {
        [EFFECT_PART] = "what is right of it is in effect",
        [EFFECT_NONE] = "until then it has no effect",
        [EFFECT_SHUT] = "until then no request that may be its own is let in by its Server",
        [EFFECT_OPEN] = "until then the ports that it does not select are not guarded by it: they have the "
                        "default policy",
        [EFFECT_UNLIMITED] = "until then its Server has no rate limit",
        [EFFECT_UNMADE] = "until then no pod with a sidecar is made of it",
    };
    Linkerd2__Public__CheckResult *r;
    struct text t;

    text_init(&t, 4096);
    text_printf(&t, "%s%s%s %s%s%s", m->source, m->source[0] != '\0' ? ": " : "",
                kind_info(m->kind)->name, m->ns, m->ns[0] != '\0' ? "/" : "", m->name);
    text_printf(&t, "%s%s: %s; %s", m->field[0] != '\0' ? ", " : "", m->field, m->reason, m->advice);
    if (m->effect != EFFECT_BESIDE) { /* the line of the problem that decides says what becomes of it */
        text_printf(&t, " (%s)", effects[m->effect]);
    }
    r = add(rs, "policy", OBJECTS_CHECK, t.at);
    r->source = arena_strdup(&rs->arena, bytes_str(m->source));
    r->field = arena_strdup(&rs->arena, bytes_str(m->field));
    text_clear(&t);
}

static void add_problems(struct results *rs, const struct policy *p)
{
    size_t count;
    const struct policy_problem *all = policy_problems(p, &count);
    char more[64];

    for (size_t i = 0; i < MIN(count, (size_t)PROBLEMS_MAX); i++) {
        add_problem(rs, &all[i]);
    }
    if (count > PROBLEMS_MAX) {
        (void)snprintf(more, sizeof(more), "and %zu more problems", count - PROBLEMS_MAX);
        (void)add(rs, "policy", OBJECTS_CHECK, more);
    } else if (count == 0) {
        (void)add(rs, "policy", OBJECTS_CHECK, NULL);
    }
}

/* --- what is scraped ----------------------------------------------------------------------------- */

/* Meshed pods that are ready and old enough, and not among the targets that answered. */
static bool find_unscraped(const struct public_api *api, const json_t *samples,
                           struct text *problem)
{
    struct map_iter it = MAP_ITER(&api->env->cluster->objects[KIND_POD]);
    uint64_t now = clock_wall_ns();
    struct map scraped;
    size_t missing = 0;

    map_init(&scraped);
    for (size_t i = 0; i < json_array_size(samples); i++) {
        const json_t *sample = json_array_get(samples, i);
        AUTOFREE char *key = mem_printf("%s/%s", prom_sample_label(sample, "namespace"),
                                        prom_sample_label(sample, "pod"));
        double up;

        if (prom_sample_value(sample, &up) && up > 0) {
            (void)map_put(&scraped, bytes_str(key), &scraped);
        }
    }
    while (map_next(&it)) {
        const struct object *pod = it.value;
        char key[OBJECT_KEY_BYTES];
        bool is_old = now > pod->created_ns && now - pod->created_ns > NOTICE_NS;

        if (!pod_is_meshed(pod, api->env->control_ns) || !pod_is_ready(pod) || !is_old ||
            map_get(&scraped, object_key(pod->ns, pod->name, key)) != NULL) {
            continue;
        }
        if (missing < NAMES_MAX) {
            text_printf(problem, "%s%s/%s", missing > 0 ? ", " : "", pod->ns, pod->name);
        }
        missing++;
    }
    map_clear(&scraped);
    if (missing > NAMES_MAX) {
        text_printf(problem, " and %zu more", missing - NAMES_MAX);
    }
    return missing > 0;
}

static void on_answer(struct prom_query *query, int err, const json_t *samples, const char *problem)
{
    struct check_call *c = query->user;
    struct service_request *r = c->call.request;
    const struct public_api *api = c->call.api;
    Linkerd2__Public__SelfCheckResponse response;
    struct results rs = {0};
    struct text names;

    arena_init(&rs.arena, SIZE_MAX); /* a few sentences */
    text_init(&names, 8192);
    text_str(&names, "not scraped: ");
    (void)add(&rs, "cluster", "the control plane has read the cluster's objects",
        api->env->cluster->synced ? NULL : "they are still being read");
    add_problems(&rs, api->env->policy);
    (void)add(&rs, "prometheus", "Prometheus answers the control plane", err != 0 ? problem : NULL);
    if (err == 0) {
        bool is_missing = find_unscraped(api, samples, &names);

        text_printf(&names, "; see the targets at %s/targets", prometheus_url(api->prometheus));
        (void)add(&rs, "prometheus", "Prometheus scrapes the proxies", is_missing ? names.at : NULL);
    }
    linkerd2__public__self_check_response__init(&response);
    response.results = rs.items;
    response.n_results = rs.count;
    answer_message(r, &response.base);
    text_clear(&names);
    arena_clear(&rs.arena);
    check_free(c);
}

void call_self_check(struct public_api *api, struct service_request *r)
{
    struct check_call *c = mem_new(sizeof(*c));

    if (!call_begin(api, &c->call, r, check_abandon)) {
        mem_free(c);
        return;
    }
    c->query.on_answer = on_answer;
    c->query.user = c;
    prometheus_ask(api->prometheus, &c->query, bytes_str(scraped_promql));
}
