/* SPDX-License-Identifier: Apache-2.0 */
#include "core/process.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define PROC_BYTES_MAX   65536
#define BACKTRACE_FRAMES 64

/* --- figures ----------------------------------------------------------------------------------- */

#define FAMILY(variable, kind_, name_, help_)                                                      \
    static const struct metric_family variable = {.name = name_, .help = help_, .kind = kind_}

FAMILY(start_time, METRIC_GAUGE, "process_start_time_seconds",
       "Time the process started (seconds since 1970).");
FAMILY(clock_time, METRIC_GAUGE, "process_clock_time_seconds", "Time now (seconds since 1970).");
FAMILY(uptime, METRIC_COUNTER, "process_uptime_seconds_total",
       "Seconds since the process started.");
FAMILY(cpu, METRIC_COUNTER, "process_cpu_seconds_total",
       "User and system CPU time of the process, in seconds.");
FAMILY(virtual_memory, METRIC_GAUGE, "process_virtual_memory_bytes",
       "Address space in use, in bytes.");
FAMILY(resident_memory, METRIC_GAUGE, "process_resident_memory_bytes",
       "Resident memory, in bytes.");
FAMILY(open_fds, METRIC_GAUGE, "process_open_fds", "Open file descriptors.");
FAMILY(max_fds, METRIC_GAUGE, "process_max_fds",
       "Largest number of open file descriptors allowed.");
FAMILY(network_receive, METRIC_COUNTER, "process_network_receive_bytes_total",
       "Bytes received by the network devices that the process sees.");
FAMILY(network_transmit, METRIC_COUNTER, "process_network_transmit_bytes_total",
       "Bytes sent by the network devices that the process sees.");
FAMILY(threads, METRIC_GAUGE, "process_threads", "Threads of the process.");

/* The word at `index` of text that is separated by blanks; empty beyond the end. */
static struct bytes word_at(struct bytes line, unsigned index)
{
    struct bytes word;

    for (;;) {
        line = bytes_trim(line, " \n");
        (void)bytes_split(line, ' ', &word, &line);
        if (index-- == 0 || word.len == 0) {
            return word;
        }
    }
}

static uint64_t number_at(struct bytes line, unsigned index)
{
    uint64_t value;

    return bytes_to_u64(word_at(line, index), UINT64_MAX, &value) == 0 ? value : 0;
}

static void add(struct metric_samples *to, const struct metric_family *f, double value)
{
    metric_samples_gauge(to, f, BYTES_NONE, value);
}

/* /proc/self/stat after the command, which is in parentheses and may hold anything. proc(5) counts
 * its fields from 1 and the state behind the parenthesis is the third. */
#define STAT_THREADS    (20 - 3)
#define STAT_START_TIME (22 - 3)

static void collect_stat(struct metric_samples *to)
{
    char content[1024];
    const char *end;
    struct bytes fields;
    double now, since_boot, started;
    struct timespec boot;
    size_t len;

    if (file_read_into("/proc/self/stat", content, sizeof(content), &len) != 0 ||
        (end = strrchr(content, ')')) == NULL || clock_gettime(CLOCK_BOOTTIME, &boot) != 0) {
        return;
    }
    fields = bytes_str(end + 1);
    add(to, &threads, (double)number_at(fields, STAT_THREADS));
    now = (double)clock_wall_ns() / (double)NS_PER_S;
    since_boot = (double)boot.tv_sec + (double)boot.tv_nsec / (double)NS_PER_S;
    started = (double)number_at(fields, STAT_START_TIME) / (double)sysconf(_SC_CLK_TCK);
    add(to, &start_time, now - MAX(since_boot - started, 0));
    add(to, &uptime, MAX(since_boot - started, 0));
}

static void collect_memory(struct metric_samples *to)
{
    char content[256];
    double page = (double)sysconf(_SC_PAGESIZE);
    size_t len;

    if (file_read_into("/proc/self/statm", content, sizeof(content), &len) == 0) {
        add(to, &virtual_memory, (double)number_at(bytes_of(content, len), 0) * page);
        add(to, &resident_memory, (double)number_at(bytes_of(content, len), 1) * page);
    }
}

