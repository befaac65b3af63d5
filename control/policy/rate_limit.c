/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

/*
 * HTTPLocalRateLimitPolicy (wire 9.2, 9.4): the oldest one of a Server counts.
 */
typedef Io__Linkerd__Proxy__Inbound__HttpLocalRateLimit__Limit limit_message;
typedef Io__Linkerd__Proxy__Inbound__HttpLocalRateLimit__Override override_message;

/* NULL when it is absent. `total`: what it must not exceed; 0: nothing. */
static limit_message *limit_read(struct reading *r, const json_t *from, uint32_t total)
{
    int64_t rps = json_number(from, "requestsPerSecond", 0);
    limit_message *m;

    if (from == NULL) {
        return NULL;
    }
    if (rps <= 0 || rps > UINT32_MAX) {
        reading_refuse(r, "requestsPerSecond is no number above 0");
        return NULL;
    }
    if (total != 0 && rps > total) {
        reading_refuse(r, "a limit of %lld requests a second exceeds the total of %u",
                       (long long)rps, total);
    }
    m = message_new(r->arena,
                    &io__linkerd__proxy__inbound__http_local_rate_limit__limit__descriptor);
    m->requestspersecond = (uint32_t)rps;
    return m;
}

static override_message *override_read(struct reading *r, const struct object *o, size_t index,
                                       uint32_t total)
{
    const json_t *from = json_array_get(json_object_get(o->spec, "overrides"), index), *refs;
    struct clients c;
    override_message *m = message_new(
        r->arena, &io__linkerd__proxy__inbound__http_local_rate_limit__override__descriptor);

    reading_at(r, "spec.overrides[%zu].clientRefs", index);
    refs = reading_list(r, from, "clientRefs");
    if (json_array_size(refs) == 0) {
        reading_complain(r, "an override names no client, so it is for none");
    }
    clients_init(&c, json_array_size(refs), r->arena);
    for (size_t i = 0; i < json_array_size(refs); i++) {
        const json_t *ref = json_array_get(refs, i);

        reading_at(r, "spec.overrides[%zu].clientRefs[%zu]", index, i);
        if (ref_is(ref, "", "ServiceAccount")) {
            clients_add_account(r, &c, ref_ns(ref, o->ns), ref_name(ref));
        } else {
            reading_refuse(r, "a clientRef of an override is no ServiceAccount");
        }
    }
    reading_at(r, "spec.overrides[%zu]", index);
    m->limit = limit_read(r, from, total);
    m->clients = message_new(
        r->arena,
        &io__linkerd__proxy__inbound__http_local_rate_limit__override__client_identities__descriptor);
    m->clients->identities = c.exact;
    m->clients->n_identities = c.exact_count;
    return m;
}

rate_limit_message *rate_limit_read(struct reading *r, const struct object *o)
{
    rate_limit_message *m =
        message_new(r->arena, &io__linkerd__proxy__inbound__http_local_rate_limit__descriptor);
    uint32_t total;
    size_t count;

    reading_at(r, "spec.overrides");
    count = json_array_size(reading_list(r, o->spec, "overrides"));
    m->metadata = resource_ref(r->arena, GROUP_POLICY, "HTTPLocalRateLimitPolicy", o->name, "", 0);
    reading_at(r, "spec.total");
    m->total = limit_read(r, json_object_get(o->spec, "total"), 0);
    total = m->total != NULL ? m->total->requestspersecond : 0;
    reading_at(r, "spec.identity");
    m->identity = limit_read(r, json_object_get(o->spec, "identity"), total);
    m->overrides = arena_new(r->arena, MAX(count, 1) * sizeof(m->overrides[0]));
    for (size_t i = 0; i < count; i++) {
        m->overrides[m->n_overrides++] = override_read(r, o, i, total);
    }
    reading_at(r, "spec");
    if (m->total == NULL && m->identity == NULL && count == 0 && !r->is_refused) {
        reading_refuse(r, "it says neither total, identity nor overrides");
    }
    return r->is_refused ? NULL : m;
}

const struct object *rate_limit_find(const struct policy *p, const char *ns, const char *server)
{
    struct attached all = attach_get(&p->attach, ATTACH_SERVER, ns, server);

    for (size_t i = 0; i < all.count; i++) {
        if (all.at[i]->kind == KIND_HTTP_LOCAL_RATE_LIMIT) {
            return all.at[i];
        }
    }
    return NULL;
}
