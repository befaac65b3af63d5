/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"

#include "core/alloc.h"
#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_BYTES 65536

/* --- which pod ----------------------------------------------------------------------------------- */

/* By its name; or the first of a Deployment, a ready one if there is any. */
static const json_t *find_pod(const json_t *status, const char *ns, const char *name,
                              size_t *out_others)
{
    const json_t *pod, *found = NULL;
    size_t i;

    *out_others = 0;
    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        bool is_ready = json_is_true(json_object_get(pod, "ready"));

        if (strcmp(local_text(pod, "namespace"), ns) != 0) {
            continue;
        }
        if (strcmp(local_text(pod, "name"), name) == 0) {
            *out_others = 0;
            return pod;
        }
        if (strcmp(local_text(pod, "workload"), name) == 0) {
            *out_others += found != NULL;
            found = found == NULL || (is_ready && !json_is_true(json_object_get(found, "ready")))
                        ? pod
                        : found;
        }
    }
    return found;
}

/* The first of the application unless another is named. */
static const char *pick_container(const json_t *pod, const char *asked)
{
    const json_t *c;
    size_t i;

    json_array_foreach(json_object_get(pod, "containers"), i, c)
    {
        const char *name = local_text(c, "name");

        if (asked != NULL ? strcmp(asked, name) == 0 : strcmp(local_text(c, "role"), "main") == 0) {
            return name;
        }
    }
    return NULL;
}

static int fail_no_pod(const json_t *status, const char *ns, const char *name)
{
    const json_t *pod;
    size_t i;

    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        if (strcmp(local_text(pod, "name"), name) == 0 ||
            strcmp(local_text(pod, "workload"), name) == 0) {
            return cli_fail("there is no Deployment or pod called %s in namespace %s; there is one "
                            "in namespace %s: -n %s",
                            name, ns, local_text(pod, "namespace"), local_text(pod, "namespace"));
        }
    }
    return cli_fail("there is no Deployment or pod called %s in namespace %s; `tulle local status` "
                    "lists them",
                    name, ns);
}

static int fail_no_container(const json_t *pod, const char *name)
{
    struct text names;
    const json_t *c;
    size_t i;

    text_init(&names, 16384);
    json_array_foreach(json_object_get(pod, "containers"), i, c)
    {
        text_printf(&names, "%s%s", i > 0 ? ", " : "", local_text(c, "name"));
    }
    (void)cli_fail("pod %s has no container called %s; it has %s", local_text(pod, "name"), name,
                   names.at != NULL ? names.at : "none");
    text_clear(&names);
    return 1;
}

/* --- logs ---------------------------------------------------------------------------------------- */

/* To where the last `lines` (1 or more) lines begin. */
static off_t find_tail(int fd, off_t size, long lines)
{
    char part[PART_BYTES];
    off_t end = size;

    while (end > 0) {
        off_t start = MAX(end - (off_t)sizeof(part), (off_t)0);

        if (pread(fd, part, (size_t)(end - start), start) != (ssize_t)(end - start)) {
            return 0;
        }
        for (off_t at = end; at > start;
             at--) { /* the newline that ends the last line begins none */
            if (part[at - 1 - start] == '\n' && at < size && --lines == 0) {
                return at;
            }
        }
        end = start;
    }
    return 0;
}

/* What was added; a file that became shorter was cut, and begins anew. */
static bool copy_out(int fd, off_t *io_at)
{
    char part[PART_BYTES];
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) == 0 && st.st_size < *io_at) {
        *io_at = 0;
    }
    while ((n = pread(fd, part, sizeof(part), *io_at)) > 0) {
        if (fwrite(part, 1, (size_t)n, stdout) != (size_t)n) {
            return false;
        }
        *io_at += n;
    }
    return fflush(stdout) == 0;
}

static bool is_gone(int fd)
{
    struct stat st;

    return fstat(fd, &st) != 0 || st.st_nlink == 0;
}

/* Until its pod is gone, and the file with it. */
static int follow_log(const char *file, int fd, off_t at)
{
    int watch = inotify_init1(IN_CLOEXEC);
    char events[4096];

    if (watch < 0 || inotify_add_watch(watch, file, IN_MODIFY | IN_ATTRIB) < 0) {
        int rc = -errno;

        if (watch >= 0) {
            (void)close(watch);
        }
        return is_gone(fd) ? 0 : cli_fail("%s cannot be followed: %s", file, err_text(rc));
    }
    while (copy_out(fd, &at) && !is_gone(fd) && read(watch, events, sizeof(events)) > 0) {
    }
    (void)close(watch);
    return 0;
}

