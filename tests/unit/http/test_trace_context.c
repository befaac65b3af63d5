/* SPDX-License-Identifier: Apache-2.0 */
#include "http/trace_context.h"

#include "core/err.h"
#include "tests/unit/unit.h"

static struct arena arena;
static struct fields fields;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 65536);
    fields_init(&fields, &arena);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_clear(&arena);
    arena_cache_clear();
    return 0;
}

static void add(const char *name, const char *value)
{
    assert_int_equal(fields_add(&fields, bytes_str(name), bytes_str(value)), 0);
}

static void again(void)
{
    arena_clear(&arena);
    fields_init(&fields, &arena);
}

static void assert_hex(const uint8_t *bytes, size_t count, const char *want)
{
    char text[64] = "";

    for (size_t i = 0; i < count; i++) {
        snprintf(text + 2 * i, sizeof(text) - 2 * i, "%02x", bytes[i]);
    }
    assert_string_equal(text, want);
}

static void assert_context(enum trace_form form, const char *trace, const char *span, unsigned flags)
{
    struct trace_context c;

    assert_true(trace_context_read(&fields, &c));
    assert_int_equal(c.form, form);
    assert_hex(c.trace_id, sizeof(c.trace_id), trace);
    assert_hex(c.span_id, sizeof(c.span_id), span);
    assert_int_equal(c.flags, flags);
}

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN   "00f067aa0ba902b7"
#define BINARY "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=" /* the same, sampled */

/* --- traceparent ------------------------------------------------------------------------------ */

static void traceparent_is_read(void **state)
{
    (void)state;
    add("traceparent", "00-" TRACE "-" SPAN "-01");
    assert_context(TRACE_W3C, TRACE, SPAN, 1);
    again();
    add("traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-fe");
    assert_context(TRACE_W3C, TRACE, SPAN, 0xfe);
    again();
    add("traceparent", "00-" TRACE "-" SPAN "-00");
    add("traceparent", "00-" TRACE "-1111111111111111-01");
    assert_context(TRACE_W3C, TRACE, SPAN, 0); /* the first */
}

/* W3C Trace Context 3.2 */
static void what_is_no_traceparent_is_none(void **state)
{
    static const char *const values[] = {
        "",
        "00",
        "00-",
        "01-" TRACE "-" SPAN "-01",
        "ff-" TRACE "-" SPAN "-01",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-",
        "00-" TRACE "-" SPAN "-1",
        "00-" TRACE "-" SPAN "-0g",
        "00-" TRACE "-" SPAN "-011",
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01-more",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "." SPAN "-01",
        "00-" TRACE "-" SPAN ".01",
        "00." TRACE "-" SPAN "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47x6-" SPAN "-01",
        "00-" TRACE "-00f067aa0ba902 7-01",
    };
    struct trace_context c = {.flags = 77};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        again();
        add("traceparent", values[i]);
        assert_false(trace_context_read(&fields, &c));
        assert_int_equal(c.flags, 77);
    }
}

/* --- grpc-trace-bin --------------------------------------------------------------------------- */

static void grpc_trace_bin_is_read(void **state)
{
    (void)state;
    add("grpc-trace-bin", BINARY);
    assert_context(TRACE_GRPC, TRACE, SPAN, 1);
    again();
    add("grpc-trace-bin", "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE"); /* not padded, as gRPC sends */
    assert_context(TRACE_GRPC, TRACE, SPAN, 1);
    again();
    add("grpc-trace-bin", "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3"); /* no options */
    assert_context(TRACE_GRPC, TRACE, SPAN, 0);
    again();
    add("grpc-trace-bin", "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgEJAAAA"); /* field 9 */
    assert_context(TRACE_GRPC, TRACE, SPAN, 1);
}

static void what_is_no_grpc_trace_bin_is_none(void **state)
{
    static const char *const values[] = {
        "",
        "A",
        "AA==",
        "AA=",
        "====",
        "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE==",
        "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgF=", /* bits that mean nothing */
        "AABL-S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=", /* the alphabet of URLs */
        "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3Ag==", /* options without a byte */
        "AABL+S81d7NNpqPOkp0ODkc2",                 /* no span */
        "AAEA8GeqC6kCtwIB",                         /* no trace */
        "AABL+S81d7NNpqPOkp0ODkc2AQAAAAAAAAAAAgE=", /* a span id of zeroes */
        "AQBL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE=", /* version 1 */
        "CQBL",
    };
    char much[400];
    struct trace_context c;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        again();
        add("grpc-trace-bin", values[i]);
        if (trace_context_read(&fields, &c)) {
            fail_msg("%s was read", values[i]);
        }
    }
    again();
    snprintf(much, sizeof(much), "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgEJ%0300d", 0);
    add("grpc-trace-bin", much);
    assert_false(trace_context_read(&fields, &c));
}

/* --- x-b3-* ----------------------------------------------------------------------------------- */

static void b3_is_read(void **state)
{
    (void)state;
    add("x-b3-traceid", TRACE);
    add("x-b3-spanid", SPAN);
    assert_context(TRACE_B3, TRACE, SPAN, 0);
    add("x-b3-sampled", "1");
    assert_context(TRACE_B3, TRACE, SPAN, 1);
    again();
    add("x-b3-traceid", "A3CE929D0E0E4736"); /* ids of 64 bits */
    add("x-b3-spanid", "b7");
    add("x-b3-sampled", "true");
    assert_context(TRACE_B3, "0000000000000000a3ce929d0e0e4736", "00000000000000b7", 0);
}

