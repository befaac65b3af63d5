/* SPDX-License-Identifier: Apache-2.0 */
#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "mesh/discovery_private.h"

/*
 * What is behind an original destination or a name: OutboundPolicies.Watch and, for addresses of the
 * profile networks and names with a profile suffix, Destination.GetProfile, asked at once and both
 * awaited (wire 3.5, 11.3). Later messages of either make a new answer from the newest of both.
 */
#define PROFILE_PATIENCE_NS (500 * NS_PER_MS) /* wire 2.1: for the profile of a name */

enum part { PART_PENDING, PART_KNOWN, PART_NONE, PART_REFUSED };

struct outbound_asked {
    struct asked asked;
    struct addr target; /* of a name only the port */
    char *name;         /* "host:port"; owned; NULL: an address is asked for */
    struct control_watch policy, profile;
    struct timer patience; /* of a name, whose profile is not waited for without end */
    enum part policy_part, profile_part;
    struct bytes policy_message, profile_message; /* the newest; owned */
};

static void keep(struct bytes *slot, struct bytes message)
{
    mem_free((char *)(uintptr_t)slot->at);
    *slot = bytes_of(bytes_dup(message), message.len);
}

static void publish(struct outbound_asked *o)
{
    struct outbound_policy *p;
    char at[ADDR_TEXT_BYTES];

    if (o->policy_part == PART_PENDING || o->profile_part == PART_PENDING) {
        return;
    }
    if (o->policy_part == PART_REFUSED) {
        p = outbound_policy_new_refused();
    } else if (o->policy_part == PART_KNOWN && o->policy_message.len == 0) {
        p = outbound_policy_new_problem("the policy is empty"); /* and not the lack of one */
    } else {
        p = outbound_policy_new_at(o->policy_message, o->profile_message, o->target.port);
    }
    if (p->problem != NULL) {
        log_debug("the policy of a destination is invalid; target=%s reason=\"%s\"",
                  o->name != NULL ? o->name : addr_format(&o->target, at), p->problem);
    }
    asked_publish(&o->asked, &p->ref);
}

/* A stream that is opened again repeats what is known: that is no news. */
static void learn(struct outbound_asked *o, enum part *part, struct bytes *slot,
                  struct bytes message)
{
    if (*part == PART_KNOWN && bytes_eq(*slot, message)) {
        return;
    }
    *part = PART_KNOWN;
    keep(slot, message);
    publish(o);
}

static void on_policy(struct control_watch *w, struct bytes message, bool is_first)
{
    struct outbound_asked *o = CONTAINER_OF(w, struct outbound_asked, policy);

    (void)is_first;
    learn(o, &o->policy_part, &o->policy_message, message);
}

static void on_profile(struct control_watch *w, struct bytes message, bool is_first)
{
    struct outbound_asked *o = CONTAINER_OF(w, struct outbound_asked, profile);

    (void)is_first;
    learn(o, &o->profile_part, &o->profile_message, message);
}

/* One that comes later still counts. */
static void on_patience(struct timer *t)
{
    struct outbound_asked *o = CONTAINER_OF(t, struct outbound_asked, patience);

    if (o->profile_part == PART_PENDING) {
        o->profile_part = PART_NONE;
        publish(o);
    }
}

static bool is_refusal(enum grpc_status status)
{
    return status == GRPC_INVALID_ARGUMENT || status == GRPC_FAILED_PRECONDITION;
}

/* Once something is known it stays, whatever becomes of the stream. */
static enum control_verdict on_policy_end(struct control_watch *w, enum grpc_status status,
                                          struct bytes message)
{
    struct outbound_asked *o = CONTAINER_OF(w, struct outbound_asked, policy);

    (void)message;
    if (o->policy_part == PART_PENDING &&
        (status == GRPC_NOT_FOUND || status == GRPC_UNIMPLEMENTED)) {
        o->policy_part = PART_NONE;
        publish(o);
        return CONTROL_STOP;
    }
    if (o->policy_part == PART_PENDING && is_refusal(status)) {
        o->policy_part = PART_REFUSED;
        publish(o);
    }
    return is_refusal(status) ? CONTROL_STOP : CONTROL_RETRY;
}

static enum control_verdict on_profile_end(struct control_watch *w, enum grpc_status status,
                                           struct bytes message)
{
    struct outbound_asked *o = CONTAINER_OF(w, struct outbound_asked, profile);

