/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/profile_private.h"

#include "core/clock.h"
#include "core/err.h"
#include "core/metric.h"
#include "mesh/match.h"

#include <stdlib.h>

/*
 * The routes, overrides and retry budget of a DestinationProfile (wire 3.2). A part that cannot be
 * understood takes nothing with it but itself: what it refused is forgiven behind it.
 */
#define LABELS_BYTES_MAX 2048
#define LABEL_KEY_MAX    64
#define STATUS_MIN       100
#define STATUS_MAX       599
/* Where the policy has no say (wire 6.1). */
#define DEFAULT_RTT_NS   (30 * NS_PER_MS)
#define DEFAULT_DECAY_NS (10 * NS_PER_S)
#define FAILFAST_NS      (3 * NS_PER_S)
#define QUEUE_CAPACITY   100

typedef Io__Linkerd__Proxy__Destination__Route pb_route;
typedef Io__Linkerd__Proxy__Destination__Route__MetricsLabelsEntry pb_label;
typedef Io__Linkerd__Proxy__Destination__ResponseClass pb_class;
typedef Io__Linkerd__Proxy__Destination__PathMatch pb_path;
typedef Io__Linkerd__Proxy__Destination__HttpStatusRange pb_status;
typedef Io__Linkerd__Proxy__Destination__RetryBudget pb_budget;
typedef Io__Linkerd__Proxy__Destination__WeightedDst pb_weighted;
typedef Io__Linkerd__Proxy__Destination__DestinationProfile pb_profile;

static_assert(PROFILE_DST_MAX <= BACKEND_PATH_MAX, "the service is a backend, too");

struct reader {
    struct decode *d;
    size_t nodes; /* conditions so far */
};

static size_t count_fields(struct bytes message, uint64_t number)
{
    struct wire_field f;
    size_t count = 0;

    while (message.len > 0 && wire_field_take(&message, &f) == 0) {
        count += f.number == number && f.is_len;
    }
    return count;
}

/* --- conditions ------------------------------------------------------------------------------- */

enum { MATCH_ALL = 1, MATCH_ANY, MATCH_NOT, MATCH_LEAF, MATCH_METHOD }; /* numbers of fields */

static bool match_decode(struct reader *r, struct bytes message, bool is_response, unsigned depth,
                         struct profile_match *to);

/* Most expressions of a path are plain text. */
static bool is_plain(const char *regex)
{
    return regex[strspn(regex, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "/_-~%")] == '\0';
}

static bool path_decode(struct reader *r, struct bytes message, struct profile_match *to)
{
    const pb_path *from = decode_unpack(r->d, PB(destination__path_match), message);

    if (from == NULL) {
        return false;
    }
    to->op = PROFILE_PATH;
    to->path.text = decode_text(r->d, from->regex);
    to->path.op = is_plain(from->regex) ? MATCH_EXACT : MATCH_REGEX;
    if (to->path.op == MATCH_REGEX) {
        to->path.regex = decode_regex(r->d, from->regex);
    }
    return decode_is_ok(r->d);
}

static bool method_decode(struct reader *r, struct bytes message, struct profile_match *to)
{
    const pb_method *from = decode_unpack(r->d, PB(http_types__http_method), message);

    if (from == NULL) {
        return false;
    }
    to->op = PROFILE_METHOD;
    to->method = decode_method(r->d, from);
    return decode_is_ok(r->d);
}

static bool status_decode(struct reader *r, struct bytes message, struct profile_match *to)
{
    const pb_status *from = decode_unpack(r->d, PB(destination__http_status_range), message);
    uint32_t min, max;

    if (from == NULL) {
        return false;
    }
    min = from->min != 0 ? from->min : STATUS_MIN; /* an end that is left out is open */
    max = from->max != 0 ? from->max : STATUS_MAX;
    if (min < STATUS_MIN || max > STATUS_MAX || min > max) {
        decode_refuse(r->d, "statuses %u to %u are no range", min, max);
        return false;
    }
    to->op = PROFILE_STATUS;
    to->status = (struct status_range){.start = (uint16_t)min, .end = (uint16_t)max};
    return true;
}

