/* SPDX-License-Identifier: Apache-2.0 */
#include "control/destination/profile_routes.h"

#include "core/clock.h"
#include "mesh/budget.h"
#include "mesh/match.h"

#include <stdarg.h>
#include <stdlib.h>

/*
 * A ServiceProfile as its message: routes with their conditions and response classes, the retry budget, and
 * the authorities that stand in for the service (wire 3.2, 9.2, 11.2).
 */
#define CONDITION_DEPTH_MAX 16 /* protobuf-c follows nested messages down the stack */
#define RESPONSE_DEPTH_MAX  16
#define STATUS_MIN          100
#define STATUS_MAX          599
#define WEIGHT_ONE          10000 /* of a dstOverride with weight 1 */
#define BUDGET_RATIO        0.2
#define BUDGET_MIN_RETRIES  10
#define BUDGET_TTL_NS       (10 * NS_PER_S)

typedef Io__Linkerd__Proxy__Destination__Route route_message;
typedef Io__Linkerd__Proxy__Destination__RequestMatch request_match;
typedef Io__Linkerd__Proxy__Destination__RequestMatch__Seq request_seq;
typedef Io__Linkerd__Proxy__Destination__ResponseMatch response_match;
typedef Io__Linkerd__Proxy__Destination__ResponseMatch__Seq response_seq;
typedef Io__Linkerd__Proxy__Destination__ResponseClass response_class;
typedef Io__Linkerd__Proxy__Destination__WeightedDst weighted_dst;

struct reader {
    struct arena *arena;
    struct profile_problems *problems; /* NULL: nobody reads them */
    const char *list;                  /* what is read: "routes", */
    size_t index;                      /* and which of them */
};

static void complain(struct reader *r, const char *format, ...) PRINTF_LIKE(2, 3);
static void complain(struct reader *r, const char *format, ...)
{
    struct profile_problems *ps = r->problems;
    struct profile_problem *p;
    char text[512];
    va_list args;

    if (ps == NULL || ps->count == PROFILE_PROBLEMS_MAX) {
        if (ps != NULL) {
            ps->more++;
        }
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    p = &ps->at[ps->count++];
    p->reason = arena_strdup(r->arena, bytes_str(text));
    p->field = r->list == NULL ? "spec.retryBudget"
                               : arena_printf(r->arena, "spec.%s[%zu]", r->list, r->index);
}

/* --- values -------------------------------------------------------------------------------------- */

/* As Go writes durations: "1.5s", "1h2m", "300ms"; false for anything else, negative ones too. */
static bool go_duration(const char *text, uint64_t *out_ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    double sum = 0;

    if (strcmp(text, "0") == 0) {
        *out_ns = 0;
        return true;
    }
    for (const char *at = text; *at != '\0' || at == text;) {
        char *end = NULL;
        double count = *at >= '0' && *at <= '9' ? strtod(at, &end) : -1;
        size_t u = 0;

        while (count >= 0 && u < ARRAY_LEN(units) &&
               strncmp(end, units[u].name, strlen(units[u].name)) != 0) {
            u++;
        }
        if (count < 0 || u == ARRAY_LEN(units)) {
            return false;
        }
        sum += count * units[u].ns;
        at = end + strlen(units[u].name);
    }
    if (sum > 9e18) {
        return false;
    }
    *out_ns = (uint64_t)sum;
    return true;
}

/* A Kubernetes quantity: 1, 0.5, "500m", "2k". */
static bool quantity_read(const json_t *value, double *out)
{
    const char *text = json_string_value(value);
    char *end = NULL;
    double number;

    if (json_is_number(value)) {
        *out = json_number_value(value);
        return *out >= 0;
    }
    if (text == NULL || !((*text >= '0' && *text <= '9') || *text == '.')) {
        return false;
    }
    number = strtod(text, &end);
    if (strcmp(end, "m") == 0) {
        number /= 1000;
    } else if (strcmp(end, "k") == 0) {
        number *= 1000;
    } else if (*end != '\0') {
        return false;
    }
    *out = number;
    return end != text;
}

static Io__Linkerd__Proxy__HttpTypes__HttpMethod *method_read(const char *name, struct arena *a)
{
    static const char *const names[] = {"GET",     "POST",    "PUT",  "DELETE", "PATCH",
                                        "OPTIONS", "CONNECT", "HEAD", "TRACE"};
    Io__Linkerd__Proxy__HttpTypes__HttpMethod *m =
        message_new(a, &io__linkerd__proxy__http_types__http_method__descriptor);

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0) {
            m->type_case = IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__TYPE_REGISTERED;
            m->registered = (Io__Linkerd__Proxy__HttpTypes__HttpMethod__Registered)i;
            return m;
        }
    }
    m->type_case = IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__TYPE_UNREGISTERED;
    m->unregistered = message_text(name);
    return m;
}

