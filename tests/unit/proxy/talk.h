/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_PROXY_TALK_H
#define UNIT_PROXY_TALK_H

/*
 * HTTP/1 requests that clients make, and the application that answers them by hand.
 */
#include "app.h"

#define GET  "GET /a HTTP/1.1\r\nHost: web\r\n\r\n"
#define POST "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"
#define BUSY "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
#define OK   "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

/* The application's next request, on `p` or on a new connection. */
static inline struct peer *expect(struct peer *p, const char *text)
{
    if (p == NULL || p->eof || p->fd < 0) {
        p = app_accept(&app);
    }
    RIG_UNTIL(peer_has(p, text));
    return p;
}

static inline void answer(struct peer *p, const char *text)
{
    text_reset(&p->in);
    peer_send(p, text);
}

#endif
