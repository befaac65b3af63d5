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
#define RESOURCES_MAX 16

static int fetch(const char *home, const char *ns, const char *pod, char *problem,
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
    rc = home_ask(home, line, &answer, problem, problem_bytes);
    if (rc != 0) {
        return rc;
    }
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
        (void)fputs(body, stdout);
    }
    json_decref(j);
    return rc;
}

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

static int print_resource(const struct cli_target *t, const char *home, const char *ns,
                          const struct resource_arg *r)
{
    Linkerd2__Public__ListPodsResponse *pods = NULL;
    char problem[512];
    size_t count;
    int status = 0;

    if (api_list_pods_of(t, strcmp(r->kind, "namespace") == 0 ? r->name : ns, r->kind, r->name,
                         &pods, problem, sizeof(problem)) != 0) {
        return cli_fail("diagnostics proxy-metrics: %s", problem);
    }
    count = keep_meshed(pods);
    if (count == 0) {
        status = cli_fail(
            "diagnostics proxy-metrics: no pods with a proxy belong to %s%s%s in namespace %s",
            kind_short(r->kind), r->name[0] != '\0' ? "/" : "", r->name, ns);
    }
    for (size_t i = 0; i < count; i++) {
        struct bytes pod_ns, pod_name;

        (void)bytes_split(bytes_str(pods->pods[i]->name), '/', &pod_ns, &pod_name);
        {
            AUTOFREE char *own_ns = bytes_dup(pod_ns);

            (void)printf("#\n# POD %s (%zu of %zu)\n#\n", pod_name.at, i + 1, count);
            if (fetch(home, own_ns, pod_name.at, problem, sizeof(problem)) != 0) {
                status =
                    cli_fail("diagnostics proxy-metrics: %s: %s", pods->pods[i]->name, problem);
            }
        }
    }
    api_answer_free(&pods->base);
    return status;
}

int diagnostics_proxy_metrics(int argc, char **argv)
{
    struct cli_target target = {0};
    const char *ns = "default";
    const struct opt opts[] = {
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the resources (default)", &ns},
        CLI_TARGET_OPTS(&target),
    };
    struct resource_arg resources[RESOURCES_MAX];
    char home[HOME_PATH_MAX], problem[512];
    struct opt_list args = {0};
    size_t count = 0;
    int status;

    if (!cli_parse("diagnostics proxy-metrics TYPE/NAME... [options]\n\n"
                   "  tulle diagnostics proxy-metrics deploy/web -n demo",
                   opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    cli_target_complete(&target);
    if (resource_parse(&args, 0, resources, RESOURCES_MAX, &count, problem, sizeof(problem)) != 0) {
        (void)cli_fail("diagnostics proxy-metrics: %s", problem);
        status = EXIT_USAGE;
    } else if (home_path(target.home, target.state, home, problem, sizeof(problem)) != 0) {
        status = cli_fail("diagnostics proxy-metrics: %s", problem);
    } else {
        status = 0;
        for (size_t i = 0; i < count; i++) {
            status |= print_resource(&target, home, ns, &resources[i]);
        }
    }
    opt_list_clear(&args);
    return status;
}