static void collect_fds(struct metric_samples *to)
{
    DIR *folder = opendir("/proc/self/fd");
    const struct dirent *entry;
    struct rlimit limit;
    unsigned count = 0;

    if (folder != NULL) {
        while ((entry = readdir(folder)) != NULL) {
            count += entry->d_name[0] != '.';
        }
        (void)closedir(folder);
        add(to, &open_fds, count - 1.0); /* without the folder itself */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        add(to, &max_fds, (double)limit.rlim_cur);
    }
}

/* Two lines of headings, then "  eth0: received 7 more transmitted 7 more". */
static void collect_network(struct metric_samples *to)
{
    AUTOFREE char *content = NULL;
    struct bytes rest, line, device;
    uint64_t received = 0, sent = 0;
    size_t len;

    if (file_read("/proc/self/net/dev", PROC_BYTES_MAX, &content, &len) != 0) {
        return;
    }
    rest = bytes_of(content, len);
    while (rest.len > 0) {
        (void)bytes_split(rest, '\n', &line, &rest);
        if (bytes_split(line, ':', &device, &line)) {
            received += number_at(line, 0);
            sent += number_at(line, 8);
        }
    }
    add(to, &network_receive, (double)received);
    add(to, &network_transmit, (double)sent);
}

void process_collect(struct metric_samples *to)
{
    add(to, &clock_time, (double)clock_wall_ns() / (double)NS_PER_S);
    add(to, &cpu, (double)clock_cpu_ns() / (double)NS_PER_S);
    collect_stat(to);
    collect_memory(to);
    collect_fds(to);
    collect_network(to);
}

/* --- crashes ----------------------------------------------------------------------------------- */

static void crash_say(const char *words)
{
    (void)!write(STDERR_FILENO, words, strlen(words));
}

/* Only calls that are safe in a signal handler; backtrace() is once it has been called before. */
static void on_crash(int signo)
{
    void *frames[BACKTRACE_FRAMES];
    char thread[17] = "";

    (void)prctl(PR_GET_NAME, thread);
    crash_say("crash: ");
    crash_say(signo == SIGSEGV ? "SIGSEGV" : signo == SIGBUS ? "SIGBUS" : "SIGABRT");
    crash_say(" in thread ");
    crash_say(thread);
    crash_say("\n");
    backtrace_symbols_fd(frames, backtrace(frames, BACKTRACE_FRAMES), STDERR_FILENO);
    (void)raise(signo); /* SA_RESETHAND: the default action now, once we return */
}

void process_crash_report(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
    void *frame;

    (void)sigemptyset(&action.sa_mask);
    (void)backtrace(&frame, 1); /* loads what it needs while memory may be had */
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        int err = sigaction(signals[i], &action, NULL);

        assert(err == 0);
    }
}

/* --- signals ----------------------------------------------------------------------------------- */

static struct {
    struct watch watch;
    struct task task;
    sigset_t before; /* the thread's mask, to be put back */
    void (*on_signal)(void *user, int signo);
    void *user;
    bool is_open;
} signals;

static void signals_run(struct task *task UNUSED)
{
    struct signalfd_siginfo info;

    /* A handler may close the signals, and so end the loop here. */
    while (signals.is_open && read(signals.watch.fd, &info, sizeof(info)) == sizeof(info)) {
        signals.on_signal(signals.user, (int)info.ssi_signo);
    }
    signals.watch.ready = 0;
}

int process_signals_open(struct loop *l, void (*on_signal)(void *user, int signo), void *user)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;
    int fd, err;

    assert(!signals.is_open);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    signals.task.run = signals_run;
    err = watch_open(&signals.watch, l, fd, &signals.task);
    if (err != 0) {
        (void)close(fd);
        return err;
    }
    err = pthread_sigmask(SIG_BLOCK, &set, &signals.before);
    assert(err == 0);
    err = sigaction(SIGPIPE, &ignore, NULL);
    assert(err == 0);
    signals.on_signal = on_signal;
    signals.user = user;
    signals.is_open = true;
    return 0;
}

void process_signals_close(void)
{
    if (signals.is_open) {
        signals.is_open = false;
        task_cancel(&signals.task);
        watch_close(&signals.watch);
        (void)pthread_sigmask(SIG_SETMASK, &signals.before, NULL);
    }
}
