/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include <stdio.h>

static const struct {
    const char *name, *other_name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"proxy-metrics", NULL, diagnostics_proxy_metrics,
     "what the proxies of a resource measure, as they print it"},
    {"endpoints", "ep", diagnostics_endpoints, "the endpoints that proxies are told of a service"},
    {"profile", NULL, diagnostics_profile,
     "what proxies are told of a service or an address, as JSON"},
    {"policy", NULL, diagnostics_policy,
     "what proxies let in or do with requests, and what comes of one"},
};

static int help(FILE *to)
{
    (void)fputs("usage: tulle diagnostics COMMAND [options]\n\n", to);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        (void)fprintf(to, "  %-14s %s\n", commands[i].name, commands[i].help);
    }
    return to == stdout ? 0 : EXIT_USAGE;
}

int cli_diagnostics(int argc, char **argv)
{
    if (argc < 2) {
        return help(stderr);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        return help(stdout);
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0 ||
            (commands[i].other_name != NULL && strcmp(argv[1], commands[i].other_name) == 0)) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    return cli_no_command("diagnostics ", argv[1], &commands[0].name, ARRAY_LEN(commands),
                          sizeof(commands[0]));
}
