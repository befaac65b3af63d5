/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_RETRY_AFTER_H
#define PROXY_RETRY_AFTER_H

/*
 * How long an endpoint wants to be left alone: the hints with which it refuses (wire 6.1).
 */
#include "http/message.h"

/* Answers whose hint counts: too many requests, unavailable; RESOURCE_EXHAUSTED, UNAVAILABLE. */
static inline bool http_is_busy(unsigned status)
{
    return status == 429 || status == 503;
}
static inline bool grpc_is_busy(int grpc_status)
{
    return grpc_status == 8 || grpc_status == 14;
}

/*
 * `Retry-After` as seconds or as a date (RFC 9110 10.2.3), `grpc-retry-pushback-ms` where the
 * request is gRPC; 0 when there is none, it is malformed, negative or in the past. Bounded by a year.
 */
uint64_t retry_after_ns(const struct fields *f, bool is_grpc);
/* The value of a Retry-After at this time of the wall clock. */
uint64_t retry_after_parse(struct bytes value, uint64_t wall_ns);

#endif
