/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"

#include "core/alloc.h"
#include "core/err.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The program as the supervisor, which has another working directory, can name it; by default the
 * one beside this command. */
static bool find_program(const char *given, char to[PATH_MAX])
{
    char self[PATH_MAX], beside[PATH_MAX + 16];
    ssize_t n;

    if (given == NULL) {
        n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        if (n <= 0) {
            (void)cli_fail("local upgrade: cannot learn where this program is: %s",
                           err_text(-errno));
            return false;
        }
        self[n] = '\0';
        (void)snprintf(beside, sizeof(beside), "%s/tulle-proxy", dirname(self));
        given = beside;
    }
    if (realpath(given, to) == NULL || access(to, X_OK) != 0) {
        (void)cli_fail("local upgrade: %s is no program that can be run: %s", given,
                       err_text(-errno));
        return false;
    }
    return true;
}

static void print_pod(const json_t *pod)
{
    const json_t *ok = json_object_get(pod, "ok");

    (void)printf("%s/%s: ", local_text(pod, "namespace"), local_text(pod, "name"));
    if (ok == NULL) {
        (void)printf("not tried\n");
    } else if (json_is_true(ok)) {
        (void)printf("upgraded; pid %d\n", (int)json_integer_value(json_object_get(pod, "pid")));
    } else {
        (void)printf("keeps its proxy: %s\n", local_text(pod, "error"));
    }
}

/* How many were not upgraded. */
static size_t print_pods(const json_t *pods)
{
    const json_t *pod;
    size_t i, left = 0;

    json_array_foreach(pods, i, pod)
    {
        print_pod(pod);
        left += !json_is_true(json_object_get(pod, "ok"));
    }
    return left;
}

static int upgrade(const char *path, const char *ns, const char *name, const char *program)
{
    json_t *request = json_pack("{s:s, s:s}", "command", "upgrade", "proxy", program), *answer;
    size_t left;

    if (ns != NULL) {
        json_object_set_new(request, "namespace", json_string(ns));
    }
    if (name != NULL) {
        json_object_set_new(request, "workload", json_string(name));
    }
    answer = local_ask(path, request);
    if (answer == NULL) {
        return 1;
    }
    left = print_pods(json_object_get(answer, "pods"));
    json_decref(answer);
    return left == 0 ? 0 : 1;
}

static const char usage[] =
    "local upgrade [DEPLOYMENT|POD] [options]\n\n"
    "A new proxy program in running pods, one pod after the other: the running proxy\n"
    "hands its listening sockets over and finishes what it has open. Without a name:\n"
    "in all pods of the home, and in those to come. A pod whose new proxy does not\n"
    "serve keeps the one it has.\n\n"
    "  tulle local upgrade\n"
    "  tulle local upgrade web -n demo --proxy ./build/tulle-proxy";

int local_upgrade(int argc, char **argv)
{
    struct local_target t = {0};
    const char *ns = NULL, *given = NULL;
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&t),
        {"namespace", 'n', OPT_STRING, "NS",
         "namespace of the Deployment or pod (default); alone: all pods of this namespace", &ns},
        {"proxy", 0, OPT_STRING, "PATH", "the new program (the tulle-proxy beside this command)",
         &given},
    };
    char path[HOME_PATH_MAX], program[PATH_MAX];
    struct opt_list args = {0};
    int status;

    if (!cli_parse(usage, opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    status = EXIT_USAGE;
    if (args.count > 1) {
        (void)cli_fail("local upgrade: name one Deployment or pod, or none for all");
    } else if (find_program(given, program) && local_path(&t, path)) {
        status = args.count == 0 ? upgrade(path, ns, NULL, program)
                                 : upgrade(path, ns != NULL ? ns : "default",
                                           local_name(args.items[0]), program);
    }
    opt_list_clear(&args);
    return status;
}
