/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_DECODE_H
#define MESH_DECODE_H

/*
 * From protobuf messages to the structs of policy.h and endpoint.h. For the files of this folder
 * alone.
 *
 * A `struct decode` has a sticky error: decode_refuse() keeps the first reason, everything after it
 * yields nothing, and the caller looks once at the end (decode_is_ok()). Loops over peers' lists
 * check it each time round.
 *
 * Limits: what a message unpacks to is at most DECODE_SCRATCH_MAX bytes, what is kept of it
 * DECODE_KEPT_MAX; a peer that sends more is refused. protobuf-c recurses once for each level of a
 * message; where a schema refers to itself (the conditions of a profile) what nests too deep is cut
 * out before (profile.c).
 * Ownership: results live in the arena given at init, which outlives the decode; regexes and
 * endpoints in it are noted in `*held` and go with policy_held_free().
 */
#include <google/protobuf-c/protobuf-c.h>

#include "api/destination.pb-c.h"
#include "api/inbound.pb-c.h"
#include "api/outbound.pb-c.h"
#include "core/map.h"
#include "core/text.h"
#include "mesh/policy.h"

#define DECODE_SCRATCH_MAX (64u << 20)
#define DECODE_KEPT_MAX    (16u << 20)
#define BACKEND_PATH_MAX   400

typedef Google__Protobuf__Duration pb_duration;
typedef Io__Linkerd__Proxy__Net__IPAddress pb_ip;
typedef Io__Linkerd__Proxy__Net__IPNetwork pb_network;
typedef Io__Linkerd__Proxy__Net__TcpAddress pb_addr;
typedef Io__Linkerd__Proxy__Meta__Metadata pb_meta;
typedef Io__Linkerd__Proxy__Meta__Resource pb_resource;
typedef Io__Linkerd__Proxy__Destination__WeightedAddr pb_weighted_addr;
typedef Io__Linkerd__Proxy__HttpTypes__HttpMethod pb_method;
typedef Io__Linkerd__Proxy__HttpRoute__HttpRouteMatch pb_http_match;
typedef Io__Linkerd__Proxy__GrpcRoute__GrpcRouteMatch pb_grpc_match;
typedef Io__Linkerd__Proxy__HttpRoute__HeaderMatch pb_header_match;
typedef Io__Linkerd__Proxy__HttpRoute__HostMatch pb_host_match;
typedef Io__Linkerd__Proxy__HttpRoute__Timeouts pb_timeouts;
typedef Io__Linkerd__Proxy__Outbound__OutboundPolicy pb_outbound;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol pb_outbound_protocol;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute pb_http_route;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Rule pb_http_rule;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Filter pb_filter;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Distribution pb_distribution;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__RouteBackend pb_route_backend;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Retry pb_http_retry;
typedef Io__Linkerd__Proxy__Outbound__GrpcRoute pb_grpc_route;
typedef Io__Linkerd__Proxy__Outbound__GrpcRoute__Rule pb_grpc_rule;
typedef Io__Linkerd__Proxy__Outbound__GrpcRoute__Retry pb_grpc_retry;
typedef Io__Linkerd__Proxy__Outbound__OpaqueRoute pb_opaque_route;
typedef Io__Linkerd__Proxy__Outbound__OpaqueRoute__RouteBackend pb_opaque_backend;
typedef Io__Linkerd__Proxy__Outbound__TlsRoute pb_tls_route;
typedef Io__Linkerd__Proxy__Outbound__Backend pb_backend;
typedef Io__Linkerd__Proxy__Outbound__FailureAccrual pb_accrual;
typedef Io__Linkerd__Proxy__Outbound__ExponentialBackoff pb_backoff;
typedef Io__Linkerd__Proxy__Inbound__Server pb_server;
typedef Io__Linkerd__Proxy__Inbound__Authz pb_authz;
typedef Io__Linkerd__Proxy__Inbound__Identity pb_identity;
typedef Io__Linkerd__Proxy__Inbound__HttpRoute pb_inbound_route;
typedef Io__Linkerd__Proxy__Inbound__GrpcRoute pb_inbound_grpc_route;
typedef Io__Linkerd__Proxy__Inbound__HttpLocalRateLimit pb_rate_limit;

/* A message type's descriptor by the end of its name: PB(outbound__http_route__filter). */
#define PB(name) (&io__linkerd__proxy__##name##__descriptor)

struct decode {
    struct arena *arena;  /* of the result */
    struct arena scratch; /* of unpacked messages, until decode_clear() */
    struct policy_held **held;
    bool is_refused;
    char problem[256];
};

