/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_REQUEST_POLICY_H
#define PROXY_REQUEST_POLICY_H

/*
 * What governs one request on its way: how long it may take, and when and how often it is tried
 * again (wire 5.8, 6.3). Filled from an outbound rule and the request's own l5d-* headers, or from
 * a ServiceProfile's route; kept by exchange_govern() as long as the request lives.
 *
 * A zero means that there is no such timeout, retry or hook.
 */
#include "mesh/policy.h"
#include "proxy/failure.h"

#define REQUEST_BODY_BYTES_MAX 65536 /* the most of a body that is kept for another attempt */

struct exchange;

struct request_policy {
    uint64_t request_timeout_ns;  /* from the request's head to the end of the response */
    uint64_t response_timeout_ns; /* from the request's end to the end of the response */
    uint64_t idle_timeout_ns;     /* between two frames of either body */
    uint64_t try_timeout_ns;      /* from the request's end to the response's head; all attempts
                                     but the last one */
    enum failure request_timeout_failure; /* FAILURE_NONE: FAILURE_REQUEST_TIMEOUT */
    bool until_head; /* request_timeout_ns: to the beginning of the response that the client gets */

    uint32_t max_retries;    /* attempts after the first one */
    uint32_t max_body_bytes; /* a request with a longer body is not retried; at most
                                REQUEST_BODY_BYTES_MAX */
    const struct status_range *ranges; /* statuses that are retried; borrowed while the request
                                          lives (its policy is held, its arena stays) */
    size_t ranges_count;
    uint32_t grpc_codes; /* gRPC codes that are retried, a bit each */
    uint64_t backoff_min_ns, backoff_max_ns; /* 0: at once */
    bool only_responses; /* a failure without a response is not retried */
    double backoff_jitter; /* up to this part of the delay is added to it, at random */

    /* Where a response is judged otherwise than by `ranges` and `grpc_codes`: is it to be retried?
     * `grpc_status` is -1 where there is none. */
    bool (*is_retryable)(void *user, unsigned status, int grpc_status);
    /* Asked before each retry: false when there is no budget left, and the response stands. */
    bool (*may_retry)(void *user);
    void *user; /* of both hooks */

    /* Where another attempt goes is chosen anew. Could it go anywhere now? If not, the response at
     * hand stands. */
    bool (*has_way)(struct exchange *ex);
    /* Send the request on its way once more; it has no endpoint at hand. May end the exchange. */
    void (*again)(struct exchange *ex);
};

#endif
