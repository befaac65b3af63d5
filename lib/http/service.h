/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_SERVICE_H
#define HTTP_SERVICE_H

/*
 * Small HTTP services (admin pages, the public API): whole requests in, whole answers out, over
 * HTTP/1 and HTTP/2 on the same port. Off the data path.
 *
 * Limits: bodies of at most `body_max` bytes (413 beyond), 256 connections (the oldest idle one
 * goes), 30 s for a head, 60 s idle.
 */
#include "core/text.h"
#include "http/conn.h"

struct service_request {
    const struct head *head;
    struct bytes path, query; /* split at '?' */
    struct bytes body;
    struct addr peer;
    struct bytes peer_id; /* of TLS; empty: none was shown; `at` NULL: there is no TLS */
    /* the answer, filled by the handler or later */
    unsigned status;
    const char *content_type; /* static */
    const char *extra_name;   /* one further field, or NULL */
    const char *extra_value;  /* needed until service_answer() returns */
    struct text answer;
    /*
     * For an answer whose length is not known: set before service_answer(), and called from turns of the
     * loop, one piece a turn, when there is room for it. It appends to `answer`, which is empty then. 0:
     * there is more; E_EOF: that was all, and nothing comes any more; E_AGAIN: nothing for now,
     * service_resume() comes later; other: the answer is broken off. But for those two ends, and for
     * HEAD, which asks for no piece, `on_gone` tells that the request ends.
     */
    int (*more)(struct service_request *r);
    void *user; /* the handler's */
};
struct service;
/* Handle a request: fill status and answer and call service_answer() now, or later from the same
 * loop. Until then the request stays valid; when the client goes away first, `on_gone` of the
 * service is called instead. */
typedef void service_handler(struct service_request *r, void *service_user);
struct service *service_new(struct loop *l, size_t body_max, service_handler *handle,
                            void (*on_gone)(struct service_request *r, void *service_user),
                            void *service_user);
/* Take a connection, bare or behind a handshake (TLS), and detect the version. */
void service_accept(struct service *s, int fd, const struct addr *peer);
void service_accept_io(struct service *s, struct io *io, const struct addr *peer);
/* The same, of who is known; `peer_id` is copied. */
void service_accept_known(struct service *s, struct io *io, const struct addr *peer,
                          struct bytes peer_id);
void service_answer(struct service_request *r);
void service_break(struct service_request *r);  /* break off an answer with `more`; `on_gone` is called */
void service_resume(struct service_request *r); /* `more` has something again; idempotent */
/* Accepts nothing any more; every connection ends after the answer that is under way. */
void service_drain(struct service *s);
/* Closes all. Requests that wait for their answer end here: `on_gone` is called for each, from
 * within. */
void service_free(struct service *s);

#endif
