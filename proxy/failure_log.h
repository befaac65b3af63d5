/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_FAILURE_LOG_H
#define PROXY_FAILURE_LOG_H

/*
 * The one line of a failure (decision D12): what failed, where, whose fault it is, and what to look
 * at. Lines of each cause and hop are limited by themselves, so that a flood of one does not hide
 * another.
 *
 * Where a policy decided, the line also says whose: pairs behind `detail`, those that are known.
 * What comes from elsewhere (names, identities, the detail) is cut, and cannot end a pair that it stands
 * in: a space in a name, and a quote anywhere, becomes another character.
 */
#include "net/addr.h"
#include "proxy/failure.h"

enum fault { FAULT_NONE, FAULT_APPLICATION, FAULT_NETWORK, FAULT_MESH, FAULT_POLICY, FAULT_CLIENT };

struct failure_hint {
    enum fault fault;
    const char *look; /* a sentence */
};
const struct failure_hint *failure_hint(enum failure f, bool is_outbound);
const char *fault_name(enum fault f);

struct meta; /* mesh/policy.h */
struct failure_scope { /* what is NULL is not told */
    const char *client_id;      /* "": it has none; its identity in mutual TLS */
    const struct meta *server;  /* inbound: the Server, or the default policy that stands in for one */
    const struct meta *parent;  /* outbound: whose policy it is, a Service for example */
    const struct meta *route, *backend;
};
struct failure_facts {
    enum failure why;
    bool is_outbound;
    bool is_request; /* or a connection */
    bool is_starting; /* of an application that was never there so far (app_start.h) */
    const struct addr *client, *target, *endpoint; /* endpoint NULL: none was chosen */
    struct bytes authority;                        /* of a request */
    const char *detail;                            /* NULL: none */
    int err;                                       /* 0: none */
    struct failure_scope scope; /* told where a policy is at fault */
};
/* Trouble is a warning; what a policy or a client wanted is information, and so is that an application
 * which is starting refuses connections. */
void failure_log(const struct failure_facts *f);

#endif
