/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"

#include "cli/api.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WAIT_NS          (300 * NS_PER_S)
#define RETRY_NS         (NS_PER_S / 2)
#define BRIEF_NS         (5 * NS_PER_S)
#define OUTPUT_BYTES_MAX (1u << 20)
#define LINE_BYTES       512
#define TERMINAL_COLUMNS 80 /* of a terminal that does not say */

static const struct check checks[] = {
    {"local-home", "the home's folder exists", check_home_folder, FACT_LOCAL, FACT_HOME, 0,
     "start a home with `tulle local up`, or name it with --home"},
    {"local-home", "the supervisor answers", check_supervisor, FACT_HOME,
     FACT_SUPERVISOR | FACT_ASKABLE, CHECK_RETRIED | CHECK_BRIEFLY,
     "start it with `tulle local up`; what a dead one left is swept then"},
    {"local-home", "all pods are ready", check_home_pods, FACT_SUPERVISOR, 0, CHECK_RETRIED,
     "`tulle local logs POD -n NAMESPACE` shows what a pod says"},
    {"local-home", "nothing was refused", check_home_problems, FACT_SUPERVISOR, 0, CHECK_WARNING,
     "correct the manifests; changes take effect at once"},

    {"linkerd-api", "the public API answers", check_api_answers, FACT_ASKABLE, FACT_API,
     CHECK_RETRIED,
     "look at the pod of linkerd-controller: `tulle local logs -n linkerd linkerd-controller`"},
    {"linkerd-api", "the control plane has read the cluster's objects", check_cluster_read,
     FACT_API, 0, CHECK_RETRIED, "its log names the file that it cannot read"},
    {"linkerd-api", "policies, routes, profiles and annotations are in effect", check_objects,
     FACT_API, 0, CHECK_WARNING,
     "correct the objects; changes take effect at once, and this check looks again"},
    {"linkerd-api", "Prometheus answers the control plane", check_prometheus, FACT_API,
     FACT_PROMETHEUS, CHECK_RETRIED,
     "look at Prometheus' log: `tulle local logs -n linkerd prometheus`"},
    {"linkerd-api", "Prometheus scrapes the proxies", check_scrapes, FACT_PROMETHEUS, 0,
     CHECK_RETRIED, "a proxy is scraped on port 4191 at /metrics; is something in the way?"},

    {"linkerd-existence", "the control plane's pods are ready", check_control_pods, FACT_API, 0,
     CHECK_RETRIED, "`tulle stat po -n linkerd --unmeshed` shows their state"},

    {"linkerd-identity", "trust anchors can be read and are in validity", check_anchors_valid,
     FACT_HOME, FACT_ANCHORS, 0,
     "`tulle local down` and `up` without --keep-identity make new ones"},
    {"linkerd-identity", "trust anchors are valid for at least 60 days", check_anchors_last,
     FACT_ANCHORS, 0, CHECK_WARNING,
     "`tulle local down` and `up` without --keep-identity make new ones"},
    {"linkerd-identity", "the issuer's certificate can be read and is in validity",
     check_issuer_valid, FACT_HOME, FACT_ISSUER, 0,
     "`tulle local down` and `up` without --keep-identity make a new one"},
    {"linkerd-identity", "the issuer's certificate is valid for at least 60 days",
     check_issuer_last, FACT_ISSUER, 0, CHECK_WARNING,
     "`tulle local down` and `up` without --keep-identity make a new one"},
    {"linkerd-identity", "the issuer's certificate is signed by a trust anchor",
     check_issuer_signed, FACT_ANCHORS | FACT_ISSUER, 0, 0,
     "issuer/crt.pem and anchors.pem in the home's identity/ do not belong together"},

    {"linkerd-version", "control plane and command line have the same version", check_version,
     FACT_API, 0, CHECK_WARNING, "run both from one build: `tulle local down`, `tulle local up`"},

    {"linkerd-data-plane", "the namespace exists", check_namespace, FACT_API | FACT_PROXY,
     FACT_NAMESPACE, 0, "`tulle stat ns --unmeshed` lists the namespaces"},
    {"linkerd-data-plane", "proxies are ready", check_proxies_ready, FACT_NAMESPACE, 0,
     CHECK_RETRIED,
     "a proxy is ready once it has its certificate: `tulle local logs -c linkerd-proxy POD`"},
    {"linkerd-data-plane", "proxies have reported to Prometheus", check_proxies_seen,
     FACT_NAMESPACE | FACT_PROMETHEUS, 0, CHECK_RETRIED, "it asks them every 10 s on port 4191"},
    {"linkerd-data-plane", "proxies and command line have the same version", check_proxies_version,
     FACT_NAMESPACE, 0, CHECK_WARNING, "restart the workloads: `tulle local restart DEPLOYMENT`"},
};

void checker_clear(struct checker *c)
{
    json_decref(c->status);
    c->status = NULL;
    if (c->pods != NULL) {
        api_answer_free(&c->pods->base);
        c->pods = NULL;
    }
}

/* --- running ------------------------------------------------------------------------------------- */

/* The first line of a problem, with how many more there are, cut to `most` columns. */
static void first_line(const char *problem, size_t most, char to[LINE_BYTES])
{
    size_t len = strcspn(problem, "\n"), more = 0;

    for (const char *c = problem + len; *c != '\0'; c++) {
        more += *c == '\n' && c[1] != '\0';
    }
    (void)snprintf(to, LINE_BYTES, "%.*s", (int)MIN(len, (size_t)LINE_BYTES - 1), problem);
    if (more > 0) {
        (void)snprintf(to, LINE_BYTES, "%.*s (and %zu more)",
                       (int)MIN(len, (size_t)LINE_BYTES - 32), problem, more);
    }
    if (strlen(to) > most) {
        (void)snprintf(to + MAX(most, (size_t)3) - 3, 4, "...");
    }
}

