/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/*
 * What the commands of `tulle` share. A command is `int cli_NAME(int argc, char **argv)` with argv[0] its
 * own name; it returns the exit status: 0, 1 for a failure (a sentence on standard error says what and what
 * to do), 64 for a wrong command line.
 */
#include "core/opt.h"
#include "core/text.h"

#include <jansson.h>

#define EXIT_USAGE 64

struct cli_target { /* which control plane: options that every command takes */
    const char *home;       /* --home, or TULLE_HOME: name of a local home ("default") */
    const char *state;      /* --state, or TULLE_STATE: where homes are kept */
    const char *api_addr;   /* --api-addr host:port: a public API to ask directly */
    const char *control_ns; /* -L, --linkerd-namespace ("linkerd") */
    bool verbose;
};
#define CLI_TARGET_OPTS(t)                                                                             \
    {"home", 0, OPT_STRING, "NAME", "the local home to ask (TULLE_HOME, or default)", &(t)->home}, \
    {"state", 0, OPT_STRING, "DIR", "folder of homes (TULLE_STATE, or /var/lib/tulle)",                \
     &(t)->state},                                                                                     \
    {"api-addr", 0, OPT_STRING, "HOST:PORT", "a public API to ask directly", &(t)->api_addr},          \
    {"linkerd-namespace", 'L', OPT_STRING, "NS", "the control plane's (linkerd)", &(t)->control_ns},   \
    {"verbose", 0, OPT_BOOL, NULL, "say more", &(t)->verbose}

/* Parse; prints help or the problem itself. True: go on. False: return *out_status. Options that are not
 * given keep what their targets hold. */
bool cli_parse(const char *usage, const struct opt *opts, size_t count, int argc, char **argv,
               struct opt_list *args, int *out_status);
/* What stands for an option of the target that was not given: TULLE_HOME, LINKERD_NAMESPACE, "linkerd". */
void cli_target_complete(struct cli_target *t);
/*
 * There is no command `typed` below `parent` ("" or "local "): a sentence with what may have been meant, of
 * `count` names that lie `stride` bytes apart. Returns EXIT_USAGE.
 */
int cli_no_command(const char *parent, const char *typed, const char *const *names, size_t count,
                   size_t stride);
/* "tulle: ..." on standard error, returns 1. */
int cli_fail(const char *format, ...) PRINTF_LIKE(1, 2);
/* The sentence into `problem`; returns E_CONFIG. */
int cli_problem(char *problem, size_t problem_bytes, const char *format, ...) PRINTF_LIKE(3, 4);

/* "deploy/web", "deployments web api", "po" ...: canonical kind ("deployment") and name (empty: all).
 * E_CONFIG with a sentence. */
struct resource_arg {
    const char *kind; /* static: "deployment", "pod", "namespace", "service", ... "all" */
    const char *name; /* borrowed from argv, "" when none */
};
int resource_parse(const struct opt_list *args, size_t from, struct resource_arg *out, size_t out_max,
                   size_t *out_count, char *problem, size_t problem_bytes) MUST_USE;
const char *kind_short(const char *kind); /* "deploy" */
const char *kind_plural(const char *kind); /* "deployments" */

/*
 * Columns three spaces apart, the first `left_columns` left aligned, the rest right aligned. On a terminal
 * that is too narrow they move together, and then heads are broken at their underscore; neighbours that begin
 * with one word share it. Pipes and files get the full form, which scripts read.
 */
struct table;
struct table *table_new(const char *const *heads, size_t columns, unsigned left_columns);
void table_cell(struct table *t, const char *format, ...) PRINTF_LIKE(2, 3); /* from left to right */
void table_print(const struct table *t, struct text *to); /* for standard output */
/* For so many columns, where that can be done; 0: as many as it needs. */
void table_print_within(const struct table *t, size_t columns, struct text *to);
void table_free(struct table *t);

/*
 * There is nothing to show: why, on standard error. Linkerd's words come first; what is more says whether one
 * looked in the wrong place. Returns the exit status: 1 when a namespace was named that is not there.
 */
struct cli_nothing {
    const struct cli_target *target;
    const char *command, *what; /* "stat", "traffic" */
    const char *why;            /* a sentence without its full stop; NULL: nobody knows */
    const char *ns;             /* that was looked in; NULL: in all */
    const char *named[3];       /* namespaces that the command line names; NULL: none */
};
int cli_nothing_found(const struct cli_nothing *n);

/* The commands. */
int cli_stat(int argc, char **argv);
int cli_profile(int argc, char **argv);
int cli_routes(int argc, char **argv);
int cli_stat_inbound(int argc, char **argv);
int cli_stat_outbound(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_version(int argc, char **argv);
int cli_diagnostics(int argc, char **argv);
int cli_inject(int argc, char **argv);
int cli_uninject(int argc, char **argv);
int cli_local(int argc, char **argv);

#endif