/* --- requests ------------------------------------------------------------------------------------ */

static request_match *request_read(struct reader *r, const json_t *from, unsigned depth);

static request_seq *request_seq_new(struct arena *a, size_t room)
{
    request_seq *m =
        message_new(a, &io__linkerd__proxy__destination__request_match__seq__descriptor);

    m->matches = arena_new(a, MAX(room, 1) * sizeof(m->matches[0]));
    return m;
}

static request_match *request_new(struct arena *a, int match_case)
{
    request_match *m = message_new(a, &io__linkerd__proxy__destination__request_match__descriptor);

    m->match_case = (Io__Linkerd__Proxy__Destination__RequestMatch__MatchCase)match_case;
    return m;
}

static request_match *request_path(struct reader *r, const char *regex)
{
    request_match *m =
        request_new(r->arena, IO__LINKERD__PROXY__DESTINATION__REQUEST_MATCH__MATCH_PATH);
    struct regex *compiled = NULL;

    if (regex_new(bytes_str(regex), &compiled) != 0) {
        complain(r, "the pathRegex %.300s is malformed or needs back-references", regex);
        return NULL;
    }
    regex_free(compiled);
    m->path = message_new(r->arena, &io__linkerd__proxy__destination__path_match__descriptor);
    m->path->regex = message_text(regex);
    return m;
}

/* All or any of a list. NULL: one of them is malformed. */
static request_match *request_list(struct reader *r, const json_t *list, bool is_any,
                                   unsigned depth)
{
    request_match *m =
        request_new(r->arena, is_any ? IO__LINKERD__PROXY__DESTINATION__REQUEST_MATCH__MATCH_ANY
                                     : IO__LINKERD__PROXY__DESTINATION__REQUEST_MATCH__MATCH_ALL);
    request_seq *seq = request_seq_new(r->arena, json_array_size(list));

    for (size_t i = 0; i < json_array_size(list); i++) {
        request_match *item = request_read(r, json_array_get(list, i), depth + 1);

        if (item == NULL) {
            return NULL;
        }
        seq->matches[seq->n_matches++] = item;
    }
    m->all = seq; /* `any` lies in the same place */
    return m;
}

/* One member of a condition; true when it is absent or understood. */
static bool request_add(request_seq *to, const void *member, request_match *m)
{
    if (member != NULL && m != NULL) {
        to->matches[to->n_matches++] = m;
    }
    return member == NULL || m != NULL;
}

