/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/log_filter.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

static int ends[2]; /* what is logged comes out at ends[0] */
static char output[1 << 20];

static int open_output(void **state UNUSED)
{
    if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
        return -1;
    }
    log_init(ends[1], LOG_FORMAT_PLAIN);
    return log_set_filter("info");
}

static int close_output(void **state UNUSED)
{
    log_init(STDERR_FILENO, LOG_FORMAT_PLAIN);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return log_set_filter("info");
}

static const char *logged(void)
{
    size_t len = 0;
    ssize_t part;

    while ((part = read(ends[0], output + len, sizeof(output) - 1 - len)) > 0) {
        len += (size_t)part;
    }
    output[len] = '\0';
    return output;
}

/* A call site of its own for a file that does not exist. */
#define AT(file_, level_, ...)                                                                     \
    do {                                                                                           \
        struct log_site site_ = {.file = (file_), .line = 1};                                      \
        if (log_is_on(&site_, (level_))) {                                                         \
            log_write(&site_, (level_), __VA_ARGS__);                                              \
        }                                                                                          \
    } while (0)

static void a_plain_line(void **state UNUSED)
{
    const char *line;

    AT("../proxy/accept.c", LOG_INFO, "cannot connect; addr=%s err=%d", "10.0.0.1:80", 7);
    line = logged();
    assert_int_equal(strlen("2026-08-01T12:00:00.123Z"), 24);
    assert_memory_equal(line + 10, "T", 1);
    assert_memory_equal(line + 19, ".", 1);
    assert_string_equal(line + 23,
                        "Z  INFO proxy.accept: cannot connect; addr=10.0.0.1:80 err=7\n");
    errno = EEXIST;
    AT("lib/net/tls.c", LOG_ERROR, "bad");
    assert_int_equal(errno, EEXIST);
    assert_string_equal(logged() + 23, "Z ERROR net.tls: bad\n");
}

static void a_json_line(void **state UNUSED)
{
    const char *line;

    log_init(ends[1], LOG_FORMAT_JSON);
    AT("mesh/route.c", LOG_WARN, "a \"quoted\"\nname \xff");
    line = logged();
    assert_memory_equal(line, "{\"timestamp\":\"", 14);
    assert_string_equal(line + 14 + 23, "Z\",\"level\":\"WARN\",\"target\":\"mesh.route\","
                                        "\"message\":\"a \\\"quoted\\\"\\nname \xef\xbf\xbd\"}\n");
}

static void no_message_can_forge_a_line(void **state UNUSED)
{
    AT("proxy/x.c", LOG_INFO, "user=%s", "eve\n2026 INFO admin: all is well\x1b[2J\x7f");
    assert_string_equal(logged() + 24,
                        "  INFO proxy.x: user=eve\\n2026 INFO admin: all is well\\x1b[2J\\x7f\n");
}

static void long_messages_are_cut(void **state UNUSED)
{
    static char words[10000];
    const char *line;

    memset(words, 'w', sizeof(words) - 1);
    AT("proxy/x.c", LOG_INFO, "%s", words);
    line = logged();
    assert_in_range(strlen(line), 2900, 4096);
    assert_string_equal(line + strlen(line) - 5, "w...\n");
    memset(words, '\x01', sizeof(words) - 1); /* each becomes six characters */
    log_init(ends[1], LOG_FORMAT_JSON);
    AT("proxy/x.c", LOG_INFO, "%s", words);
    line = logged();
    assert_in_range(strlen(line), 1000, 4096);
    assert_string_equal(line + strlen(line) - 9, "\\u0001\"}\n");
}

static void targets_come_from_file_names(void **state UNUSED)
{
    static const char *const pairs[][2] = {
        {"../lib/net/tls.c", "net.tls"},
        {"lib/core/loop.c", "core.loop"},
        {"proxy/accept.c", "proxy.accept"},
        {"../control/destination/watch.c", "control.destination.watch"},
        {"../../../work/lib/tulle/proxy/accept.c", "proxy.accept"},
        {"/home/proxy/tulle/lib/http/h2.c", "http.h2"},
        {"../tests/unit/core/test_log.c", "tests.unit.core.test_log"},
        {"elsewhere.c", "elsewhere"},
        {"../odd/file.cc", "odd.file.cc"},
        {"", ""},
    };
    char target[LOG_TARGET_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        log_target_of(pairs[i][0], target);
        assert_string_equal(target, pairs[i][1]);
    }
}