/* Sets the arena's limit too; it must be empty. */
void decode_init(struct decode *d, struct arena *arena, struct policy_held **held);
void decode_clear(struct decode *d);
static inline bool decode_is_ok(const struct decode *d)
{
    return !d->is_refused;
}
void decode_refuse(struct decode *d, const char *format, ...) PRINTF_LIKE(2, 3);

/* NULL and a refusal when the bytes are no such message. */
void *decode_unpack(struct decode *d, const ProtobufCMessageDescriptor *type, struct bytes message);
/* The same bytes read as another type: for messages that agree on the wire and differ in C. */
void *decode_recast(struct decode *d, const ProtobufCMessage *from,
                    const ProtobufCMessageDescriptor *to);
struct bytes decode_pack(struct decode *d, const ProtobufCMessage *message); /* in scratch */

/* Zeroed; NULL when `count` is 0 or there is no room. */
void *decode_array(struct decode *d, size_t count, size_t bytes);
struct bytes decode_bytes(struct decode *d, struct bytes from); /* a copy in the arena */
struct bytes decode_text(struct decode *d, const char *from);   /* NULL gives the empty run */
uint64_t decode_duration(struct decode *d,
                         const pb_duration *from); /* ns; NULL is 0; negative is refused */
void decode_hold_endpoint(struct decode *d, const struct endpoint *e); /* takes the reference */
struct regex *decode_regex(struct decode *d, const char *pattern);

/* Without a kind: refused. `needs_ns`: a resource has a namespace too (wire 3.5). */
struct meta decode_meta(struct decode *d, const pb_meta *from, const char *of, bool needs_ns);
/*
 * <prefix>_group="..",<prefix>_kind="..",<prefix>_name="..", then _port if it is not 0. In the
 * arena.
 */
struct bytes decode_labels(struct decode *d, const char *prefix, const struct meta *meta,
                           unsigned port);

struct policy_held;
void policy_held_free(struct policy_held *held); /* NULL is fine */

/* --- addresses and endpoints (decode_endpoint.c) ---------------------------------------------- */

int addr_decode(const pb_addr *from, struct addr *out) MUST_USE; /* E_PROTOBUF */
void addr_encode_ip(const struct addr *from, pb_ip *to,
                    Io__Linkerd__Proxy__Net__IPv6 *v6); /* `to` borrows `v6` */
int cidr_decode(const pb_network *from, struct cidr *out) MUST_USE;
/*
 * NULL when the address, or an identity that is there, cannot be understood: speaking plain TCP to
 * a peer that is to be authenticated would be worse than not knowing of it. `set_labels` may be
 * NULL; an address' own labels win.
 */
struct endpoint *
endpoint_new(const pb_weighted_addr *from,
             Io__Linkerd__Proxy__Destination__WeightedAddrSet__MetricLabelsEntry **set_labels,
             size_t set_labels_count);

/* --- parts of routes (policy_route.c) --------------------------------------------------------- */

struct bytes decode_method(struct decode *d, const pb_method *from);
void decode_hosts(struct decode *d, pb_host_match **from, size_t count, struct route *to);
void decode_http_matches(struct decode *d, pb_http_match **from, size_t count, struct rule *to);
void decode_grpc_matches(struct decode *d, pb_grpc_match **from, size_t count, struct rule *to);
void decode_filters(struct decode *d, pb_filter **from, size_t count, bool is_grpc,
                    struct filter **out, size_t *out_count);
/* Filters of another type that agree with pb_filter on the wire. */
void decode_filters_as(struct decode *d, ProtobufCMessage *const *from, size_t count, bool is_grpc,
                       struct filter **out, size_t *out_count);

/* --- backends (policy_backend.c) -------------------------------------------------------------- */

struct backend_list { /* grows while routes are decoded; finds a backend that is there already */
    struct decode *decode;
    struct map by_bytes; /* packed backend and accrual -> index + 1 */
    struct backend *at;  /* in the arena; replaced when it grows */
    size_t count, capacity;
};
void backend_list_init(struct backend_list *l, struct decode *d);
void backend_list_clear(struct backend_list *l);
void decode_distribution(struct backend_list *l, const pb_distribution *from,
                         const pb_accrual *accrual, bool is_grpc, struct rule *to);
uint64_t decode_backoff(struct decode *d, const pb_backoff *from, uint64_t *out_max_ns,
                        double *out_jitter);

/* --- whole policies --------------------------------------------------------------------------- */

struct outbound_policy *outbound_policy_new_refused(void); /* is_refused */
struct outbound_policy *outbound_policy_new_problem(const char *problem);
/* Of a target with that port; 0: not known. Sets nothing but `to` when it is refused. */
void decode_profile(struct decode *d, struct bytes message, uint16_t port, struct profile *to);

#endif
