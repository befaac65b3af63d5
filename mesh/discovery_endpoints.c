/* SPDX-License-Identifier: Apache-2.0 */
#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "mesh/control_private.h"
#include "mesh/discovery_private.h"

/*
 * The endpoints of a service: Destination.Get, whose updates are merged here into whole sets, or
 * DNS for names that the control plane does not know (wire 3.2).
 */
#define ENDPOINTS_MAX 20000 /* of one service; what is beyond is left out */
#define CHANGED_MAX   16    /* of a message that changes a set; beyond them it is made anew */

typedef Io__Linkerd__Proxy__Destination__Update pb_update;
typedef Io__Linkerd__Proxy__Destination__WeightedAddrSet pb_addr_set;

struct endpoints_asked {
    struct asked asked;
    struct control_watch watch;
    bool is_fresh;    /* since the stream was opened no set came: the next one is the whole */
    struct map known; /* address -> struct endpoint, a reference each */
    enum endpoint_set_state state;
    struct addr changed[CHANGED_MAX]; /* since the last set was published */
    size_t changed_count;             /* may be more than there are */

    struct dns_query query;
    struct timer again;
    struct bytes host; /* in the key */
    uint16_t port;
    unsigned failures;
};

/* --- sets ------------------------------------------------------------------------------------- */

static void set_free(struct snapshot *s)
{
    struct endpoint_set *set = CONTAINER_OF(s, struct endpoint_set, ref);

    for (size_t i = 0; i < set->count; i++) {
        endpoint_unref(set->at[i]);
    }
    mem_free(set->at);
    mem_free(set);
}

struct endpoint_set *endpoint_set_new(enum endpoint_set_state state, size_t count)
{
    struct endpoint_set *set = mem_new(sizeof(*set));

    snapshot_init(&set->ref, set_free);
    set->state = state;
    set->count = count;
    set->at = count > 0 ? mem_new_array(count, sizeof(struct endpoint *)) : NULL;
    return set;
}

static int by_address(const void *a, const void *b)
{
    const struct endpoint *const *x = a, *const *y = b;

    return addr_cmp(&(*x)->addr, &(*y)->addr);
}

static struct endpoint_set *whole_set(const struct endpoints_asked *e)
{
    struct endpoint_set *set = endpoint_set_new(e->state, map_count(&e->known));
    struct map_iter it = MAP_ITER(&e->known);
    size_t i = 0;

    while (map_next(&it)) {
        set->at[i++] = it.value;
    }
    assert(i == set->count);
    if (i > 0) {
        qsort(set->at, i, sizeof(*set->at), by_address);
    }
    return set;
}