static struct profile_match *nodes_new(struct reader *r, size_t count)
{
    if (count > PROFILE_NODES_MAX - r->nodes) {
        decode_refuse(r->d, "the conditions of the profile are too many");
        return NULL;
    }
    r->nodes += count;
    return decode_array(r->d, count, sizeof(struct profile_match));
}

static bool list_decode(struct reader *r, struct bytes seq, bool is_response, unsigned depth,
                        struct profile_match *to)
{
    size_t count = count_fields(seq, 1), n = 0;
    struct profile_match *at = nodes_new(r, count);
    struct wire_field f;

    while (decode_is_ok(r->d) && seq.len > 0) {
        if (wire_field_take(&seq, &f) != 0) {
            return false;
        }
        if (f.number == 1 && f.is_len &&
            !match_decode(r, f.payload, is_response, depth + 1, &at[n++])) {
            return false;
        }
    }
    to->at = at;
    to->count = count;
    return decode_is_ok(r->d);
}

static bool not_decode(struct reader *r, struct bytes message, bool is_response, unsigned depth,
                       struct profile_match *to)
{
    struct profile_match *at = nodes_new(r, 1);

    to->op = PROFILE_NOT;
    to->at = at;
    to->count = 1;
    return at != NULL && match_decode(r, message, is_response, depth + 1, at);
}

/*
 * A RequestMatch or a ResponseMatch: they agree but for their leaves. Of a oneof the last counts.
 * Recursion is limited by PROFILE_DEPTH_MAX. Malformed: false, and whether it is refused too is all
 * the same.
 */
static bool match_decode(struct reader *r, struct bytes message, bool is_response, unsigned depth,
                         struct profile_match *to)
{
    struct wire_field f, last = {.number = 0};

    if (depth > PROFILE_DEPTH_MAX) {
        return false;
    }
    while (message.len > 0) {
        if (wire_field_take(&message, &f) != 0) {
            return false;
        }
        if (f.is_len && f.number >= MATCH_ALL &&
            f.number <= (is_response ? MATCH_LEAF : MATCH_METHOD)) {
            last = f;
        }
    }
    switch (last.number) {
    case MATCH_ALL:
    case MATCH_ANY:
        to->op = last.number == MATCH_ALL ? PROFILE_ALL : PROFILE_ANY;
        return list_decode(r, last.payload, is_response, depth, to);
    case MATCH_NOT:
        return not_decode(r, last.payload, is_response, depth, to);
    case MATCH_LEAF:
        return is_response ? status_decode(r, last.payload, to) : path_decode(r, last.payload, to);
    case MATCH_METHOD:
        return method_decode(r, last.payload, to);
    default:
        return false;
    }
}

/* --- labels ----------------------------------------------------------------------------------- */

static int label_cmp(const void *a, const void *b)
{
    return strcmp((*(const pb_label *const *)a)->key, (*(const pb_label *const *)b)->key);
}

/* rt_<key>, in the characters that a label may have. False: too long. */
static bool label_name(const char *key, char to[LABEL_KEY_MAX])
{
    int len = snprintf(to, LABEL_KEY_MAX, "rt_%s", key);

    for (char *c = to; *c != '\0'; c++) {
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9'))) {
            *c = '_';
        }
    }
    return len < LABEL_KEY_MAX;
}

/*
 * In the order of their names: a map comes in any order, and the same labels must be the same
 * series. Of two that become the same name the first stays, because a set that has one twice makes
 * a scrape unreadable.
 */
static struct bytes labels_decode(struct decode *d, pb_label **from, size_t count)
{
    char names[PROFILE_LABELS_MAX][LABEL_KEY_MAX];
    struct text t;
    struct bytes result;
    size_t n = 0;

    if (count > 1) {
        qsort(from, count, sizeof(from[0]), label_cmp);
    }
    text_init(&t, LABELS_BYTES_MAX);
    for (size_t i = 0; i < count && n < PROFILE_LABELS_MAX; i++) {
        size_t same = 0;
        bool fits = label_name(from[i]->key, names[n]);

        while (same < n && strcmp(names[same], names[n]) != 0) {
            same++;
        }
        if (fits && same == n) {
            label_add(&t, names[n++], bytes_str(from[i]->value));
        }
    }
    if (t.err != 0) {
        decode_refuse(d, "the labels of a route are too long");
    }
    result = decode_bytes(d, text_bytes(&t));
    text_clear(&t);
    return result;
}

