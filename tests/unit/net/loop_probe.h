/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_NET_LOOP_PROBE_H
#define UNIT_NET_LOOP_PROBE_H

/*
 * The loop of a test program, made anew for each of its tests.
 */
#include "net_probe.h"

static struct loop loop;

static int setup(void **state)
{
    (void)state;
    probe_open(&loop);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    probe_close(&loop);
    return 0;
}

#endif
