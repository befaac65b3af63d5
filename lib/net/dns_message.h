/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_DNS_MESSAGE_H
#define NET_DNS_MESSAGE_H

/*
 * Reading DNS answers (RFC 1035 4, RFC 2782). Pure; private to this folder and its fuzz target.
 */
#include "net/addr.h"

#define DNS_NAME_BYTES  256 /* text of a name and NUL; RFC 1035 2.3.4 */
#define DNS_RECORDS_MAX 256 /* of one answer; the rest is ignored */

enum dns_type { DNS_A = 1, DNS_AAAA = 28, DNS_SRV = 33 };

struct dns_record {
    struct addr addr;                /* A, AAAA; port 0 */
    uint16_t port, priority, weight; /* SRV */
    char target[DNS_NAME_BYTES];     /* SRV; without the last dot, empty for the root */
    uint32_t ttl_s;
};

/*
 * Records of `type` in the answer section of `message`, at most `max`; those of an alias included,
 * whose TTL then counts as well. 0 (also with none), E_DNS_NAME (the name does not exist),
 * E_DNS_FAIL (the server says it failed), E_SYNTAX.
 */
int dns_parse_answer(struct bytes message, enum dns_type type, struct dns_record *out, size_t max,
                     size_t *out_count) MUST_USE;

/* "10-1-2-3.name..." names 10.1.2.3, as headless services publish their pods. */
bool dns_dashed_ip(struct bytes name, struct addr *out);

#endif
