/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"
#include "core/err.h"
#include "http/message.h"
#include "tests/unit/unit.h"

static struct arena arena;
static struct fields f;

static int setup(void **state UNUSED)
{
    arena_init(&arena, 1 << 20);
    fields_init(&f, &arena);
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_clear(&arena);
    return 0;
}

static void add(const char *name, const char *value)
{
    assert_int_equal(fields_add(&f, bytes_str(name), bytes_str(value)), 0);
}

/* The fields as "name=value,...". */
static void assert_fields(const char *want)
{
    char got[512] = "";
    size_t len = 0;

    for (unsigned i = 0; i < f.count; i++) {
        len +=
            (size_t)snprintf(got + len, sizeof(got) - len, "%s" BYTES_FMT "=" BYTES_FMT,
                             i > 0 ? "," : "", BYTES_ARG(f.at[i].name), BYTES_ARG(f.at[i].value));
    }
    assert_string_equal(got, want);
}

static void every_known_name_has_its_id(void **state UNUSED)
{
#define FIELD(id, name) assert_int_equal(field_id_of(BYTES(name)), FIELD_##id);
#include "http/fields.def"
#undef FIELD
    assert_int_equal(field_id_of(BYTES("hosts")), FIELD_OTHER);
    assert_int_equal(field_id_of(BYTES("x")), FIELD_OTHER);
    assert_int_equal(field_id_of(BYTES_NONE), FIELD_OTHER);
    assert_int_equal(field_id_of(BYTES("content-lengti")), FIELD_OTHER);
}

static void fields_are_found_set_and_removed(void **state UNUSED)
{
    add("host", "a");
    add("x-one", "1");
    add("date", "now");
    add("x-one", "2");
    assert_bytes(fields_get(&f, FIELD_DATE)->value, "now");
    assert_null(fields_get(&f, FIELD_UPGRADE));
    assert_bytes(fields_find(&f, BYTES("x-one"))->value, "1");
    assert_null(fields_find(&f, BYTES("x-two")));
    assert_int_equal(fields_set(&f, BYTES("x-one"), BYTES("3")), 0);
    assert_int_equal(fields_set(&f, BYTES("x-two"), BYTES("4")), 0);
    assert_fields("host=a,x-one=3,date=now,x-two=4");
    fields_remove(&f, FIELD_DATE);
    fields_remove_name(&f, BYTES("x-one"));
    fields_remove_name(&f, BYTES("host"));
    fields_remove_name(&f, BYTES("absent"));
    assert_fields("x-two=4");
}

static void fields_have_a_limit(void **state UNUSED)
{
    for (unsigned i = 0; i < HTTP_FIELDS_MAX; i++) {
        add("x", "y");
    }
    assert_int_equal(fields_add(&f, BYTES("x"), BYTES("y")), E_LIMIT);
    assert_int_equal(f.count, HTTP_FIELDS_MAX);
}

static void tokens_are_found_in_lists(void **state UNUSED)
{
    add("connection", "a,, b\t ,Upgrade");
    add("connection", "c");
    assert_true(field_has_token(&f, FIELD_CONNECTION, BYTES("upgrade")));
    assert_true(field_has_token(&f, FIELD_CONNECTION, BYTES("C")));
    assert_true(field_has_token(&f, FIELD_CONNECTION, BYTES("b")));
    assert_false(field_has_token(&f, FIELD_CONNECTION, BYTES("grade")));
    assert_false(field_has_token(&f, FIELD_CONNECTION, BYTES("")));
    assert_false(field_has_token(&f, FIELD_TE, BYTES("a")));
}

static void hop_by_hop_fields_go(void **state UNUSED) /* RFC 9110 7.6.1 */
{
    add("host", "a");
    add("x-listed", "1");
    add("connection", "close, X-Listed, te");
    add("keep-alive", "timeout=5");
    add("proxy-connection", "keep-alive");
    add("upgrade", "h2c");
    add("transfer-encoding", "chunked");
    add("te", "gzip");
    add("te", "trailers;q=1");
    add("x-two", "2");
    add("connection", "x-two");
    add("x-kept", "3");
    fields_remove_hop_by_hop(&f);
    assert_fields("host=a,x-kept=3");
}

