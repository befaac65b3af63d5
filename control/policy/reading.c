/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/reading.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "mesh/match.h"

#include <strings.h>

#define DURATION_PARTS_MAX  4
#define DURATION_DIGITS_MAX 5

/* --- dependencies -------------------------------------------------------------------------------- */

void depends_begin(struct depends *d, struct topic *t)
{
    d->topic = t;
    d->count = 0;
}

void depends_on(struct depends *d, struct bytes key)
{
    if (d == NULL) {
        return;
    }
    if (d->count == d->capacity) {
        d->at = mem_resize(d->at, d->capacity + 1, sizeof(d->at[0]));
        d->at[d->capacity++] = mem_new(sizeof(struct dep)); /* linked, so it must not move */
    }
    topic_depend(d->topic, d->at[d->count++], key);
}

void depends_on_name(struct depends *d, char letter, const char *ns, const char *name)
{
    char key[DEP_KEY_BYTES];

    depends_on(d, dep_key_name(letter, ns, name, key));
}

void depends_end(struct depends *d)
{
    while (d->capacity > d->count) {
        struct dep *last = d->at[--d->capacity];

        dep_clear(last);
        mem_free(last);
    }
}

void depends_clear(struct depends *d)
{
    d->count = 0;
    depends_end(d);
    mem_free(d->at);
    d->at = NULL;
}

/* --- problems ------------------------------------------------------------------------------------ */

/* One field begins like the other, and goes on with a part of its own or not at all. */
static bool is_within(const char *field, const char *of)
{
    size_t len = strlen(of);

    return strncmp(field, of, len) == 0 && (field[len] == '\0' || strchr(".[", field[len]) != NULL);
}

bool found_has(const struct found *f, const char *field)
{
    for (size_t i = 0; i < f->count; i++) {
        if (is_within(field, f->at[i].field) || is_within(f->at[i].field, field)) {
            return true;
        }
    }
    return false;
}

/* The place for one more; NULL when there is none. A refusal takes that of the last complaint. */
static struct found_problem *found_room(struct found *f, bool is_refusal)
{
    if (f->count < FOUND_MAX) {
        return &f->at[f->count++];
    }
    f->more++;
    for (size_t i = FOUND_MAX; is_refusal && i > 0; i--) {
        if (!f->at[i - 1].is_refusal) {
            memmove(&f->at[i - 1], &f->at[i], (FOUND_MAX - i) * sizeof(f->at[0]));
            return &f->at[FOUND_MAX - 1];
        }
    }
    return NULL;
}

/* A route is read once for each of its parents, and says the same each time. */
static void PRINTF_LIKE(3, 0) say(struct reading *r, bool is_refusal, const char *format, va_list args)
{
    struct found *f = r->found;
    char text[512];

    r->told = NULL;
    if (f == NULL) {
        return;
    }
    vsnprintf(text, sizeof(text), format, args);
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->at[i].field, r->field) == 0 && strcmp(f->at[i].reason, text) == 0) {
            f->at[i].is_refusal = f->at[i].is_refusal || is_refusal;
            return;
        }
    }
    r->told = found_room(f, is_refusal);
    if (r->told != NULL) {
        *r->told = (struct found_problem){
            .field = arena_strdup(r->arena, bytes_str(r->field)),
            .reason = arena_strdup(r->arena, bytes_str(text)),
            .is_refusal = is_refusal,
        };
    }
}

void reading_at(struct reading *r, const char *format, ...)
{
    va_list args;

    if (r->found == NULL || r->is_field_held) {
        return;
    }
    va_start(args, format);
    vsnprintf(r->field, sizeof(r->field), format, args);
    va_end(args);
}

void reading_hold(struct reading *r, bool is_held)
{
    r->is_field_held = is_held;
}

void reading_advise(struct reading *r, const char *advice)
{
    if (r->told != NULL) {
        r->told->advice = advice;
    }
}

void reading_suggest(struct reading *r, const char *word, const char *otherwise)
{
    reading_advise(r, r->told != NULL && word != NULL
                          ? arena_printf(r->arena, "did you mean %s?", word)
                          : otherwise);
}

void reading_refuse(struct reading *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(r, true, format, args);
    va_end(args);
    r->is_refused = true;
}

void reading_complain(struct reading *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(r, false, format, args);
    va_end(args);
}

const json_t *reading_list(struct reading *r, const json_t *from, const char *key)
{
    const json_t *list = json_object_get(from, key), *item;
    size_t i;

    if (list == NULL || json_is_null(list)) {
        return NULL;
    }
    if (!json_is_array(list)) {
        reading_refuse(r, "%s is no list", key);
        return NULL;
    }
    json_array_foreach(list, i, item)
    {
        if (!json_is_object(item)) {
            reading_refuse(r, "%s has an entry without fields", key);
            return NULL;
        }
    }
    return list;
}

