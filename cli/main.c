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

/* Words that Linkerd's users type, and that are not here. */
static bool is_linkerds(const char *word)
{
    static const char *const words[] = {"tap",     "top",    "edges",     "authz",        "dashboard",
                                        "install", "upgrade", "uninstall", "multicluster", "jaeger",
                                        "get",     "identity"};
    bool found = false;

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        found = found || strcmp(word, words[i]) == 0;
    }
    return found;
}

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
    if (strcmp(argv[1], "viz") == 0) {
        (void)cli_fail("there is no `viz` here: `tulle stat`, `tulle routes` and `tulle check` do without "
                       "that word");
        return EXIT_USAGE;
    }
    if (is_linkerds(argv[1])) {
        (void)cli_fail("Linkerd's command \"%s\" does not exist here; `tulle --help` lists those that do",
                       argv[1]);
        return EXIT_USAGE;
    }
    return cli_no_command("", argv[1], &commands[0].name, ARRAY_LEN(commands), sizeof(commands[0]));
}
