/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_READING_H
#define CONTROL_POLICY_READING_H

/*
 * From the JSON of policy objects to parts of messages. A refusal means that the object must have no effect;
 * a complaint leaves out one setting of it. Readers go on either way and the caller looks once. What was said
 * is kept for people, where somebody wants to read it (`found`); to an answer in the making it costs nothing.
 *
 * HTTP and gRPC, inbound and outbound, opaque and TLS messages agree in their field numbers (wire 3.4,
 * 3.5), and protobuf-c packs a message by its own descriptor. So a filter, a distribution or a rule is
 * built as the outbound HTTP one and stands for the others through a void pointer.
 *
 * Ownership: messages lie in the reading's arena and borrow texts from the objects.
 */
#include "api/inbound.pb-c.h"
#include "api/outbound.pb-c.h"
#include "control/component.h"
#include "control/message.h"
#include "control/topic.h"

#define GROUP_POLICY  "policy.linkerd.io"
#define GROUP_GATEWAY "gateway.networking.k8s.io"

#define FIELD_BYTES 160

/* Letters of dependencies (topic.h), beside those of attach.h. */
enum {
    DEP_POD = 'p',
    DEP_EXTERNAL = 'w',
    DEP_SERVERS = 'v', /* of a namespace */
    DEP_SERVICE = 's',
    DEP_IP = 'i',      /* of services */
};

/* What a topic's answer was read from, however much that is. Zeroed it is empty. */
struct depends {
    struct topic *topic;
    struct dep **at;
    size_t count, capacity; /* count: used by the present reading */
};
void depends_begin(struct depends *d, struct topic *t);
void depends_on(struct depends *d, struct bytes key); /* NULL is fine */
void depends_on_name(struct depends *d, char letter, const char *ns, const char *name);
void depends_end(struct depends *d); /* what was not named again is let go */
void depends_clear(struct depends *d);

/* What is wrong with an object, in the order in which it was found. Of more than FOUND_MAX refusals are kept
 * before complaints, and the others are counted. Texts lie in the reading's arena. */
#define FOUND_MAX 8
struct found_problem {
    const char *field;  /* where it stands: "spec.rules[0].filters"; "" unknown */
    const char *reason;
    const char *advice; /* what to do about it; NULL: correct the field */
    bool is_refusal;
};
struct found {
    struct found_problem at[FOUND_MAX];
    size_t count, more;
};
/* Something is said of that field, of one inside it, or of one that it is in. */
bool found_has(const struct found *f, const char *field);

struct reading {
    const struct control_env *env;
    struct arena *arena;
    struct depends *depends; /* NULL: nobody waits for changes */
    struct found *found;     /* NULL: nobody reads what is said */
    bool is_refused;
    /* private */
    char field[FIELD_BYTES];
    bool is_field_held;
    struct found_problem *told; /* what was said last; NULL when it was said before, or not kept */
};
/* What is read next, for people. Between hold and release it stays as it is: another object is being read on
 * behalf of this one. */
void reading_at(struct reading *r, const char *format, ...) PRINTF_LIKE(2, 3);
void reading_hold(struct reading *r, bool is_held);
/* Right behind a refusal or a complaint: what to do. Kept as it is: static, or in the reading's arena. */
void reading_advise(struct reading *r, const char *advice);
/* The same: "did you mean WORD?", when `word` is not NULL, else `otherwise`. */
void reading_suggest(struct reading *r, const char *word, const char *otherwise);
void reading_refuse(struct reading *r, const char *format, ...) PRINTF_LIKE(2, 3);
void reading_complain(struct reading *r, const char *format, ...) PRINTF_LIKE(2, 3);

/* What is of another type than it should be must not pass for what is not there: absent or null is NULL,
 * anything but a list of objects, or a text, a refusal. */
const json_t *reading_list(struct reading *r, const json_t *from, const char *key);
const char *reading_text(struct reading *r, const json_t *from, const char *key);
/* NULL, or what is wrong with a selector. Absent is good. One that is not selects nothing. */
const char *selector_problem(const json_t *selector);

/* --- references ------------------------------------------------------------------------------------ */

/* `group` "" is the core group, which manifests also call "core" or leave out. */
bool ref_is(const json_t *ref, const char *group, const char *kind);
const char *ref_name(const json_t *ref);                 /* "" when absent */
const char *ref_ns(const json_t *ref, const char *ns);   /* `ns` when absent */

enum parent { PARENT_OTHER, PARENT_SERVER, PARENT_SERVICE, PARENT_EGRESS };
enum parent parent_kind(const struct object *route, const json_t *ref);
/* A parentRef of the route names this object and port; one without a port is for all ports of a Service or a
 * Server, and for none of an EgressNetwork. */
bool route_has_parent(const struct object *route, enum parent kind, const char *ns, const char *name,
                      uint16_t port);
message_metadata *resource_ref(struct arena *a, const char *group, const char *kind, const char *name,
                               const char *ns, uint16_t port);
bool object_is_before(const struct object *a, const struct object *b); /* older, then by name */

/* --- values ---------------------------------------------------------------------------------------- */

bool gateway_duration(const char *text, uint64_t *out_ns); /* "1h30m", at most four parts (GEP-2257) */
/* [{cidr, except[]}] as inbound.Network; *out_count 0 when absent or empty. */
void *networks_read(struct reading *r, const json_t *list, size_t *out_count);
struct network { /* the same for our own use */
    struct cidr net;
    const json_t *except;
};
bool network_read(const json_t *item, struct network *out);
bool network_has(const struct network *n, const struct addr *ip);
bool regex_is_good(const char *pattern); /* one that our proxies take */

/* --- identities ------------------------------------------------------------------------------------ */

struct clients { /* who may come; room for `room` of each */
    Io__Linkerd__Proxy__Inbound__Identity **exact;
    Io__Linkerd__Proxy__Inbound__IdentitySuffix **suffixes;
    size_t exact_count, suffixes_count, room;
};
void clients_init(struct clients *c, size_t room, struct arena *a);
void clients_add_pattern(struct reading *r, struct clients *c, const char *pattern);
void clients_add_account(struct reading *r, struct clients *c, const char *ns, const char *name);
void clients_add_namespace(struct reading *r, struct clients *c, const char *ns);
void *clients_authn(const struct clients *c, struct arena *a); /* inbound.Authn */

/* --- parts of routes ------------------------------------------------------------------------------- */

typedef Io__Linkerd__Proxy__HttpRoute__HttpRouteMatch http_match;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Filter filter_message;

http_match *match_all(struct arena *a); /* every request: the prefix "/" */
void *matches_read(struct reading *r, const json_t *rule, bool is_grpc, size_t *out_count);
void *hosts_read(struct reading *r, const json_t *list, size_t *out_count); /* HostMatch or SniMatch */
void *filters_read(struct reading *r, const json_t *list, bool is_inbound, size_t *out_count);
filter_message *filter_fail(unsigned status, const char *message, struct arena *a); /* status or gRPC code */
/* Opaque and TLS: refuse a connection, as `message` says or, without one, as forbidden. */
void *filter_refuse(const char *message, struct arena *a);

#endif