/* Recursion is limited by CONDITION_DEPTH_MAX. Several members of one condition must hold together. */
static request_match *request_read(struct reader *r, const json_t *from, unsigned depth)
{
    const json_t *all = json_object_get(from, "all"), *any = json_object_get(from, "any"),
                 *not_ = json_object_get(from, "not");
    const char *path = json_text(from, "pathRegex"), *method = json_text(from, "method");
    request_seq *seq = request_seq_new(r->arena, 5);
    request_match *m;

    if (depth > CONDITION_DEPTH_MAX) {
        complain(r, "a condition nests deeper than %d", CONDITION_DEPTH_MAX);
        return NULL;
    }
    if (!request_add(seq, all, all != NULL ? request_list(r, all, false, depth) : NULL) ||
        !request_add(seq, any, any != NULL ? request_list(r, any, true, depth) : NULL) ||
        !request_add(seq, path, path != NULL ? request_path(r, path) : NULL)) {
        return NULL;
    }
    if (method != NULL) {
        m = request_new(r->arena, IO__LINKERD__PROXY__DESTINATION__REQUEST_MATCH__MATCH_METHOD);
        m->method = method_read(method, r->arena);
        seq->matches[seq->n_matches++] = m;
    }
    if (not_ != NULL) {
        m = request_new(r->arena, IO__LINKERD__PROXY__DESTINATION__REQUEST_MATCH__MATCH_NOT);
        m->not_ = request_read(r, not_, depth + 1);
        if (m->not_ == NULL) {
            return NULL;
        }
        seq->matches[seq->n_matches++] = m;
    }
    if (seq->n_matches == 0) {
        complain(r, "a condition says nothing");
        return NULL;
    }
    if (seq->n_matches == 1) {
        return seq->matches[0];
    }
    m = request_new(r->arena, IO__LINKERD__PROXY__DESTINATION__REQUEST_MATCH__MATCH_ALL);
    m->all = seq;
    return m;
}

/* --- responses ----------------------------------------------------------------------------------- */

static response_match *response_read(struct reader *r, const json_t *from, unsigned depth);

static response_seq *response_seq_new(struct arena *a, size_t room)
{
    response_seq *m =
        message_new(a, &io__linkerd__proxy__destination__response_match__seq__descriptor);

    m->matches = arena_new(a, MAX(room, 1) * sizeof(m->matches[0]));
    return m;
}

static response_match *response_new(struct arena *a, int match_case)
{
    response_match *m =
        message_new(a, &io__linkerd__proxy__destination__response_match__descriptor);

    m->match_case = (Io__Linkerd__Proxy__Destination__ResponseMatch__MatchCase)match_case;
    return m;
}

/* Either end may be left out. */
static response_match *response_status(struct reader *r, const json_t *from)
{
    response_match *m =
        response_new(r->arena, IO__LINKERD__PROXY__DESTINATION__RESPONSE_MATCH__MATCH_STATUS);
    int64_t min = json_number(from, "min", 0), max = json_number(from, "max", 0);

    min = min != 0 ? min : STATUS_MIN;
    max = max != 0 ? max : STATUS_MAX;
    if (min < STATUS_MIN || max > STATUS_MAX || min > max ||
        (json_object_get(from, "min") == NULL && json_object_get(from, "max") == NULL)) {
        complain(r, "a status range is not within %d and %d", STATUS_MIN, STATUS_MAX);
        return NULL;
    }
    m->status =
        message_new(r->arena, &io__linkerd__proxy__destination__http_status_range__descriptor);
    m->status->min = (uint32_t)min;
    m->status->max = (uint32_t)max;
    return m;
}

static response_match *response_list(struct reader *r, const json_t *list, bool is_any,
                                     unsigned depth)
{
    response_match *m =
        response_new(r->arena, is_any ? IO__LINKERD__PROXY__DESTINATION__RESPONSE_MATCH__MATCH_ANY
                                      : IO__LINKERD__PROXY__DESTINATION__RESPONSE_MATCH__MATCH_ALL);
    response_seq *seq = response_seq_new(r->arena, json_array_size(list));

    for (size_t i = 0; i < json_array_size(list); i++) {
        response_match *item = response_read(r, json_array_get(list, i), depth + 1);

        if (item == NULL) {
            return NULL;
        }
        seq->matches[seq->n_matches++] = item;
    }
    m->all = seq; /* `any` lies in the same place */
    return m;
}

static bool response_add(response_seq *to, const json_t *member, response_match *m)
{
    if (member != NULL && m != NULL) {
        to->matches[to->n_matches++] = m;
    }
    return member == NULL || m != NULL;
}

