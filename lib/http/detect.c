/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which protocol speaks here? (wire 5.1) Decided by the first line alone: a request line with a
 * faulty head behind it is HTTP, and refused as such, rather than carried past every policy as
 * opaque bytes.
 */
#include "core/err.h"
#include "http/http1.h"
#include "http/http1_scan.h"

#define DETECT_BYTES_MIN                                                                           \
    14 /* the shortest request line, and the part of HTTP/2's preface that tells */
#define DETECT_BYTES_MAX 1024 /* what is undecided then is opaque */

#define FRAME_HEAD_BYTES 9 /* RFC 9113 4.1 */
#define FRAME_BYTES_MAX  16384
#define SETTINGS_TYPE    4
#define SETTING_BYTES    6

static const char preface[] = "PRI * HTTP/2.0"; /* RFC 9113 3.4 */
static_assert(sizeof(preface) - 1 == DETECT_BYTES_MIN, "");

enum verdict { IS_REQUEST, MAY_BE_REQUEST, IS_NO_REQUEST };

/* Compare what there is of `b` with the text. */
static enum verdict compare(struct bytes b, struct bytes with)
{
    if (!bytes_eq(bytes_first(b, MIN(b.len, with.len)), bytes_first(with, MIN(b.len, with.len)))) {
        return IS_NO_REQUEST;
    }
    return b.len >= with.len ? IS_REQUEST : MAY_BE_REQUEST;
}

/* " HTTP/1.x" and the end of the line, as far as it is there. A bare LF is HTTP, of a faulty kind. */
static enum verdict check_version(struct bytes b)
{
    enum verdict v = compare(b, BYTES(" HTTP/1."));

    if (v != IS_REQUEST || b.len < 9) {
        return v == IS_NO_REQUEST ? v : MAY_BE_REQUEST;
    }
    if (b.at[8] != '0' && b.at[8] != '1') {
        return IS_NO_REQUEST;
    }
    if (b.len > 9 && b.at[9] != '\r' && b.at[9] != '\n') {
        return IS_NO_REQUEST;
    }
    if (b.len > 10 && b.at[9] == '\r' && b.at[10] != '\n') {
        return IS_NO_REQUEST;
    }
    return b.len > 9 ? IS_REQUEST : MAY_BE_REQUEST;
}

/* Does the target begin as one of the four forms does? The details are the parser's. */
static bool is_target_start(struct bytes method, struct bytes target)
{
    unsigned char c = (unsigned char)target.at[0];

    return c == '/' || c == '*' || bytes_eq(method, BYTES("CONNECT")) ||
           (scan_lower[c] >= 'a' && scan_lower[c] <= 'z');
}

/* A target of letters is absolute-form, so a scheme and "://" come first; or it is no HTTP. */
static enum verdict check_scheme(struct bytes target)
{
    size_t i = 0;

    while (i < target.len && (scan_lower[(unsigned char)target.at[i]] != 0)) {
        i++;
    }
    return i <= HTTP1_SCHEME_MAX ? compare(bytes_from(target, i), BYTES("://")) : IS_NO_REQUEST;
}

static enum verdict check_request(struct bytes b)
{
    struct bytes method, target;
    const char *end = b.at + b.len;
    size_t i = 0;
    enum verdict v = compare(b, BYTES("\r\n")); /* RFC 9112 2.2: one empty line may come first */

    if (v == MAY_BE_REQUEST) {
        return v;
    }
    b = v == IS_REQUEST ? bytes_from(b, 2) : b;
    while (i < b.len && scan_lower[(unsigned char)b.at[i]] != 0) {
        i++;
    }
    if (i > HTTP1_METHOD_MAX || (i == 0 && b.len > 0)) {
        return IS_NO_REQUEST;
    }
    if (i == b.len) {
        return MAY_BE_REQUEST;
    }
    if (b.at[i] != ' ') {
        return IS_NO_REQUEST;
    }
    method = bytes_first(b, i);
    target = bytes_from(b, i + 1);
    if (target.len == 0) {
        return MAY_BE_REQUEST;
    }
    if (!is_target_start(method, target)) {
        return IS_NO_REQUEST;
    }
    if (target.at[0] != '/' && target.at[0] != '*' && !bytes_eq(method, BYTES("CONNECT"))) {
        v = check_scheme(target);
        if (v != IS_REQUEST) {
            return v;
        }
    }
    i = (size_t)(scan_target_end(target.at, end) - target.at);
    v = i < target.len ? check_version(bytes_from(target, i)) : MAY_BE_REQUEST;
    /* A request line that goes on: wire 5.1 takes the start of one for HTTP, wherever it is cut. */
    return v == MAY_BE_REQUEST && b.len >= DETECT_BYTES_MIN ? IS_REQUEST : v;
}

int http_detect(struct bytes head, enum detected *out)
{
    enum verdict h2 = compare(head, bytes_of(preface, DETECT_BYTES_MIN)), h1;

    if (h2 == IS_REQUEST) {
        *out = DETECT_HTTP2;
        return 0;
    }
    h1 = head.len == 0 ? MAY_BE_REQUEST : check_request(head);
    if (h1 == IS_REQUEST) {
        *out = DETECT_HTTP1;
        return 0;
    }
    if ((h1 == MAY_BE_REQUEST || h2 == MAY_BE_REQUEST) && head.len < DETECT_BYTES_MAX) {
        return E_AGAIN;
    }
    *out = DETECT_OPAQUE;
    return 0;
}

/* A SETTINGS frame that is no acknowledgement, on no stream, of whole settings; and not longer than
 * peers may send before they were told that they may (RFC 9113 4.2, 6.5). */
static bool is_settings(struct bytes b)
{
    const unsigned char *at = (const unsigned char *)b.at;
    size_t bytes = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];

    return bytes <= FRAME_BYTES_MAX && bytes % SETTING_BYTES == 0 && at[3] == SETTINGS_TYPE &&
           memcmp(at + 4, "\0\0\0\0\0", 5) == 0;
}

int http_detect_server(struct bytes first, bool *out)
{
    enum verdict h1 = compare(first, BYTES("HTTP/"));

    if (h1 == MAY_BE_REQUEST ||
        (first.len < FRAME_HEAD_BYTES && first.len > 0 && first.at[0] == 0 &&
         (first.len <= 3 || first.at[3] == SETTINGS_TYPE))) {
        return E_AGAIN;
    }
    *out = h1 == IS_REQUEST || (first.len >= FRAME_HEAD_BYTES && is_settings(first));
    return 0;
}
