/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command commands[] = {
#define COMMAND(name, run, help) {name, run, help},
#include "cli/commands.def"
#undef COMMAND
};

static int help(FILE *to)
{
    (void)fprintf(to, "Tulle " TULLE_VERSION
                      ": a service mesh for Kubernetes and for one Linux machine.\n\n"
                      "usage: tulle COMMAND [options]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        (void)fprintf(to, "  %-13s %s\n", commands[i].name, commands[i].help);
    }
    (void)fprintf(to, "\n`tulle COMMAND --help` says more about one command.\n");
    return to == stdout ? 0 : EXIT_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return help(stderr);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        return help(stdout);
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("tulle " TULLE_VERSION "\n");
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(stderr, "tulle: there is no command \"%s\"\n\n", argv[1]);
    return help(stderr);
}
