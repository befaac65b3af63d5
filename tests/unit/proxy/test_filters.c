/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filters.h"

#include "core/err.h"
#include "tests/unit/unit.h"

static struct arena arena;
static struct head head;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 65536);
    head = (struct head){
        .authority = BYTES("web.app:8080"),
        .path = BYTES("/shop/cart/1?x=a?b"),
        .scheme = BYTES("http"),
        .content_length = 5,
    };
    fields_init(&head.fields, &arena);
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
    assert_int_equal(fields_add(&head.fields, bytes_str(name), bytes_str(value)), 0);
}

static void assert_fields(const char *want)
{
    char text[1024] = "";
    size_t len = 0;

    for (unsigned i = 0; i < head.fields.count; i++) {
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, BYTES_FMT "=" BYTES_FMT ";",
                             BYTES_ARG(head.fields.at[i].name), BYTES_ARG(head.fields.at[i].value));
    }
    assert_string_equal(text, want);
}

#define EDIT(n, v)                                                                                 \
    {                                                                                              \
        .name = {n, sizeof(n) - 1}, .value = { v, sizeof(v) - 1 }                                  \
    }

/* --- header modifiers ------------------------------------------------------------------------- */

static void adds_then_sets_then_removes(void **state)
{
    struct header_edit added[] = {EDIT("x-a", "2"), EDIT("x-new", "n")};
    struct header_edit set[] = {EDIT("x-b", "only"), EDIT("x-c", "made")};
    struct bytes gone[] = {BYTES("x-d"), BYTES("x-new")};
    struct filter f = {
        .kind = FILTER_REQUEST_HEADERS,
        .add = added,
        .add_count = 2,
        .set = set,
        .set_count = 2,
        .remove = gone,
        .remove_count = 2,
    };

    (void)state;
    add("x-a", "1");
    add("x-b", "1");
    add("x-d", "1");
    add("x-b", "2");
    assert_int_equal(filters_edit_request(&f, 1, &head), 0);
    assert_fields("x-a=1;x-b=only;x-a=2;x-c=made;");
    assert_int_equal(filters_edit_response(&f, 1, &head), 0); /* not its kind */
    assert_fields("x-a=1;x-b=only;x-a=2;x-c=made;");
}

/* What frames the message, or is about one hop, is not a filter's (RFC 9110 7.6.1). */
static void framing_is_out_of_reach(void **state)
{
    static const char *const names[] = {
        "connection",     "keep-alive",     "proxy-connection", "transfer-encoding",
        "content-length", "upgrade",        "expect",           "te",
        "trailer",        "http2-settings", ":authority",       "",
        "l5d-orig-proto",
    };
    struct header_edit edit;
    struct bytes gone;
    struct filter f = {
        .kind = FILTER_RESPONSE_HEADERS,
        .add = &edit,
        .add_count = 1,
        .set = &edit,
        .set_count = 1,
        .remove = &gone,
        .remove_count = 1,
    };

    (void)state;
    add("content-length", "5");
    add("te", "trailers");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        edit = (struct header_edit){.name = bytes_str(names[i]), .value = BYTES("evil")};
        gone = edit.name;
        assert_int_equal(filters_edit_response(&f, 1, &head), 0);
        assert_fields("content-length=5;te=trailers;");
    }
}

/* RFC 9112 3.2: Host and the authority are one. */
static void host_is_the_authority(void **state)
{
    struct header_edit edit = EDIT("host", "other:9090");
    struct bytes gone = BYTES("host");
    struct filter f = {.kind = FILTER_REQUEST_HEADERS, .set = &edit, .set_count = 1};

    (void)state;
    add("host", "web.app:8080");
    assert_int_equal(filters_edit_request(&f, 1, &head), 0);
    assert_fields("host=other:9090;");
    assert_bytes(head.authority, "other:9090");

    f = (struct filter){.kind = FILTER_REQUEST_HEADERS, .remove = &gone, .remove_count = 1};
    assert_int_equal(filters_edit_request(&f, 1, &head), 0);
    assert_fields("host=other:9090;");
}

static void too_many_fields_are_refused(void **state)
{
    struct header_edit edit = EDIT("x-a", "1");
    struct filter f = {.kind = FILTER_REQUEST_HEADERS, .add = &edit, .add_count = 1};

    (void)state;
    for (unsigned i = 0; i < HTTP_FIELDS_MAX; i++) {
        add("x-filler", "1");
    }
    assert_int_equal(filters_edit_request(&f, 1, &head), E_LIMIT);
}