/* The first place whose address is not below this one. */
static size_t place_of(const struct endpoint_set *set, const struct addr *addr)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (addr_cmp(&set->at[middle]->addr, addr) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* As `before`, but for what changed: of thousands it is most often one or two, and to sort them all
 * again would take milliseconds. */
static struct endpoint_set *changed_set(const struct endpoints_asked *e,
                                        const struct endpoint_set *before)
{
    struct endpoint_set *set = endpoint_set_new(e->state, before->count + e->changed_count);

    set->count = before->count;
    if (before->count > 0) {
        memcpy(set->at, before->at, before->count * sizeof(*set->at));
    }
    for (size_t i = 0; i < e->changed_count; i++) {
        const struct addr *addr = &e->changed[i];
        const struct endpoint *now = map_get(&e->known, addr_key(addr));
        size_t at = place_of(set, addr), behind = set->count - at;
        bool is_there = behind > 0 && addr_eq(&set->at[at]->addr, addr);

        if (now != NULL && !is_there) {
            memmove(&set->at[at + 1], &set->at[at], behind * sizeof(*set->at));
            set->count++;
        } else if (now == NULL && is_there) {
            memmove(&set->at[at], &set->at[at + 1], (behind - 1) * sizeof(*set->at));
            set->count--;
        }
        if (now != NULL) {
            set->at[at] = now;
        }
    }
    assert(set->count == map_count(&e->known));
    return set;
}

static void publish(struct endpoints_asked *e)
{
    struct snapshot *before = e->asked.answer;
    struct endpoint_set *set =
        before != NULL && e->changed_count <= CHANGED_MAX
            ? changed_set(e, CONTAINER_OF(before, struct endpoint_set, ref))
            : whole_set(e);

    for (size_t i = 0; i < set->count; i++) {
        endpoint_ref(set->at[i]);
    }
    e->changed_count = 0;
    asked_publish(&e->asked, &set->ref);
}

/* --- what is known ---------------------------------------------------------------------------- */

static void note_change(struct endpoints_asked *e, const struct addr *addr)
{
    if (e->changed_count < CHANGED_MAX) {
        e->changed[e->changed_count] = *addr;
    }
    e->changed_count += e->changed_count <= CHANGED_MAX;
}

static void forget_all(struct endpoints_asked *e)
{
    struct map_iter it = MAP_ITER(&e->known);

    while (map_next(&it)) {
        endpoint_unref(it.value);
    }
    map_clear(&e->known);
    e->changed_count = CHANGED_MAX + 1;
}

/* Takes the reference of `fresh`. True: that was news. */
static bool learn(struct endpoints_asked *e, struct endpoint *fresh)
{
    struct endpoint *before = map_get(&e->known, addr_key(&fresh->addr));

    if (before == NULL && map_count(&e->known) >= ENDPOINTS_MAX) {
        endpoint_unref(fresh);
        return false;
    }
    if (before != NULL && endpoint_same(before, fresh)) {
        endpoint_unref(fresh); /* the one that everybody has already stays */
        return false;
    }
    note_change(e, &fresh->addr);
    (void)map_put(&e->known, addr_key(&fresh->addr), fresh);
    endpoint_unref(before);
    return true;
}

static bool forget(struct endpoints_asked *e, const struct addr *addr)
{
    struct endpoint *before = map_remove(&e->known, addr_key(addr));

    if (before == NULL) {
        return false;
    }
    note_change(e, addr);
    endpoint_unref(before);
    return true;
}

/* Drop what `whole` does not have. */
static bool forget_others(struct endpoints_asked *e, const struct map *whole)
{
    struct map_iter it = MAP_ITER(&e->known);
    bool changed = false;

    while (map_next(&it)) {
        if (map_get(whole, it.key) == NULL) {
            struct endpoint *gone = it.value;

            note_change(e, &gone->addr);
            (void)map_remove(&e->known, it.key);
            endpoint_unref(gone);
            changed = true;
        }
    }
    return changed;
}

/* --- updates ---------------------------------------------------------------------------------- */

static bool apply_add(struct endpoints_asked *e, const pb_addr_set *set)
{
    struct map whole;
    bool changed = e->state != ENDPOINTS_EXIST;

    if (set->n_addrs == 0) {
        return false;
    }
    map_init(&whole);
    for (size_t i = 0; i < set->n_addrs; i++) {
        struct endpoint *endpoint =
            endpoint_new(set->addrs[i], set->metric_labels, set->n_metric_labels);

        if (endpoint == NULL) {
            log_debug("an endpoint is malformed: left out; service=" BYTES_FMT,
                      BYTES_ARG(e->asked.key));
            continue;
        }
        if (e->is_fresh) {
            (void)map_put(&whole, addr_key(&endpoint->addr), e);
        }
        changed = learn(e, endpoint) || changed;
    }
    if (e->is_fresh) {
        changed = forget_others(e, &whole) || changed;
    }
    map_clear(&whole);
    e->is_fresh = false;
    e->state = ENDPOINTS_EXIST;
    return changed;
}

static bool apply_none(struct endpoints_asked *e, bool exists)
{
    enum endpoint_set_state state = exists ? ENDPOINTS_EXIST : ENDPOINTS_ABSENT;
    bool changed = e->state != state || map_count(&e->known) > 0;

    forget_all(e);
    e->is_fresh = false;
    e->state = state;
    return changed;
}

static bool apply_remove(struct endpoints_asked *e,
                         const Io__Linkerd__Proxy__Destination__AddrSet *set)
{
    bool changed = false;

    for (size_t i = 0; i < set->n_addrs; i++) {
        struct addr addr;

        if (addr_decode(set->addrs[i], &addr) == 0) {
            changed = forget(e, &addr) || changed;
        }
    }
    return changed;
}

static bool apply(struct endpoints_asked *e, const pb_update *update)
{
    switch ((int)update->update_case) {
    case IO__LINKERD__PROXY__DESTINATION__UPDATE__UPDATE_ADD:
        return apply_add(e, update->add);
    case IO__LINKERD__PROXY__DESTINATION__UPDATE__UPDATE_REMOVE:
        return apply_remove(e, update->remove);
    case IO__LINKERD__PROXY__DESTINATION__UPDATE__UPDATE_NO_ENDPOINTS:
        return apply_none(e, update->no_endpoints->exists);
    default:
        return false;
    }
}

static void on_message(struct control_watch *w, struct bytes message, bool is_first)
{
    struct endpoints_asked *e = CONTAINER_OF(w, struct endpoints_asked, watch);
    struct policy_held *held = NULL;
    struct arena unused;
    struct decode d;
    const pb_update *update;

    e->is_fresh = e->is_fresh || is_first;
    decode_init(&d, &unused, &held);
    update = decode_unpack(&d, PB(destination__update), message);
    if (update == NULL) {
        log_debug("an update is malformed: left out; service=" BYTES_FMT " reason=\"%s\"",
                  BYTES_ARG(e->asked.key), d.problem);
    } else if (apply(e, update)) {
        publish(e);
    }
    decode_clear(&d);
}

static enum control_verdict on_end(struct control_watch *w, enum grpc_status status,
                                   struct bytes message)
{
    struct endpoints_asked *e = CONTAINER_OF(w, struct endpoints_asked, watch);

    (void)message;
    if (status != GRPC_INVALID_ARGUMENT && status != GRPC_FAILED_PRECONDITION) {
        return CONTROL_RETRY;
    }
    forget_all(e);
    e->state = ENDPOINTS_INVALID;
    publish(e);
    return CONTROL_STOP;
}

/* --- names that are not the mesh's ------------------------------------------------------------ */

static void apply_dns(struct endpoints_asked *e, const struct dns_answer *answer)
{
    bool changed = e->state != ENDPOINTS_EXIST;
    struct map whole;

    map_init(&whole);
    for (size_t i = 0; i < answer->count; i++) {
        struct endpoint *endpoint = endpoint_new_plain(&answer->addrs[i]);

        (void)map_put(&whole, addr_key(&endpoint->addr), e);
        changed = learn(e, endpoint) || changed;
    }
    changed = forget_others(e, &whole) || changed;
    map_clear(&whole);
    e->state = ENDPOINTS_EXIST;
    if (changed) {
        publish(e);
    }
}

static void on_resolved(struct dns_query *q, int err, const struct dns_answer *answer)
{
    struct endpoints_asked *e = CONTAINER_OF(q, struct endpoints_asked, query);
    uint64_t again_ns;

    if (err == 0) {
        apply_dns(e, answer);
        e->failures = 0;
        again_ns = answer->ttl_ns;
    } else {
        if (err == E_DNS_NAME && apply_none(e, false)) {
            publish(e);
        }
        again_ns = MAX(control_backoff_ns(e->asked.discovery->loop, e->failures++), NS_PER_S);
    }
    timer_arm_in(e->asked.discovery->loop, &e->again, again_ns);
}

static void resolve(struct timer *t)
{
    struct endpoints_asked *e = CONTAINER_OF(t, struct endpoints_asked, again);

    dns_resolve(e->asked.discovery->dns, &e->query, e->host, e->port, false);
}

bool discovery_is_mesh_name(const char *suffixes, struct bytes name)
{
    struct bytes rest = bytes_str(suffixes), suffix, labels;

    name = bytes_trim(name, ".");
    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &suffix, &rest);
        suffix = bytes_trim(suffix, " \t\n");
        if (suffix.len == 0) {
            continue;
        }
        suffix = bytes_trim(suffix, ".");
        if (suffix.len == 0 || bytes_eq_nocase(name, suffix)) {
            return true;
        }
        if (name.len > suffix.len) {
            labels = bytes_from(name, name.len - suffix.len);
            if (name.at[name.len - suffix.len - 1] == '.' && bytes_eq_nocase(labels, suffix)) {
                return true;
            }
        }
    }
    return false;
}

