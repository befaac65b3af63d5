/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request targets (RFC 9112 3.2) and authorities (RFC 3986 3.2, without user information).
 */
#include "core/err.h"
#include "http/http1_private.h"
#include "http/http1_scan.h"

static inline bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static inline bool is_alpha(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool is_hex(unsigned char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* reg-name = *( unreserved / pct-encoded / sub-delims ) */
static bool is_host_byte(unsigned char c)
{
    return is_alpha(c) || is_digit(c) || (c != 0 && strchr("-._~%!$&'()*+,;=", c) != NULL);
}

static bool is_port(struct bytes b, bool needs_port)
{
    unsigned port = 0;

    for (size_t i = 0; i < b.len; i++) {
        if (!is_digit((unsigned char)b.at[i])) {
            return false;
        }
        port = port * 10 + (unsigned)(b.at[i] - '0');
        if (port > UINT16_MAX) {
            return false;
        }
    }
    return b.len > 0 || !needs_port;
}

bool http1_is_authority(struct bytes b, bool needs_port)
{
    size_t i = 0;

    if (b.len > 0 && b.at[0] == '[') { /* IP-literal */
        for (i = 1;
             i < b.len && (is_hex((unsigned char)b.at[i]) || b.at[i] == ':' || b.at[i] == '.');
             i++) {
        }
        if (i < 3 || i == b.len || b.at[i] != ']') {
            return false;
        }
        i++;
    } else {
        while (i < b.len && is_host_byte((unsigned char)b.at[i])) {
            i++;
        }
    }
    if (i == 0) {
        return false;
    }
    if (i == b.len) {
        return !needs_port;
    }
    return b.at[i] == ':' && is_port(bytes_from(b, i + 1), needs_port);
}

/* Length of "scheme://" at the start of the target, 0 when there is none. */
static size_t scheme_length(struct bytes target)
{
    size_t i = 0;

    if (target.len == 0 || !is_alpha((unsigned char)target.at[0])) {
        return 0;
    }
    while (i < target.len) {
        unsigned char c = (unsigned char)target.at[i];

        if (!is_alpha(c) && !is_digit(c) && c != '+' && c != '-' && c != '.') {
            break;
        }
        i++;
    }
    return i <= HTTP1_SCHEME_MAX && bytes_starts(bytes_from(target, i), BYTES("://")) ? i : 0;
}

static int parse_absolute(char *at, size_t len, size_t scheme_len, struct arena *arena,
                          struct head *h)
{
    struct bytes rest = bytes_of(at + scheme_len + 3, len - scheme_len - 3);
    size_t authority_len = 0;

    while (authority_len < rest.len && rest.at[authority_len] != '/' &&
           rest.at[authority_len] != '?') {
        authority_len++;
    }
    for (size_t i = 0; i < scheme_len; i++) {
        at[i] = (char)scan_lower[(unsigned char)at[i]];
    }
    h->scheme = bytes_of(at, scheme_len);
    h->authority = bytes_first(rest, authority_len);
    /* RFC 9110 4.2.1: an empty host is invalid. 4.2.4: so is user information, which deceives. */
    if (!http1_is_authority(h->authority, false)) {
        return E_H1_BAD_HEAD;
    }
    h->path = bytes_from(rest, authority_len);
    h->is_absolute = true;
    if (h->path.len == 0) {
        /* RFC 9112 3.2.4: OPTIONS for the server as a whole; 3.2.1: else an empty path is "/". */
        h->path = bytes_eq(h->method, BYTES("OPTIONS")) ? BYTES("*") : BYTES("/");
    } else if (h->path.at[0] == '?') {
        char *path = arena_try(arena, h->path.len + 1);

        if (path == NULL) {
            return E_LIMIT;
        }
        path[0] = '/';
        memcpy(path + 1, h->path.at, h->path.len);
        h->path = bytes_of(path, h->path.len + 1);
    }
    return 0;
}

int http1_parse_target(char *at, size_t len, struct arena *arena, struct head *h)
{
    struct bytes target = bytes_of(at, len);
    size_t scheme_len;

    if (len == 0 || memchr(at, '#', len) != NULL) {
        return E_H1_BAD_HEAD; /* RFC 9110 7.1: a target has no fragment */
    }
    if (bytes_eq(h->method, BYTES("CONNECT"))) {
        /* RFC 9112 3.2.3: authority-form and nothing else; RFC 9110 9.3.6: with a port. Wire 5.4:
         * in HTTP/1.1 alone. */
        if (h->version != HTTP_11 || !http1_is_authority(target, true)) {
            return E_H1_BAD_HEAD;
        }
        h->authority = target;
        h->is_connect = true;
        return 0;
    }
    if (at[0] == '/') { /* RFC 9112 3.2.1: origin-form */
        h->path = target;
        return 0;
    }
    if (bytes_eq(target, BYTES("*"))) { /* RFC 9112 3.2.4: asterisk-form is for OPTIONS */
        h->path = target;
        return bytes_eq(h->method, BYTES("OPTIONS")) ? 0 : E_H1_BAD_HEAD;
    }
    scheme_len = scheme_length(target); /* RFC 9112 3.2.2: absolute-form */
    return scheme_len > 0 ? parse_absolute(at, len, scheme_len, arena, h) : E_H1_BAD_HEAD;
}
