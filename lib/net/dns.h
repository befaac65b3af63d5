/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_DNS_H
#define NET_DNS_H

/*
 * Asynchronous name resolution on a loop (c-ares underneath; /etc/resolv.conf and /etc/hosts).
 *
 * Limits: at most 1,000 questions under way; more fail with E_LIMIT through the callback.
 * Counts in the loop's metrics: what each client asked for, by type of record and result.
 */
#include "net/addr.h"
#include "core/loop.h"

struct dns; /* one per loop */
struct dns_answer {
    const struct addr *addrs; /* with ports; borrowed for the call */
    size_t count;
    uint64_t ttl_ns;          /* smallest of the records, at least 1 s, at most 5 min */
};
struct dns_query {            /* embedded in its owner */
    /* Called once, from a task. */
    void (*on_answer)(struct dns_query *q, int err, const struct dns_answer *answer);
    void *user;
    const char *client;       /* who asks, for control_dns_resolutions_total (wire 7.2); NULL: not counted */
    void *pending;            /* internal; NULL when idle */
};

int dns_open(struct loop *l, struct dns **out) MUST_USE;
/* The same with these servers ("127.0.0.1:5353,..."; NULL: those of resolv.conf). */
int dns_open_at(struct loop *l, const char *servers, struct dns **out) MUST_USE;
void dns_close(struct dns *d); /* pending queries end with E_CANCELED, from a task of this turn or the next */
/*
 * Look up `host` (a trailing dot means absolute). With `srv` true, SRV of the name first (targets
 * whose first label is a dashed IPv4 are decoded without a further question, the record's port is used),
 * then A and AAAA with `port`. "localhost." is 127.0.0.1 and an address literal is itself.
 */
void dns_resolve(struct dns *d, struct dns_query *q, struct bytes host, uint16_t port, bool srv);
void dns_cancel(struct dns_query *q); /* idempotent; on_answer will not be called */

#endif
