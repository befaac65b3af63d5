/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include "api/names.h"
#include "cli/api.h"
#include "cluster/cluster.h"
#include "core/alloc.h"
#include "core/err.h"
#include "local/home.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * The raw metrics of each proxy, fetched by the home's supervisor, which reaches the pods' addresses.
 */
#define RESOURCES_MAX    16
#define OUTPUT_BYTES_MAX (128u << 20)

struct metrics_options {
    struct cli_target target;
    char home[HOME_PATH_MAX];
    const char *ns;
    bool obfuscated;
};

static void show(const char *metrics, bool obfuscated)
{
    struct text t;

    if (!obfuscated) {
        (void)fputs(metrics, stdout);
        return;
    }
    text_init(&t, OUTPUT_BYTES_MAX);
    metrics_obfuscate(bytes_str(metrics), &t);
    (void)fwrite(t.at != NULL ? t.at : "", 1, t.len, stdout);
    text_clear(&t);
}

static int fetch(const struct metrics_options *o, const char *ns, const char *pod, char *problem,
                 size_t problem_bytes)
{
    json_t *request = json_pack("{s:s, s:s, s:s, s:i, s:s}", "command", "fetch", "namespace", ns,
                                "pod", pod, "port", PORT_ADMIN, "path", "/metrics");
    AUTOFREE char *line = json_dumps(request, JSON_COMPACT);
    AUTOFREE char *answer = NULL;
    json_error_t error;
    json_t *j = NULL;
    const char *body, *why;
    int rc;

    json_decref(request);
    TRY(home_ask(o->home, line, &answer, problem, problem_bytes));
    j = json_loads(answer, 0, &error);
    body = json_text(j, "body");
    why = json_text(j, "error");
    if (!json_flag(j, "ok", false) || body == NULL) {
        (void)snprintf(problem, problem_bytes, "%s",
                       why != NULL ? why : "the supervisor's answer cannot be read");
        rc = E_INTERNAL;
    } else if (json_number(j, "status", 0) != 200) {
        (void)snprintf(problem, problem_bytes, "the proxy answers with status %d",
                       (int)json_number(j, "status", 0));
        rc = E_INTERNAL;
    } else {
        show(body, o->obfuscated);
        rc = 0;
    }
    json_decref(j);
    return rc;
}

/* --- pods ---------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return strcmp((*(Linkerd2__Public__Pod *const *)a)->name,
                  (*(Linkerd2__Public__Pod *const *)b)->name);
}

/* Those with a proxy to the front, by name. */
static size_t keep_meshed(Linkerd2__Public__ListPodsResponse *pods)
{
    size_t count = 0;

    for (size_t i = 0; i < pods->n_pods; i++) {
        if (pods->pods[i]->controllernamespace[0] != '\0') {
            Linkerd2__Public__Pod *swapped = pods->pods[count];

            pods->pods[count++] = pods->pods[i];
            pods->pods[i] = swapped;
        }
    }
    if (count > 0) {
        qsort(pods->pods, count, sizeof(pods->pods[0]), compare);
    }
    return count;
}

/* `key` is "namespace/name". */
static int print_pod(const struct metrics_options *o, const char *key, size_t number, size_t count)
{
    struct bytes ns, name;
    char problem[512];
    AUTOFREE char *ns_text = NULL;

    (void)bytes_split(bytes_str(key), '/', &ns, &name);
    ns_text = bytes_dup(ns);
    (void)printf("#\n# POD %s (%zu of %zu)\n#\n", name.at, number, count);
    if (fetch(o, ns_text, name.at, problem, sizeof(problem)) != 0) {
        return cli_fail("diagnostics proxy-metrics: %s: %s", key, problem);
    }
    return 0;
}

static int print_resource(const struct metrics_options *o, const struct resource_arg *r)
{
    const char *ns = strcmp(r->kind, "namespace") == 0 ? r->name : o->ns;
    Linkerd2__Public__ListPodsResponse *pods = NULL;
    char problem[512];
    size_t count;
    int status = 0;

    if (api_list_pods_of(&o->target, ns, r->kind, r->name, &pods, problem, sizeof(problem)) != 0) {
        return cli_fail("diagnostics proxy-metrics: %s", problem);
    }
    count = keep_meshed(pods);
    if (count == 0) {
        status = cli_fail("diagnostics proxy-metrics: no pods with a proxy belong to %s%s%s in "
                          "namespace %s",
                          kind_short(r->kind), r->name[0] != '\0' ? "/" : "", r->name, ns);
    }
    for (size_t i = 0; i < count; i++) {
        status |= print_pod(o, pods->pods[i]->name, i + 1, count);
    }
    api_answer_free(&pods->base);
    return status;
}

int diagnostics_proxy_metrics(int argc, char **argv)
{
    struct metrics_options o = {.ns = "default"};
    const struct opt opts[] = {
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the resources (default)", &o.ns},
        {"obfuscate", 0, OPT_BOOL, NULL, "hash what names services, identities, addresses",
         &o.obfuscated},
        CLI_TARGET_OPTS(&o.target),
    };
    struct resource_arg resources[RESOURCES_MAX];
    struct opt_list args = {0};
    char problem[512];
    size_t count = 0;
    int status;

    if (!cli_parse("diagnostics proxy-metrics TYPE/NAME... [options]\n\n"
                   "  tulle diagnostics proxy-metrics deploy/web -n demo",
                   opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    cli_target_complete(&o.target);
    if (resource_parse(&args, 0, resources, RESOURCES_MAX, &count, problem, sizeof(problem)) != 0) {
        (void)cli_fail("diagnostics proxy-metrics: %s", problem);
        status = EXIT_USAGE;
    } else if (home_path(o.target.home, o.target.state, o.home, problem, sizeof(problem)) != 0) {
        status = cli_fail("diagnostics proxy-metrics: %s", problem);
    } else {
        status = 0;
        for (size_t i = 0; i < count; i++) {
            status |= print_resource(&o, &resources[i]);
        }
    }
    opt_list_clear(&args);
    return status;
}
