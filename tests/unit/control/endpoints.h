/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_ENDPOINTS_H
#define CONTROL_ENDPOINTS_H

/*
 * Those who ask Destination.Get, and a service with two pods.
 */
#include "engines.h"

UNUSED static void get(struct engines *e, struct asker *a, const char *path)
{
    assert_int_equal(ask(e, destination_get, a, path, TOKEN), GRPC_OK);
}

#define TWO_PODS MESHED_POD("a", "10.1.0.1", "") "---\n" MESHED_POD("b", "10.1.0.2", "")
#define TWO      OF_POD("10.1.0.1", "a") ", " OF_POD("10.1.0.2", "b")

UNUSED static void web_open(struct engines *e)
{
    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml", WEB_SLICE(TWO));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
}

#endif
