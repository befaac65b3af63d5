/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

/*
 * `tulle local`: local.c has down and status, local_up.c up, local_pod.c logs and restart, local_upgrade.c
 * upgrade, local_exec.c exec.
 */
#include "cli/cli.h"
#include "local/home.h"

struct local_target {
    const char *home, *state;
};
#define LOCAL_TARGET_OPTS(t)                                                                       \
    {"home", 0, OPT_STRING, "NAME", "name of the home (default)", &(t)->home},                     \
    {"state", 0, OPT_STRING, "DIR", "where homes are kept (/var/lib/tulle)", &(t)->state}

/* The home's path; false after a problem was printed. */
bool local_path(const struct local_target *t, char path[HOME_PATH_MAX]);
/* Ask, and give the answer as JSON; NULL after a problem was printed. Takes the request. */
json_t *local_ask(const char *path, json_t *request);
const char *local_text(const json_t *map, const char *key); /* "" when absent */
/* "deploy/web", "pod/web-1" and "web" are names of pods and Deployments alike: the part that names it. */
const char *local_name(const char *argument);

int local_up(int argc, char **argv);
int local_logs(int argc, char **argv);
int local_restart(int argc, char **argv);
int local_upgrade(int argc, char **argv);
int local_exec(int argc, char **argv);

#endif
