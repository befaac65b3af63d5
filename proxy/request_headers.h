/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_REQUEST_HEADERS_H
#define PROXY_REQUEST_HEADERS_H

/*
 * What a request says of its own timeouts and retries, where its route lets it (wire 5.5):
 * l5d-timeout, l5d-request-timeout, l5d-response-timeout, l5d-retry-http, l5d-retry-grpc,
 * l5d-retry-limit, l5d-retry-timeout. Pure.
 *
 * A value that cannot be read counts as not given. Of a field that is given twice the first one
 * counts.
 */
#include "http/message.h"
#include "proxy/request_policy.h"

#define REQUEST_RANGES_MAX 16 /* statuses and ranges of them in l5d-retry-http */

/* Is one of them in it? */
bool request_headers_exist(const struct fields *f);
/*
 * Put what they say in the place of what `p` says. Where `p` had no retries and the request asks
 * for some, there is one, of bodies up to REQUEST_BODY_BYTES_MAX. `p->ranges` may then be in
 * `arena`. E_LIMIT: the arena is full; `p` is as it was.
 */
int request_headers_apply(const struct fields *f, struct arena *arena,
                          struct request_policy *p) MUST_USE;

#endif