/* Recursion is limited by RESPONSE_DEPTH_MAX. */
static response_match *response_read(struct reader *r, const json_t *from, unsigned depth)
{
    const json_t *all = json_object_get(from, "all"), *any = json_object_get(from, "any"),
                 *not_ = json_object_get(from, "not"), *status = json_object_get(from, "status");
    response_seq *seq = response_seq_new(r->arena, 4);
    response_match *m;

    if (depth > RESPONSE_DEPTH_MAX) {
        complain(r, "a response condition nests deeper than %d", RESPONSE_DEPTH_MAX);
        return NULL;
    }
    if (!response_add(seq, all, all != NULL ? response_list(r, all, false, depth) : NULL) ||
        !response_add(seq, any, any != NULL ? response_list(r, any, true, depth) : NULL) ||
        !response_add(seq, status, status != NULL ? response_status(r, status) : NULL)) {
        return NULL;
    }
    if (not_ != NULL) {
        m = response_new(r->arena, IO__LINKERD__PROXY__DESTINATION__RESPONSE_MATCH__MATCH_NOT);
        m->not_ = response_read(r, not_, depth + 1);
        if (m->not_ == NULL) {
            return NULL;
        }
        seq->matches[seq->n_matches++] = m;
    }
    if (seq->n_matches == 0) {
        complain(r, "a response condition says nothing");
        return NULL;
    }
    if (seq->n_matches == 1) {
        return seq->matches[0];
    }
    m = response_new(r->arena, IO__LINKERD__PROXY__DESTINATION__RESPONSE_MATCH__MATCH_ALL);
    m->all = seq;
    return m;
}

/* --- routes -------------------------------------------------------------------------------------- */

static void classes_read(struct reader *r, const json_t *list, route_message *to)
{
    size_t count = json_array_size(list);

    to->response_classes = arena_new(r->arena, MAX(count, 1) * sizeof(to->response_classes[0]));
    for (size_t i = 0; i < count; i++) {
        const json_t *from = json_array_get(list, i);
        response_class *m =
            message_new(r->arena, &io__linkerd__proxy__destination__response_class__descriptor);

        m->condition = response_read(r, json_object_get(from, "condition"), 0);
        m->is_failure = json_flag(from, "isFailure", false);
        if (m->condition != NULL) {
            to->response_classes[to->n_response_classes++] = m;
        }
    }
}

/* NULL: nothing says which requests are meant. */
static route_message *route_read(struct reader *r, const json_t *from)
{
    const char *name = json_text(from, "name"), *timeout = json_text(from, "timeout");
    route_message *m = message_new(r->arena, &io__linkerd__proxy__destination__route__descriptor);
    uint64_t ns = 0;

    m->condition = request_read(r, json_object_get(from, "condition"), 0);
    if (m->condition == NULL) {
        return NULL;
    }
    if (name == NULL || name[0] == '\0') {
        complain(r, "a route has no name");
    } else {
        const char *const labels[] = {"route", name, NULL};

        m->metrics_labels = message_labels(
            r->arena, &io__linkerd__proxy__destination__route__metrics_labels_entry__descriptor,
            labels, &m->n_metrics_labels);
    }
    classes_read(r, json_object_get(from, "responseClasses"), m);
    m->is_retryable = json_flag(from, "isRetryable", false);
    if (timeout != NULL && !go_duration(timeout, &ns)) {
        complain(r, "the timeout of a route is no duration: %.100s", timeout);
    }
    if (ns != 0) {
        m->timeout = message_duration(r->arena, ns);
    }
    return m;
}

/* --- the rest ------------------------------------------------------------------------------------ */

void *retry_budget_message(const json_t *from, struct arena *a)
{
    Io__Linkerd__Proxy__Destination__RetryBudget *m =
        message_new(a, &io__linkerd__proxy__destination__retry_budget__descriptor);
    const json_t *ratio = json_object_get(from, "retryRatio");
    const char *ttl = json_text(from, "ttl");
    int64_t retries = json_number(from, "minRetriesPerSecond", BUDGET_MIN_RETRIES);
    uint64_t ttl_ns = BUDGET_TTL_NS;

    m->retry_ratio = (float)(json_is_number(ratio) ? json_number_value(ratio) : BUDGET_RATIO);
    m->min_retries_per_second = (uint32_t)(retries >= 0 ? MIN(retries, UINT32_MAX) : 0);
    if (ttl != NULL && (!go_duration(ttl, &ttl_ns) || ttl_ns == 0)) {
        ttl_ns = BUDGET_TTL_NS;
    }
    m->ttl = message_duration(a, ttl_ns);
    return m;
}

