/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_FILTERS_H
#define PROXY_FILTERS_H

/*
 * What the filters of a route or a backend do to a message (Gateway API; wire 3.5, 5.7). Pure: no
 * I/O, no clock.
 *
 * Header modifiers add, then set, then remove. What frames a message or concerns one hop alone is
 * never theirs to change; an edit of it is ignored. To set or add `host` gives the request another
 * authority; it cannot be removed.
 *
 * Ownership: names and values that are added are borrowed from the filter, so the policy must
 * outlive the message.
 */
#include "core/rand.h"
#include "http/message.h"
#include "mesh/policy.h"

/* All modifiers of the kind. E_LIMIT: no room for another field; the message is half edited. */
int filters_edit_request(const struct filter *filters, size_t count, struct head *h) MUST_USE;
int filters_edit_response(const struct filter *filters, size_t count, struct head *h) MUST_USE;
bool filters_have(const struct filter *filters, size_t count, enum filter_kind kind);

/* Does this injector strike? */
bool filter_strikes(const struct filter *f, struct rand *rand);

/*
 * Where a redirect sends the request, in `arena`. `match` is what the route was chosen by (NULL:
 * nothing). E_NOT_FOUND: to where it is already; E_SYNTAX: the request has no host, or the filter
 * replaces a prefix and the match has none; E_LIMIT.
 */
int filter_location(const struct filter *f, const struct route_match *match,
                    const struct head *request, struct arena *arena,
                    struct bytes *out_location) MUST_USE;

#endif
