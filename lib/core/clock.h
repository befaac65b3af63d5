/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include "core/bytes.h"

#include <stdint.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC */
uint64_t clock_wall_ns(void); /* CLOCK_REALTIME, since 1970 */
uint64_t clock_cpu_ns(void);  /* CPU time of this process */

/* "2026-08-01T12:00:00.123456Z" into at least 32 bytes; and RFC 3339 back (seconds and fraction, Z or
 * offset). */
void clock_format_rfc3339(uint64_t wall_ns, char out_text[32]);
int clock_parse_rfc3339(struct bytes text, uint64_t *out_wall_ns) MUST_USE;

/* Durations as the proxy's environment writes them (wire 2.1): "<int>(ms|s|m|h|d)" or "0". */
int clock_parse_duration(struct bytes text, uint64_t *out_ns) MUST_USE;

#endif
