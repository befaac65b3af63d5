/* SPDX-License-Identifier: Apache-2.0 */
#include "core/chain.h"
#include "core/err.h"
#include "http/http1.h"
#include "tests/unit/unit.h"

static struct arena arena;
static struct chunk_pool pool;
static struct chain out;
static struct head h;

static int setup(void **state UNUSED)
{
    arena_init(&arena, 1 << 20);
    chunk_pool_init(&pool, 64, 8);
    chain_init(&out);
    h = (struct head){.content_length = -1, .version = HTTP_11};
    fields_init(&h.fields, &arena);
    return 0;
}

static int teardown(void **state UNUSED)
{
    chain_clear(&out);
    chunk_pool_clear(&pool);
    arena_clear(&arena);
    return 0;
}

static void add(const char *name, const char *value)
{
    assert_int_equal(fields_add(&h.fields, bytes_str(name), bytes_str(value)), 0);
}

static void assert_out(const char *want)
{
    char *got = arena_new(&arena, chain_size(&out) + 1);

    (void)chain_peek(&out, got, chain_size(&out));
    assert_string_equal(got, want);
    chain_clear(&out);
}

static void request(const char *method, const char *path, const char *authority)
{
    h.method = bytes_str(method);
    h.path = bytes_str(path);
    h.authority = bytes_str(authority);
}

static int print_request(enum http1_framing framing)
{
    return http1_print_request(&h, framing, &out, &pool);
}

static void requests_are_printed(void **state UNUSED)
{
    request("GET", "/p?q", "a:1");
    add("host", "other");
    add("x", "");
    add("connection", "x");
    add("keep-alive", "1");
    add("proxy-connection", "y");
    add("transfer-encoding", "gzip");
    add("content-length", "7");
    add("upgrade", "h2c");
    add("http2-settings", "AAMAAABkAAQ");
    assert_int_equal(print_request(HTTP1_NO_BODY), 0);
    assert_out("GET /p?q HTTP/1.1\r\nhost: a:1\r\nx: \r\n\r\n");
    h.content_length = 7;
    assert_int_equal(print_request(HTTP1_LENGTH), 0);
    assert_out("GET /p?q HTTP/1.1\r\nhost: a:1\r\nx: \r\ncontent-length: 7\r\n\r\n");
    assert_int_equal(print_request(HTTP1_CHUNKED), 0); /* never both */
    assert_out("GET /p?q HTTP/1.1\r\nhost: a:1\r\nx: \r\ntransfer-encoding: chunked\r\n\r\n");
}

static void a_request_without_authority_prints_its_host(void **state UNUSED)
{
    request("GET", "/", "");
    assert_int_equal(print_request(HTTP1_NO_BODY), 0); /* RFC 9112 3.2 */
    assert_out("GET / HTTP/1.1\r\nhost: \r\n\r\n");
    h.version = HTTP_10;
    assert_int_equal(print_request(HTTP1_NO_BODY), 0);
    assert_out("GET / HTTP/1.0\r\n\r\n");
    add("host", "b");
    assert_int_equal(print_request(HTTP1_NO_BODY), 0);
    assert_out("GET / HTTP/1.0\r\nhost: b\r\n\r\n");
}

