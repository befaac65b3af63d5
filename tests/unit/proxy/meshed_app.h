/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PROXY_MESHED_APP_H
#define TESTS_UNIT_PROXY_MESHED_APP_H

/*
 * The application is the outbound target, with an identity and HTTP/2 on the way to it, and stands behind the
 * inbound listener, too: so one worker is both of its proxies.
 */
#include "app.h"

#define GET "GET / HTTP/1.1\r\nHost: web\r\n\r\n"
#define OK  "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

static inline int setup(void **state)
{
    app_setup(state);
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig_know_target(
        &rig.target[OUTBOUND],
        policy_to(PROTOCOL_DETECT, endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2), NULL));
    return 0;
}

/* The inbound listener stands before the application, and not only for the mesh. */
static inline struct peer *inbound_client(void)
{
    rig.target[INBOUND] = app.at;
    return peer_dial(INBOUND);
}

/* Answer what the client has sent: from `server`, or, if that is NULL, from who is accepted for it. */
static inline struct peer *serve(struct peer *client, struct peer *server)
{
    server = server != NULL ? server : app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    text_reset(&server->in);
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    return server;
}

#define TEST(f) APP_TEST_WITH(f, setup)

#endif
