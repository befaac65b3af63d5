/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log_stream.h"

#include "core/err.h"
#include "core/text.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static struct loop loop;
static int fds[2];

struct reader {
    struct log_stream stream;
    unsigned lines;
    char last[512];
};

static struct reader readers[LOG_STREAMS_MAX + 1];

static void on_line(struct log_stream *s, struct bytes line)
{
    struct reader *r = CONTAINER_OF(s, struct reader, stream);

    r->lines++;
    (void)snprintf(r->last, sizeof(r->last), BYTES_FMT, BYTES_ARG(line));
}

static int open_reader(unsigned i, const char *filter)
{
    readers[i].stream.on_line = on_line;
    return log_stream_open(&readers[i].stream, &loop, filter);
}

static int setup(void **state UNUSED)
{
    memset(readers, 0, sizeof(readers));
    assert_int_equal(loop_open(&loop, 0, 16), 0);
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    log_init(fds[1], LOG_FORMAT_PLAIN);
    assert_int_equal(log_set_filter("off"), 0);
    return 0;
}

static int teardown(void **state UNUSED)
{
    for (unsigned i = 0; i < ARRAY_LEN(readers); i++) {
        log_stream_close(&readers[i].stream);
    }
    loop_close(&loop);
    log_init(STDERR_FILENO, LOG_FORMAT_PLAIN);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return 0;
}

static void say(const char *file, enum log_level level, const char *what)
{
    struct log_site site = {.file = file};

    if (log_is_on(&site, level)) {
        log_write(&site, level, "%s", what);
    }
}

static size_t main_output(void)
{
    char got[8192];
    ssize_t n = read(fds[0], got, sizeof(got));

    return n > 0 ? (size_t)n : 0;
}

/* Each stream has its own filter, and the main output keeps its own. */
static void filters_are_apart(void **state UNUSED)
{
    say("proxy/a.c", LOG_ERROR, "before");
    assert_int_equal(open_reader(0, "proxy=debug"), 0);
    assert_int_equal(open_reader(1, "warn"), 0);
    say("proxy/a.c", LOG_DEBUG, "one \"and\"");
    say("mesh/a.c", LOG_DEBUG, "nobody's");
    say("mesh/a.c", LOG_WARN, "two");
    say("proxy/a.c", LOG_TRACE, "nobody's");
    (void)loop_turn(&loop, 0);
    assert_int_equal(readers[0].lines, 1);
    assert_non_null(strstr(readers[0].last, "\"level\":\"DEBUG\",\"target\":\"proxy.a\","
                                            "\"message\":\"one \\\"and\\\"\"}\n"));
    assert_int_equal(readers[1].lines, 1);
    assert_non_null(strstr(readers[1].last, "\"message\":\"two\"}\n"));
    assert_int_equal(main_output(), 0);
    assert_int_equal(log_set_filter("mesh=warn"), 0);
    say("mesh/a.c", LOG_WARN, "three");
    assert_true(main_output() > 20);
    log_stream_close(&readers[0].stream);
    log_stream_close(&readers[1].stream);
    (void)loop_turn(&loop, 0);
    assert_int_equal(readers[1].lines, 1); /* "three" was under way when it closed */
    say("proxy/a.c", LOG_DEBUG, "nobody's again");
    assert_int_equal(main_output(), 0);
}

static void slots_are_few(void **state UNUSED)
{
    assert_int_equal(open_reader(0, "=="), E_CONFIG);
    for (unsigned i = 0; i < LOG_STREAMS_MAX; i++) {
        assert_int_equal(open_reader(i, "info"), 0);
    }
    assert_int_equal(open_reader(LOG_STREAMS_MAX, "info"), E_LIMIT);
    log_stream_close(&readers[1].stream);
    assert_int_equal(open_reader(LOG_STREAMS_MAX, "info"), 0);
}

/* What a loop does not get to is bounded, and the next line tells how many were lost. */
static void lines_are_bounded(void **state UNUSED)
{
    assert_int_equal(open_reader(0, "info"), 0);
    for (unsigned i = 0; i < 1500; i++) {
        say("proxy/a.c", LOG_INFO, "much");
    }
    (void)loop_turn(&loop, 0);
    assert_int_equal(readers[0].lines, 1000);
    assert_int_equal(readers[0].stream.lost, 500);
}

static void *log_much(void *unused)
{
    for (unsigned i = 0; i < 500; i++) {
        say("proxy/a.c", LOG_INFO, "from a thread");
    }
    return unused;
}

static void lines_of_other_threads(void **state UNUSED)
{
    pthread_t threads[3];

    assert_int_equal(open_reader(0, "info"), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, NULL), 0);
    }
    for (unsigned i = 0; i < 50; i++) { /* opened and closed under them */
        (void)loop_turn(&loop, 1);
        assert_int_equal(open_reader(1, "info"), 0);
        (void)loop_turn(&loop, 1);
        log_stream_close(&readers[1].stream);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    (void)loop_turn(&loop, 0);
    assert_true(readers[0].lines + readers[0].stream.lost == 1500);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(filters_are_apart),
        TEST(slots_are_few),
        TEST(lines_are_bounded),
        TEST(lines_of_other_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
