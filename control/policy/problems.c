/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/text.h"

/*
 * What is wrong with policy objects. On a cluster this would be their status; users' own manifests are not
 * written to, so it is said in the log, once for each object and reason, and kept for who asks.
 *
 * All objects are looked at again shortly after something changed: what is wrong with one may depend on
 * others, and manifests come in groups.
 */
#define LOOK_DELAY_NS (100 * NS_PER_MS)

/* --- the list ------------------------------------------------------------------------------------ */

static void problem_clear(struct policy_problem *m)
{
    mem_free(m->ns);
    mem_free(m->name);
    mem_free(m->source);
    mem_free(m->field);
    mem_free(m->reason);
    mem_free(m->advice);
}

static int object_cmp(const void *a, const void *b)
{
    const struct policy_problem *x = a, *y = b;
    int by_ns = strcmp(x->ns, y->ns), by_name = strcmp(x->name, y->name);

    return by_ns != 0 ? by_ns : by_name != 0 ? by_name : (int)x->kind - (int)y->kind;
}

/* Those of one object in the order in which they were found. */
static int problem_cmp(const void *a, const void *b)
{
    const struct policy_problem *x = a, *y = b;
    int by_object = object_cmp(a, b);

    return by_object != 0 ? by_object : (int)x->index - (int)y->index;
}

/* The list is sorted, and has at most FOUND_MAX + 1 problems of an object. */
static bool list_has(const struct problems *l, const struct policy_problem *m)
{
    const struct policy_problem *of =
        l->count == 0 ? NULL : bsearch(m, l->at, l->count, sizeof(l->at[0]), object_cmp);

    while (of != NULL && of > l->at && object_cmp(of - 1, m) == 0) {
        of--;
    }
    for (; of != NULL && of < l->at + l->count && object_cmp(of, m) == 0; of++) {
        if (strcmp(of->field, m->field) == 0 && strcmp(of->reason, m->reason) == 0 &&
            of->effect == m->effect) {
            return true;
        }
    }
    return false;
}

static void problem_add(struct problems *l, const struct object *o, const struct found_problem *f,
                        enum policy_effect effect, size_t index)
{
    if (l->count == l->capacity) {
        l->capacity = MAX(8, 2 * l->capacity);
        l->at = mem_resize(l->at, l->capacity, sizeof(l->at[0]));
    }
    l->at[l->count++] = (struct policy_problem){
        .kind = o->kind,
        .ns = mem_strdup(o->ns),
        .name = mem_strdup(o->name),
        .source = mem_strdup(o->source),
        .field = mem_strdup(f->field),
        .reason = mem_strdup(f->reason),
        .advice = mem_strdup(f->advice != NULL ? f->advice : "correct it"),
        .effect = effect,
        .index = (unsigned)index,
    };
}

/* A setting that is left out of an object that has no effect at all is not what keeps it from having one. */
static void problems_add(struct problems *list, const struct object *o, const struct look *l)
{
    enum policy_effect part = l->effect == EFFECT_PART ? EFFECT_PART : EFFECT_BESIDE;
    const struct found *f = &l->found;
    size_t index = 0;
    char text[64];

    for (int refusals = 1; refusals >= 0; refusals--) {
        for (size_t i = 0; i < f->count; i++) {
            if (f->at[i].is_refusal == (refusals != 0)) {
                problem_add(list, o, &f->at[i], refusals != 0 ? l->effect : part, index++);
            }
        }
    }
    if (f->more > 0) {
        struct found_problem more = {.field = "", .reason = text, .advice = "correct those first"};

        (void)snprintf(text, sizeof(text), "and %zu more problems", f->more);
        problem_add(list, o, &more, EFFECT_BESIDE, index);
    }
}

static void tell(const struct policy_problem *m)
{
    static const char *const effects[] = {
        [EFFECT_PART] = "not all is in effect of",
        [EFFECT_BESIDE] = "there is also something wrong with",
        [EFFECT_NONE] = "no effect of",
        [EFFECT_SHUT] = "requests are kept out because of",
        [EFFECT_OPEN] = "ports are not guarded, but have the default policy, because of",
        [EFFECT_UNLIMITED] = "a Server has no rate limit because of",
        [EFFECT_UNMADE] = "no pod gets a sidecar because of",
    };
    struct text t;

    text_init(&t, 4096);
    text_printf(&t, "%s %s %s%s%s: %s; field=%s source=%s what_to_do=\"%s\"", effects[m->effect],
                kind_info(m->kind)->name, m->ns, m->ns[0] != '\0' ? "/" : "", m->name, m->reason, m->field,
                m->source, m->advice);
    if (m->effect == EFFECT_OPEN) {
        log_error("%s", t.at);
    } else {
        log_warn("%s", t.at);
    }
    text_clear(&t);
}

/* Each once when it comes up, and once when it is gone. */
static void tell_changes(const struct policy *p, const struct problems *before)
{
    const struct problems *now = &p->problems;

    for (size_t i = 0; i < now->count; i++) {
        const struct policy_problem *m = &now->at[i];

        if (!list_has(before, m)) {
            tell(m);
        }
    }
    for (size_t i = 0; i < before->count; i++) {
        const struct policy_problem *m = &before->at[i];

        if (!list_has(now, m)) {
            log_info("a problem of %s %s%s%s is gone; it was: %s", kind_info(m->kind)->name, m->ns,
                     m->ns[0] != '\0' ? "/" : "", m->name, m->reason);
        }
    }
}

static void list_free(struct problems *l)
{
    for (size_t i = 0; i < l->count; i++) {
        problem_clear(&l->at[i]);
    }
    mem_free(l->at);
    l->at = NULL;
    l->count = l->capacity = 0;
}

static void look(struct timer *timer)
{
    struct policy *p = CONTAINER_OF(timer, struct policy, problems.look);
    struct problems before = p->problems;
    uint64_t kinds = checked_kinds();
    struct arena a;

    p->problems.at = NULL;
    p->problems.count = p->problems.capacity = 0;
    arena_init(&a, SIZE_MAX); /* one object at a time */
    for (unsigned k = 0; k < KIND_COUNT; k++) {
        struct map_iter it = MAP_ITER(&p->env->cluster->objects[k]);

        while ((kinds & UINT64_C(1) << k) != 0 && map_next(&it)) {
            struct look l = {.reading = {.env = p->env, .arena = &a}};

            l.reading.found = &l.found;
            check_object(p, &l, it.value);
            problems_add(&p->problems, it.value, &l);
            arena_clear(&a);
        }
    }
    if (p->problems.count > 1) {
        qsort(p->problems.at, p->problems.count, sizeof(p->problems.at[0]), problem_cmp);
    }
    tell_changes(p, &before);
    list_free(&before);
}

void problems_init(struct problems *l)
{
    *l = (struct problems){.look = {.run = look}};
}

void problems_clear(struct policy *p)
{
    timer_cancel(p->env->loop, &p->problems.look);
    list_free(&p->problems);
}

void problems_touch(struct policy *p)
{
    if (p->topics.synced && !timer_is_armed(&p->problems.look)) {
        timer_arm_in(p->env->loop, &p->problems.look, LOOK_DELAY_NS);
    }
}

const struct policy_problem *policy_problems(const struct policy *p, size_t *out_count)
{
    *out_count = p->problems.count;
    return p->problems.at;
}