static void expect_level(const char *target, enum log_level level)
{
    assert_int_equal(log_filter_level(target), level);
}

static void filters_name_targets(void **state UNUSED)
{
    assert_int_equal(log_set_filter("warn,proxy=info, net=debug ,net.tls=error,mesh=OFF,cluster"),
                     0);
    expect_level("http.h2", LOG_WARN);
    expect_level("proxy.accept", LOG_INFO);
    expect_level("net.sock", LOG_DEBUG);
    expect_level("net.tls", LOG_ERROR);
    expect_level("network.x", LOG_WARN); /* a name, not a prefix of letters */
    expect_level("mesh.route", LOG_OFF);
    expect_level("cluster.store", LOG_TRACE);
    assert_int_equal(log_set_filter("off"), 0);
    expect_level("proxy.accept", LOG_OFF);
    assert_int_equal(log_set_filter("proxy::accept=debug"), 0);
    expect_level("proxy.accept", LOG_DEBUG);
    expect_level("proxy.dial", LOG_ERROR); /* nothing is said of the others */
    assert_int_equal(log_set_filter("net=info,net=debug"), 0);
    expect_level("net.x", LOG_DEBUG); /* the last word counts */
}

/* wire 2.1 and the injector's default */
static void linkerds_filters_keep_their_meaning(void **state UNUSED)
{
    assert_int_equal(
        log_set_filter("warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off"), 0);
    expect_level("proxy.accept", LOG_INFO);
    expect_level("net.tls", LOG_INFO);
    assert_int_equal(log_set_filter("linkerd=debug,net=warn"), 0);
    expect_level("proxy.accept", LOG_DEBUG);
    expect_level("net.tls", LOG_WARN);
    assert_int_equal(log_set_filter("error,tulle=trace"), 0);
    expect_level("proxy.accept", LOG_TRACE);
    assert_int_equal(log_set_filter("linkerd_proxy_http::client[{a,b}]=trace,info"), 0);
    expect_level("proxy.accept", LOG_INFO);
    assert_int_equal(log_set_filter("[request{uri=/a}]=debug,app[call],[{x}],linkerd_app_core,warn"), 0);
    expect_level("proxy.accept", LOG_WARN);
    assert_int_equal(log_set_filter("1,net=4"), 0);
    expect_level("proxy.accept", LOG_ERROR);
    expect_level("net.tls", LOG_DEBUG);
}

static void a_bad_filter_changes_nothing(void **state UNUSED)
{
    static const char *const bad[] = {"inof",     "proxy=loud", "proxy=",  "=info",
                                      "a b=info", "[{x}]=loud", "info,,x", "proxy=info=debug",
                                      "[{x",      "[{x}]info",  "6",       "proxy=10"};
    static char many[600], huge[1000];
    char now[64];

    assert_int_equal(log_set_filter("warn,proxy=debug"), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(log_set_filter(bad[i]), E_CONFIG);
    }
    for (int i = 0; i < 33; i++) {
        (void)snprintf(many + i * 9, 10, "m%02d=warn,", i);
    }
    assert_int_equal(log_set_filter(many), E_CONFIG);
    memset(huge, ',', sizeof(huge) - 1);
    assert_int_equal(log_set_filter(huge), E_CONFIG);
    expect_level("proxy.accept", LOG_DEBUG);
    log_get_filter(now, sizeof(now));
    assert_string_equal(now, "warn,proxy=debug");
    log_get_filter(now, 5);
    assert_string_equal(now, "warn");
}

static void log_here(void)
{
    log_debug("hello");
}

static void a_site_follows_the_filter(void **state UNUSED)
{
    log_here();
    assert_string_equal(logged(), "");
    assert_int_equal(log_set_filter("tests.unit.core=debug"), 0);
    log_here();
    assert_non_null(strstr(logged(), " DEBUG tests.unit.core.test_log: hello\n"));
    assert_int_equal(log_set_filter("info"), 0);
    log_here();
    assert_string_equal(logged(), "");
}

