/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_ENDPOINT_H
#define MESH_ENDPOINT_H

/*
 * Where a request may go: one address with what the control plane said of it, and sets of them.
 *
 * Both are snapshots: made on the control thread from `destination` messages, read by workers.
 */
#include "core/bytes.h"
#include "core/snapshot.h"
#include "net/addr.h"

enum endpoint_hint { ENDPOINT_HINT_NONE, ENDPOINT_HINT_H2, ENDPOINT_HINT_OPAQUE };

struct endpoint {
    struct snapshot ref;
    struct addr addr;
    uint32_t weight;
    char *labels;   /* dst_pod="x",dst_namespace="y": set and address labels, ready for metrics */
    char *identity; /* SAN the peer must present; NULL: plain TCP */
    char *server_name; /* SNI; NULL exactly when identity is */
    enum endpoint_hint hint;
    uint16_t transport_port;  /* proxy's inbound port that takes a transport header; 0: none */
    char *authority_override; /* "host:port" or NULL */
    char zone_locality;       /* 'l' local, 'r' remote, 0 unknown */
    uint64_t ping_interval_ns, ping_timeout_ns; /* HTTP/2 keepalive; 0: default */
    bool ping_while_idle;
};
void endpoint_ref(const struct endpoint *e);
void endpoint_unref(const struct endpoint *e);                          /* NULL is fine */
bool endpoint_same(const struct endpoint *a, const struct endpoint *b); /* all fields equal */
struct endpoint *endpoint_new_plain(const struct addr *addr); /* only an address: forwards, DNS */

enum endpoint_set_state {
    ENDPOINTS_PENDING, /* nothing was heard yet */
    ENDPOINTS_EXIST,   /* maybe none ready */
    ENDPOINTS_ABSENT,  /* the control plane says that there is no such service */
    ENDPOINTS_INVALID, /* terminal: the control plane refused the question */
};
struct endpoint_set {
    struct snapshot ref;
    enum endpoint_set_state state;
    const struct endpoint **at; /* references; sorted by address */
    size_t count;
};

#endif
