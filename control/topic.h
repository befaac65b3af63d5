/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_TOPIC_H
#define CONTROL_TOPIC_H

/*
 * Questions that many clients ask, each answered once (design D5): a topic is one distinct question, its
 * subscribers are those who asked it. An engine (destination, policy) computes a topic's answer from the
 * cluster, encodes it once, and every subscriber gets the same bytes.
 *
 * A topic says what its answer was read from with topic_depend(); the engine's watch says what changed with
 * topics_touch(). Touched topics are computed again from a task, once for all that changed until then; no
 * other topic is looked at. Nothing is computed before topics_synced().
 *
 * Limits: TOPICS_MAX topics an engine, TOPIC_KEY_BYTES a key.
 * Ownership: the engine's kind of topic embeds `struct topic`; it is freed by its ops after its last
 * subscriber has left. A subscriber is its owner's and lies in one topic.
 * Threads: the loop's.
 */
#include "core/list.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/metric.h"
#include "http/grpc.h"
#include "net/addr.h"

#define TOPICS_MAX      65536
#define TOPIC_KEY_BYTES 1024
#define DEP_KEY_BYTES   400

struct topic;

/* --- for those who ask ----------------------------------------------------------------------------- */

struct dep { /* something in the cluster that an answer was read from; zeroed: nothing */
    struct list node;
    struct dep_key *of;
    struct topic *topic;
    struct subscriber *only; /* not the answer: that this subscriber belongs to this topic */
};

struct subscriber { /* embedded in whoever asks; zeroed but for the callbacks */
    struct list node;
    /* One encoded message, borrowed. The first ones are complete, later ones may be changes. */
    void (*on_message)(struct subscriber *s, struct bytes message);
    /* The engine ends it; it is not subscribed any more. The text is borrowed. */
    void (*on_end)(struct subscriber *s, enum grpc_status status, const char *why);
    struct topic *topic;  /* internal, as the rest */
    struct dep place;
    bool is_misplaced;
};
/* Both callbacks come from tasks and may unsubscribe, also others. Idempotent. */
void topic_unsubscribe(struct subscriber *s);

/* --- for engines ----------------------------------------------------------------------------------- */

struct topics {
    struct loop *loop;
    struct map by_key;   /* struct topic */
    struct map deps;     /* struct dep_key */
    struct list touched; /* topics to look at */
    struct list unused;  /* topics without subscribers */
    struct task run;
    bool synced;
    struct series *count, *subscribers, *encoded; /* gauges and a counter */
};
void topics_init(struct topics *ts, struct loop *l, struct metrics *m, const char *engine);
void topics_clear(struct topics *ts); /* subscribers are dropped without a word */
void topics_synced(struct topics *ts);

struct topic_ops {
    /* Read the answer again. `changes` are the bits of all touches since, TOPIC_NEW the first time. Ends with
     * topic_answer() or topic_refuse(); or, for answers that change piece by piece, sets `status` and calls
     * topic_tell(). */
    void (*compute)(struct topic *t, unsigned changes);
    /* Only for the latter: topic_add_whole() each message of the complete answer; none: nothing to say. */
    void (*encode)(struct topic *t);
    void (*free)(struct topic *t);
};
enum { TOPIC_NEW = 1 }; /* further bits are the engine's */

struct topic {
    const struct topic_ops *ops;
    struct topics *in;
    struct list subscribers; /* who had the complete answer */
    struct list fresh;       /* who waits for it */
    struct list node;        /* in touched or unused */
    size_t count;            /* of both */
    struct list whole;       /* the complete answer, encoded: struct topic_message */
    bool has_whole, is_known;
    unsigned changes;
    enum grpc_status status; /* GRPC_OK, or why new subscribers are refused */
    const char *why;         /* static */
    char *key;
};
/* The topic of that key, NULL when there is none. */
struct topic *topics_find(const struct topics *ts, struct bytes key);
/* A new one, zeroed but for `ops`; it will be computed. E_LIMIT: `t` stays the caller's. */
int topics_add(struct topics *ts, struct topic *t, struct bytes key) MUST_USE;
void topic_subscribe(struct topic *t, struct subscriber *s);

/* What the answer was read from. Replaces what `d` was before; cheap when it is the same. */
void topic_depend(struct topic *t, struct dep *d, struct bytes key);
/* Why the subscriber is in its topic: when it changes, the subscriber is ended as Unavailable. */
void subscriber_depend(struct subscriber *s, struct bytes key);
void dep_clear(struct dep *d); /* idempotent; also for zeroed ones */
void topics_touch(struct topics *ts, struct bytes key, unsigned changes);

/* The whole answer in one message; told to all when it differs from the one before. */
void topic_answer(struct topic *t, struct bytes message);
/* No answer: new subscribers are told so and end; with `all` also those that have one. `why` is static. */
void topic_refuse(struct topic *t, enum grpc_status status, const char *why, bool all);
void topic_tell(struct topic *t, struct bytes change);    /* to all that had the complete answer */
void topic_add_whole(struct topic *t, struct bytes message);
void topic_forget_whole(struct topic *t);                 /* it changed */

/* Keys of things in the cluster: a letter of the engine's choice and a name or address. */
struct bytes dep_key_name(char letter, const char *ns, const char *name, char to[DEP_KEY_BYTES]);
struct bytes dep_key_addr(char letter, const struct addr *a, bool with_port, char to[DEP_KEY_BYTES]);

#endif
