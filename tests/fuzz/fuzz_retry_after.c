/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers retry_after_parse() of proxy/retry_after.c.
 *
 * Properties: what comes out is whole seconds and at most a year; a date that is that far away, as
 * http_date() prints it, says the same.
 */
#include "core/clock.h"
#include "proxy/retry_after.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_NS  (UINT64_C(2320000000) * NS_PER_S) /* in July 2043 */
#define YEAR_NS (UINT64_C(366) * 86400 * NS_PER_S)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t wait_ns = retry_after_parse(bytes_of(data, size), NOW_NS);
    char date[30];

    assert(wait_ns <= YEAR_NS && wait_ns % NS_PER_S == 0);
    if (wait_ns > 0) {
        http_date(NOW_NS + wait_ns, date);
        assert(retry_after_parse(bytes_str(date), NOW_NS) == wait_ns);
    }
    return 0;
}
