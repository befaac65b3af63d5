/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP1_H
#define HTTP_HTTP1_H

/*
 * HTTP/1 syntax (RFC 9112), as pure functions over bytes: no I/O, no clock, no allocation but the
 * fields array in the given arena. Strict: what two implementations could read in two ways is
 * refused.
 */
#include "http/message.h"

#define HTTP1_METHOD_MAX     32  /* bytes; far above any registered one */
#define HTTP1_SCHEME_MAX     32  /* bytes of the scheme of an absolute target; as far */
#define HTTP1_CHUNK_LINE_MAX 256 /* bytes of a chunk-size line, extensions included */

/*
 * Parse a head at the start of `in`, up to and with the empty line.
 * 0: *out_consumed bytes are the head; all slices of `out` borrow from `in` (names are lower-cased
 * in place, which is why `in` is writable), out->content_length, ends, keep_alive, is_upgrade are
 * set. E_AGAIN: incomplete; *io_scanned remembers how far the end was searched (start with 0), so
 * that a slow sender costs linear time. E_H1_BAD_HEAD, E_H1_BAD_LENGTH, E_LIMIT are final.
 * Refused: obs-fold, bare CR or LF, NUL, space before the colon, empty or non-token names, more than one
 * Host or one that is no authority, more than one Content-Length or one that is no plain decimal,
 * Content-Length beside Transfer-Encoding, a Transfer-Encoding other than the one word chunked,
 * Transfer-Encoding in HTTP/1.0, a missing Host in HTTP/1.1, more than HTTP_FIELDS_MAX fields,
 * versions other than 1.0 and 1.1, targets with control bytes, spaces, '#' or non-ASCII, user
 * information in an authority, CONNECT without authority-form and authority-form without, methods
 * longer than HTTP1_METHOD_MAX, schemes longer than HTTP1_SCHEME_MAX.
 * One empty line before a request is skipped (RFC 9112 2.2).
 */
int http1_parse_request(char *in, size_t len, size_t *io_scanned, struct arena *arena,
                        struct head *out, size_t *out_consumed) MUST_USE;
/* `request_method`: HEAD and CONNECT change what follows the head (RFC 9112 6.3). */
int http1_parse_response(char *in, size_t len, size_t *io_scanned, struct bytes request_method,
                         struct arena *arena, struct head *out, size_t *out_consumed) MUST_USE;

enum http1_framing { HTTP1_NO_BODY, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE };
enum http1_framing http1_framing_of(const struct head *h); /* of a parsed head */

/* Chunked bodies, incremental: fed with any split of the input. */
struct http1_chunks {
    unsigned state;
    uint64_t left;     /* bytes of the current chunk still to come; 0 while a line is read */
    uint64_t size;     /* of the size line being read */
    size_t line_bytes; /* of the current size line; bounded */
};
void http1_chunks_init(struct http1_chunks *c);
/*
 * Look at in[0..len). Result: 0 and *out_consumed > 0 bytes were understood, of which the run
 * in[*out_data .. +*out_data_len) is body (may be empty: a call stops where a chunk's data begin,
 * so that a caller can pass on fewer bytes than there are, seeing `left`); E_EOF: the last chunk's
 * line was consumed, the trailer section begins at in[*out_consumed]; E_AGAIN: needs more;
 * E_H1_BAD_CHUNK is final.
 * Refused: sizes over 2^60 or without a digit, bare LF, bytes other than CRLF behind the data,
 * extensions that are malformed or longer than 256 bytes a line.
 */
int http1_chunks_feed(struct http1_chunks *c, const char *in, size_t len, size_t *out_consumed,
                      size_t *out_data, size_t *out_data_len) MUST_USE;
/* The trailer section after the last chunk, up to and with its empty line; results as for heads.
 * `out` was given its arena by fields_init(). Fields that frame or route (RFC 9110 6.5.1) are
 * dropped. */
int http1_parse_trailers(char *in, size_t len, size_t *io_scanned, struct fields *out,
                         size_t *out_consumed) MUST_USE;

/*
 * Print a head behind a chain. E_LIMIT: no chunk; E_SYNTAX: something that would break the framing.
 * On failure the chain is as before.
 * Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding, Content-Length and Upgrade are the
 * printer's: they follow from `framing`, `close_after` and h->is_upgrade, whatever the fields say
 * (fields that Connection listed were removed by the owner of the head,
 * fields_remove_hop_by_hop()). Host of a request is h->authority where there is one. HTTP1_LENGTH
 * prints h->content_length (0 when it is not given), HTTP1_NO_BODY only a given one, as an answer
 * to HEAD has.
 */
struct chain;
struct chunk_pool;
int http1_print_request(const struct head *h, enum http1_framing framing, struct chain *to,
                        struct chunk_pool *pool) MUST_USE;
int http1_print_response(const struct head *h, enum http1_framing framing, bool close_after,
                         struct chain *to, struct chunk_pool *pool) MUST_USE;

/* --- detection (wire 5.1) ------------------------------------------------------------------------ */

enum detected { DETECT_OPAQUE, DETECT_HTTP1, DETECT_HTTP2 };
/* Over the first bytes of a connection. 0 and *out; E_AGAIN: undecided with these bytes (the caller
 * decides what silence means). Never undecided with 1,024 bytes or more. */
int http_detect(struct bytes head, enum detected *out) MUST_USE;
/*
 * Over the first bytes that a server sent without having been asked: is it one of HTTP? There the
 * client begins; but a server of HTTP/2 may send its SETTINGS at once (RFC 9113 3.4), and some of
 * HTTP/1 answer 408 to clients that are slow. 0 and *out; E_AGAIN: undecided with these bytes, which
 * nine never are.
 */
int http_detect_server(struct bytes first, bool *out) MUST_USE;

#endif
