/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_DISCOVERY_PRIVATE_H
#define MESH_DISCOVERY_PRIVATE_H

/*
 * The inside of discovery: discovery.c (questions and messages, control thread), one file for each
 * kind of question, discovery_cache.c (workers).
 *
 * The two sides never hold each other's objects. Messages name a question by its key, and reach the
 * other side through a hub or a link, which outlives it: whoever goes away clears the pointer
 * there.
 */
#include "core/mailbox.h"
#include "mesh/decode.h"
#include "mesh/discovery.h"

#define QUESTIONS_MAX 10000 /* of one kind; beyond it a question is answered with an error */

struct discovery_hub { /* referred to by caches and messages */
    struct snapshot ref;
    struct discovery *discovery; /* the control thread's; NULL once freed */
};

struct cache_link { /* referred to by the control thread and messages */
    struct snapshot ref;
    struct loop *worker;
    struct discovery_cache *cache; /* the worker's; NULL once freed */
};

/* --- control thread --------------------------------------------------------------------------- */

struct discovery {
    struct loop *loop;
    struct dns *dns;
    struct control *destination, *policy;
    struct discovery_config config;
    struct discovery_hub *hub;
    struct map asked[QUESTION_COUNT]; /* by key */
};

/* One question that somebody wants to know. The kinds embed it first. */
struct asked {
    struct discovery *discovery;
    enum question question;
    struct bytes key;        /* owned */
    struct list subscribers; /* one for each worker that wants it */
    struct snapshot *answer; /* reference: the newest; NULL: none yet */
    bool is_kept;            /* also when no worker wants it */
};
struct asked_ops {
    size_t bytes;
    void (*start)(struct asked *a); /* may publish at once */
    void (*stop)(struct asked *a);  /* no event follows; frees what the kind added */
};
extern const struct asked_ops outbound_ops, name_ops, endpoints_ops, inbound_ops, profile_ops;

void asked_publish(struct asked *a, struct snapshot *answer); /* takes the reference */
struct addr addr_of_key(struct bytes key);                    /* what addr_key() made of it */
/* A packed message that its owner frees. */
struct bytes request_pack(const ProtobufCMessage *message);
struct server_policy *inbound_default(const struct discovery *d,
                                      uint16_t port); /* discovery_inbound.c */
struct endpoint_set *endpoint_set_new(enum endpoint_set_state state,
                                      size_t count); /* `at` to be filled */

/* --- messages --------------------------------------------------------------------------------- */

/* From a worker: it wants to know, or does not any more. */
void post_ask(struct loop *control, struct discovery_hub *hub, struct cache_link *link,
              enum question q, struct bytes key, bool wants);
/* discovery_cache.c, on the worker's thread: an answer came. */
void cache_answer(struct discovery_cache *c, enum question q, struct bytes key,
                  struct snapshot *answer);

#endif
