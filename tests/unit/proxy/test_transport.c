/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/transport.h"

#include "core/err.h"
#include "tests/unit/unit.h"

#define PREFACE "transport.l5d.io/v1\r\n\r\n"

static struct chunk_pool pool;
static struct chain out;
static char flat[1024];

static int setup(void **state)
{
    (void)state;
    chunk_pool_init(&pool, 4, 4);
    chain_init(&out);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    chain_clear(&out);
    chunk_pool_clear(&pool);
    return 0;
}

static struct bytes printed(uint16_t port, const char *override, enum transport_session session)
{
    chain_clear(&out);
    assert_int_equal(transport_print(&out, &pool, port, override, session), 0);
    return bytes_of(flat, chain_peek(&out, flat, sizeof(flat)));
}

static void assert_header(struct bytes got, const char *message, size_t message_len)
{
    assert_int_equal(got.len, TRANSPORT_START_BYTES + message_len);
    assert_memory_equal(got.at, PREFACE, sizeof(PREFACE) - 1);
    assert_int_equal(got.at[TRANSPORT_START_BYTES - 1], message_len);
    assert_memory_equal(got.at + TRANSPORT_START_BYTES, message, message_len);
}

/* The examples of wire 4.6. */
static void bytes_on_the_wire(void **state)
{
    (void)state;
    assert_header(printed(8080, NULL, TRANSPORT_HTTP2), "\x08\x90\x3f\x1a\x02\x12\x00", 7);
    assert_header(printed(8080, NULL, TRANSPORT_HTTP1), "\x08\x90\x3f\x1a\x02\x0a\x00", 7);
    assert_header(printed(8080, NULL, TRANSPORT_OPAQUE), "\x08\x90\x3f", 3);
}

/* Wire 4.6: with an authority override, its host and its port. */
static void override_names_host_and_port(void **state)
{
    struct transport_header h;
    size_t used;

    (void)state;
    assert_int_equal(
        transport_parse(printed(4143, "web.remote.svc.cluster.local:8080", TRANSPORT_HTTP2), &h,
                        &used),
        0);
    assert_string_equal(h.name, "web.remote.svc.cluster.local");
    assert_int_equal(h.port, 8080);
    assert_int_equal(h.session, TRANSPORT_HTTP2);
    assert_int_equal(transport_parse(printed(4143, "web", TRANSPORT_OPAQUE), &h, &used), 0);
    assert_string_equal(h.name, "web");
    assert_int_equal(h.port, 4143);
}

static void any_prefix_wants_more(void **state)
{
    struct bytes whole = printed(8080, NULL, TRANSPORT_HTTP1);
    struct transport_header h;
    size_t used = 0, size = 0;

    (void)state;
    for (size_t n = 0; n < whole.len; n++) {
        assert_int_equal(transport_parse(bytes_first(whole, n), &h, &used), E_AGAIN);
        assert_int_equal(transport_size(bytes_first(whole, n), &size),
                         n < TRANSPORT_START_BYTES ? E_AGAIN : 0);
    }
    assert_int_equal(size, whole.len);
    assert_int_equal(transport_parse(BYTES_NONE, &h, &used), E_AGAIN);
}

static void bytes_behind_are_left(void **state)
{
    char in[] = PREFACE "\0\0\0\3\x08\x90\x3f"
                        "GET / HTTP/1.1\r\n";
    struct transport_header h;
    size_t used;

    (void)state;
    assert_int_equal(transport_parse(bytes_of(in, sizeof(in) - 1), &h, &used), 0);
    assert_int_equal(used, TRANSPORT_START_BYTES + 3);
    assert_int_equal(h.port, 8080);
    assert_int_equal(h.session, TRANSPORT_OPAQUE);
    assert_string_equal(h.name, "");
}

#define REFUSED(literal)                                                                           \
    assert_int_equal(transport_parse(bytes_of(literal, sizeof(literal) - 1), &h, &used),           \
                     E_TRANSPORT_HEADER)

static void what_is_refused(void **state)
{
    struct transport_header h;
    size_t used;

    (void)state;
    REFUSED("GET / HTTP/1.1\r\n");
    REFUSED("t ");
    REFUSED("transport.l5d.io/v2\r\n\r\n");
    REFUSED(PREFACE "\0\1\0\1"); /* a longer message than is allowed */
    REFUSED(PREFACE "\xff\xff\xff\xff");
    REFUSED(PREFACE "\0\0\0\0");                /* no port */
    REFUSED(PREFACE "\0\0\0\2\x08\0");          /* port 0 */
    REFUSED(PREFACE "\0\0\0\4\x08\x80\x80\4");  /* port 65536 */
    REFUSED(PREFACE "\0\0\0\1\xff");            /* no message */
    REFUSED(PREFACE "\0\0\0\5\x08\x50\x12\1 "); /* names that are none */
    REFUSED(PREFACE "\0\0\0\5\x08\x50\x12\1\"");
    REFUSED(PREFACE "\0\0\0\5\x08\x50\x12\1\x80");
}

static void no_chunk(void **state)
{
    struct chunk_pool none;

    (void)state;
    chunk_pool_init(&none, 0, 0);
    assert_int_equal(transport_print(&out, &none, 1, NULL, TRANSPORT_OPAQUE), E_LIMIT);
    assert_int_equal(chain_size(&out), 0);
    chunk_pool_clear(&none);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_on_the_wire),     TEST(override_names_host_and_port),
        TEST(any_prefix_wants_more), TEST(bytes_behind_are_left),
        TEST(what_is_refused),       TEST(no_chunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