static void te_keeps_trailers_alone(void **state UNUSED) /* RFC 9110 10.1.4 */
{
    add("te", "gzip, trailers");
    add("te", "deflate");
    add("x", "y");
    fields_remove_hop_by_hop(&f);
    assert_fields("te=trailers,x=y");
}

static void what_frames_cannot_be_listed_away(void **state UNUSED)
{
    add("connection", "host, content-length, l5d-client-id, x");
    add("host", "a");
    add("content-length", "5");
    add("l5d-client-id", "b");
    add("x", "y");
    fields_remove_hop_by_hop(&f);
    assert_fields("host=a,content-length=5,l5d-client-id=b");
}

static void syntax_is_checked(void **state UNUSED)
{
    assert_true(http_is_token(BYTES("aZ09!#$%&'*+-.^_`|~")));
    assert_false(http_is_token(BYTES("")));
    for (const char *c = " \t\r\n\"(),/:;<=>?@[\\]{}\x7f\x80\xff\001"; *c != '\0'; c++) {
        assert_false(http_is_token(bytes_of(c, 1)));
    }
    assert_false(http_is_token(BYTES("a\0")));
    for (size_t len = 0; len < 40; len++) { /* the fault at each place of a 16-byte block */
        char text[41] = "";

        memset(text, 'a', sizeof(text) - 1);
        assert_true(http_is_field_value(bytes_of(text, len)));
        for (size_t at = 0; at < len; at++) {
            for (unsigned c = 0; c < 256; c++) {
                bool is_good = c == '\t' || (c >= 0x20 && c != 0x7f);

                text[at] = (char)c;
                assert_int_equal(http_is_field_value(bytes_of(text, len)), is_good);
            }
            text[at] = 'a';
        }
    }
}

static void reasons_are_known(void **state UNUSED)
{
    assert_string_equal(http_reason(200), "OK");
    assert_string_equal(http_reason(502), "Bad Gateway");
    assert_string_equal(http_reason(100), "Continue");
    assert_string_equal(http_reason(511), "Network Authentication Required");
    assert_string_equal(http_reason(299), "");
    assert_string_equal(http_reason(0), "");
}

static void dates_are_those_of_the_c_library(void **state UNUSED)
{
    static const uint64_t seconds[] = {
        0,          784111777,  951782399,  951782400,   951868799,  951868800,
        1078012800, 1582934400, 1583020799, 1583020800,  1709164800, 1735689599,
        1735689600, 4107542399, 4107542400, 18446744072,
    };
    char got[30], want[30];

    for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
        time_t t = (time_t)seconds[i];
        struct tm tm;

        http_date(seconds[i] * NS_PER_S + 999999999, got);
        assert_non_null(gmtime_r(&t, &tm));
        assert_int_equal(strftime(want, sizeof(want), "%a, %d %b %Y %H:%M:%S GMT", &tm), 29);
        assert_string_equal(got, want);
    }
    http_date(784111777 * NS_PER_S, got);
    assert_string_equal(got, "Sun, 06 Nov 1994 08:49:37 GMT"); /* RFC 9110 5.6.7 */
}

static void grpc_is_known_by_its_content_type(void **state UNUSED)
{
    struct head h = {.status = 0};

    assert_false(head_is_grpc(&h));
    add("content-type", "application/grpc+proto");
    h.fields = f;
    assert_true(head_is_grpc(&h));
    assert_int_equal(fields_set(&h.fields, BYTES("content-type"), BYTES("application/json")), 0);
    assert_false(head_is_grpc(&h));
    assert_int_equal(fields_set(&h.fields, BYTES("content-type"), BYTES("app")), 0);
    assert_false(head_is_grpc(&h));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_known_name_has_its_id),
        TEST(fields_are_found_set_and_removed),
        TEST(fields_have_a_limit),
        TEST(tokens_are_found_in_lists),
        TEST(hop_by_hop_fields_go),
        TEST(te_keeps_trailers_alone),
        TEST(what_frames_cannot_be_listed_away),
        TEST(syntax_is_checked),
        TEST(reasons_are_known),
        TEST(dates_are_those_of_the_c_library),
        TEST(grpc_is_known_by_its_content_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
