/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_FAILURE_TIME_H
#define PROXY_FAILURE_TIME_H

/*
 * A timeout in words: which one is over, how long it is, and what its time was spent on as far as this
 * proxy saw it. "the request timeout of 300ms is over: the endpoint got the whole request 298ms ago, and
 * has not answered". Pure.
 */
#include "core/bytes.h"

struct exchange;

#define TIMEOUT_TEXT_BYTES 384

enum timeout_kind {
    TIMEOUT_REQUEST,
    TIMEOUT_BACKEND, /* of a request at one backend: backendRequest of a route */
    TIMEOUT_PROFILE,
    TIMEOUT_RESPONSE,
    TIMEOUT_HEADERS,
    TIMEOUT_IDLE
};
/* Returns `to`. While the exchange still is as the timeout found it. */
const char *timeout_text(const struct exchange *ex, enum timeout_kind kind, uint64_t timeout_ns,
                         char to[TIMEOUT_TEXT_BYTES]);

#endif
