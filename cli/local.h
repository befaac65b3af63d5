/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

/*
 * `tulle local`: local.c has up, down and status; local_pod.c what concerns one pod.
 */
#include "cli/cli.h"
#include "local/home.h"

struct local_target {
    const char *home, *state;
};
#define LOCAL_TARGET_OPTS(t)                                                                       \
    {"home", 0, OPT_STRING, "NAME", "name of the home (default)", &(t)->home},                     \
    {"state", 0, OPT_STRING, "DIR", "where homes are kept (/var/lib/tulle)", &(t)->state}

/* Parse options of a command without arguments and find the home's path. False: return *out_status. */
bool local_parse(const char *usage, const struct opt *opts, size_t count, int argc, char **argv, const struct local_target *t,
                 char path[HOME_PATH_MAX], int *out_status);

int local_logs(int argc, char **argv);
int local_restart(int argc, char **argv);
int local_exec(int argc, char **argv);

#endif
