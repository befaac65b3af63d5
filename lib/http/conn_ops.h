/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_CONN_OPS_H
#define HTTP_CONN_OPS_H

/*
 * What a connection of either version is made of, for the files of this folder alone: the common
 * part, embedded first in the version's own struct, and the table of what the version does. conn.c
 * has the calls of conn.h, which only dispatch.
 */
#include "http/conn.h"

struct http_server_ops {
    void (*drain)(struct http_server *c);
    void (*leave)(struct http_server *c);
    size_t (*held)(const struct http_server *c);
    void (*close)(struct http_server *c, int err);
    void (*close_after)(struct http_server *c,
                        struct stream *s); /* NULL: a stream's end is not the connection's */
};

struct http_server {
    const struct http_server_ops *ops;
    struct io *io; /* NULL once taken or closed */
    const struct http_server_events *events;
    void *user;
    struct http_limits limits; /* without zeros where a default exists */
};

struct http_client_ops {
    unsigned (*capacity)(const struct http_client *c);
    unsigned (*streams)(const struct http_client *c);
    enum http_pace (*pace)(const struct http_client *c); /* NULL: never bound */
    int (*open)(struct http_client *c, const struct head *h, bool ends,
                const struct stream_events *events, void *user, struct stream **out);
    void (*close)(struct http_client *c, int err);
};

struct http_client {
    const struct http_client_ops *ops;
    struct io *io;
    const struct http_client_events *events;
    void *user;
    struct http_limits limits;
};

/* Copies `from` (NULL: all default) and fills in the defaults of conn.h, `streams_max` excepted:
 * what its zero means differs by role. */
void http_limits_fill(struct http_limits *to, const struct http_limits *from);

#endif
