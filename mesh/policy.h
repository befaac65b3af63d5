/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_POLICY_H
#define MESH_POLICY_H

/*
 * What the control plane decided for a destination (outbound) or a port (inbound), as immutable
 * snapshots, decoded from `outbound.OutboundPolicy`, `destination.DestinationProfile` and
 * `inbound.Server` messages and checked by the rules of wire 3.4 and 3.5. A message that breaks a
 * rule becomes a policy with `problem` set, which answers every request with 500 and that reason.
 *
 * The structs hold everything that the messages carry; route.h chooses with them.
 */
#include "core/arena.h"
#include "mesh/endpoint.h"

struct meta { /* meta.Metadata: a default name, or a resource */
    struct bytes group, kind, name, ns, section;
    uint32_t port;
};

enum match_op { MATCH_EXACT, MATCH_PREFIX, MATCH_REGEX };
struct regex; /* compiled, linear time; match.c */
struct text_match {
    enum match_op op;
    struct bytes text;
    struct regex *regex;
};
struct named_match { /* header or query parameter */
    struct bytes name;
    struct text_match value;
};
struct host_match {
    bool is_suffix;
    struct bytes host; /* lower case; "example.org" for *.example.org */
};
struct route_match {
    bool has_path;
    struct text_match path; /* gRPC: exact "/service/method" or prefix "/service/" */
    struct named_match *headers, *queries;
    size_t headers_count, queries_count;
    struct bytes method; /* empty: any */
};

enum filter_kind { FILTER_FAIL, FILTER_REQUEST_HEADERS, FILTER_RESPONSE_HEADERS, FILTER_REDIRECT };
struct header_edit {
    struct bytes name, value;
};
struct filter {
    enum filter_kind kind;
    unsigned status; /* fail: HTTP status or gRPC code; redirect: status */
    bool is_grpc;
    struct bytes message;
    uint32_t numerator, denominator; /* fail: ratio; 0/0 means always */
    struct header_edit *add, *set;
    size_t add_count, set_count;
    struct bytes *remove;
    size_t remove_count;
    struct bytes scheme, host, path, path_prefix; /* redirect; empty: unchanged */
    uint32_t port;
};

enum backend_kind { BACKEND_FAIL, BACKEND_FORWARD, BACKEND_BALANCER };
struct backend {
    enum backend_kind kind;
    struct meta meta;
    const struct endpoint *forward; /* FORWARD: held with the policy; NULL: original destination */
    struct bytes path; /* BALANCER: what to ask `destination` for, "svc.ns.svc.cd:80" */
    uint64_t default_rtt_ns, decay_ns;
    uint64_t penalty_ns, penalty_max_retry_after_ns, penalty_decay_ns; /* 0: no penalty */
    uint64_t failfast_ns;
    uint32_t queue_capacity;
    /* failure accrual of the enclosing protocol */
    uint32_t max_failures;         /* consecutive; 0: off */
    double success_rate_threshold; /* unified; 0: off */
    uint64_t success_rate_window_ns;
    uint32_t success_rate_min_requests;
    uint64_t backoff_min_ns, backoff_max_ns;
    double backoff_jitter;
};
struct weighted_backend {
    size_t backend; /* index into policy->backends */
    uint32_t weight;
    struct filter *filters;
    size_t filters_count;
    uint64_t request_timeout_ns;
};
enum distribution { DISTRIBUTE_EMPTY, DISTRIBUTE_FIRST, DISTRIBUTE_RANDOM };
struct status_range {
    uint16_t start, end; /* inclusive */
};
struct retry {
    bool is_on;
    uint32_t max_retries, max_request_bytes;
    struct status_range *ranges;
    size_t ranges_count;
    uint32_t grpc_codes; /* bit per code */
    uint64_t timeout_ns, backoff_min_ns, backoff_max_ns;
    double backoff_jitter;
};
struct rule {
    struct route_match *matches;
    size_t matches_count;
    struct filter *filters;
    size_t filters_count;
    enum distribution distribution;
    struct weighted_backend *backends;
    size_t backends_count;
    uint64_t request_timeout_ns, response_timeout_ns, idle_timeout_ns; /* 0: none */
    struct retry retry;
    bool allow_request_headers;
};
struct route {
    struct meta meta;
    struct host_match *hosts; /* SNIs for a TLS route */
    size_t hosts_count;
    struct rule *rules;
    size_t rules_count;
    bool is_forbidden, is_invalid; /* opaque and TLS routes: filters of wire 3.5 */
};
struct route_list {
    struct route *at;
    size_t count;
};