    (void)message;
    if (!is_refusal(status)) {
        return CONTROL_RETRY;
    }
    if (o->profile_part == PART_PENDING) {
        o->profile_part = PART_NONE;
        publish(o);
    }
    return CONTROL_STOP;
}

static bool has_profile(const struct outbound_asked *o)
{
    const struct discovery_config *config = &o->asked.discovery->config;
    struct bytes host, port;

    if (o->name != NULL) {
        (void)bytes_split(bytes_str(o->name), ':', &host, &port);
        return discovery_is_mesh_name(config->profile_suffixes, host);
    }
    for (size_t i = 0; i < config->profile_networks_count; i++) {
        if (cidr_contains(&config->profile_networks[i], &o->target)) {
            return true;
        }
    }
    return false;
}

static struct bytes policy_request(const struct outbound_asked *o)
{
    Io__Linkerd__Proxy__Outbound__TrafficSpec spec;
    pb_addr addr;
    pb_ip ip;
    Io__Linkerd__Proxy__Net__IPv6 v6;

    io__linkerd__proxy__outbound__traffic_spec__init(&spec);
    io__linkerd__proxy__net__tcp_address__init(&addr);
    spec.source_workload = (char *)(uintptr_t)o->asked.discovery->config.workload;
    if (o->name != NULL) {
        spec.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_AUTHORITY;
        spec.authority = o->name;
    } else {
        addr_encode_ip(&o->target, &ip, &v6);
        addr.ip = &ip;
        addr.port = o->target.port;
        spec.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_ADDR;
        spec.addr = &addr;
    }
    return request_pack(&spec.base);
}

static struct bytes profile_request(const struct outbound_asked *o)
{
    Io__Linkerd__Proxy__Destination__GetDestination get;
    const char *token = o->asked.discovery->config.context_token;
    char path[ADDR_TEXT_BYTES];

    io__linkerd__proxy__destination__get_destination__init(&get);
    get.path = o->name != NULL ? o->name : (char *)(uintptr_t)addr_format(&o->target, path);
    if (token != NULL) {
        get.context_token = (char *)(uintptr_t)token;
    }
    return request_pack(&get.base);
}

static void start(struct outbound_asked *o)
{
    struct discovery *d = o->asked.discovery;

    o->policy.path = GRPC_OUTBOUND_WATCH;
    o->policy.request = policy_request(o);
    o->policy.on_message = on_policy;
    o->policy.on_end = on_policy_end;
    if (has_profile(o)) {
        o->profile.path = GRPC_DESTINATION_PROFILE;
        o->profile.request = profile_request(o);
        o->profile.on_message = on_profile;
        o->profile.on_end = on_profile_end;
        control_watch_start(d->destination, &o->profile);
        if (o->name != NULL) {
            o->patience.run = on_patience;
            timer_arm_in(d->loop, &o->patience, PROFILE_PATIENCE_NS);
        }
    } else {
        o->profile_part = PART_NONE;
    }
    control_watch_start(d->policy, &o->policy);
}

static void outbound_start(struct asked *a)
{
    struct outbound_asked *o = CONTAINER_OF(a, struct outbound_asked, asked);

    o->target = addr_of_key(a->key);
    start(o);
}

static void name_start(struct asked *a)
{
    struct outbound_asked *o = CONTAINER_OF(a, struct outbound_asked, asked);
    struct bytes host, port;
    uint64_t number = 0;

    o->name = bytes_dup(a->key);
    (void)bytes_split(a->key, ':', &host, &port);
    (void)!bytes_to_u64(port, UINT16_MAX, &number); /* who asks has looked at it */
    o->target.port = (uint16_t)number;
    start(o);
}

static void outbound_stop(struct asked *a)
{
    struct outbound_asked *o = CONTAINER_OF(a, struct outbound_asked, asked);

    timer_cancel(a->discovery->loop, &o->patience);
    control_watch_stop(&o->policy);
    control_watch_stop(&o->profile);
    mem_free((char *)(uintptr_t)o->policy.request.at);
    mem_free((char *)(uintptr_t)o->profile.request.at);
    mem_free((char *)(uintptr_t)o->policy_message.at);
    mem_free((char *)(uintptr_t)o->profile_message.at);
    mem_free(o->name);
}

const struct asked_ops outbound_ops = {
    .bytes = sizeof(struct outbound_asked),
    .start = outbound_start,
    .stop = outbound_stop,
};

const struct asked_ops name_ops = {
    .bytes = sizeof(struct outbound_asked),
    .start = name_start,
    .stop = outbound_stop,
};
