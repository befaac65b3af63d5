/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/early.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "proxy/accept.h"

#define GRACE_CLEAR_TENTHS 25 /* of the usual one, while it may yet be a mesh peer */
#define GRACE_LONG_NS      NS_PER_S

/* --- what is remembered ----------------------------------------------------------------------- */

struct early_slot {
    uint64_t destination; /* hash of direction and address; 0: none */
    uint16_t open;        /* connections that are open early; it stays in its place meanwhile */
    bool server_first, client_first, mesh_tls;
};
struct early_table {
    unsigned open;
    struct early_slot slots[EARLY_SLOTS];
};

static_assert(EARLY_SLOTS - 1 <= UINT8_MAX, "conn.early_slot");

/* Inbound by port, for all addresses are this pod's; outbound by address and port. */
static uint64_t destination_of(const struct conn *c)
{
    struct addr key;

    memset(&key, 0, sizeof(key));
    if (c->dir == OUTBOUND) {
        key = c->target;
    }
    key.port = c->target.port;
    return (bytes_hash(addr_key(&key)) & ~1ull) | 2 | (c->dir == OUTBOUND);
}

static const struct early_slot *slot_known(const struct conn *c)
{
    const struct early_table *t = c->w->early;
    uint64_t d = destination_of(c);

    if (t == NULL || t->slots[(d >> 2) % EARLY_SLOTS].destination != d) {
        return NULL;
    }
    return &t->slots[(d >> 2) % EARLY_SLOTS];
}

/* The destination's place, if it can have one now. */
static struct early_slot *slot_claim(const struct conn *c)
{
    struct proxy_worker *w = c->w;
    uint64_t d = destination_of(c);
    struct early_slot *s;

    if (w->early == NULL) {
        w->early = mem_new(sizeof(*w->early));
    }
    s = &w->early->slots[(d >> 2) % EARLY_SLOTS];
    if (s->destination == d) {
        return s;
    }
    if (s->open > 0) {
        return NULL;
    }
    *s = (struct early_slot){.destination = d};
    return s;
}

void early_clear(struct proxy_worker *w)
{
    assert(w->early == NULL || w->early->open == 0);
    mem_free(w->early);
    w->early = NULL;
}

/* --- when ------------------------------------------------------------------------------------- */

uint64_t early_grace_ns(const struct conn *c)
{
    const struct early_slot *s;
    uint64_t grace_ns = c->w->config->early_grace_ns;
    bool may_be_mesh = c->dir == INBOUND && c->state == CONN_PEEK;

    if (grace_ns == 0 || c->early != EARLY_UNTRIED || c->is_direct || chain_size(&c->head) > 0 ||
        !(c->state == CONN_DETECT || may_be_mesh) || !conn_may_be_opaque(c)) {
        return 0;
    }
    s = slot_known(c);
    if (s != NULL && (s->client_first || (may_be_mesh && s->mesh_tls))) {
        return GRACE_LONG_NS;
    }
    if (may_be_mesh) {
        return grace_ns * GRACE_CLEAR_TENTHS / 10;
    }
    return s != NULL && s->server_first ? 1 : grace_ns;
}

/* --- what came of it -------------------------------------------------------------------------- */

static void count(const struct conn *c, const char *outcome)
{
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "direction", bytes_str(direction_name(c->dir)));
    labels_target(&l, &c->target);
    label_add(&l.text, "outcome", bytes_str(outcome));
    stat_count(&c->w->stats, STAT_DETECT_EARLY, &l);
}

/* It is not early any more: c->opaque stays. */
static void early_end(struct conn *c, const char *outcome)
{
    struct early_slot *s = &c->w->early->slots[c->early_slot];

    assert(c->early == EARLY_OPEN && s->open > 0 && c->w->early->open > 0);
    s->open--;
    c->w->early->open--;
    c->early = EARLY_OVER;
    count(c, outcome);
}

bool early_begin(struct conn *c)
{
    struct early_slot *s = slot_claim(c);

    if (s == NULL || chunks_are_short(&c->w->loop->chunks) || s->open >= EARLY_TARGET_MAX ||
        c->w->early->open >= EARLY_MAX) {
        return false;
    }
    s->open++;
    c->w->early->open++;
    c->early_slot = (uint8_t)(s - c->w->early->slots);
    c->early = EARLY_OPEN;
    if (c->dir == INBOUND) {
        inbound_opaque_early(c);
    } else {
        outbound_opaque_early(c);
    }
    if (c->early == EARLY_OPEN && c->opaque == NULL) {
        early_end(c, "forbidden");
    }
    return true;
}

void early_failed(struct conn *c)
{
    early_end(c, "failed");
    opaque_drop(c);
}

static void early_remember(const struct conn *c, enum spoke who)
{
    struct early_slot *s = who != SPOKE_NOBODY ? slot_claim(c) : NULL;

    if (s != NULL) {
        s->server_first = who == SPOKE_SERVER;
        s->client_first = who == SPOKE_CLIENT;
    }
}

void early_said_http(struct conn *c)
{
    early_remember(c, SPOKE_CLIENT);
    early_end(c, "http");
    opaque_drop(c);
}

void early_closed(struct conn *c)
{
    if (c->early == EARLY_OPEN) {
        early_end(c, "closed");
    }
}

void early_decided(struct conn *c, enum spoke who)
{
    early_remember(c, who);
    if (c->early == EARLY_OPEN) {
        early_end(c, who == SPOKE_SERVER   ? "server_first"
                     : who == SPOKE_CLIENT ? "client_first"
                                           : "silent");
    }
    c->early = EARLY_OVER;
}

void early_saw_mesh_tls(struct conn *c)
{
    struct early_slot *s = slot_claim(c);

    if (s != NULL) {
        s->mesh_tls = true;
    }
    if (c->early == EARLY_OPEN) {
        early_end(c, "client_first");
        opaque_drop(c);
    }
    c->server_spoke = false;
    c->early = EARLY_UNTRIED;
}