/* --- routes ----------------------------------------------------------------------------------- */

enum { ROUTE_CONDITION = 1, ROUTE_CLASSES = 2, CLASS_CONDITION = 1 }; /* numbers of fields */

/* What a part refused stops nothing behind it. */
static void forgive(struct decode *d)
{
    d->is_refused = false;
}

static bool class_decode(struct reader *r, struct bytes message, struct profile_class *to)
{
    struct bytes flat = wire_without(r->d, message, CLASS_CONDITION, CLASS_CONDITION);
    const pb_class *from = decode_unpack(r->d, PB(destination__response_class), flat);
    struct wire_field f;
    bool has_condition = false;

    if (from == NULL) {
        return false;
    }
    to->is_failure = from->is_failure;
    while (message.len > 0 && wire_field_take(&message, &f) == 0) {
        if (f.number == CLASS_CONDITION && f.is_len) {
            has_condition = match_decode(r, f.payload, true, 0, &to->when);
        }
    }
    return has_condition;
}

static void classes_decode(struct reader *r, struct bytes message, struct profile_route *to)
{
    struct wire_field f;
    size_t count = count_fields(message, ROUTE_CLASSES);

    to->classes = decode_array(r->d, count, sizeof(*to->classes));
    while (to->classes != NULL && message.len > 0 && wire_field_take(&message, &f) == 0) {
        if (f.number == ROUTE_CLASSES && f.is_len) {
            to->classes_count += class_decode(r, f.payload, &to->classes[to->classes_count]);
            forgive(r->d);
        }
    }
}

static bool route_decode(struct reader *r, struct bytes message, struct profile_route *to)
{
    struct bytes flat = wire_without(r->d, message, ROUTE_CONDITION, ROUTE_CLASSES);
    const pb_route *from = decode_unpack(r->d, PB(destination__route), flat);
    struct bytes rest = message;
    struct wire_field f;
    bool has_condition = false;

    if (from == NULL) {
        return false;
    }
    to->is_retryable = from->is_retryable;
    to->timeout_ns = decode_duration(r->d, from->timeout);
    to->labels = labels_decode(r->d, from->metrics_labels, from->n_metrics_labels);
    while (decode_is_ok(r->d) && rest.len > 0 && wire_field_take(&rest, &f) == 0) {
        if (f.number == ROUTE_CONDITION && f.is_len) {
            has_condition = match_decode(r, f.payload, false, 0, &to->when);
        }
    }
    if (!has_condition || !decode_is_ok(r->d)) {
        return false;
    }
    classes_decode(r, message, to);
    return true;
}

/* --- the rest --------------------------------------------------------------------------------- */

static struct budget_terms budget_decode(struct decode *d, const pb_budget *from)
{
    struct budget_terms t = {.is_on = false};

    if (from != NULL) {
        t.ratio = from->retry_ratio;
        t.min_per_s = from->min_retries_per_second;
        t.ttl_ns = decode_duration(d, from->ttl);
        t.is_on = decode_is_ok(d) && budget_terms_are_valid(&t);
        forgive(d);
    }
    return t;
}

static bool has_port(struct bytes authority)
{
    size_t digits = 0;
    uint64_t port;

    while (digits < authority.len && authority.at[authority.len - 1 - digits] != ':') {
        digits++;
    }
    return digits + 1 < authority.len &&
           bytes_to_u64(bytes_from(authority, authority.len - digits), UINT16_MAX, &port) == 0 &&
           port != 0;
}

static void split_add(struct service_profile *to, struct bytes path, const struct meta *meta,
                      uint32_t weight)
{
    to->split.backends[to->backends_count] =
        (struct weighted_backend){.backend = to->backends_count, .weight = weight};
    to->backends[to->backends_count] = (struct backend){
        .kind = BACKEND_BALANCER,
        .meta = *meta,
        .path = path,
        .default_rtt_ns = DEFAULT_RTT_NS,
        .decay_ns = DEFAULT_DECAY_NS,
        .failfast_ns = FAILFAST_NS,
        .queue_capacity = QUEUE_CAPACITY,
    };
    to->split.backends_count = ++to->backends_count;
}

