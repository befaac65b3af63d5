/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/log.h"
#include "mesh/discovery_private.h"

static const struct asked_ops *const ops[QUESTION_COUNT] = {
    [QUESTION_OUTBOUND] = &outbound_ops,
    [QUESTION_NAME] = &name_ops,
    [QUESTION_ENDPOINTS] = &endpoints_ops,
    [QUESTION_INBOUND] = &inbound_ops,
    [QUESTION_PROFILE] = &profile_ops,
};

/* --- answers to workers ----------------------------------------------------------------------- */

struct answer_message {
    struct message message;
    struct cache_link *link;
    struct snapshot *answer;
    enum question question;
    size_t key_len;
    char key[];
};

static void deliver_answer(struct message *m, struct loop *l)
{
    struct answer_message *am = CONTAINER_OF(m, struct answer_message, message);

    (void)l;
    if (am->link->cache != NULL) {
        cache_answer(am->link->cache, am->question, bytes_of(am->key, am->key_len), am->answer);
    }
    snapshot_unref(am->answer);
    snapshot_unref(&am->link->ref);
    mem_free(am);
}

static void post_answer(struct cache_link *link, enum question q, struct bytes key,
                        struct snapshot *answer)
{
    struct answer_message *am = mem_new(sizeof(*am) + key.len);

    am->message.deliver = deliver_answer;
    am->link = link;
    snapshot_ref(&link->ref);
    am->answer = answer;
    snapshot_ref(answer);
    am->question = q;
    am->key_len = key.len;
    memcpy(am->key, key.at, key.len);
    loop_post(link->worker, &am->message);
}

/* --- questions -------------------------------------------------------------------------------- */

struct subscriber {
    struct list node;
    struct cache_link *link; /* reference */
};

void asked_publish(struct asked *a, struct snapshot *answer)
{
    snapshot_unref(a->answer);
    a->answer = answer;
    LIST_FOREACH(node, &a->subscribers)
    {
        post_answer(LIST_ITEM(node, struct subscriber, node)->link, a->question, a->key, answer);
    }
}

static struct asked *asked_new(struct discovery *d, enum question q, struct bytes key)
{
    struct asked *a = mem_new(ops[q]->bytes);

    a->discovery = d;
    a->question = q;
    a->key = bytes_of(bytes_dup(key), key.len);
    list_init(&a->subscribers);
    (void)map_put(&d->asked[q], a->key, a);
    return a;
}

static void subscriber_free(struct subscriber *s)
{
    list_unlink(&s->node);
    snapshot_unref(&s->link->ref);
    mem_free(s);
}

static void asked_free(struct asked *a)
{
    (void)map_remove(&a->discovery->asked[a->question], a->key);
    ops[a->question]->stop(a);
    LIST_FOREACH(node, &a->subscribers)
    {
        subscriber_free(LIST_ITEM(node, struct subscriber, node));
    }
    snapshot_unref(a->answer);
    mem_free((char *)(uintptr_t)a->key.at);
    mem_free(a);
}

static struct subscriber *asked_subscriber(const struct asked *a, const struct cache_link *link)
{
    LIST_FOREACH(node, &a->subscribers)
    {
        struct subscriber *s = LIST_ITEM(node, struct subscriber, node);

        if (s->link == link) {
            return s;
        }
    }
    return NULL;
}

/*
 * Too many questions: this one is not asked. A port that cannot be watched is closed rather than
 * left to a default that its Server may have been made to narrow.
 */
static void answer_overload(struct discovery *d, struct cache_link *link, enum question q,
                            struct bytes key)
{
    struct outbound_policy *outbound;
    struct server_policy *server;
    struct endpoint_set *set;
    struct snapshot *answer = NULL;

    log_warn("too many destinations are asked for at once: refused; limit=%d", QUESTIONS_MAX);
    switch (q) {
    case QUESTION_OUTBOUND:
    case QUESTION_NAME:
        outbound = outbound_policy_new_problem("the proxy follows too many destinations");
        answer = &outbound->ref;
        break;
    case QUESTION_PROFILE:
        outbound = outbound_policy_new_fallback();
        answer = &outbound->ref;
        break;
    case QUESTION_ENDPOINTS:
        set = endpoint_set_new(ENDPOINTS_INVALID, 0);
        answer = &set->ref;
        break;
    case QUESTION_INBOUND:
    case QUESTION_COUNT:
        server =
            server_policy_new_default(DEFAULT_DENY, NULL, 0, false,
                                      d->config.inbound_detect_timeout_ns, addr_of_key(key).port);
        answer = &server->ref;
        break;
    }
    post_answer(link, q, key, answer);
    snapshot_unref(answer);
}

static void subscribe(struct discovery *d, struct cache_link *link, enum question q,
                      struct bytes key)
{
    struct asked *a = map_get(&d->asked[q], key);
    struct subscriber *s;
    bool is_new = a == NULL;

