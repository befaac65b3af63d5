/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_EXPLAIN_H
#define CLI_EXPLAIN_H

/*
 * What a proxy would do with one request under a policy, and why: the evaluator of mesh/route.h, which the
 * proxy itself calls, with its trail on (design D13). Pure: no I/O, and nothing is drawn by lot.
 */
#include "core/opt.h"
#include "mesh/policy.h"

#include <jansson.h>

struct explain_request {
    enum protocol protocol; /* of the traffic: HTTP1, HTTP2, GRPC, OPAQUE or TLS */
    const char *method, *path, *authority, *sni; /* NULL: none */
    struct opt_list headers; /* "name: value"; an item without a colon goes on with the one before */
    struct addr client;      /* inbound */
    const char *client_id;   /* inbound; NULL: none */
    bool is_tls;             /* inbound: in TLS that the proxy ends */
};

/* The decision with all that led to it; a new reference. NULL and a sentence when the request cannot be. */
json_t *explain_inbound(const struct server_policy *p, const struct explain_request *r, char *problem,
                        size_t problem_bytes);
json_t *explain_outbound(const struct outbound_policy *p, const struct explain_request *r, char *problem,
                         size_t problem_bytes);
/* The same for people: a name and its value a line, the trail at the end. */
void explain_print(const json_t *explained, struct text *to);

#endif
