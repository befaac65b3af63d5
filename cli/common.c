/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "api/names.h"
#include "core/err.h"
#include "core/near.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int cli_fail(const char *format, ...)
{
    va_list args;

    (void)fputs("tulle: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return 1;
}

int cli_no_command(const char *parent, const char *typed, const char *const *names, size_t count,
                   size_t stride)
{
    struct near n = NEAR(typed);

    if (typed[0] == '-') {
        (void)cli_fail("options stand behind the command: `tulle %sCOMMAND %s ...`; `tulle %s--help` "
                       "lists the commands",
                       parent, typed, parent);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < count; i++) {
        near_try(&n, *(const char *const *)(const void *)((const char *)names + i * stride));
    }
    if (near_word(&n) != NULL) {
        (void)cli_fail("there is no command \"%s%s\"; did you mean \"%s%s\"? `tulle %s--help` lists "
                       "them all",
                       parent, typed, parent, near_word(&n), parent);
    } else {
        (void)cli_fail("there is no command \"%s%s\"; `tulle %s--help` lists them all", parent, typed,
                       parent);
    }
    return EXIT_USAGE;
}

/* The words that begin a usage: "local up" of "local up FILE|DIR... [options]". */
static size_t command_length(const char *usage)
{
    size_t n = 0;

    for (size_t i = 0; (usage[i] >= 'a' && usage[i] <= 'z') || usage[i] == '-' || usage[i] == ' ';
         i++) {
        n = usage[i] != ' ' ? i + 1 : n;
    }
    return n;
}

bool cli_parse(const char *usage, const struct opt *opts, size_t count, int argc, char **argv,
               struct opt_list *args, int *out_status)
{
    char problem[512];
    struct text t;
    int rc = opt_parse(opts, count, argc, argv, args, problem, sizeof(problem));

    if (rc == 0) {
        return true;
    }
    if (rc != E_CANCELED) {
        (void)cli_fail("%.*s: %s", (int)command_length(usage), usage, problem);
        *out_status = EXIT_USAGE;
        return false;
    }
    text_init(&t, 65536);
    text_printf(&t, "usage: tulle %s\n\n", usage);
    opt_help(opts, count, &t);
    (void)fwrite(t.at, 1, t.len, stdout);
    text_clear(&t);
    *out_status = 0;
    return false;
}

void cli_target_complete(struct cli_target *t)
{
    t->home = t->home != NULL ? t->home : getenv("TULLE_HOME");
    t->control_ns = t->control_ns != NULL ? t->control_ns : getenv("LINKERD_NAMESPACE");
    t->control_ns = t->control_ns != NULL ? t->control_ns : NAME_CONTROL_NS;
}

/* --- kinds --------------------------------------------------------------------------------------- */

static const struct kind_name {
    const char *kind, *plural, *abbreviation;
} kinds[] = {
    {"deployment", "deployments", "deploy"},
    {"pod", "pods", "po"},
    {"namespace", "namespaces", "ns"},
    {"service", "services", "svc"},
    {"statefulset", "statefulsets", "sts"},
    {"daemonset", "daemonsets", "ds"},
    {"replicaset", "replicasets", "rs"},
    {"replicationcontroller", "replicationcontrollers", "rc"},
    {"job", "jobs", "job"},
    {"cronjob", "cronjobs", "cj"},
    {"authority", "authorities", "au"},
    {"all", "all", "all"},
};

static const struct kind_name *kind_find_name(struct bytes text)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (bytes_eq_nocase(text, bytes_str(kinds[i].kind)) ||
            bytes_eq_nocase(text, bytes_str(kinds[i].plural)) ||
            bytes_eq_nocase(text, bytes_str(kinds[i].abbreviation))) {
            return &kinds[i];
        }
    }
    return NULL;
}

const char *kind_short(const char *kind)
{
    const struct kind_name *k = kind_find_name(bytes_str(kind));

    return k != NULL ? k->abbreviation : kind;
}

const char *kind_plural(const char *kind)
{
    const struct kind_name *k = kind_find_name(bytes_str(kind));

    return k != NULL ? k->plural : kind;
}

int cli_problem(char *problem, size_t problem_bytes, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(problem, problem_bytes, format, args);
    va_end(args);
    return E_CONFIG;
}

static bool has_slash(const char *text)
{
    return strchr(text, '/') != NULL;
}

/* TYPE or TYPE/NAME; behind a bare TYPE, other words are names. */
static int resource_one(const char *text, const char *type, struct resource_arg *out, char *problem,
                        size_t problem_bytes)
{
    struct bytes kind, name = BYTES_NONE;
    const struct kind_name *k;

    if (type != NULL && strcmp(type, "all") == 0) {
        return cli_problem(problem, problem_bytes, "\"all\" takes no names");
    }
    if (type != NULL && !has_slash(text)) {
        *out = (struct resource_arg){.kind = type, .name = text};
        return 0;
    }
    (void)bytes_split(bytes_str(text), '/', &kind, &name);
    k = kind_find_name(kind);
    if (k == NULL) {
        return cli_problem(problem, problem_bytes,
                           "\"" BYTES_FMT "\" is no kind of resource; there are deploy, po, ns, svc, "
                           "sts, ds, rs, rc, job, cj, au and all; one resource is deploy/NAME",
                           BYTES_ARG(kind));
    }
    if (has_slash(text) && (name.len == 0 || strcmp(k->kind, "all") == 0)) {
        return cli_problem(problem, problem_bytes,
                           "\"%s\": a name is needed behind the slash, of one kind", text);
    }
    *out = (struct resource_arg){.kind = k->kind, .name = name.len > 0 ? name.at : ""};
    return 0;
}

int resource_parse(const struct opt_list *args, size_t from, struct resource_arg *out,
                   size_t out_max, size_t *out_count, char *problem, size_t problem_bytes)
{
    struct resource_arg first;
    const char *type = NULL;
    size_t count = 0;

    if (args->count <= from) {
        return cli_problem(problem, problem_bytes,
                           "name a resource: deploy, deploy/web, po, ns, svc ...");
    }
    if (args->count - from > out_max) {
        return cli_problem(problem, problem_bytes, "at most %zu resources may be named at once",
                           out_max);
    }
    if (args->count - from > 1 && !has_slash(args->items[from])) { /* TYPE NAME... */
        TRY(resource_one(args->items[from++], NULL, &first, problem, problem_bytes));
        type = first.kind;
    }
    for (size_t i = from; i < args->count; i++) {
        TRY(resource_one(args->items[i], type, &out[count++], problem, problem_bytes));
    }
    *out_count = count;
    return 0;
}