enum protocol {
    PROTOCOL_DETECT,
    PROTOCOL_OPAQUE,
    PROTOCOL_TLS,
    PROTOCOL_HTTP1,
    PROTOCOL_HTTP2,
    PROTOCOL_GRPC
};

struct service_profile;
struct profile { /* DestinationProfile */
    bool is_opaque;
    struct bytes name; /* fully_qualified_name */
    struct meta parent;
    const struct endpoint *endpoint; /* for an address of a pod; NULL otherwise */
    const struct service_profile *service; /* its routes and overrides; NULL: none (profile.h) */
};

struct policy_held; /* internal: regexes and endpoints that go with a policy */

/* Everything known of one outbound target. */
struct outbound_policy {
    struct snapshot ref;
    struct arena arena;
    struct policy_held *held;
    bool is_fallback; /* Watch said NotFound: the profile's endpoint, else original destination */
    bool is_refused;  /* Watch said InvalidArgument: close */
    char *problem;    /* NULL, or why the message is invalid: answer 500 */
    struct meta meta; /* parent */
    enum protocol protocol;
    uint64_t detect_timeout_ns;
    struct route_list http1, http2, grpc, opaque, tls;
    struct backend *backends;
    size_t backends_count;
    struct profile profile;
};
/*
 * `policy_message` empty: fallback. `profile_message` empty: none. Never NULL. Reference counted:
 * see snapshot.
 */
struct outbound_policy *outbound_policy_new(struct bytes policy_message,
                                            struct bytes profile_message);
/* The same of a target whose port is known: a service profile has routes only with one. */
struct outbound_policy *outbound_policy_new_at(struct bytes policy_message,
                                               struct bytes profile_message, uint16_t port);
/* For addresses that nobody knows: detect, forward to the original destination. */
struct outbound_policy *outbound_policy_new_fallback(void);

/* --- inbound ---------------------------------------------------------------------------------- */

struct network_match {
    struct cidr net;
    struct cidr *except;
    size_t except_count;
};
enum authn { AUTHN_NONE, AUTHN_TLS_ANY /* TLS, no identity needed */, AUTHN_IDENTITY };
struct authz {
    struct meta meta;
    struct bytes labels; /* authz_group="",authz_kind="default",authz_name="x" */
    struct network_match *networks;
    size_t networks_count;
    enum authn authn;
    struct bytes *identities; /* exact */
    size_t identities_count;
    struct bytes *suffixes; /* ".a.b"; an empty one: any identity */
    size_t suffixes_count;
    bool is_audit;
};
struct server_route {
    struct route route; /* matches and filters only */
    struct authz *authz;
    size_t authz_count;
    struct bytes labels; /* route_group=...,route_kind=...,route_name=... */
};
struct rate_limit {
    struct meta meta;
    uint32_t total_rps, identity_rps; /* 0: none */
    struct rate_override {
        uint32_t rps;
        struct bytes *identities;
        size_t identities_count;
    } *overrides;
    size_t overrides_count;
};
struct rate_limiter; /* rate_limit.h */
struct server_policy {
    struct snapshot ref;
    struct arena arena;
    struct policy_held *held;
    enum protocol protocol;
    uint64_t detect_timeout_ns;
    struct bytes labels; /* srv_group=...,srv_kind=...,srv_name=...,srv_port="<port>" */
    struct meta meta;
    struct authz *authz; /* of the server: for opaque traffic */
    size_t authz_count;
    struct server_route *routes; /* never empty for HTTP: a default route stands in */
    size_t routes_count;
    struct rate_limit *rate_limit; /* NULL: none */
    struct rate_limiter *limiter;  /* reference: what it has admitted; NULL: no limit */
};
/* NULL and a sentence when the message breaks wire 3.4 (the caller keeps what it had). */
struct server_policy *server_policy_new(struct bytes message, uint16_t port, char *problem,
                                        size_t problem_bytes);

enum default_policy {
    DEFAULT_DENY,
    DEFAULT_ALL_AUTHENTICATED,
    DEFAULT_ALL_UNAUTHENTICATED,
    DEFAULT_CLUSTER_AUTHENTICATED,
    DEFAULT_CLUSTER_UNAUTHENTICATED,
    DEFAULT_AUDIT
};
int default_policy_parse(struct bytes name, enum default_policy *out) MUST_USE;
const char *default_policy_name(enum default_policy p);
struct server_policy *server_policy_new_default(enum default_policy p,
                                                const struct cidr *cluster_networks,
                                                size_t networks_count, bool is_opaque,
                                                uint64_t detect_timeout_ns, uint16_t port);

#endif
