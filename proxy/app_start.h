/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_APP_START_H
#define PROXY_APP_START_H

/*
 * Is the application still starting? It begins together with its proxy, or behind it, and probes ask
 * for it before it listens: that these are refused is no trouble yet, and the log should not look so.
 *
 * Starting is a port that was never reached, in the first minute. Ports beyond the 16th that was
 * reached count as reached: trouble is rather told once too often.
 * Threads: one worker's.
 */
#include <stdbool.h>
#include <stdint.h>

#define APP_START_PORTS_MAX 16

struct app_start {
    uint64_t until_ns;
    unsigned count;
    uint16_t reached[APP_START_PORTS_MAX];
};
void app_start_open(struct app_start *a, uint64_t now_ns);
void app_start_reached(struct app_start *a, uint16_t port);
bool app_is_starting(const struct app_start *a, uint16_t port, uint64_t now_ns);

#endif
