/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/access_log.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <unistd.h>

static struct loop loop;
static struct stats stats;
static int fds[2];

static int setup(void **state)
{
    (void)state;
    assert_int_equal(loop_open(&loop, 1, 64), 0);
    stats_open(&stats, 1000, NS_PER_S);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0); /* its writing end may block */
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)close(fds[0]);
    (void)close(fds[1]);
    stats_close(&stats);
    loop_close(&loop);
    return 0;
}

static struct access request(void)
{
    struct access r = {
        .client = addr_v4(0x0a010007, 51620),
        .client_id = BYTES("web.shop.serviceaccount.identity.linkerd.cluster.local"),
        .method = BYTES("GET"),
        .scheme = BYTES("http"),
        .authority = BYTES("cart.shop"),
        .path = BYTES("/cart?a=\"b\""),
        .trace_id = BYTES("463ac35c9f6413ad"),
        .user_agent = BYTES("curl/7.88.1"),
        .host = BYTES("cart.shop"),
        .version = HTTP_11,
        .status = 200,
        .request_bytes = -1,
        .response_bytes = 17,
        .wall_ns = UINT64_C(1785585600) * NS_PER_S + 123456000,
        .total_ns = 1500,
        .processing_ns = 500,
    };

    return r;
}

/* What can be read now, as text. */
static const char *got(void)
{
    static char text[1 << 20];
    ssize_t n;
    size_t len = 0;

    for (unsigned turn = 0; turn < 3; turn++) {
        (void)loop_turn(&loop, 0);
        while ((n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0) {
            len += (size_t)n;
        }
    }
    text[len] = '\0';
    return text;
}

/* Features H.4 has the form. */
static void apache(void **state)
{
    struct access_log *a = access_log_new(&loop, &stats, ACCESS_APACHE, fds[1]);
    struct access r = request();

    (void)state;
    access_log_write(a, &r);
    assert_string_equal(
        got(), "10.1.0.7:51620 web.shop.serviceaccount.identity.linkerd.cluster.local - "
               "[2026-08-01T12:00:00.123456Z] \"GET /cart?a=\\\"b\\\" HTTP/1.1\" 200\n");
    r.client_id = BYTES_NONE;
    r.version = HTTP_2;
    r.path = BYTES("/a\nb\x7f");
    r.status = 503;
    access_log_write(a, &r);
    access_log_write(a, &r);
    assert_string_equal(got(), "10.1.0.7:51620 - - [2026-08-01T12:00:00.123456Z] \"GET "
                               "http://cart.shop/a\\x0ab\\x7f HTTP/2.0\" 503\n"
                               "10.1.0.7:51620 - - [2026-08-01T12:00:00.123456Z] \"GET "
                               "http://cart.shop/a\\x0ab\\x7f HTTP/2.0\" 503\n");
    access_log_free(a);
    access_log_free(NULL);
}

static void json(void **state)
{
    struct access_log *a = access_log_new(&loop, &stats, ACCESS_JSON, fds[1]);
    struct access r = request();

    (void)state;
    access_log_write(a, &r);
    assert_string_equal(
        got(),
        "{\"client.addr\":\"10.1.0.7:51620\",\"client.id\":"
        "\"web.shop.serviceaccount.identity.linkerd.cluster.local\",\"host\":\"cart.shop\","
        "\"method\":\"GET\",\"processing_ns\":\"500\",\"request_bytes\":\"\",\"response_bytes\":"
        "\"17\",\"status\":200,\"timestamp\":\"2026-08-01T12:00:00.123456Z\",\"total_ns\":\"1500\","
        "\"trace_id\":\"463ac35c9f6413ad\",\"uri\":\"/cart?a=\\\"b\\\"\",\"user_agent\":"
        "\"curl/7.88.1\",\"version\":\"HTTP/1.1\"}\n");
    access_log_free(a);
}

/* Each line is whole, however long what the client sent is. */
static void long_fields_are_cut(void **state)
{
    struct access_log *a = access_log_new(&loop, &stats, ACCESS_JSON, fds[1]);
    struct access r = request();
    char *much = mem_new(10000);
    const char *line;

    (void)state;
    memset(much, 'x', 10000);
    r.path = r.user_agent = r.trace_id = r.host = r.method = bytes_of(much, 10000);
    access_log_write(a, &r);
    line = got();
    assert_true(strlen(line) > 2000 && strlen(line) <= 4096 && line[strlen(line) - 1] == '\n');
    memset(much, '\x01', 10000); /* escaped, it has six times the length: no line at all */
    access_log_write(a, &r);
    assert_string_equal(got(), "");
    mem_free(much);
    access_log_free(a);
}

/* An output that nobody reads costs lines, and never time: the counter says how many. */
static void a_full_output(void **state)
{
    struct access_log *a = access_log_new(&loop, &stats, ACCESS_APACHE, fds[1]);
    struct access r = request();
    const struct series *dropped;
    size_t lines = 0, len;
    const char *text;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        access_log_write(a, &r);
        (void)loop_turn(&loop, 0);
    }
    dropped = metrics_find(&stats.metrics, "tulle_access_log_dropped_total", BYTES_NONE);
    assert_non_null(dropped);
    text = got();
    len = strlen(text);
    for (size_t at = 0; at < len; at++) {
        lines += text[at] == '\n';
        assert_true(at == 0 || text[at - 1] != '\n' || text[at] == '1'); /* whole lines */
    }
    for (unsigned i = 0; i < 10; i++) { /* and what waited, once there is room */
        (void)loop_turn(&loop, 30);
    }
    for (text = got(); *text != '\0'; text++) {
        lines += *text == '\n';
    }
    assert_int_equal(lines + dropped->count, 2000);
    access_log_free(a);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(apache),
        TEST(json),
        TEST(long_fields_are_cut),
        TEST(a_full_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