static void targets_keep_their_form(void **state UNUSED)
{
    request("GET", "/p", "a");
    h.is_absolute = true;
    h.scheme = BYTES("http");
    assert_int_equal(print_request(HTTP1_NO_BODY), 0);
    assert_out("GET http://a/p HTTP/1.1\r\nhost: a\r\n\r\n");
    request("OPTIONS", "*", "a");
    assert_int_equal(print_request(HTTP1_NO_BODY), 0); /* RFC 9112 3.2.4 */
    assert_out("OPTIONS http://a HTTP/1.1\r\nhost: a\r\n\r\n");
    request("CONNECT", "", "a:1");
    h.is_absolute = false;
    h.is_connect = h.is_upgrade = true;
    assert_int_equal(print_request(HTTP1_NO_BODY), 0);
    assert_out("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    assert_int_equal(print_request(HTTP1_CHUNKED), E_SYNTAX); /* RFC 9110 9.3.6: no content */
    h.content_length = 5;
    assert_int_equal(print_request(HTTP1_LENGTH), E_SYNTAX);
}

static void upgrades_are_offered_on(void **state UNUSED)
{
    request("GET", "/", "a");
    add("upgrade", "websocket");
    add("te", "trailers");
    h.is_upgrade = true;
    assert_int_equal(print_request(HTTP1_NO_BODY), 0);
    assert_out("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nte: trailers\r\n"
               "connection: upgrade, te\r\n\r\n");
}

static void a_missing_body_is_a_length_where_one_is_expected(void **state UNUSED)
{
    h.version = HTTP_2;
    request("POST", "/", "a");
    assert_int_equal(print_request(HTTP1_NO_BODY), 0); /* RFC 9110 8.6 */
    assert_out("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    request("DELETE", "/", "a");
    assert_int_equal(print_request(HTTP1_NO_BODY), 0);
    assert_out("DELETE / HTTP/1.1\r\nhost: a\r\n\r\n");
}

static int print_response(unsigned status, enum http1_framing framing, bool close_after)
{
    h.status = status;
    return http1_print_response(&h, framing, close_after, &out, &pool);
}

static void responses_are_printed(void **state UNUSED)
{
    add("x", "y");
    assert_int_equal(print_response(200, HTTP1_LENGTH, false), 0);
    assert_out("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 0\r\n\r\n");
    assert_int_equal(print_response(299, HTTP1_CHUNKED, true), 0);
    assert_out("HTTP/1.1 299 \r\nx: y\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    assert_int_equal(print_response(200, HTTP1_UNTIL_CLOSE, false), 0);
    assert_out("HTTP/1.1 200 OK\r\nx: y\r\nconnection: close\r\n\r\n");
    h.content_length = 5;
    assert_int_equal(print_response(200, HTTP1_NO_BODY, false), 0); /* to HEAD */
    assert_out("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\n\r\n");
    assert_int_equal(print_response(304, HTTP1_NO_BODY, false), 0);
    assert_out("HTTP/1.1 304 Not Modified\r\nx: y\r\ncontent-length: 5\r\n\r\n");
    assert_int_equal(print_response(204, HTTP1_NO_BODY, false), 0); /* RFC 9110 8.6 */
    assert_out("HTTP/1.1 204 No Content\r\nx: y\r\n\r\n");
    assert_int_equal(print_response(103, HTTP1_NO_BODY, false), 0);
    assert_out("HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n");
    add("upgrade", "websocket");
    h.is_upgrade = true;
    assert_int_equal(print_response(101, HTTP1_NO_BODY, false), 0);
    assert_out("HTTP/1.1 101 Switching Protocols\r\nx: y\r\nupgrade: websocket\r\n"
               "connection: upgrade\r\n\r\n");
}

static void what_would_break_the_framing_is_refused(void **state UNUSED)
{
    static const struct {
        const char *method, *path, *authority;
    } bad[] = {
        {"", "/", "a"},        {"G T", "/", "a"},   {"GET\r\n", "/", "a"},
        {"GET", "", "a"},      {"GET", "/ x", "a"}, {"GET", "/\r\nx: y", "a"},
        {"GET", "x", "a"},     {"GET", "/", "a b"}, {"GET", "/", "a\r\n"},
        {"GET", "/\x80", "a"},
    };
    static const char *const values[] = {"a\r\nb: c", "a\nb", "a\rb", "\x7f"};
    static const char *const names[] = {"", "a b", "a:", "a\r\nb", ":path"};

    assert_int_equal(chain_append(&out, &pool, BYTES("before")), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        request(bad[i].method, bad[i].path, bad[i].authority);
        assert_int_equal(print_request(HTTP1_NO_BODY), E_SYNTAX);
    }
    request("GET", "/", "a");
    assert_int_equal(print_request(HTTP1_UNTIL_CLOSE), E_SYNTAX); /* RFC 9112 6.3 */
    h.content_length = 5;
    assert_int_equal(print_request(HTTP1_NO_BODY), E_SYNTAX);
    h.content_length = -1;
    for (size_t i = 0; i < ARRAY_LEN(values) + ARRAY_LEN(names); i++) {
        bool is_value = i < ARRAY_LEN(values);

        fields_init(&h.fields, &arena);
        add(is_value ? "x" : names[i - ARRAY_LEN(values)], is_value ? values[i] : "y");
        assert_int_equal(print_request(HTTP1_NO_BODY), E_SYNTAX); /* RFC 9110 5.5 */
    }
    fields_init(&h.fields, &arena);
    assert_int_equal(print_response(99, HTTP1_LENGTH, false), E_SYNTAX);
    assert_int_equal(print_response(1000, HTTP1_LENGTH, false), E_SYNTAX);
    assert_out("before");
}

/* A head of `bytes` and more, behind what is there. */
static void print_big(size_t bytes)
{
    char *value = arena_new(&arena, bytes + 1);

    memset(value, 'v', bytes);
    fields_init(&h.fields, &arena);
    add("x", value);
}

static void large_heads_span_chunks(void **state UNUSED)
{
    static const size_t sizes[] = {1, CHUNK_BYTES - 300, CHUNK_BYTES, 4 * CHUNK_BYTES};
    size_t want = 3;

    assert_int_equal(chain_append(&out, &pool, BYTES("abc")), 0);
    request("GET", "/", "a");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        print_big(sizes[i]);
        assert_int_equal(print_request(HTTP1_NO_BODY), 0);
        want += strlen("GET / HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n") + sizes[i];
        assert_int_equal(chain_size(&out), want);
    }
    assert_true(want > 5 * (size_t)CHUNK_BYTES);
}

static void without_chunks_nothing_is_printed(void **state UNUSED)
{
    static const size_t sizes[] = {1, CHUNK_BYTES};

    chunk_pool_clear(&pool);
    chunk_pool_init(&pool, 1, 1);
    assert_int_equal(chain_append(&out, &pool, BYTES("abc")), 0);
    request("GET", "/", "a");
    print_big(CHUNK_BYTES);
    assert_int_equal(print_request(HTTP1_NO_BODY), E_LIMIT);
    assert_out("abc");
    chunk_pool_clear(&pool);
    chunk_pool_init(&pool, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        print_big(sizes[i]);
        assert_int_equal(print_request(HTTP1_NO_BODY), E_LIMIT);
        assert_int_equal(chain_size(&out), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_are_printed),
        TEST(a_request_without_authority_prints_its_host),
        TEST(targets_keep_their_form),
        TEST(upgrades_are_offered_on),
        TEST(a_missing_body_is_a_length_where_one_is_expected),
        TEST(responses_are_printed),
        TEST(what_would_break_the_framing_is_refused),
        TEST(large_heads_span_chunks),
        TEST(without_chunks_nothing_is_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
