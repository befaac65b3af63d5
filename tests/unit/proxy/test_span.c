/* SPDX-License-Identifier: Apache-2.0 */
/* A span as bytes; whole requests are in test_trace.c. */
#include "proxy/span.h"

#include "api/otlp.pb-c.h"
#include "core/alloc.h"
#include "tests/unit/unit.h"

static Opentelemetry__Span *unpacked;
static struct span_request request;
static struct span span;

static int setup(void **state UNUSED)
{
    request = (struct span_request){
        .method = BYTES("GET"), .scheme = BYTES("http"), .authority = BYTES("web"), .path = BYTES("/"),
        .host = BYTES("web")};
    span = (struct span){.trace_id = {1}, .span_id = {2}, .parent_id = {3}, .request = &request};
    return 0;
}

static int teardown(void **state UNUSED)
{
    opentelemetry__span__free_unpacked(unpacked, NULL);
    unpacked = NULL;
    return 0;
}

static size_t pack(void)
{
    uint8_t *packed = mem_new(SPAN_BYTES_MAX);
    size_t bytes = span_pack(&span, packed);

    opentelemetry__span__free_unpacked(unpacked, NULL);
    unpacked = opentelemetry__span__unpack(NULL, bytes, packed);
    assert_non_null(unpacked);
    mem_free(packed);
    return bytes;
}

static struct bytes value(const char *key)
{
    for (size_t i = 0; i < unpacked->n_attributes; i++) {
        const Opentelemetry__KeyValue *a = unpacked->attributes[i];

        if (bytes_eq(bytes_of(a->key.data, a->key.len), bytes_str(key))) {
            return bytes_of(a->value->string_value.data, a->value->string_value.len);
        }
    }
    return BYTES("(none)");
}

static void times_and_ids(void **state UNUSED)
{
    span.begin_wall_ns = UINT64_C(1754049600123456789);
    span.end_wall_ns = span.begin_wall_ns + 5;
    span.is_client = true;
    (void)pack();
    assert_int_equal(unpacked->start_time_unix_nano, span.begin_wall_ns);
    assert_int_equal(unpacked->end_time_unix_nano, span.end_wall_ns);
    assert_int_equal(unpacked->trace_id.len, 16);
    assert_int_equal(unpacked->trace_id.data[0], 1);
    assert_int_equal(unpacked->span_id.len, 8);
    assert_int_equal(unpacked->parent_span_id.data[0], 3);
    assert_bytes(value("http.response.status_code"), "(none)");
}

/* Of X-Forwarded-Host, which no codec looks at. */
static void passwords_are_left_out(void **state UNUSED)
{
    request.host = BYTES("me:secret@web:80");
    (void)pack();
    assert_bytes(value("url.full"), "http://web/");
    assert_bytes(value("server.address"), "web");
    assert_bytes(value("server.port"), "80");
    request.host = BYTES("token@[::1]:81");
    (void)pack();
    assert_bytes(value("server.address"), "[::1]");
    assert_bytes(value("server.port"), "81");
}

static void a_target_without_a_path_is_named_by_its_method(void **state UNUSED)
{
    request.method = BYTES("CONNECT");
    request.path = BYTES_NONE;
    (void)pack();
    assert_bytes(bytes_of(unpacked->name.data, unpacked->name.len), "CONNECT");
    assert_bytes(value("url.path"), "(none)");
    assert_bytes(value("url.query"), "(none)");
}

/* Whatever a client says, the span is within its bounds and UTF-8. */
static void much_is_cut(void **state UNUSED)
{
    static char bad[100000];
    struct bytes much = bytes_of(bad, sizeof(bad));
    size_t bytes;

    memset(bad, 0xff, sizeof(bad));
    bad[1000] = '?';
    request = (struct span_request){much, much, much, much, much, much, much, much, much};
    span.status = 599;
    span.cause = "a cause";
    bytes = pack();
    assert_true(bytes <= SPAN_BYTES_MAX);
    assert_int_equal(unpacked->name.len, SPAN_PATH_MAX - SPAN_PATH_MAX % 3);
    assert_int_equal(value("url.query").len, SPAN_PATH_MAX - SPAN_PATH_MAX % 3);
    assert_true(value("url.full").len > SPAN_URL_MAX - 3);
    assert_int_equal(value("user_agent.original").len, SPAN_TEXT_MAX - SPAN_TEXT_MAX % 3);
    assert_true(bytes_starts(value("user_agent.original"), BYTES("\xef\xbf\xbd\xef\xbf\xbd")));
    memset(bad, 'a', sizeof(bad));
    bad[2000] = '?';
    bytes = pack();
    assert_true(bytes <= SPAN_BYTES_MAX && bytes > SPAN_BYTES_MAX / 2);
    assert_int_equal(value("url.full").len, SPAN_URL_MAX);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(times_and_ids),
        TEST(passwords_are_left_out),
        TEST(a_target_without_a_path_is_named_by_its_method),
        TEST(much_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
