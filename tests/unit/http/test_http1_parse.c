/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads that are accepted and heads that are refused, each with the rule that says so. All are also
 * parsed in every split, as a slow sender's.
 */
#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"
#include "http/http1.h"
#include "tests/unit/unit.h"

#define HOST "host: a\r\n"

struct sample {
    const char *rule;
    struct bytes head;
    int rc;
};

#define OK(rule_, text)                                                                            \
    {                                                                                              \
        rule_, {"" text, sizeof(text) - 1}, 0                                                      \
    }
#define BAD(rule_, text)                                                                           \
    {                                                                                              \
        rule_, {"" text, sizeof(text) - 1}, E_H1_BAD_HEAD                                          \
    }
#define BAD_LENGTH(rule_, text)                                                                    \
    {                                                                                              \
        rule_, {"" text, sizeof(text) - 1}, E_H1_BAD_LENGTH                                        \
    }

static const struct sample requests[] = {
    OK("RFC 9112 3", "GET / HTTP/1.1\r\n" HOST "\r\n"),
    OK("RFC 9112 2.2: one empty line first", "\r\nGET / HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 2.2: but not two", "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 2.2: bare LF after the request line", "GET / HTTP/1.1\n" HOST "\r\n"),
    BAD("RFC 9112 2.2: bare LF after a field", "GET / HTTP/1.1\r\nhost: a\n\r\n"),
    BAD("RFC 9112 2.2: bare LF as empty line", "GET / HTTP/1.1\r\n" HOST "\n"),
    BAD("RFC 9112 2.2: bare CR in a value", "GET / HTTP/1.1\r\n" HOST "x: a\rb\r\n\r\n"),
    BAD("RFC 9112 2.2: bare CR at a line's start", "GET / HTTP/1.1\r\n" HOST "\rx: a\r\n\r\n"),
    BAD("RFC 9112 2.2: CR CR LF", "GET / HTTP/1.1\r\n" HOST "x: a\r\r\n\r\n"),
    BAD("RFC 9112 3: two spaces behind the method", "GET  / HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3: two spaces before the version", "GET /  HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3: tab for space", "GET\t/ HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3: leading space", " GET / HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3: trailing space", "GET / HTTP/1.1 \r\n" HOST "\r\n"),
    BAD("RFC 9112 3: no version (HTTP/0.9)", "GET /\r\n" HOST "\r\n"),
    BAD("RFC 9112 3: no target", "GET HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 2.3: lower-case version", "GET / http/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 2.3: HTTP/1.2", "GET / HTTP/1.2\r\n" HOST "\r\n"),
    BAD("RFC 9112 2.3: HTTP/2.0", "GET / HTTP/2.0\r\n" HOST "\r\n"),
    BAD("RFC 9112 2.3: two digits", "GET / HTTP/1.10\r\n" HOST "\r\n"),
    BAD("RFC 9112 2.3: not HTTP", "GET / ICAP/1.0\r\n" HOST "\r\n"),
    OK("RFC 9110 9.1: any token is a method", "x-!#$%&'*+.^_`|~9 / HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 9.1: a method is a token", "G(T / HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 9.1: empty method", "/ / HTTP/1.1\r\n" HOST "\r\n"),
    BAD("HTTP1_METHOD_MAX", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" HOST "\r\n"),
    OK("RFC 9112 3.2.1", "GET /a?b=c&d HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 7.1: fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2: non-ASCII target", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2: control in target", "GET /a\001b HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2: DEL in target", "GET /a\x7f HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2: NUL in target", "GET /a\0b HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2: tab in target", "GET /a\tb HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2: relative target", "GET a/b HTTP/1.1\r\n" HOST "\r\n"),
    OK("RFC 9112 3.2.2", "GET http://a/b HTTP/1.1\r\nhost: other\r\n\r\n"),
    OK("RFC 9112 3.2.2: no path", "GET http://a HTTP/1.1\r\n" HOST "\r\n"),
    OK("RFC 9112 3.2.2: query without path", "GET http://a?b HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 4.2.1: empty host", "GET http:///b HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 4.2.4: user information", "GET http://u:p@a/ HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2: absolute-form needs Host", "GET http://a/b HTTP/1.1\r\n\r\n"),
    OK("RFC 9112 3.2.4", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2.4: asterisk for GET", "GET * HTTP/1.1\r\n" HOST "\r\n"),
    OK("RFC 9112 3.2.3", "CONNECT a.b:443 HTTP/1.1\r\n" HOST "\r\n"),
    OK("RFC 9112 3.2.3: IPv6", "CONNECT [::1]:443 HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 9.3.6: no port", "CONNECT a.b HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 9.3.6: empty port", "CONNECT a.b: HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9110 9.3.6: port out of range", "CONNECT a.b:65536 HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2.3: CONNECT in origin-form", "CONNECT /a HTTP/1.1\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2.3: CONNECT in absolute-form", "CONNECT http://a/ HTTP/1.1\r\n" HOST "\r\n"),
    BAD("wire 5.4: CONNECT in HTTP/1.0", "CONNECT a:1 HTTP/1.0\r\n" HOST "\r\n"),
    BAD("RFC 9112 3.2.3: GET in authority-form", "GET a:80 HTTP/1.1\r\n" HOST "\r\n"),
    BAD_LENGTH("RFC 9110 9.3.6: CONNECT with content",
               "CONNECT a:1 HTTP/1.1\r\n" HOST "content-length: 1\r\n\r\n"),
    BAD_LENGTH("RFC 9110 9.3.6: CONNECT chunked",
               "CONNECT a:1 HTTP/1.1\r\n" HOST "transfer-encoding: chunked\r\n\r\n"),
    BAD("RFC 9112 3.2: no Host", "GET / HTTP/1.1\r\n\r\n"),
    OK("RFC 9112 3.2: HTTP/1.0 needs none", "GET / HTTP/1.0\r\n\r\n"),
    BAD("RFC 9112 3.2: two Hosts", "GET / HTTP/1.1\r\n" HOST HOST "\r\n"),
    BAD("RFC 9112 3.2: two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" HOST HOST "\r\n"),
    OK("RFC 9110 7.2: empty Host", "GET / HTTP/1.1\r\nhost:\r\n\r\n"),
    BAD("RFC 9110 7.2: Host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
    BAD("RFC 9110 7.2: Host with user information", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
    BAD("RFC 9110 7.2: Host with a space", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
    BAD("RFC 9110 7.2: Host with a bad port", "GET / HTTP/1.1\r\nhost: a:b\r\n\r\n"),
    BAD("RFC 3986 3.2.2: unclosed literal", "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n"),
    OK("RFC 9110 7.2: empty port", "GET / HTTP/1.1\r\nhost: a:\r\n\r\n"),
    BAD("RFC 9112 5.1: space before the colon", "GET / HTTP/1.1\r\n" HOST "x : a\r\n\r\n"),
    BAD("RFC 9112 5.1: tab before the colon", "GET / HTTP/1.1\r\n" HOST "x\t: a\r\n\r\n"),
    BAD("RFC 9112 5.2: obs-fold", "GET / HTTP/1.1\r\n" HOST "x: a\r\n b\r\n\r\n"),
    BAD("RFC 9112 5.2: obs-fold with a tab", "GET / HTTP/1.1\r\n" HOST "x: a\r\n\tb\r\n\r\n"),
    BAD("RFC 9112 2.2: whitespace before the first field", "GET / HTTP/1.1\r\n " HOST "\r\n"),
    BAD("RFC 9110 5.1: empty name", "GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n"),
    BAD("RFC 9110 5.1: no colon", "GET / HTTP/1.1\r\n" HOST "abc\r\n\r\n"),
    BAD("RFC 9110 5.1: a name is a token", "GET / HTTP/1.1\r\n" HOST "a(b: c\r\n\r\n"),
    BAD("RFC 9110 5.1: non-ASCII name", "GET / HTTP/1.1\r\n" HOST "\xc3\xa4: c\r\n\r\n"),
    BAD("RFC 9110 5.1: NUL in a name", "GET / HTTP/1.1\r\n" HOST "a\0b: c\r\n\r\n"),
    BAD("RFC 9110 5.5: NUL in a value", "GET / HTTP/1.1\r\n" HOST "x: a\0b\r\n\r\n"),
    BAD("RFC 9110 5.5: control in a value", "GET / HTTP/1.1\r\n" HOST "x: a\001b\r\n\r\n"),
    BAD("RFC 9110 5.5: DEL in a value", "GET / HTTP/1.1\r\n" HOST "x: a\x7f\r\n\r\n"),
    OK("RFC 9110 5.5: obs-text", "GET / HTTP/1.1\r\n" HOST "x: \xe4\xff\r\n\r\n"),
    OK("RFC 9110 5.5: tab in a value", "GET / HTTP/1.1\r\n" HOST "x: a\tb\r\n\r\n"),
    OK("RFC 9110 5.5: empty value", "GET / HTTP/1.1\r\n" HOST "x:\r\ny: \t\r\n\r\n"),
    OK("RFC 9110 8.6", "POST / HTTP/1.1\r\n" HOST "content-length: 10\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: lengths that differ",
               "POST / HTTP/1.1\r\n" HOST "content-length: 1\r\ncontent-length: 2\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: equal lengths, which need not be accepted",
               "POST / HTTP/1.1\r\n" HOST "content-length: 1\r\ncontent-length: 1\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: a list", "POST / HTTP/1.1\r\n" HOST "content-length: 1, 1\r\n\r\n"),
    BAD_LENGTH("RFC 9110 8.6: sign", "POST / HTTP/1.1\r\n" HOST "content-length: +1\r\n\r\n"),
    BAD_LENGTH("RFC 9110 8.6: negative", "POST / HTTP/1.1\r\n" HOST "content-length: -1\r\n\r\n"),
    BAD_LENGTH("RFC 9110 8.6: hex", "POST / HTTP/1.1\r\n" HOST "content-length: 0x1\r\n\r\n"),
    BAD_LENGTH("RFC 9110 8.6: empty", "POST / HTTP/1.1\r\n" HOST "content-length:\r\n\r\n"),
    BAD_LENGTH("RFC 9110 8.6: inner space",
               "POST / HTTP/1.1\r\n" HOST "content-length: 1 0\r\n\r\n"),
    BAD_LENGTH("RFC 9110 8.6: overflow",
               "POST / HTTP/1.1\r\n" HOST "content-length: 18446744073709551617\r\n\r\n"),
    OK("RFC 9112 7.1", "POST / HTTP/1.1\r\n" HOST "transfer-encoding: chunked\r\n\r\n"),
    OK("RFC 9112 7: codings have no case",
       "POST / HTTP/1.1\r\n" HOST "transfer-encoding: CHUNKED\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: both lengths",
               "POST / HTTP/1.1\r\n" HOST
               "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: both lengths, the other order",
               "POST / HTTP/1.1\r\n" HOST
               "transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: both, the length zero",
               "POST / HTTP/1.1\r\n" HOST
               "transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: chunked not last",
               "POST / HTTP/1.1\r\n" HOST "transfer-encoding: chunked, gzip\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: chunked twice",
               "POST / HTTP/1.1\r\n" HOST "transfer-encoding: chunked, chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: chunked in two fields",
               "POST / HTTP/1.1\r\n" HOST
               "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: a coding we do not know",
               "POST / HTTP/1.1\r\n" HOST "transfer-encoding: gzip, chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: identity",
               "POST / HTTP/1.1\r\n" HOST "transfer-encoding: identity\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: nearly chunked",
               "POST / HTTP/1.1\r\n" HOST "transfer-encoding: xchunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: chunked with a parameter",
               "POST / HTTP/1.1\r\n" HOST "transfer-encoding: chunked;a=b\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: empty coding",
               "POST / HTTP/1.1\r\n" HOST "transfer-encoding:\r\n\r\n"),
    BAD("RFC 9112 6.1: a hidden coding", "POST / HTTP/1.1\r\n" HOST "transfer-encoding:\x0b"
                                         "chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: chunked in HTTP/1.0",
               "POST / HTTP/1.0\r\n" HOST "transfer-encoding: chunked\r\n\r\n"),
};

static const struct sample responses[] = {
    OK("RFC 9112 4", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    OK("RFC 9112 4: empty reason", "HTTP/1.1 200 \r\n\r\n"),
    OK("RFC 9112 4: no second space, as many send", "HTTP/1.1 200\r\n\r\n"),
    OK("RFC 9112 4: obs-text in a reason", "HTTP/1.0 404 nicht da \xe4\r\n\r\n"),
    BAD("RFC 9112 4: empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n"),
    BAD("RFC 9112 4: two digits", "HTTP/1.1 20 OK\r\n\r\n"),
    BAD("RFC 9112 4: four digits", "HTTP/1.1 2000 OK\r\n\r\n"),
    BAD("RFC 9110 15: class 0", "HTTP/1.1 099 OK\r\n\r\n"),
    BAD("RFC 9112 4: two spaces", "HTTP/1.1  200 OK\r\n\r\n"),
    BAD("RFC 9112 4: no space", "HTTP/1.1200 OK\r\n\r\n"),
    BAD("RFC 9112 2.3: version", "HTTP/1.2 200 OK\r\n\r\n"),
    BAD("RFC 9112 2.3: version", "HTTP/2 200 OK\r\n\r\n"),
    BAD("RFC 9112 4: control in the reason", "HTTP/1.1 200 O\001K\r\n\r\n"),
    BAD("RFC 9112 2.2: bare LF", "HTTP/1.1 200 OK\n\n"),
    BAD("RFC 9112 5.2: obs-fold", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n"),
    BAD("RFC 9112 5.1: space before the colon", "HTTP/1.1 200 OK\r\nx : a\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: both lengths",
               "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: chunked in HTTP/1.0",
               "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.3: lengths that differ",
               "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
    BAD_LENGTH("RFC 9112 6.1: chunked in 1xx",
               "HTTP/1.1 103 x\r\ntransfer-encoding: chunked\r\n\r\n"),
    BAD_LENGTH("RFC 9110 8.6: length in 1xx", "HTTP/1.1 103 x\r\ncontent-length: 3\r\n\r\n"),
};

/* Parse a copy of the first `len` bytes, of exactly that size, so that a sanitizer sees each byte
 * too many. */
static int parse(struct bytes head, size_t len, bool is_request, size_t *io_scanned,
                 struct arena *arena, struct head *out)
{
    char *copy = arena_try(arena, MAX(len, 1));
    size_t consumed = 0;
    int rc;

    memcpy(copy, head.at, len);
    rc = is_request
             ? http1_parse_request(copy, len, io_scanned, arena, out, &consumed)
             : http1_parse_response(copy, len, io_scanned, BYTES("GET"), arena, out, &consumed);
    if (rc == 0) {
        assert_int_equal(consumed, head.len);
    }
    return rc;
}

static void check_sample(const struct sample *s, bool is_request)
{
    struct arena arena;
    struct head h;
    size_t scanned = 0;
    int rc = 0;

    arena_init(&arena, 16 << 20);
    rc = parse(s->head, s->head.len, is_request, &scanned, &arena, &h);
    if (rc != s->rc) {
        fail_msg("%s: %s, expected %s", s->rule, rc != 0 ? err_name(rc) : "accepted",
                 s->rc != 0 ? err_name(s->rc) : "accepted");
    }
    if (rc == 0) {
        assert_false(h.content_length >= 0 &&
                     fields_get(&h.fields, FIELD_TRANSFER_ENCODING) != NULL);
    }
    scanned = 0;
    for (size_t len = 0; len <= s->head.len; len++) {
        rc = parse(s->head, len, is_request, &scanned, &arena, &h);
        if (rc != E_AGAIN) {
            break;
        }
        assert_int_equal(scanned, len);
    }
    if (rc != s->rc) {
        fail_msg("%s, byte by byte: %s", s->rule, err_name(rc));
    }
    arena_clear(&arena);
}

static void heads_are_accepted_and_refused_by_the_book(void **state UNUSED)
{
    static_assert(ARRAY_LEN(requests) + ARRAY_LEN(responses) >= 60, "");
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        check_sample(&requests[i], true);
    }
    for (size_t i = 0; i < ARRAY_LEN(responses); i++) {
        check_sample(&responses[i], false);
    }
}

/* --- what an accepted head says ------------------------------------------------------------------ */

static struct arena arena;
static struct head h;

static const struct head *request(struct bytes text)
{
    size_t scanned = 0;

    arena_clear(&arena);
    arena_init(&arena, 1 << 20);
    assert_int_equal(parse(text, text.len, true, &scanned, &arena, &h), 0);
    return &h;
}

static const struct head *response(struct bytes text, struct bytes method)
{
    size_t scanned = 0, consumed = 0;
    char *copy;

    arena_clear(&arena);
    arena_init(&arena, 1 << 20);
    copy = arena_strdup(&arena, text);
    assert_int_equal(http1_parse_response(copy, text.len, &scanned, method, &arena, &h, &consumed),
                     0);
    return &h;
}

static int teardown(void **state UNUSED)
{
    arena_clear(&arena);
    return 0;
}

static void a_request_is_taken_apart(void **state UNUSED)
{
    (void)request(BYTES("POST /p?q HTTP/1.1\r\nHoSt: A:80\r\nX-One: \t a b \t \r\n"
                        "Content-Length: 007\r\nx-one: 2\r\n\r\n"));
    assert_bytes(h.method, "POST");
    assert_bytes(h.path, "/p?q");
    assert_bytes(h.authority, "A:80");
    assert_int_equal(h.scheme.len, 0);
    assert_int_equal(h.status, 0);
    assert_int_equal(h.version, HTTP_11);
    assert_int_equal(h.fields.count, 4);
    assert_int_equal(h.fields.at[0].id, FIELD_HOST);
    assert_bytes(h.fields.at[1].name, "x-one");
    assert_bytes(h.fields.at[1].value, "a b");
    assert_bytes(h.fields.at[2].name, "content-length");
    assert_int_equal(h.content_length, 7);
    assert_int_equal(http1_framing_of(&h), HTTP1_LENGTH);
    assert_false(h.ends);
    assert_true(h.keep_alive);
    assert_false(h.is_upgrade);
}

static void targets_have_four_forms(void **state UNUSED)
{
    (void)request(BYTES("GET HTTP://b:1/p?q HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_true(h.is_absolute);
    assert_bytes(h.scheme, "http");
    assert_bytes(h.authority, "b:1"); /* RFC 9112 3.2.2: Host is ignored */
    assert_bytes(h.path, "/p?q");
    (void)request(BYTES("GET http://b?q HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_bytes(h.path, "/?q");
    (void)request(BYTES("GET http://b HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_bytes(h.path, "/");
    (void)request(BYTES("OPTIONS http://b HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_bytes(h.path, "*"); /* RFC 9112 3.2.4 */
    (void)request(BYTES("CONNECT b:1 HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_true(h.is_connect && h.is_upgrade && h.ends);
    assert_bytes(h.authority, "b:1");
    assert_int_equal(h.path.len, 0);
}

static void persistence_follows_version_and_options(void **state UNUSED)
{
    static const struct {
        struct bytes text;
        bool keep_alive;
    } samples[] = {
        /* RFC 9112 9.3 */
        {{"GET / HTTP/1.1\r\nhost:a\r\n\r\n", 26}, true},
        {{"GET / HTTP/1.0\r\nhost:a\r\n\r\n", 26}, false},
        {{"GET / HTTP/1.1\r\nhost:a\r\nconnection: close\r\n\r\n", 45}, false},
        {{"GET / HTTP/1.1\r\nhost:a\r\nconnection: x , CLOSE\r\n\r\n", 49}, false},
        {{"GET / HTTP/1.1\r\nhost:a\r\nconnection: closed\r\n\r\n", 46}, true},
        {{"GET / HTTP/1.0\r\nhost:a\r\nconnection: Keep-Alive\r\n\r\n", 50}, true},
        {{"GET / HTTP/1.0\r\nhost:a\r\nconnection: keep-alive, close\r\n\r\n", 57}, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        assert_int_equal(request(samples[i].text)->keep_alive, samples[i].keep_alive);
    }
}

static void upgrades_are_those_that_can_be_taken(void **state UNUSED)
{
    /* wire 5.4 */
    assert_true(
        request(BYTES("GET / HTTP/1.1\r\nhost:a\r\nupgrade: websocket\r\n\r\n"))->is_upgrade);
    assert_false(request(BYTES("GET / HTTP/1.1\r\nhost:a\r\nupgrade: h2c\r\n\r\n"))->is_upgrade);
    /* RFC 9110 7.8 */
    assert_false(
        request(BYTES("GET / HTTP/1.0\r\nhost:a\r\nupgrade: websocket\r\n\r\n"))->is_upgrade);
}

static void responses_end_by_rfc_9112_6_3(void **state UNUSED)
{
    static const struct {
        const char *text, *method;
        enum http1_framing framing;
        bool keep_alive;
    } samples[] = {
        {"HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\n", "GET", HTTP1_LENGTH, true},
        {"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n", "GET", HTTP1_NO_BODY, true},
        {"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n", "GET", HTTP1_CHUNKED, true},
        {"HTTP/1.1 200 x\r\n\r\n", "GET", HTTP1_UNTIL_CLOSE, false},
        {"HTTP/1.0 200 x\r\ncontent-length: 5\r\n\r\n", "GET", HTTP1_LENGTH, false},
        {"HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\n", "HEAD", HTTP1_NO_BODY, true},
        {"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n", "HEAD", HTTP1_NO_BODY, true},
        {"HTTP/1.1 304 x\r\ncontent-length: 5\r\n\r\n", "GET", HTTP1_NO_BODY, true},
        {"HTTP/1.1 204 x\r\n\r\n", "GET", HTTP1_NO_BODY, true},
        {"HTTP/1.1 204 x\r\ntransfer-encoding: chunked\r\n\r\n", "GET", HTTP1_NO_BODY, false},
        {"HTTP/1.1 204 x\r\ncontent-length: 5\r\n\r\n", "GET", HTTP1_NO_BODY, false},
        {"HTTP/1.1 100 x\r\n\r\n", "GET", HTTP1_NO_BODY, true},
        {"HTTP/1.1 101 x\r\nupgrade: y\r\n\r\n", "GET", HTTP1_NO_BODY, false},
        {"HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\n", "CONNECT", HTTP1_NO_BODY, false},
        {"HTTP/1.1 400 x\r\ncontent-length: 5\r\n\r\n", "CONNECT", HTTP1_LENGTH, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        (void)response(bytes_str(samples[i].text), bytes_str(samples[i].method));
        assert_int_equal(http1_framing_of(&h), samples[i].framing);
        assert_int_equal(h.keep_alive, samples[i].keep_alive);
        assert_int_equal(h.ends, samples[i].framing == HTTP1_NO_BODY);
    }
    assert_true(response(BYTES("HTTP/1.1 101 x\r\n\r\n"), BYTES("GET"))->is_upgrade);
    assert_true(response(BYTES("HTTP/1.1 200 x\r\n\r\n"), BYTES("CONNECT"))->is_upgrade);
    assert_false(response(BYTES("HTTP/1.1 200 x\r\n\r\n"), BYTES("GET"))->is_upgrade);
}

/* --- limits -------------------------------------------------------------------------------------- */

/* "GET / HTTP/1.1", `fields` fields, the last with a value of `value_bytes`. */
static struct bytes big_request(unsigned fields, size_t value_bytes)
{
    static char text[4 * HTTP_HEAD_BYTES_MAX];
    size_t len = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nhost: a\r\n");

    for (unsigned i = 1; i < fields; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "f%u: ", i);
        if (i + 1 == fields) {
            memset(text + len, 'v', value_bytes);
            len += value_bytes;
        }
        text[len++] = '\r';
        text[len++] = '\n';
    }
    text[len++] = '\r';
    text[len++] = '\n';
    assert_true(len <= sizeof(text));
    return bytes_of(text, len);
}

static int parse_whole(struct bytes text)
{
    size_t scanned = 0;
    int rc;

    arena_clear(&arena);
    arena_init(&arena, 1 << 20);
    rc = parse(text, text.len, true, &scanned, &arena, &h);
    return rc;
}

static void fields_are_limited(void **state UNUSED)
{
    assert_int_equal(parse_whole(big_request(HTTP_FIELDS_MAX, 1)), 0);
    assert_int_equal(h.fields.count, HTTP_FIELDS_MAX);
    assert_int_equal(parse_whole(big_request(HTTP_FIELDS_MAX + 1, 1)), E_LIMIT);
}

/* Each is looked for among all fields when the hop's own are removed: 30,000 took 16 ms. */
static void options_of_connection_are_limited(void **state UNUSED)
{
    static const char start[] = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close";
    struct text text;

    text_init(&text, 4096);
    text_str(&text, start);
    for (unsigned i = 1; i < HTTP_FIELDS_MAX; i++) {
        text_str(&text, i % 40 == 0 ? "\r\nconnection: x" : ",, x");
    }
    text_str(&text, "\r\n\r\n");
    assert_int_equal(parse_whole(text_bytes(&text)), 0);
    assert_false(h.keep_alive);
    text_reset(&text);
    text_str(&text, start);
    for (unsigned i = 0; i < HTTP_FIELDS_MAX; i++) {
        text_str(&text, i % 40 == 39 ? "\r\nconnection: x" : ",, x");
    }
    text_str(&text, "\r\n\r\n");
    assert_int_equal(parse_whole(text_bytes(&text)), E_LIMIT);
    text_clear(&text);
}

static void heads_are_limited(void **state UNUSED)
{
    struct bytes small = big_request(2, 1);
    size_t rest = HTTP_HEAD_BYTES_MAX - small.len + 1;

    assert_int_equal(parse_whole(big_request(2, rest)), 0);
    assert_int_equal(parse_whole(big_request(2, rest + 1)), E_LIMIT);
    /* Nor is an end waited for beyond the limit. */
    assert_int_equal(parse_whole(bytes_first(big_request(2, 2 * rest), HTTP_HEAD_BYTES_MAX)),
                     E_LIMIT);
    assert_int_equal(parse_whole(bytes_first(big_request(2, 2 * rest), HTTP_HEAD_BYTES_MAX - 1)),
                     E_AGAIN);
}

static void a_small_arena_is_a_limit(void **state UNUSED)
{
    struct bytes text = big_request(100, 1);
    char *copy = bytes_dup(text);
    size_t scanned = 0, consumed = 0;

    arena_clear(&arena);
    arena_init(&arena, 1000);
    assert_int_equal(http1_parse_request(copy, text.len, &scanned, &arena, &h, &consumed), E_LIMIT);
    mem_free(copy);
}

/* --- trailers ------------------------------------------------------------------------------------ */

static int trailers(struct bytes text, struct fields *out)
{
    size_t scanned = 0, consumed = 0;
    char *copy;
    int rc = E_AGAIN;

    arena_clear(&arena);
    arena_init(&arena, 1 << 20);
    copy = arena_strdup(&arena, text);
    for (size_t len = 0; len <= text.len && rc == E_AGAIN; len++) {
        fields_init(out, &arena);
        rc = http1_parse_trailers(copy, len, &scanned, out, &consumed);
        if (rc == 0) {
            assert_int_equal(consumed, len);
        }
    }
    return rc;
}

static void trailers_are_parsed_and_cleaned(void **state UNUSED)
{
    struct fields f;

    assert_int_equal(trailers(BYTES("\r\n"), &f), 0);
    assert_int_equal(f.count, 0);
    assert_int_equal(trailers(BYTES("A: 1\r\nb:2\r\n\r\n"), &f), 0);
    assert_int_equal(f.count, 2);
    assert_bytes(f.at[0].name, "a");
    assert_bytes(f.at[1].value, "2");
    /* RFC 9110 6.5.1 */
    assert_int_equal(trailers(BYTES("Transfer-Encoding: chunked\r\nHost: b\r\nContent-Length: 1\r\n"
                                    "Connection: x\r\nok: 1\r\n\r\n"),
                              &f),
                     0);
    assert_int_equal(f.count, 1);
    assert_bytes(f.at[0].name, "ok");
    assert_int_equal(trailers(BYTES("a : 1\r\n\r\n"), &f), E_H1_BAD_HEAD);      /* RFC 9112 5.1 */
    assert_int_equal(trailers(BYTES("a: 1\n\r\n"), &f), E_H1_BAD_HEAD);         /* RFC 9112 2.2 */
    assert_int_equal(trailers(BYTES("a: 1\r\n b\r\n\r\n"), &f), E_H1_BAD_HEAD); /* RFC 9112 5.2 */
    assert_int_equal(trailers(BYTES("\n"), &f), E_H1_BAD_HEAD);
    assert_int_equal(trailers(BYTES("a: 1\r\n"), &f), E_AGAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_accepted_and_refused_by_the_book),
        cmocka_unit_test(a_request_is_taken_apart),
        cmocka_unit_test(targets_have_four_forms),
        cmocka_unit_test(persistence_follows_version_and_options),
        cmocka_unit_test(upgrades_are_those_that_can_be_taken),
        cmocka_unit_test(responses_end_by_rfc_9112_6_3),
        cmocka_unit_test(fields_are_limited),
        cmocka_unit_test(options_of_connection_are_limited),
        cmocka_unit_test(heads_are_limited),
        cmocka_unit_test(a_small_arena_is_a_limit),
        cmocka_unit_test(trailers_are_parsed_and_cleaned),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
