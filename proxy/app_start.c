/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/app_start.h"

#include "core/clock.h"

#define START_NS (60 * NS_PER_S)

void app_start_open(struct app_start *a, uint64_t now_ns)
{
    *a = (struct app_start){.until_ns = now_ns + START_NS};
}

static bool is_reached(const struct app_start *a, uint16_t port)
{
    for (unsigned i = 0; i < a->count; i++) {
        if (a->reached[i] == port) {
            return true;
        }
    }
    return a->count == APP_START_PORTS_MAX;
}

void app_start_reached(struct app_start *a, uint16_t port)
{
    if (!is_reached(a, port)) {
        a->reached[a->count++] = port;
    }
}

bool app_is_starting(const struct app_start *a, uint16_t port, uint64_t now_ns)
{
    return now_ns < a->until_ns && !is_reached(a, port);
}