/* What has no weight gets nothing (wire 6.4): it is as if it were not there. */
static void override_decode(struct decode *d, struct bytes message, struct service_profile *to)
{
    const pb_weighted *from = decode_unpack(d, PB(destination__weighted_dst), message);
    struct bytes path = from != NULL ? decode_text(d, from->authority) : BYTES_NONE;
    struct meta meta = {.kind = BYTES("default"), .name = path};

    if (decode_is_ok(d) && from->backend_ref != NULL) {
        meta = decode_meta(d, from->backend_ref, "an override", false);
    }
    if (decode_is_ok(d) && from->weight > 0 && path.len <= BACKEND_PATH_MAX && has_port(path)) {
        split_add(to, path, &meta, from->weight);
    }
}

enum { PROFILE_FIELD_ROUTES = 1, PROFILE_FIELD_OVERRIDES = 3 }; /* numbers of fields */

static void parts_decode(struct reader *r, struct bytes message, size_t routes_max,
                         struct service_profile *to)
{
    struct wire_field f;

    while (message.len > 0 && wire_field_take(&message, &f) == 0) {
        if (f.number == PROFILE_FIELD_ROUTES && f.is_len && to->routes_count < routes_max) {
            struct profile_route *route = &to->routes[to->routes_count];

            memset(route, 0, sizeof(*route));
            to->routes_count += route_decode(r, f.payload, route);
        } else if (f.number == PROFILE_FIELD_OVERRIDES && f.is_len) {
            override_decode(r->d, f.payload, to);
        }
        forgive(r->d);
    }
}

static struct bytes dst_of(struct decode *d, struct bytes name, uint16_t port)
{
    size_t bytes = name.len + sizeof(":65535");
    char *at = decode_array(d, bytes, 1);

    return at == NULL
               ? BYTES_NONE
               : bytes_of(at, (size_t)snprintf(at, bytes, BYTES_FMT ":%u", BYTES_ARG(name), port));
}

static struct meta parent_of(const struct service_profile *to, const struct profile *of,
                             uint16_t port)
{
    struct meta parent = of->parent;

    if (parent.kind.len == 0) {
        parent = (struct meta){.kind = BYTES("default"), .name = to->dst};
    }
    parent.port = port;
    return parent;
}

const struct service_profile *decode_service_profile(struct decode *d, struct bytes message,
                                                     const struct profile *of, uint16_t port)
{
    size_t routes = MIN(count_fields(message, PROFILE_FIELD_ROUTES), (size_t)PROFILE_ROUTES_MAX);
    size_t overrides = count_fields(message, PROFILE_FIELD_OVERRIDES);
    struct bytes flat = wire_without(d, message, PROFILE_FIELD_ROUTES, PROFILE_FIELD_OVERRIDES);
    const pb_profile *from = decode_unpack(d, PB(destination__destination_profile), flat);
    struct service_profile *to;
    struct reader r = {.d = d};

    if (from == NULL || routes + overrides == 0 || of->name.len > PROFILE_DST_MAX - 6) {
        return NULL;
    }
    to = decode_array(d, 1, sizeof(*to));
    if (to != NULL) {
        to->dst = dst_of(d, of->name, port);
        to->routes = decode_array(d, routes, sizeof(*to->routes));
        to->backends = decode_array(d, overrides + 1, sizeof(*to->backends));
        to->split.backends = decode_array(d, overrides + 1, sizeof(*to->split.backends));
    }
    if (!decode_is_ok(d)) {
        return NULL;
    }
    to->parent = parent_of(to, of, port);
    to->split.distribution = DISTRIBUTE_RANDOM;
    to->budget = budget_decode(d, from->retry_budget);
    parts_decode(&r, message, routes, to);
    if (to->routes_count == 0 && to->backends_count == 0) {
        return NULL;
    }
    if (to->backends_count == 0) {
        split_add(to, to->dst, &to->parent, 1);
    }
    return to;
}
