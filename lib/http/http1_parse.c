/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message heads (RFC 9112 2 to 4 and 6.3). The end of the head is found first, 16 bytes at a time;
 * the parse behind it is one pass that needs no bounds, because the head ends in bytes at which
 * each search stops.
 */
#include "http/http1.h"

#include "core/err.h"
#include "http/http1_private.h"
#include "http/http1_scan.h"

#define HOPELESS_BYTES_MAX ((size_t)1024)

/* --- the end of the head ------------------------------------------------------------------------- */

static int find_head(const char *in, size_t len, size_t *io_scanned, size_t *out_size)
{
    struct http1_end e;
    int rc;

    assert(*io_scanned <= len);
    http1_end_init(&e, false);
    e.scanned = *io_scanned;
    if (e.scanned >= 1) {
        e.last[1] = in[e.scanned - 1];
    }
    if (e.scanned >= 2) {
        e.last[0] = in[e.scanned - 2];
    }
    rc = http1_end_feed(&e, in + e.scanned, len - e.scanned);
    if (rc == E_AGAIN) {
        *io_scanned = len;
        return len >= HTTP_HEAD_BYTES_MAX ? E_LIMIT : E_AGAIN;
    }
    TRY(rc);
    if (e.scanned > HTTP_HEAD_BYTES_MAX) {
        return E_LIMIT;
    }
    *out_size = e.scanned;
    return 0;
}

/* HTTP-version = "HTTP/" DIGIT "." DIGIT (RFC 9112 2.3); of major version 1 there are two. */
static int parse_version(const char *at, enum http_version *out_version)
{
    if (memcmp(at, "HTTP/1.", 7) != 0 || (at[7] != '0' && at[7] != '1')) {
        return E_H1_BAD_HEAD;
    }
    *out_version = at[7] == '0' ? HTTP_10 : HTTP_11;
    return 0;
}

bool http1_is_hopeless(struct bytes prefix, size_t seen, bool is_request)
{
    enum detected what;

    if (seen >= HOPELESS_BYTES_MAX) {
        return false;
    }
    prefix = bytes_first(prefix, MIN(prefix.len, HOPELESS_BYTES_MAX));
    if (!is_request) {
        return prefix.len > 0 && memcmp(prefix.at, "HTTP/1.", MIN(prefix.len, 7)) != 0;
    }
    return http_detect(prefix, &what) == 0 && what == DETECT_OPAQUE;
}

/* RFC 9112 9.3. */
static bool is_kept_alive(enum http_version version, const struct http1_facts *facts)
{
    return !facts->has_close && (version == HTTP_11 || facts->has_keep_alive);
}

/* --- requests ------------------------------------------------------------------------------------ */

/* request-line = method SP request-target SP HTTP-version CRLF, with single spaces (RFC 9112 3). */
static int parse_request_line(char **io_at, char *end, struct arena *arena, struct head *h)
{
    char *method = *io_at, *at = method, *target;
    size_t target_len;

    while (scan_lower[(unsigned char)*at] != 0) {
        at++;
    }
    if (at == method || at - method > HTTP1_METHOD_MAX || *at != ' ') {
        return E_H1_BAD_HEAD; /* RFC 9110 9.1: a method is a token */
    }
    h->method = bytes_of(method, (size_t)(at - method));
    target = at + 1;
    /* RFC 9112 3.2: no whitespace in a target. RFC 3986 2: ASCII, no controls. */
    target_len = (size_t)(scan_target_end(target, end) - target);
    at = target + target_len;
    if (end - at < 11 || *at != ' ' || at[9] != '\r' || at[10] != '\n') {
        return E_H1_BAD_HEAD;
    }
    TRY(parse_version(at + 1, &h->version));
    *io_at = at + 11;
    return http1_parse_target(target, target_len, arena, h);
}

static int finish_request(struct head *h, const struct http1_facts *facts)
{
    /* RFC 9112 3.2: a request of HTTP/1.1 has exactly one Host, and no request more than one or an
     * invalid one. */
    if (facts->hosts > 1 || (facts->hosts == 0 && h->version == HTTP_11)) {
        return E_H1_BAD_HEAD;
    }
    if (facts->host.len > 0 && !http1_is_authority(facts->host, false)) {
        return E_H1_BAD_HEAD;
    }
    if (!h->is_absolute && !h->is_connect) {
        h->authority = facts->host;
    }
    /* RFC 9112 6.1: chunked in HTTP/1.0 is faulty framing. 6.3: with both lengths somebody may be
     * smuggling a request. */
    if (facts->is_chunked && (h->version == HTTP_10 || facts->content_length >= 0)) {
        return E_H1_BAD_LENGTH;
    }
    h->content_length = facts->content_length;
    h->ends = !facts->is_chunked && facts->content_length <= 0;
    /* RFC 9110 9.3.6: CONNECT has no content; what follows the head is the tunnel's. */
    if (h->is_connect && !h->ends) {
        return E_H1_BAD_LENGTH;
    }
    /* RFC 9110 7.8: Upgrade in HTTP/1.0 is ignored. */
    h->is_upgrade = h->version == HTTP_11 && (h->is_connect || facts->has_upgrade);
    h->keep_alive = is_kept_alive(h->version, facts);
    return 0;
}

