/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_OPT_H
#define CORE_OPT_H

/*
 * Command lines as users of kubectl and linkerd write them: long options with `--name value` or
 * `--name=value`, short ones `-n value`, `-nvalue`, booleans `--flag` and `--flag=false`, clusters
 * of short booleans, `--` ends options, options and arguments may be mixed.
 */
#include "core/bytes.h"

enum opt_kind {
    OPT_BOOL,
    OPT_STRING,
    OPT_LIST, /* may repeat; also split at commas */
    OPT_INT,
    OPT_DURATION, /* as Go writes them: "1m30s", "1.5h", "300ms", "0" */
};

struct opt {
    const char *name; /* long, without dashes */
    char letter;      /* short, or 0 */
    enum opt_kind kind;
    const char *value_name; /* for help, "NAMESPACE" */
    const char *help;       /* one line */
    void *target;           /* bool *, const char **, struct opt_list *, long *, uint64_t * (ns) */
};

struct opt_list {
    const char **items;
    size_t count;
};

/*
 * Parse argv[1..argc). Arguments that are no options are gathered in out_args (borrowed from argv).
 * Strings are borrowed from argv. On failure prints nothing: writes a sentence that says what is
 * wrong and what to do into `problem` and returns E_CONFIG. `--help`/-h returns E_CANCELED.
 */
int opt_parse(const struct opt *opts, size_t opts_count, int argc, char **argv, struct opt_list *out_args,
              char *problem, size_t problem_bytes) MUST_USE;
void opt_list_clear(struct opt_list *l);
struct text;
void opt_help(const struct opt *opts, size_t opts_count, struct text *to); /* aligned, for 80 columns */

#endif