/* Beyond the bounds it is sent as it is: proxies retry nothing with it. */
static void budget_read(struct reader *r, const json_t *from, profile_message *to)
{
    const char *ttl = json_text(from, "ttl");
    struct budget_terms terms = {.is_on = true};
    uint64_t ns = 0;

    to->retry_budget = retry_budget_message(from, r->arena);
    terms.ratio = to->retry_budget->retry_ratio;
    terms.min_per_s = to->retry_budget->min_retries_per_second;
    terms.ttl_ns = (uint64_t)to->retry_budget->ttl->seconds * NS_PER_S +
                   (uint64_t)to->retry_budget->ttl->nanos;
    if (ttl != NULL && (!go_duration(ttl, &ns) || ns == 0)) {
        complain(r, "the ttl of the retryBudget is no duration: %.100s", ttl);
    } else if (!budget_terms_are_valid(&terms)) {
        complain(r, "the retryBudget is beyond its bounds, so that nothing is retried: retryRatio "
                    "is 0 to 1000, ttl 1s to 60s");
    }
}

static void overrides_read(struct reader *r, const json_t *list, const struct control_env *env,
                           uint16_t port, profile_message *to)
{
    size_t count = json_array_size(list);

    to->dst_overrides = arena_new(r->arena, MAX(count, 1) * sizeof(to->dst_overrides[0]));
    for (size_t i = 0; i < count; i++) {
        const json_t *from = json_array_get(list, i);
        const char *authority = json_text(from, "authority");
        weighted_dst *m =
            message_new(r->arena, &io__linkerd__proxy__destination__weighted_dst__descriptor);
        struct service_name service;
        double weight = 0;

        r->list = "dstOverrides";
        r->index = i;
        if (authority == NULL || authority[0] == '\0' ||
            !quantity_read(json_object_get(from, "weight"), &weight) ||
            weight * WEIGHT_ONE > UINT32_MAX) {
            complain(r, "a dstOverride lacks its authority, or its weight is no quantity");
            continue;
        }
        m->authority = arena_printf(r->arena, "%s:%u", authority, port);
        m->weight = (uint32_t)(weight * WEIGHT_ONE + 0.5);
        if (service_name_parse(bytes_str(m->authority), env->cluster_domain, &service) == 0) {
            m->backend_ref =
                message_service_ref(r->arena, arena_strdup(r->arena, bytes_str(service.ns)),
                                    arena_strdup(r->arena, bytes_str(service.name)), port);
        }
        to->dst_overrides[to->n_dst_overrides++] = m;
    }
}

void profile_read(const struct object *o, const struct control_env *env, uint16_t port, struct arena *a,
                  profile_message *to, struct profile_problems *problems)
{
    struct reader r = {.arena = a, .problems = problems};
    const json_t *routes = json_object_get(o->spec, "routes");
    const json_t *budget = json_object_get(o->spec, "retryBudget");
    size_t count = json_array_size(routes);

    to->routes = arena_new(a, MAX(count, 1) * sizeof(to->routes[0]));
    for (size_t i = 0; i < count; i++) {
        route_message *m;

        r.list = "routes";
        r.index = i;
        m = route_read(&r, json_array_get(routes, i));

        if (m != NULL) {
            to->routes[to->n_routes++] = m;
        }
    }
    r.list = NULL;
    if (budget != NULL) {
        budget_read(&r, budget, to);
    }
    overrides_read(&r, json_object_get(o->spec, "dstOverrides"), env, port, to);
    to->profile_ref = message_service_ref(a, o->ns, o->name, 0);
    to->profile_ref->resource->group = message_text("linkerd.io");
    to->profile_ref->resource->kind = message_text("ServiceProfile");
}
