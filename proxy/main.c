/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/proxy.h"

#include "core/err.h"
#include "core/log.h"
#include "core/process.h"
#include "proxy/build_info.h"
#include "proxy/notify.h"

#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

/* A connection takes one or two descriptors, and the usual soft limit is meant for select(2). */
static void raise_files_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct proxy proxy;
    char problem[512] = "";
    bool has_failed;
    int rc;

    if (argc > 1) {
        bool version = strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0;

        (void)printf(version ? "tulle-proxy " TULLE_VERSION "\n"
                             : "usage: tulle-proxy\n\nThe sidecar. It takes no arguments: its "
                               "environment (LINKERD2_PROXY_*) is "
                               "written by `tulle inject`\nor by the injector, and the control "
                               "plane tells it the rest.\n");
        return version || strcmp(argv[1], "--help") == 0 ? EX_OK : EX_USAGE;
    }
    process_crash_report();
    raise_files_limit();
    rc = config_from_env(&proxy.config, problem, sizeof(problem));
    log_init(STDOUT_FILENO, proxy.config.log_json ? LOG_FORMAT_JSON : LOG_FORMAT_PLAIN);
    if (rc == 0 && log_set_filter(proxy.config.log_filter) != 0) {
        log_warn("LINKERD2_PROXY_LOG is not a filter that this proxy knows; using "
                 "warn,linkerd=info; value=%s",
                 proxy.config.log_filter);
        rc = log_set_filter("warn,linkerd=info");
    }
    if (rc != 0) {
        log_error("invalid configuration: %s", problem);
        return EX_USAGE;
    }
    proxy.build = BUILD_COMMIT;
    proxy.profile = TULLE_PROFILE;
    rc = proxy_open(&proxy, problem, sizeof(problem));
    if (rc != 0) {
        log_error("cannot start: %s", problem);
        notify_status(problem);
        return EXIT_FAILURE;
    }
    log_info("tulle-proxy " TULLE_VERSION " started; workers=%u", proxy.started);
    loop_run(&proxy.loop);
    has_failed = proxy.has_failed;
    proxy_close(&proxy);
    log_info("ended");
    return has_failed ? EXIT_FAILURE : EX_OK;
}