/* --- injectors -------------------------------------------------------------------------------- */

static void injectors_strike_by_their_ratio(void **state)
{
    struct filter f = {.kind = FILTER_FAIL, .numerator = 1, .denominator = 4};
    struct rand r;
    unsigned hits = 0;

    (void)state;
    rand_seed(&r, 7);
    for (unsigned i = 0; i < 10000; i++) {
        hits += filter_strikes(&f, &r);
    }
    assert_in_range(hits, 2300, 2700);
    f.numerator = 0;
    assert_false(filter_strikes(&f, &r));
    f.denominator = 0; /* no ratio: always */
    assert_true(filter_strikes(&f, &r));
}

/* --- redirects -------------------------------------------------------------------------------- */

static void redirects(void **state)
{
    static const struct {
        struct filter f;
        const char *prefix; /* of the match; NULL: none */
        int rc;
        const char *location;
    } cases[] = {
        {{.scheme = {"https", 5}}, NULL, 0, "https://web.app/shop/cart/1?x=a?b"},
        {{.scheme = {"https", 5}, .port = 8443}, NULL, 0, "https://web.app:8443/shop/cart/1?x=a?b"},
        {{.scheme = {"https", 5}, .port = 443}, NULL, 0, "https://web.app/shop/cart/1?x=a?b"},
        {{.port = 80}, NULL, 0, "http://web.app/shop/cart/1?x=a?b"},
        {{.host = {"new.app", 7}}, NULL, 0, "http://new.app:8080/shop/cart/1?x=a?b"},
        {{.path = {"/full", 5}}, NULL, 0, "http://web.app:8080/full?x=a?b"},
        {{.path_prefix = {"/new", 4}}, "/shop", 0, "http://web.app:8080/new/cart/1?x=a?b"},
        {{.path_prefix = {"/new/", 5}}, "/shop/", 0, "http://web.app:8080/new/cart/1?x=a?b"},
        {{.path_prefix = {"/", 1}}, "/shop", 0, "http://web.app:8080/cart/1?x=a?b"},
        {{.path_prefix = {"/new", 4}}, "/", 0, "http://web.app:8080/new/shop/cart/1?x=a?b"},
        {{.path_prefix = {"/", 1}}, "/shop/cart/1", 0, "http://web.app:8080/?x=a?b"},
        {{.path_prefix = {"/new", 4}}, NULL, E_SYNTAX, NULL},
        {{.path_prefix = {"/new", 4}}, "/other", E_SYNTAX, NULL},
        /* to where it is */
        {{.scheme = {"http", 4}, .port = 8080}, NULL, E_NOT_FOUND, NULL},
        {{.host = {"WEB.app", 7}}, NULL, E_NOT_FOUND, NULL},
        {{.path_prefix = {"/shop", 5}}, "/shop", E_NOT_FOUND, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct route_match match = {.has_path = true};
        struct bytes location = BYTES_NONE;
        int rc;

        match.path = (struct text_match){.op = MATCH_PREFIX, .text = bytes_str(cases[i].prefix)};
        rc = filter_location(&cases[i].f, cases[i].prefix != NULL ? &match : NULL, &head, &arena,
                             &location);
        assert_int_equal(rc, cases[i].rc);
        if (rc == 0) {
            assert_bytes(location, cases[i].location);
        }
    }
}

static void a_redirect_needs_a_host(void **state)
{
    struct filter f = {.kind = FILTER_REDIRECT, .scheme = {"https", 5}};
    struct bytes location;

    (void)state;
    head.authority = BYTES_NONE;
    assert_int_equal(filter_location(&f, NULL, &head, &arena, &location), E_SYNTAX);
    head.authority = BYTES("[::1]:80");
    head.path = BYTES("/");
    assert_int_equal(filter_location(&f, NULL, &head, &arena, &location), 0);
    assert_bytes(location, "https://[::1]/");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(adds_then_sets_then_removes),     TEST(framing_is_out_of_reach),
        TEST(host_is_the_authority),           TEST(too_many_fields_are_refused),
        TEST(injectors_strike_by_their_ratio), TEST(redirects),
        TEST(a_redirect_needs_a_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
