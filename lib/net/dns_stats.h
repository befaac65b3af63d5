/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_DNS_STATS_H
#define NET_DNS_STATS_H

/*
 * What dns.c counts: control_dns_resolutions_total (wire 7.2). An SRV that there is none of is
 * counted, and then what the addresses of the name came to. Addresses as they are, and localhost, are
 * no question and not counted. Private to dns.c.
 */
#include "core/metric.h"

/* `m` NULL, `client` NULL: not counted. */
void dns_count(struct metrics *m, const char *client, bool is_srv, bool found);

#endif
