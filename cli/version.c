/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/api.h"

#include "core/alloc.h"

#include <stdio.h>
#include <stdlib.h>

struct version_options {
    struct cli_target target;
    const char *ns;
    bool is_short, client_only, proxies;
};

static void print_server(const struct version_options *o)
{
    ProtobufCMessage *answer = NULL;
    const char *version = "unavailable";
    char problem[512];

    if (api_call(&o->target, "Version", NULL, &linkerd2__public__version_info__descriptor, &answer,
                 problem, sizeof(problem)) == 0) {
        version = ((const Linkerd2__Public__VersionInfo *)answer)->releaseversion;
    } else if (o->target.verbose) {
        (void)fprintf(stderr, "tulle: %s\n", problem);
    }
    (void)printf(o->is_short ? "%s\n" : "Server version: %s\n", version);
    api_answer_free(answer);
}

/* --- proxies ------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_counts(const char **versions, size_t count)
{
    if (count > 0) {
        qsort(versions, count, sizeof(*versions), compare);
    }
    for (size_t i = 0, same; i < count; i += same) {
        same = 1;
        while (i + same < count && strcmp(versions[i + same], versions[i]) == 0) {
            same++;
        }
        (void)printf("\t%s (%zu pods)\n", versions[i], same);
    }
}

static int print_proxies(const struct version_options *o)
{
    Linkerd2__Public__ListPodsResponse *pods = NULL;
    const char **versions;
    char problem[512];
    size_t count = 0;

    if (api_list_pods(&o->target, o->ns != NULL ? o->ns : "", &pods, problem, sizeof(problem)) !=
        0) {
        return cli_fail("version: %s", problem);
    }
    versions = mem_new_array(pods->n_pods + 1, sizeof(*versions));
    for (size_t i = 0; i < pods->n_pods; i++) {
        if (pods->pods[i]->controllernamespace[0] != '\0') {
            const char *version = pods->pods[i]->proxyversion;

            versions[count++] = version[0] != '\0' ? version : "unknown";
        }
    }
    (void)printf("Proxy versions:%s\n", count > 0 ? "" : " unavailable");
    print_counts(versions, count);
    mem_free(versions);
    api_answer_free(&pods->base);
    return 0;
}

int cli_version(int argc, char **argv)
{
    struct version_options o = {0};
    struct opt_list args = {0};
    const struct opt opts[] = {
        {"short", 0, OPT_BOOL, NULL, "only the numbers", &o.is_short},
        {"client", 0, OPT_BOOL, NULL, "only this program's", &o.client_only},
        {"proxy", 0, OPT_BOOL, NULL, "the proxies' too, and how many have each", &o.proxies},
        {"namespace", 'n', OPT_STRING, "NS", "with --proxy: of this namespace (all)", &o.ns},
        CLI_TARGET_OPTS(&o.target),
    };
    int status;

    if (!cli_parse("version [options]", opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    opt_list_clear(&args);
    cli_target_complete(&o.target);
    (void)printf(o.is_short ? "%s\n" : "Client version: %s\n", TULLE_VERSION);
    if (!o.client_only) {
        print_server(&o);
    }
    return o.proxies ? print_proxies(&o) : 0;
}