int http1_parse_request(char *in, size_t len, size_t *io_scanned, struct arena *arena,
                        struct head *out, size_t *out_consumed)
{
    struct head h = {.content_length = -1};
    struct http1_facts facts;
    char *at = in;
    size_t size = 0, seen = *io_scanned;
    int rc = find_head(in, len, io_scanned, &size);

    if (rc != 0 && http1_is_hopeless(bytes_of(in, len), seen, true)) {
        return E_H1_BAD_HEAD;
    }
    TRY(rc);
    if (at[0] == '\r' && at[1] == '\n') {
        at += 2; /* RFC 9112 2.2: an empty line before a request is ignored */
    }
    TRY(parse_request_line(&at, in + size, arena, &h));
    fields_init(&h.fields, arena);
    TRY(http1_parse_fields(at, in + size, &h.fields, &facts));
    TRY(finish_request(&h, &facts));
    *out = h;
    *out_consumed = size;
    return 0;
}

/* --- responses ----------------------------------------------------------------------------------- */

/* status-line = HTTP-version SP 3DIGIT SP [ reason-phrase ] CRLF (RFC 9112 4). Many servers leave
 * out the second space when there is no reason; nothing can be meant by that but the same. */
static int parse_status_line(char **io_at, char *end, struct head *h)
{
    char *at = *io_at;
    const char *line_end;

    if (end - at < 16) { /* the shortest with its CRLF, and one more CRLF */
        return E_H1_BAD_HEAD;
    }
    TRY(parse_version(at, &h->version));
    if (at[8] != ' ') {
        return E_H1_BAD_HEAD;
    }
    for (unsigned i = 9; i < 12; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return E_H1_BAD_HEAD;
        }
        h->status = h->status * 10 + (unsigned)(at[i] - '0');
    }
    if (h->status < 100 || (at[12] != ' ' && at[12] != '\r')) {
        return E_H1_BAD_HEAD; /* RFC 9110 15: the first digit is a class */
    }
    line_end = scan_value_end(at + 12, end);
    if (line_end[0] != '\r' || line_end[1] != '\n') {
        return E_H1_BAD_HEAD;
    }
    *io_at = at + (line_end - at) + 2;
    return 0;
}

/* RFC 9112 6.3, in the order of its list. */
static int finish_response(struct head *h, const struct http1_facts *facts,
                           struct bytes request_method)
{
    bool is_tunnel = bytes_eq(request_method, BYTES("CONNECT")) && h->status / 100 == 2;
    bool is_interim = h->status < 200;
    bool has_no_body = bytes_eq(request_method, BYTES("HEAD")) || is_interim || h->status == 204 ||
                       h->status == 304 || is_tunnel;

    h->is_upgrade = h->status == 101 || is_tunnel;
    h->keep_alive = is_kept_alive(h->version, facts) && !h->is_upgrade;
    h->content_length = facts->content_length;
    if (is_tunnel) { /* RFC 9110 9.3.6: both lengths are ignored */
        h->content_length = -1;
        h->ends = true;
        return 0;
    }
    if (facts->is_chunked && (h->version == HTTP_10 || facts->content_length >= 0)) {
        return E_H1_BAD_LENGTH; /* RFC 9112 6.1, 6.3: response splitting may be going on */
    }
    /* RFC 9110 8.6, RFC 9112 6.1: 1xx and 204 announce no body. One that does may be followed by
     * it: such a connection carries no second exchange. */
    if ((is_interim || h->status == 204) && (facts->is_chunked || facts->content_length > 0)) {
        if (is_interim) {
            return E_H1_BAD_LENGTH;
        }
        h->keep_alive = false;
    }
    h->ends = has_no_body || (!facts->is_chunked && facts->content_length == 0);
    if (!h->ends && !facts->is_chunked && facts->content_length < 0) {
        h->keep_alive = false; /* the body is what comes until the connection closes */
    }
    return 0;
}

int http1_parse_response(char *in, size_t len, size_t *io_scanned, struct bytes request_method,
                         struct arena *arena, struct head *out, size_t *out_consumed)
{
    struct head h = {.content_length = -1};
    struct http1_facts facts;
    char *at = in;
    size_t size = 0, seen = *io_scanned;
    int rc = find_head(in, len, io_scanned, &size);

    if (rc != 0 && http1_is_hopeless(bytes_of(in, len), seen, false)) {
        return E_H1_BAD_HEAD;
    }
    TRY(rc);
    TRY(parse_status_line(&at, in + size, &h));
    fields_init(&h.fields, arena);
    TRY(http1_parse_fields(at, in + size, &h.fields, &facts));
    TRY(finish_response(&h, &facts, request_method));
    *out = h;
    *out_consumed = size;
    return 0;
}

enum http1_framing http1_framing_of(const struct head *h)
{
    if (h->ends) {
        return HTTP1_NO_BODY;
    }
    if (h->content_length >= 0) {
        return HTTP1_LENGTH;
    }
    return fields_get(&h->fields, FIELD_TRANSFER_ENCODING) != NULL ? HTTP1_CHUNKED
                                                                   : HTTP1_UNTIL_CLOSE;
}