/* "name:port"; port 80 when there is none. */
static bool split_key(struct endpoints_asked *e)
{
    struct bytes port = BYTES("80");
    uint64_t number;

    e->host = e->asked.key;
    for (size_t i = e->asked.key.len; i > 0; i--) {
        if (e->asked.key.at[i - 1] == ':') {
            e->host = bytes_first(e->asked.key, i - 1);
            port = bytes_from(e->asked.key, i);
            break;
        }
    }
    if (e->host.len == 0 || bytes_to_u64(port, UINT16_MAX, &number) != 0) {
        return false;
    }
    e->port = (uint16_t)number;
    return true;
}

/* --- life ------------------------------------------------------------------------------------- */

static void start_watch(struct endpoints_asked *e)
{
    const struct discovery *d = e->asked.discovery;
    Io__Linkerd__Proxy__Destination__GetDestination get;
    AUTOFREE char *path = bytes_dup(e->asked.key);

    io__linkerd__proxy__destination__get_destination__init(&get);
    get.path = path;
    if (d->config.context_token != NULL) {
        get.context_token = (char *)(uintptr_t)d->config.context_token;
    }
    e->watch.path = GRPC_DESTINATION_GET;
    e->watch.request = request_pack(&get.base);
    e->watch.on_message = on_message;
    e->watch.on_end = on_end;
    control_watch_start(d->destination, &e->watch);
}

static void endpoints_start(struct asked *a)
{
    struct endpoints_asked *e = CONTAINER_OF(a, struct endpoints_asked, asked);

    map_init(&e->known);
    e->again.run = resolve;
    e->query.on_answer = on_resolved;
    if (!split_key(e)) {
        e->state = ENDPOINTS_INVALID;
        publish(e);
    } else if (discovery_is_mesh_name(a->discovery->config.profile_suffixes, e->host)) {
        start_watch(e);
    } else {
        resolve(&e->again);
    }
}

static void endpoints_stop(struct asked *a)
{
    struct endpoints_asked *e = CONTAINER_OF(a, struct endpoints_asked, asked);

    control_watch_stop(&e->watch);
    dns_cancel(&e->query);
    timer_cancel(a->discovery->loop, &e->again);
    forget_all(e);
    mem_free((char *)(uintptr_t)e->watch.request.at);
}

const struct asked_ops endpoints_ops = {
    .bytes = sizeof(struct endpoints_asked),
    .start = endpoints_start,
    .stop = endpoints_stop,
};
