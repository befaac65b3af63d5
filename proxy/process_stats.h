/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PROCESS_STATS_H
#define PROXY_PROCESS_STATS_H

/*
 * What a scrape tells of the proxy itself: process_* (wire 7.2), its build, its certificate, and what
 * carries TLS. All of it is computed on the spot, on the control thread.
 */
#include "proxy/proxy.h"

void process_stats_collect(const struct proxy *p, struct metric_samples *to);

#endif
