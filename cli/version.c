/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "api/public.pb-c.h"
#include "core/alloc.h"

#include <stdio.h>

static void print_server(const struct cli_target *t, bool is_short)
{
    char problem[512], *answer = NULL;
    size_t len = 0;
    Linkerd2__Public__VersionInfo *info = NULL;

    if (api_call(t, "Version", BYTES_NONE, &answer, &len, problem, sizeof(problem)) == 0) {
        info = linkerd2__public__version_info__unpack(NULL, len,
                                                      (const uint8_t *)(const void *)answer);
    } else if (t->verbose) {
        (void)fprintf(stderr, "%s\n", problem);
    }
    (void)printf(is_short ? "%s\n" : "Server version: %s\n",
                 info != NULL ? info->releaseversion : "unavailable");
    if (info != NULL) {
        linkerd2__public__version_info__free_unpacked(info, NULL);
    }
    mem_free(answer);
}

int cli_version(int argc, char **argv)
{
    struct cli_target target = {0};
    bool is_short = false, client_only = false;
    struct opt_list args = {0};
    const struct opt opts[] = {
        {"short", 0, OPT_BOOL, NULL, "only the numbers", &is_short},
        {"client", 0, OPT_BOOL, NULL, "only this program's", &client_only},
        CLI_TARGET_OPTS(&target),
    };
    int status;

    if (!cli_parse("version [options]", opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    opt_list_clear(&args);
    (void)printf(is_short ? "%s\n" : "Client version: %s\n", TULLE_VERSION);
    if (!client_only) {
        print_server(&target, is_short);
    }
    return 0;
}