static void what_is_no_b3_is_none(void **state)
{
    static const struct {
        const char *trace, *span;
    } cases[] = {
        {TRACE, NULL}, {NULL, SPAN}, {TRACE "00", SPAN}, {TRACE, SPAN "00"}, {"", SPAN},
        {TRACE, ""},   {"abc", SPAN}, {"zz", SPAN},      {"00", SPAN},       {TRACE, "0000"},
    };
    struct trace_context c;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        again();
        if (cases[i].trace != NULL) {
            add("x-b3-traceid", cases[i].trace);
        }
        if (cases[i].span != NULL) {
            add("x-b3-spanid", cases[i].span);
        }
        assert_false(trace_context_read(&fields, &c));
    }
    again();
    assert_false(trace_context_read(&fields, &c));
}

/* Wire 5.9 */
static void the_first_form_that_can_be_read_counts(void **state)
{
    (void)state;
    add("x-b3-traceid", "1111111111111111");
    add("x-b3-spanid", "2222222222222222");
    assert_context(TRACE_B3, "00000000000000001111111111111111", "2222222222222222", 0);
    add("grpc-trace-bin", BINARY);
    assert_context(TRACE_GRPC, TRACE, SPAN, 1);
    add("traceparent", "00-33333333333333333333333333333333-4444444444444444-00");
    assert_context(TRACE_W3C, "33333333333333333333333333333333", "4444444444444444", 0);
    again();
    add("traceparent", "garbage");
    add("grpc-trace-bin", "garbage!");
    add("x-b3-traceid", TRACE);
    add("x-b3-spanid", SPAN);
    assert_context(TRACE_B3, TRACE, SPAN, 0);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void assert_fields(const char *want)
{
    char text[1024] = "";
    size_t len = 0;

    for (unsigned i = 0; i < fields.count; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, BYTES_FMT "=" BYTES_FMT ";",
                                BYTES_ARG(fields.at[i].name), BYTES_ARG(fields.at[i].value));
    }
    assert_string_equal(text, want);
}

static void write_span(uint8_t last)
{
    struct trace_context c;

    assert_true(trace_context_read(&fields, &c));
    memset(c.span_id, 0, sizeof(c.span_id));
    c.span_id[7] = last;
    assert_int_equal(trace_context_write(&fields, &c), 0);
}

static void only_the_span_is_exchanged(void **state)
{
    (void)state;
    add("x-b3-traceid", "A3CE929D0E0E4736");
    add("x-b3-spanid", SPAN);
    add("x-b3-sampled", "0");
    add("x-b3-parentspanid", SPAN);
    write_span(0x5a);
    assert_fields("x-b3-traceid=A3CE929D0E0E4736;x-b3-spanid=000000000000005a;x-b3-sampled=0;"
                  "x-b3-parentspanid=" SPAN ";");
    add("grpc-trace-bin", BINARY);
    write_span(0xff);
    assert_fields("x-b3-traceid=A3CE929D0E0E4736;x-b3-spanid=000000000000005a;x-b3-sampled=0;"
                  "x-b3-parentspanid=" SPAN
                  ";grpc-trace-bin=AABL+S81d7NNpqPOkp0ODkc2AQAAAAAAAAD/AgE=;");
    again();
    add("traceparent", "00-" TRACE "-" SPAN "-03");
    add("tracestate", "a=b");
    add("traceparent", "00-" TRACE "-" SPAN "-00");
    add("x-b3-traceid", TRACE);
    add("x-b3-spanid", SPAN);
    write_span(0x10);
    assert_fields("traceparent=00-" TRACE "-0000000000000010-03;tracestate=a=b;x-b3-traceid=" TRACE
                  ";x-b3-spanid=" SPAN ";");
}

static void what_was_taken_away_does_not_come_back(void **state)
{
    struct trace_context c;

    (void)state;
    add("traceparent", "00-" TRACE "-" SPAN "-01");
    assert_true(trace_context_read(&fields, &c));
    fields_remove(&fields, FIELD_TRACEPARENT);
    assert_int_equal(trace_context_write(&fields, &c), 0);
    assert_fields("");
}

static void a_full_arena_changes_nothing(void **state)
{
    struct trace_context c;

    (void)state;
    add("traceparent", "00-" TRACE "-" SPAN "-01");
    assert_true(trace_context_read(&fields, &c));
    while (arena_try(&arena, 16) != NULL) {
    }
    assert_int_equal(trace_context_write(&fields, &c), E_LIMIT);
    assert_fields("traceparent=00-" TRACE "-" SPAN "-01;");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(traceparent_is_read),
        TEST(what_is_no_traceparent_is_none),
        TEST(grpc_trace_bin_is_read),
        TEST(what_is_no_grpc_trace_bin_is_none),
        TEST(b3_is_read),
        TEST(what_is_no_b3_is_none),
        TEST(the_first_form_that_can_be_read_counts),
        TEST(only_the_span_is_exchanged),
        TEST(what_was_taken_away_does_not_come_back),
        TEST(a_full_arena_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