static size_t count_lines(const char *text)
{
    size_t lines = 0;

    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

static void a_site_is_rate_limited(void **state UNUSED)
{
    struct log_site site = {.file = "proxy/x.c", .line = 1};
    size_t lines;

    do { /* once more if a second ended meanwhile */
        site.window_s = clock_mono_ns() / NS_PER_S;
        site.written = site.held = 0;
        for (int i = 0; i < 25; i++) {
            log_write(&site, LOG_INFO, "line %d", i);
        }
        lines = count_lines(logged());
    } while (site.window_s != clock_mono_ns() / NS_PER_S);
    assert_int_equal(lines, 10);
    assert_int_equal(site.held, 15);
    site.window_s = 0; /* a later second */
    log_write(&site, LOG_INFO, "again");
    assert_string_equal(logged() + 24, "  INFO proxy.x: again suppressed=15\n");
}

static void a_full_output_drops_and_counts(void **state UNUSED)
{
    static char page[4096];
    unsigned sent = 0;

    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0); /* the caller's end still blocks */
    assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
    for (; sent < 3; sent++) {
        AT("proxy/x.c", LOG_INFO, "%01500d", 0); /* two of these and the pipe is full */
    }
    assert_int_equal(count_lines(logged()), 2);
    memset(page, 'p', sizeof(page));
    AT("proxy/x.c", LOG_INFO, "room again");
    assert_string_equal(logged() + 24, "  INFO proxy.x: room again dropped=1\n");
    AT("proxy/x.c", LOG_INFO, "and on");
    assert_string_equal(logged() + 24, "  INFO proxy.x: and on\n");
}

static void a_socket_is_an_output_too(void **state UNUSED)
{
    int pair[2];
    char line[100] = "";

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    log_init(pair[1], LOG_FORMAT_PLAIN);
    AT("proxy/x.c", LOG_INFO, "over a socket");
    assert_true(read(pair[0], line, sizeof(line) - 1) > 0);
    assert_string_equal(line + 24, "  INFO proxy.x: over a socket\n");
    (void)close(pair[0]);
    AT("proxy/x.c", LOG_INFO, "nobody reads"); /* and no SIGPIPE */
    log_init(ends[1], LOG_FORMAT_PLAIN);
    AT("proxy/x.c", LOG_INFO, "back");
    assert_string_equal(logged() + 24, "  INFO proxy.x: back dropped=1\n");
    (void)close(pair[1]);
}

static struct log_site shared_site = {.file = "proxy/shared.c", .line = 1};

static void *log_much(void *unused)
{
    for (int i = 0; i < 2000; i++) {
        if (log_is_on(&shared_site, LOG_INFO)) {
            log_write(&shared_site, LOG_INFO, "shared");
        }
        if (i % 100 == 0 && log_set_filter(i % 200 == 0 ? "proxy=debug" : "proxy=info") != 0) {
            return &shared_site;
        }
    }
    return unused;
}

static void threads_share_sites_and_filter(void **state UNUSED)
{
    pthread_t threads[3];
    const char *line;
    void *problem;

    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &problem), 0);
        assert_null(problem);
    }
    line = logged();
    assert_true(count_lines(line) >= 10);
    for (const char *end; *line != '\0'; line = end + 1) { /* no line is torn */
        end = strchr(line, '\n');
        assert_memory_equal(line + 23, "Z  INFO proxy.shared: shared", 28);
    }
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, open_output, close_output)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(a_plain_line),
        LOG_TEST(a_json_line),
        LOG_TEST(no_message_can_forge_a_line),
        LOG_TEST(long_messages_are_cut),
        LOG_TEST(targets_come_from_file_names),
        LOG_TEST(filters_name_targets),
        LOG_TEST(linkerds_filters_keep_their_meaning),
        LOG_TEST(a_bad_filter_changes_nothing),
        LOG_TEST(a_site_follows_the_filter),
        LOG_TEST(a_site_is_rate_limited),
        LOG_TEST(a_full_output_drops_and_counts),
        LOG_TEST(a_socket_is_an_output_too),
        LOG_TEST(threads_share_sites_and_filter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