/*
 * Say what is waited for: on a terminal in one line that changes and goes, otherwise once for each check. An
 * empty text takes the line away.
 */
static void show_waiting(const char *what, const char *problem, uint64_t wait_ns, bool is_first)
{
    struct winsize size = {0};
    char line[LINE_BYTES], all[2 * LINE_BYTES];
    bool is_terminal = isatty(STDERR_FILENO) && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0;

    first_line(problem, LINE_BYTES - 1, line);
    (void)snprintf(all, sizeof(all), "waiting at most %llu s until %s: %s",
                   (unsigned long long)((wait_ns + NS_PER_S - 1) / NS_PER_S), what, line);
    if (is_terminal) {
        first_line(what[0] != '\0' ? all : "",
                   size.ws_col > 1 ? size.ws_col - 1u : TERMINAL_COLUMNS - 1u, line);
        (void)fprintf(stderr, "\r\033[K%s", line);
        (void)fflush(stderr);
    } else if (is_first && what[0] != '\0') {
        (void)fprintf(stderr, "tulle: %s\n", all);
    }
}

static int run_one(struct checker *c, const struct check *k, uint64_t until_ns, char *problem,
                   size_t problem_bytes)
{
    const struct timespec pause = {.tv_nsec = (long)RETRY_NS};
    uint64_t start_ns = clock_mono_ns();
    int rc = k->run(c, problem, problem_bytes);
    bool is_first = true;

    if ((k->flags & CHECK_BRIEFLY) != 0) {
        until_ns = MIN(until_ns, start_ns + BRIEF_NS);
    }
    while (rc != 0 && rc != E_CONFIG && (k->flags & CHECK_RETRIED) != 0 &&
           clock_mono_ns() < until_ns) {
        show_waiting(k->description, problem, until_ns - start_ns, is_first);
        is_first = false;
        (void)nanosleep(&pause, NULL);
        rc = k->run(c, problem, problem_bytes);
    }
    show_waiting("", "", 0, false);
    return rc;
}

static size_t run_all(struct checker *c, uint64_t wait_ns,
                      struct check_outcome out[ARRAY_LEN(checks)])
{
    uint64_t until_ns = clock_mono_ns() + wait_ns;
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        char problem[CHECK_PROBLEM_BYTES] = "";
        const struct check *k = &checks[i];
        struct check_outcome *o = &out[count];
        int rc;

        if ((k->needs & c->facts) != k->needs) {
            continue;
        }
        rc = run_one(c, k, until_ns, problem, sizeof(problem));
        c->facts |= rc == 0 ? k->gives : 0;
        if (rc == E_CONFIG && (k->flags & CHECK_RETRIED) != 0) {
            until_ns = 0; /* what follows from it is not waited for either */
        }
        *o = (struct check_outcome){.check = k, .result = CHECK_SUCCESS};
        if (rc != 0) {
            o->result = (k->flags & CHECK_WARNING) != 0 ? CHECK_WARNED : CHECK_ERROR;
            o->problem = mem_strdup(problem);
        }
        count++;
    }
    return count;
}

bool check_succeeded(const struct check_outcome *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (all[i].result == CHECK_ERROR) {
            return false;
        }
    }
    return true;
}

static int check(struct checker *c, uint64_t wait_ns, const char *output)
{
    struct check_outcome outcomes[ARRAY_LEN(checks)];
    size_t count = run_all(c, wait_ns, outcomes);
    int status = check_succeeded(outcomes, count) ? 0 : 1;
    struct text out;

    text_init(&out, OUTPUT_BYTES_MAX);
    if (strcmp(output, "json") == 0) {
        check_print_json(outcomes, count, &out);
    } else {
        check_print_table(outcomes, count, strcmp(output, "short") == 0, &out);
    }
    (void)fwrite(out.at, 1, out.len, stdout);
    text_clear(&out);
    for (size_t i = 0; i < count; i++) {
        mem_free(outcomes[i].problem);
    }
    return status;
}

/* --- the command line ---------------------------------------------------------------------------- */

int cli_check(int argc, char **argv)
{
    struct checker c = {.ns = ""};
    const char *output = "table";
    uint64_t wait_ns = WAIT_NS;
    bool proxies = false;
    const struct opt opts[] = {
        {"proxy", 0, OPT_BOOL, NULL, "check the data plane, too", &proxies},
        {"namespace", 'n', OPT_STRING, "NS", "with --proxy: of this namespace (all)", &c.ns},
        {"wait", 0, OPT_DURATION, "TIME",
         "how long to wait for what may still come (5m)", &wait_ns},
        {"output", 'o', OPT_STRING, "FORMAT", "table, short (failures only) or json", &output},
        CLI_TARGET_OPTS(&c.target),
    };
    struct opt_list args = {0};
    int status;

    if (!cli_parse("check [options]", opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    status = EXIT_USAGE;
    cli_target_complete(&c.target);
    if (args.count > 0) {
        (void)cli_fail("check: \"%s\" is one word too many; see `tulle check --help`",
                       args.items[0]);
    } else if (strcmp(output, "table") != 0 && strcmp(output, "short") != 0 &&
               strcmp(output, "json") != 0) {
        (void)cli_fail("check: -o: table, short or json");
    } else {
        c.facts =
            (c.target.api_addr == NULL ? FACT_LOCAL : FACT_ASKABLE) | (proxies ? FACT_PROXY : 0u);
        status = check(&c, wait_ns, output);
    }
    checker_clear(&c);
    opt_list_clear(&args);
    return status;
}
