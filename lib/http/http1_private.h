/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP1_PRIVATE_H
#define HTTP_HTTP1_PRIVATE_H

/*
 * What the files of the HTTP/1 syntax know of each other. Pure functions, as http1.h.
 */
#include "http/http1.h"

/*
 * The search for the empty line that ends a head or a trailer section, over pieces of any size.
 * Each byte is looked at once.
 */
struct http1_end {
    size_t scanned;
    char last[2]; /* the two bytes before the next piece */
};
/* A section of field lines ends at once with an empty line; a head does not begin with its end. */
void http1_end_init(struct http1_end *e, bool is_section);
/* 0: the section ends before e->scanned; E_AGAIN; E_H1_BAD_HEAD: a bare line feed. */
int http1_end_feed(struct http1_end *e, const char *in, size_t len) MUST_USE;

/* What the field lines say about the message as such. */
struct http1_facts {
    struct bytes host;
    unsigned hosts, codings, options; /* options: of Connection */
    int64_t content_length; /* -1: none */
    bool is_chunked, has_close, has_keep_alive, has_upgrade;
};

/*
 * Parse the field lines in [at, end), where `end` is just behind the empty line that http1_end
 * found. Writes lower-case names over the input.
 */
int http1_parse_fields(char *at, char *end, struct fields *out,
                       struct http1_facts *out_facts) MUST_USE;

/* Fill in the parts of the head that come from a request's target. `h` has method and version. */
int http1_parse_target(char *at, size_t len, struct arena *arena, struct head *h) MUST_USE;
/* uri-host [ ":" port ] (RFC 9110 7.2), not empty. */
bool http1_is_authority(struct bytes b, bool needs_port);

/*
 * Can nothing that begins like this be a head? Tells a sender of another protocol apart before its
 * line ends. Of `prefix` the first `seen` bytes were looked at before: a bounded beginning is looked
 * at, and only while that grows, so that a slow sender costs linear time and what came at once is
 * judged as what came byte by byte.
 */
bool http1_is_hopeless(struct bytes prefix, size_t seen, bool is_request);

/* How to print a head; what http1_print_response() leaves at its default. */
struct http1_print {
    enum http1_framing framing;
    bool close_after;     /* say `connection: close` */
    bool says_keep_alive; /* say `connection: keep-alive`, for a peer of HTTP/1.0 */
    struct bytes date;    /* to be added when the head has none; empty: do not */
};
struct chain;
struct chunk_pool;
int http1_print_head(const struct head *h, const struct http1_print *how, struct chain *to,
                     struct chunk_pool *pool) MUST_USE;
/* A trailer section with its empty line. NULL and empty are fine. E_LIMIT, E_SYNTAX: as heads. */
int http1_print_trailers(const struct fields *f, struct chain *to,
                         struct chunk_pool *pool) MUST_USE;

/* Has this field no place in a trailer section (RFC 9110 6.5.1)? */
bool http1_is_forbidden_trailer(const struct field *f);

#endif