const char *reading_text(struct reading *r, const json_t *from, const char *key)
{
    const json_t *text = json_object_get(from, key);

    if (text != NULL && !json_is_null(text) && !json_is_string(text)) {
        reading_refuse(r, "%s is no text", key);
    }
    return json_string_value(text);
}

static const char *expression_problem(const json_t *e)
{
    const char *op = json_text(e, "operator");
    bool wants_values = op != NULL && (strcmp(op, "In") == 0 || strcmp(op, "NotIn") == 0);
    const json_t *values = json_object_get(e, "values"), *value;
    size_t i;

    if (json_text(e, "key") == NULL || json_text(e, "key")[0] == '\0') {
        return "an entry of its matchExpressions has no key";
    }
    if (!wants_values && (op == NULL || (strcmp(op, "Exists") != 0 && strcmp(op, "DoesNotExist") != 0))) {
        return "an operator of its matchExpressions is none of In, NotIn, Exists and DoesNotExist";
    }
    if (wants_values != (json_array_size(values) > 0)) {
        return "In and NotIn need values, Exists and DoesNotExist have none";
    }
    json_array_foreach(values, i, value)
    {
        if (!json_is_string(value)) {
            return "a value of its matchExpressions is no text: put it in quotes";
        }
    }
    return NULL;
}

static bool has_texts_only(const json_t *map)
{
    struct json_iter it = JSON_ITER(map);

    while (json_next(&it)) {
        if (!json_is_string(it.value)) {
            return false;
        }
    }
    return true;
}

static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

/* What cluster.h takes for a selector, and matches something. */
const char *selector_problem(const json_t *selector)
{
    const json_t *labels = json_object_get(selector, "matchLabels");
    const json_t *list = json_object_get(selector, "matchExpressions");
    const char *problem = NULL;

    if (selector == NULL) {
        return NULL;
    }
    if (!json_is_object(selector)) {
        return "it is no map of matchLabels and matchExpressions";
    }
    if ((!is_absent(labels) && !json_is_object(labels)) || (!is_absent(list) && !json_is_array(list))) {
        return "its matchLabels is no map, or its matchExpressions no list";
    }
    if (!has_texts_only(is_absent(labels) && is_absent(list) ? selector : labels)) {
        return "the value of a label is no text: put it in quotes";
    }
    for (size_t i = 0; problem == NULL && i < json_array_size(list); i++) {
        problem = expression_problem(json_array_get(list, i));
    }
    return problem;
}

/* --- references ---------------------------------------------------------------------------------- */

bool ref_is(const json_t *ref, const char *group, const char *kind)
{
    const char *has_group = json_text(ref, "group");
    const char *has_kind = json_text(ref, "kind");

    if (has_group == NULL || strcmp(has_group, "core") == 0) {
        has_group = "";
    }
    return has_kind != NULL && strcasecmp(has_kind, kind) == 0 && strcasecmp(has_group, group) == 0;
}

const char *ref_name(const json_t *ref)
{
    const char *name = json_text(ref, "name");

    return name != NULL ? name : "";
}

const char *ref_ns(const json_t *ref, const char *ns)
{
    const char *own = json_text(ref, "namespace");

    return own != NULL && own[0] != '\0' ? own : ns;
}

/* A parent's group is that of Gateways when it is left out, in our own HTTPRoute the policy group. */
enum parent parent_kind(const struct object *route, const json_t *ref)
{
    bool has_group = json_text(ref, "group") != NULL;

    if (ref_is(ref, GROUP_POLICY, "Server") ||
        (!has_group && route->kind == KIND_LINKERD_HTTP_ROUTE && ref_is(ref, "", "Server"))) {
        return PARENT_SERVER;
    }
    if (ref_is(ref, GROUP_POLICY, "EgressNetwork")) {
        return PARENT_EGRESS;
    }
    return has_group && ref_is(ref, "", "Service") ? PARENT_SERVICE : PARENT_OTHER;
}

bool route_has_parent(const struct object *route, enum parent kind, const char *ns,
                      const char *name, uint16_t port)
{
    const json_t *refs = json_object_get(route->spec, "parentRefs");
    struct json_iter it = JSON_ITER(refs);

    while (json_is_array(refs) && json_next(&it)) {
        /* Of an EgressNetwork always one port. */
        int64_t of_port = json_number(it.value, "port", kind == PARENT_EGRESS ? 0 : port);

        if (parent_kind(route, it.value) == kind && of_port == port &&
            strcmp(ref_ns(it.value, route->ns), ns) == 0 && strcmp(ref_name(it.value), name) == 0) {
            return true;
        }
    }
    return false;
}

