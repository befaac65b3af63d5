/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wire 5.5: what a request says of its own timeouts and retries.
 */
#include "proxy/request_headers.h"

#include "core/clock.h"
#include "core/err.h"
#include "tests/unit/unit.h"

static struct arena arena;
static struct fields fields;
static struct request_policy policy;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 65536);
    fields_init(&fields, &arena);
    policy = (struct request_policy){.max_retries = 0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_clear(&arena);
    arena_cache_clear();
    return 0;
}

static void apply(const char *name, const char *value)
{
    assert_int_equal(fields_add(&fields, bytes_str(name), bytes_str(value)), 0);
    assert_int_equal(request_headers_apply(&fields, &arena, &policy), 0);
}

static void they_are_found(void **state)
{
    static const char *const names[] = {
        "l5d-timeout",    "l5d-request-timeout", "l5d-response-timeout", "l5d-retry-http",
        "l5d-retry-grpc", "l5d-retry-limit",     "l5d-retry-timeout",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        fields_init(&fields, &arena);
        assert_int_equal(fields_add(&fields, BYTES("l5d-retry"), BYTES("1")), 0);
        assert_int_equal(fields_add(&fields, BYTES("l5d-client-id"), BYTES("1")), 0);
        assert_false(request_headers_exist(&fields));
        assert_int_equal(fields_add(&fields, bytes_str(names[i]), BYTES("1")), 0);
        assert_true(request_headers_exist(&fields));
    }
}

static void timeouts(void **state)
{
    (void)state;
    policy.request_timeout_ns = NS_PER_S;
    policy.response_timeout_ns = NS_PER_S;
    apply("l5d-timeout", "250ms");
    assert_int_equal(policy.request_timeout_ns, 250 * NS_PER_MS);
    apply("l5d-request-timeout", " 2s ");
    assert_int_equal(policy.request_timeout_ns, 2 * NS_PER_S); /* wins */
    apply("l5d-response-timeout", "soon");
    assert_int_equal(policy.response_timeout_ns, NS_PER_S);
    assert_int_equal(policy.max_retries, 0);
}

static void conditions_alone_mean_one_retry(void **state)
{
    (void)state;
    apply("l5d-retry-http", "5xx, 404 ,429-431,gateway-error");
    assert_int_equal(policy.max_retries, 1);
    assert_int_equal(policy.max_body_bytes, REQUEST_BODY_BYTES_MAX);
    assert_int_equal(policy.ranges_count, 4);
    assert_true(policy.ranges[0].start == 500 && policy.ranges[0].end == 599);
    assert_true(policy.ranges[1].start == 404 && policy.ranges[1].end == 404);
    assert_true(policy.ranges[2].start == 429 && policy.ranges[2].end == 431);
    assert_true(policy.ranges[3].start == 502 && policy.ranges[3].end == 504);
    assert_int_equal(policy.grpc_codes, 0);
}

static void grpc_conditions(void **state)
{
    (void)state;
    apply("l5d-retry-grpc", "cancelled,Deadline-Exceeded,internal,resource-exhausted,unavailable");
    assert_int_equal(policy.grpc_codes, 1u << 1 | 1u << 4 | 1u << 8 | 1u << 13 | 1u << 14);
    assert_int_equal(policy.max_retries, 1);
}

/* The route's own settings stay where the request says nothing. */
static void a_request_overrides_its_route(void **state)
{
    static const struct status_range given = {.start = 503, .end = 503};

    (void)state;
    policy = (struct request_policy){
        .max_retries = 2, .max_body_bytes = 100, .ranges = &given, .ranges_count = 1};
    apply("l5d-retry-timeout", "10ms");
    assert_int_equal(policy.try_timeout_ns, 10 * NS_PER_MS);
    assert_int_equal(policy.max_retries, 2);
    assert_int_equal(policy.max_body_bytes, 100);
    assert_ptr_equal(policy.ranges, &given);
    apply("l5d-retry-limit", "5");
    assert_int_equal(policy.max_retries, 5);
    fields_init(&fields, &arena);
    apply("l5d-retry-limit", "0");
    assert_int_equal(policy.max_retries, 0);
}

static void malformed_values_count_as_none(void **state)
{
    static const char *const pairs[][2] = {
        {"l5d-retry-http", ""},
        {"l5d-retry-http", "5x"},
        {"l5d-retry-http", "99"},
        {"l5d-retry-http", "600"},
        {"l5d-retry-http", "504-502"},
        {"l5d-retry-http", "500-"},
        {"l5d-retry-http", "500,what"},
        {"l5d-retry-grpc", "ok"},
        {"l5d-retry-grpc", "14"},
        {"l5d-retry-limit", "-1"},
        {"l5d-retry-limit", "65536"},
        {"l5d-retry-limit", ""},
        {"l5d-retry-timeout", "1"},
        {"l5d-timeout", "1.5s"},
        {"l5d-timeout", "-1s"},
        {"l5d-retry-http", "1-2-3"},
        {"l5d-retry-http", "501,502,503,504,505,506,507,508,509,510,511,512,513,514,515,516,517"},
    };
    static const struct request_policy none;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        fields_init(&fields, &arena);
        apply(pairs[i][0], pairs[i][1]);
        assert_memory_equal(&policy, &none, sizeof(none));
    }
}

static void a_full_arena_changes_nothing(void **state)
{
    static const struct request_policy none;

    (void)state;
    assert_int_equal(fields_add(&fields, BYTES("l5d-retry-http"), BYTES("5xx")), 0);
    assert_int_equal(fields_add(&fields, BYTES("l5d-timeout"), BYTES("1s")), 0);
    arena.bytes_max = arena.bytes_used;
    arena.next = arena.end;
    assert_int_equal(request_headers_apply(&fields, &arena, &policy), E_LIMIT);
    assert_memory_equal(&policy, &none, sizeof(none));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(they_are_found),
        TEST(timeouts),
        TEST(conditions_alone_mean_one_retry),
        TEST(grpc_conditions),
        TEST(a_request_overrides_its_route),
        TEST(malformed_values_count_as_none),
        TEST(a_full_arena_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