    if (is_new && map_count(&d->asked[q]) >= QUESTIONS_MAX) {
        answer_overload(d, link, q, key);
        return;
    }
    if (is_new) {
        a = asked_new(d, q, key);
    }
    assert(asked_subscriber(a, link) == NULL); /* a cache asks once */
    s = mem_new(sizeof(*s));
    s->link = link;
    snapshot_ref(&link->ref);
    list_append(&a->subscribers, &s->node);
    if (is_new) {
        ops[q]->start(a);
    } else if (a->answer != NULL) {
        post_answer(link, q, key, a->answer);
    }
}

static void unsubscribe(struct discovery *d, const struct cache_link *link, enum question q,
                        struct bytes key)
{
    struct asked *a = map_get(&d->asked[q], key);
    struct subscriber *s = a != NULL ? asked_subscriber(a, link) : NULL;

    if (s == NULL) {
        return; /* it was refused when it was asked */
    }
    subscriber_free(s);
    if (list_is_empty(&a->subscribers) && !a->is_kept) {
        asked_free(a);
    }
}

/* --- messages of workers ---------------------------------------------------------------------- */

struct ask_message {
    struct message message;
    struct discovery_hub *hub;
    struct cache_link *link;
    enum question question;
    bool wants;
    size_t key_len;
    char key[];
};

static void deliver_ask(struct message *m, struct loop *l)
{
    struct ask_message *am = CONTAINER_OF(m, struct ask_message, message);
    struct discovery *d = am->hub->discovery;

    (void)l;
    if (d != NULL && am->wants) {
        subscribe(d, am->link, am->question, bytes_of(am->key, am->key_len));
    } else if (d != NULL) {
        unsubscribe(d, am->link, am->question, bytes_of(am->key, am->key_len));
    }
    snapshot_unref(&am->hub->ref);
    snapshot_unref(&am->link->ref);
    mem_free(am);
}

void post_ask(struct loop *control, struct discovery_hub *hub, struct cache_link *link,
              enum question q, struct bytes key, bool wants)
{
    struct ask_message *am = mem_new(sizeof(*am) + key.len);

    am->message.deliver = deliver_ask;
    am->hub = hub;
    snapshot_ref(&hub->ref);
    am->link = link;
    snapshot_ref(&link->ref);
    am->question = q;
    am->wants = wants;
    am->key_len = key.len;
    memcpy(am->key, key.at, key.len);
    loop_post(control, &am->message);
}

/* --- life ------------------------------------------------------------------------------------- */

static void hub_free(struct snapshot *s)
{
    mem_free(CONTAINER_OF(s, struct discovery_hub, ref));
}

struct discovery *discovery_new(struct loop *l, struct dns *dns, struct control *destination,
                                struct control *policy, const struct discovery_config *config)
{
    struct discovery *d = mem_new(sizeof(*d));

    d->loop = l;
    d->dns = dns;
    d->destination = destination;
    d->policy = policy;
    d->config = *config;
    d->hub = mem_new(sizeof(*d->hub));
    snapshot_init(&d->hub->ref, hub_free);
    d->hub->discovery = d;
    for (size_t q = 0; q < QUESTION_COUNT; q++) {
        map_init(&d->asked[q]);
    }
    return d;
}

void discovery_free(struct discovery *d)
{
    if (d == NULL) {
        return;
    }
    for (size_t q = 0; q < QUESTION_COUNT; q++) {
        struct map_iter it = MAP_ITER(&d->asked[q]);

        while (map_next(&it)) {
            asked_free(it.value);
        }
        map_clear(&d->asked[q]);
    }
    d->hub->discovery = NULL;
    snapshot_unref(&d->hub->ref);
    mem_free(d);
}

void discovery_watch_port(struct discovery *d, uint16_t port)
{
    struct addr key;
    struct asked *a;

    memset(&key, 0, sizeof(key));
    key.port = port;
    a = map_get(&d->asked[QUESTION_INBOUND], addr_key(&key));
    if (a == NULL) {
        a = asked_new(d, QUESTION_INBOUND, addr_key(&key));
        inbound_ops.start(a);
    }
    a->is_kept = true;
}

size_t discovery_count(const struct discovery *d, enum question q)
{
    return map_count(&d->asked[q]);
}

struct addr addr_of_key(struct bytes key)
{
    struct addr addr;
    struct bytes whole;

    memset(&addr, 0, sizeof(addr));
    whole = addr_key(&addr);
    assert(key.len == whole.len);
    memcpy(&addr, key.at, key.len);
    return addr;
}

struct bytes request_pack(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *at = mem_new(MAX(len, (size_t)1));

    return bytes_of(at, protobuf_c_message_pack(message, at));
}