static int show_log(const char *file, long tail, bool follow)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC), status = 0;
    struct stat st;
    off_t at = 0;

    if (fd < 0 && errno == ENOENT) {
        return cli_fail("the container has not been started yet: there is no log");
    }
    if (fd < 0 || fstat(fd, &st) != 0) {
        return cli_fail("%s: %s", file, err_text(-errno));
    }
    if (tail >= 0) {
        at = tail == 0 ? st.st_size : find_tail(fd, st.st_size, tail);
    }
    if (follow) {
        status = follow_log(file, fd, at);
    } else if (!copy_out(fd, &at)) {
        status = 1;
    }
    (void)close(fd);
    return status;
}

struct logs_options {
    struct local_target target;
    const char *ns, *container;
    long tail;
    bool follow;
};

static int show_logs(const struct logs_options *o, const char *path, const json_t *status,
                     const char *argument)
{
    const char *name = local_name(argument), *container;
    char file[HOME_PATH_MAX + 512];
    size_t others = 0;
    const json_t *pod = find_pod(status, o->ns, name, &others);

    if (pod == NULL) {
        return fail_no_pod(status, o->ns, name);
    }
    container = pick_container(pod, o->container);
    if (container == NULL) {
        return fail_no_container(pod, o->container != NULL ? o->container : "");
    }
    if (others > 0) {
        (void)fprintf(stderr, "%zu pods; this is %s\n", others + 1, local_text(pod, "name"));
    }
    (void)snprintf(file, sizeof(file), "%.3000s/logs/%s.%s.%s.log", path, o->ns,
                   local_text(pod, "name"), container);
    return show_log(file, o->tail, o->follow);
}

int local_logs(int argc, char **argv)
{
    struct logs_options o = {.ns = "default", .tail = -1};
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&o.target),
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the pod (default)", &o.ns},
        {"container", 'c', OPT_STRING, "NAME", "container; the application's unless said",
         &o.container},
        {"follow", 'f', OPT_BOOL, NULL, "go on as it writes", &o.follow},
        {"tail", 0, OPT_INT, "LINES", "only the last lines", &o.tail},
    };
    char path[HOME_PATH_MAX];
    struct opt_list args = {0};
    json_t *status_json;
    int status;

    if (!cli_parse("local logs POD|DEPLOYMENT [options]", opts, ARRAY_LEN(opts), argc, argv, &args,
                   &status)) {
        return status;
    }
    status = EXIT_USAGE;
    if (args.count != 1) {
        (void)cli_fail("local logs: name one pod or Deployment");
    } else if (local_path(&o.target, path)) {
        status_json = local_ask(path, json_pack("{s:s}", "command", "status"));
        status = status_json != NULL ? show_logs(&o, path, status_json, args.items[0]) : 1;
        json_decref(status_json);
    }
    opt_list_clear(&args);
    return status;
}

/* --- restart ------------------------------------------------------------------------------------- */

static int restart(const char *path, const char *ns, const char *name)
{
    json_t *answer = local_ask(path, json_pack("{s:s, s:s, s:s}", "command", "restart", "namespace",
                                               ns, "workload", name));
    int count = (int)json_integer_value(json_object_get(answer, "pods"));

    if (answer == NULL) {
        return 1;
    }
    (void)printf("%s: %d %s replaced\n", name, count, count == 1 ? "pod is" : "pods are");
    json_decref(answer);
    return 0;
}

int local_restart(int argc, char **argv)
{
    struct local_target t = {0};
    const char *ns = "default";
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&t),
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the Deployment or pod (default)", &ns},
    };
    char path[HOME_PATH_MAX];
    struct opt_list args = {0};
    int status;

    if (!cli_parse("local restart DEPLOYMENT|POD... [options]\n\n"
                   "New pods in the place of those of a Deployment, or of the one that is named: as\n"
                   "`kubectl rollout restart` and `kubectl delete pod`, but the old ones leave when\n"
                   "the new ones are ready.\n\n"
                   "  tulle local restart voting -n demo\n"
                   "  tulle local restart voting-6c1f8d2a07-x4k2p -n demo   one of `local status`",
                   opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    status = EXIT_USAGE;
    if (args.count == 0) {
        (void)cli_fail("local restart: name a Deployment or pod");
    } else if (local_path(&t, path)) {
        status = 0;
        for (size_t i = 0; i < args.count && status == 0; i++) {
            status = restart(path, ns, local_name(args.items[i]));
        }
    }
    opt_list_clear(&args);
    return status;
}