message_metadata *resource_ref(struct arena *a, const char *group, const char *kind,
                               const char *name, const char *ns, uint16_t port)
{
    message_metadata *m = message_service_ref(a, ns, name, port);

    m->resource->group = message_text(group);
    m->resource->kind = message_text(kind);
    return m;
}

bool object_is_before(const struct object *a, const struct object *b)
{
    int by_ns = strcmp(a->ns, b->ns);
    int by_name = strcmp(a->name, b->name);

    if (a->created_ns != b->created_ns) {
        return a->created_ns < b->created_ns;
    }
    return by_ns != 0 ? by_ns < 0 : by_name != 0 ? by_name < 0 : a->kind < b->kind;
}

/* --- values -------------------------------------------------------------------------------------- */

bool gateway_duration(const char *text, uint64_t *out_ns)
{
    struct bytes rest = bytes_str(text);
    uint64_t sum = 0;

    for (unsigned parts = 0; rest.len > 0; parts++) {
        size_t digits = 0, unit = 0;
        uint64_t part;

        while (digits < rest.len && rest.at[digits] >= '0' && rest.at[digits] <= '9') {
            digits++;
        }
        while (digits + unit < rest.len && rest.at[digits + unit] >= 'a' &&
               rest.at[digits + unit] <= 'z') {
            unit++;
        }
        if (parts == DURATION_PARTS_MAX || digits == 0 || digits > DURATION_DIGITS_MAX ||
            rest.at[digits + unit - 1] == 'd' ||
            clock_parse_duration(bytes_first(rest, digits + unit), &part) != 0) {
            return false;
        }
        sum += part;
        rest = bytes_from(rest, digits + unit);
    }
    *out_ns = sum;
    return text != NULL && text[0] != '\0';
}

bool network_read(const json_t *item, struct network *out)
{
    const char *cidr = json_is_string(item) ? json_string_value(item) : json_text(item, "cidr");
    struct cidr except;

    *out = (struct network){.except = json_object_get(item, "except")};
    if (cidr == NULL || cidr_parse(bytes_str(cidr), &out->net) != 0 ||
        (out->except != NULL && !json_is_null(out->except) && !json_is_array(out->except))) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(out->except); i++) {
        const char *text = json_string_value(json_array_get(out->except, i));

        if (text == NULL || cidr_parse(bytes_str(text), &except) != 0 ||
            except.prefix < out->net.prefix || !cidr_contains(&out->net, &except.base)) {
            return false;
        }
    }
    return true;
}

bool network_has(const struct network *n, const struct addr *ip)
{
    struct cidr except;

    if (!cidr_contains(&n->net, ip)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(n->except); i++) {
        const char *text = json_string_value(json_array_get(n->except, i));

        if (cidr_parse(bytes_str(text), &except) == 0 && cidr_contains(&except, ip)) {
            return false;
        }
    }
    return true;
}

static void *network_message(const struct network *n, struct arena *a)
{
    Io__Linkerd__Proxy__Inbound__Network *m =
        message_new(a, &io__linkerd__proxy__inbound__network__descriptor);
    size_t count = json_array_size(n->except);
    struct cidr except;

    m->net = message_network(a, &n->net);
    m->except = arena_new(a, MAX(count, 1) * sizeof(m->except[0]));
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(n->except, i));

        if (cidr_parse(bytes_str(text), &except) == 0) {
            m->except[m->n_except++] = message_network(a, &except);
        }
    }
    return m;
}

void *networks_read(struct reading *r, const json_t *list, size_t *out_count)
{
    size_t count = json_array_size(list);
    void **all = arena_new(r->arena, MAX(count, 1) * sizeof(*all));
    struct network n;

    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        reading_refuse(r, "networks is no list");
    }
    for (size_t i = 0; i < count; i++) {
        if (!network_read(json_array_get(list, i), &n)) {
            reading_refuse(r, "network %zu is no CIDR, or an exception lies outside of it", i);
            count = 0;
            break;
        }
        all[i] = network_message(&n, r->arena);
    }
    *out_count = count;
    return all;
}

bool regex_is_good(const char *pattern)
{
    struct regex *compiled = NULL;

    if (pattern == NULL || regex_new(bytes_str(pattern), &compiled) != 0) {
        return false;
    }
    regex_free(compiled);
    return true;
}
