/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

/*
 * `tulle check`: a table of checks (check.c) that are run in order, and three ways to show what came out
 * (check_print.c). What a check does stands in check_home.c, check_api.c, check_identity.c. check_source.c
 * finds lines in files.
 */
#include "api/public.pb-c.h"
#include "cli/cli.h"
#include "local/home.h"

#define CHECK_PROBLEM_BYTES 16384

enum check_fact { /* what later checks build on: they are left out while it does not hold */
    FACT_HOME = 1,       /* the home's folder is there */
    FACT_SUPERVISOR = 2, /* its supervisor answers; `status` is its answer */
    FACT_API = 4,        /* the public API answers */
    FACT_PROMETHEUS = 8, /* Prometheus answers the public API */
    FACT_ANCHORS = 16,   /* the trust anchors can be read */
    FACT_ISSUER = 32,    /* the issuer's certificate can be read */
    FACT_NAMESPACE = 64, /* the namespace of --namespace exists */
    FACT_LOCAL = 128,    /* a local home is asked, not --api-addr */
    FACT_PROXY = 256,    /* --proxy was given */
    FACT_ASKABLE = 512,  /* there is somebody to ask: a supervisor, or --api-addr */
};

struct checker {
    struct cli_target target;
    const char *ns;      /* of --namespace; "" for all */
    unsigned facts;
    char home[HOME_PATH_MAX];
    json_t *status;      /* of the home; fresh with each try; NULL */
    Linkerd2__Public__ListPodsResponse *pods; /* of every namespace; fresh with each try; NULL */
};
void checker_clear(struct checker *c);

enum check_flag {
    CHECK_WARNING = 1,
    CHECK_RETRIED = 2, /* what may still come is waited for */
    CHECK_BRIEFLY = 4, /* but not for long */
};
struct check {
    const char *category, *description;
    /* 0; or what is wrong, in a sentence; E_CONFIG when no waiting mends it. */
    int (*run)(struct checker *c, char *problem, size_t problem_bytes);
    unsigned needs, gives; /* facts */
    unsigned flags;
    const char *hint;      /* what to do about it */
};

enum check_result { CHECK_SUCCESS, CHECK_WARNED, CHECK_ERROR };
struct check_outcome {
    const struct check *check;
    enum check_result result;
    char *problem; /* NULL when all is well; owned */
};

int check_home_folder(struct checker *c, char *problem, size_t problem_bytes);
int check_supervisor(struct checker *c, char *problem, size_t problem_bytes);
int check_home_pods(struct checker *c, char *problem, size_t problem_bytes);
int check_home_problems(struct checker *c, char *problem, size_t problem_bytes);

int check_api_answers(struct checker *c, char *problem, size_t problem_bytes);
int check_control_pods(struct checker *c, char *problem, size_t problem_bytes);
int check_cluster_read(struct checker *c, char *problem, size_t problem_bytes);
int check_objects(struct checker *c, char *problem, size_t problem_bytes);
int check_prometheus(struct checker *c, char *problem, size_t problem_bytes);
int check_scrapes(struct checker *c, char *problem, size_t problem_bytes);
int check_version(struct checker *c, char *problem, size_t problem_bytes);
int check_namespace(struct checker *c, char *problem, size_t problem_bytes);
int check_proxies_ready(struct checker *c, char *problem, size_t problem_bytes);
int check_proxies_seen(struct checker *c, char *problem, size_t problem_bytes);
int check_proxies_version(struct checker *c, char *problem, size_t problem_bytes);

int check_anchors_valid(struct checker *c, char *problem, size_t problem_bytes);
int check_anchors_last(struct checker *c, char *problem, size_t problem_bytes);
int check_issuer_valid(struct checker *c, char *problem, size_t problem_bytes);
int check_issuer_last(struct checker *c, char *problem, size_t problem_bytes);
int check_issuer_signed(struct checker *c, char *problem, size_t problem_bytes);

/* What the control plane says is wrong, with the line of the field in the user's file where it is found. */
void check_add_problem(struct text *to, const Linkerd2__Public__CheckResult *r);
/* Of a field of the object that begins at that line; `line` itself when it cannot be found. */
unsigned check_field_line(const char *path, unsigned line, const char *field);

void check_print_table(const struct check_outcome *all, size_t count, bool only_failures, struct text *to);
void check_print_json(const struct check_outcome *all, size_t count, struct text *to);
bool check_succeeded(const struct check_outcome *all, size_t count); /* warnings do not count */

#endif
