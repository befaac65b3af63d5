/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/process.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

/* The value of the sample whose line starts with `name`. */
static double value_of(const char *printed, const char *name)
{
    AUTOFREE char *start = mem_printf("\n%s ", name);
    const char *line = strstr(printed, start);

    assert_non_null(line);
    return strtod(line + strlen(start), NULL);
}

static void every_family_is_there_and_plausible(void **state UNUSED)
{
    struct metric_samples samples = {0};
    struct rlimit limit;
    struct text t;
    double now, start;

    process_collect(&samples);
    text_init(&t, 100000);
    metric_samples_print(&samples, METRIC_TEXT, &t);
    assert_int_equal(t.err, 0);
    now = value_of(t.at, "process_clock_time_seconds");
    start = value_of(t.at, "process_start_time_seconds");
    assert_true(now > 1.7e9 && start > 1.7e9 && start <= now + 1);
    assert_true(value_of(t.at, "process_uptime_seconds_total") >= 0);
    assert_true(value_of(t.at, "process_cpu_seconds_total") > 0);
    assert_true(value_of(t.at, "process_virtual_memory_bytes") >=
                value_of(t.at, "process_resident_memory_bytes"));
    assert_true(value_of(t.at, "process_resident_memory_bytes") > 100000);
    assert_true(value_of(t.at, "process_threads") >= 1);
    assert_true(value_of(t.at, "process_network_receive_bytes_total") >= 0);
    assert_true(value_of(t.at, "process_network_transmit_bytes_total") >= 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(value_of(t.at, "process_max_fds") == (double)limit.rlim_cur);
    text_clear(&t);
    metric_samples_clear(&samples);
}

static double open_fds(void)
{
    struct metric_samples samples = {0};
    struct text t;
    double count;

    process_collect(&samples);
    text_init(&t, 100000);
    metric_samples_print(&samples, METRIC_TEXT, &t);
    count = value_of(t.at, "process_open_fds");
    text_clear(&t);
    metric_samples_clear(&samples);
    return count;
}

static void descriptors_are_counted(void **state UNUSED)
{
    double before = open_fds();
    int fd = dup(STDOUT_FILENO);

    assert_true(open_fds() == before + 1);
    (void)close(fd);
    assert_true(open_fds() == before);
}

static struct loop loop;
static int got[8], got_count;

static void on_signal(void *user, int signo)
{
    assert_ptr_equal(user, &loop);
    assert_ptr_equal(loop_self(), &loop);
    got[got_count++] = signo;
    if (signo == SIGTERM) {
        process_signals_close(); /* from inside its own call */
    }
}

static void signals_become_calls(void **state UNUSED)
{
    sigset_t before, after;

    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    assert_int_equal(loop_open(&loop, 0, 0), 0);
    assert_int_equal(process_signals_open(&loop, on_signal, &loop), 0);
    assert_int_equal(kill(getpid(), SIGHUP), 0);
    assert_int_equal(kill(getpid(), SIGPIPE), 0); /* ignored */
    while (got_count < 1) {
        (void)loop_turn(&loop, -1);
    }
    assert_int_equal(got[0], SIGHUP);
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    while (got_count < 2) {
        (void)loop_turn(&loop, -1);
    }
    assert_int_equal(got[1], SIGTERM);
    process_signals_close();
    loop_close(&loop);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
}

/* What a child that fails an assertion writes. */
static size_t crash_output(char *to, size_t bytes, int *out_status)
{
    int ends[2];
    size_t len = 0;
    ssize_t part;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        process_crash_report();
        abort();
    }
    (void)close(ends[1]);
    while ((part = read(ends[0], to + len, bytes - 1 - len)) > 0) {
        len += (size_t)part;
    }
    to[len] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, out_status, 0), pid);
    return len;
}

static void a_crash_leaves_a_report(void **state UNUSED)
{
    static char report[65536];
    int status;

    assert_true(crash_output(report, sizeof(report), &status) > 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(report, "crash: SIGABRT in thread test_process\n"));
    assert_non_null(strstr(report, "test_process("));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_is_there_and_plausible),
        cmocka_unit_test(descriptors_are_counted),
        cmocka_unit_test(signals_become_calls),
        cmocka_unit_test(a_crash_leaves_a_report),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
