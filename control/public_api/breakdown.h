/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PUBLIC_API_BREAKDOWN_H
#define PUBLIC_API_BREAKDOWN_H

/*
 * What objects received or sent, broken down by labels of the series: routes, Servers, backends. A method
 * says which labels make a row and which families tell what; the questions go to Prometheus all at once, and
 * its samples are added up by row. Families that lack one of the labels tell of the row in which it is empty.
 *
 * Limits: ROWS_MAX rows, BREAKDOWN_QUESTIONS_MAX questions.
 */
#include "control/public_api/private.h"

#define BREAKDOWN_LABELS_MAX    16
#define BREAKDOWN_QUESTIONS_MAX 32

enum breakdown_take {     /* what a sample is */
    TAKE_CLASSIFIED,      /* responses, by the label classification */
    TAKE_ACTUAL,          /* the same, retries counted one by one */
    TAKE_HTTP_STATUS,     /* responses, by http_status and error */
    TAKE_GRPC_STATUS,     /* the same, by grpc_status and error */
    TAKE_P50, TAKE_P95, TAKE_P99, /* of a histogram in milliseconds */
    TAKE_P50_S, TAKE_P95_S, TAKE_P99_S, /* in seconds */
    TAKE_RETRIES,
    TAKE_DENIED,
    TAKE_LIMITED,
    TAKE_GRPC_FAILED,     /* answers: failures by grpc-status alone */
};
struct breakdown_question {
    const char *metric; /* with its suffix: "_total", "_bucket" */
    enum breakdown_take take;
};

struct breakdown_row {
    const char *label[BREAKDOWN_LABELS_MAX]; /* in the order of breakdown.labels; "" when absent */
    struct figures figures;
    uint64_t actual_success, actual_failure, timeouts, retries, denied, limited, grpc_failed;
    bool is_by_http, is_by_grpc; /* whose statuses its responses are told by */
};

struct breakdown_query;
struct breakdown { /* made by breakdown_open(), freed by breakdown_free() */
    struct call call;
    Linkerd2__Public__StatSummaryRequest asked; /* the selection, in the words of StatSummary */
    struct stat_ask ask;
    struct arena arena;
    struct promql_scope scope; /* set by breakdown_open(): the objects' own series; group is ours */
    const char *own[2]; /* labels of the object: its namespace and name, unless a method says others */
    const char *const *labels; /* after those of the object */
    size_t labels_count;
    struct map rows; /* struct breakdown_row, in the arena */
    bool is_full;
    struct breakdown_query *queries;
    size_t queries_count, waiting;
    /* All answers are there: make ours, and free. */
    void (*finish)(struct breakdown *b);
    void (*refuse)(struct service_request *r, Linkerd2__Public__ResourceError *error);
    void *request; /* the method's own message, freed with it */
};

/* Reads the selection. NULL: refused, and the request was answered. The first two labels of a row are the
 * object's namespace and name. `request` is taken. `peer`: of --to; NULL: none. */
struct breakdown *breakdown_open(struct public_api *api, struct service_request *r, void *request,
                                 Linkerd2__Public__ResourceSelection *selector, char *window,
                                 Linkerd2__Public__Resource *peer,
                                 void (*refuse)(struct service_request *r,
                                                Linkerd2__Public__ResourceError *error));
/* For a method that finds the request wrong after all: answers, and frees. */
void breakdown_refuse(struct breakdown *b, const char *format, ...) PRINTF_LIKE(2, 3);
void breakdown_start(struct breakdown *b, const struct breakdown_question *questions, size_t count);
void breakdown_free(struct breakdown *b);

/* --- for finish() --------------------------------------------------------------------------------- */

/* Is it a row of an object that was asked for? Labels can only select what is there now. */
bool breakdown_is_selected(const struct breakdown *b, const struct breakdown_row *row);
/* NULL: no responses. In the arena. */
Linkerd2__Public__BasicStats *breakdown_stats(struct breakdown *b, const struct breakdown_row *row);
Linkerd2__Public__Resource *breakdown_resource(struct breakdown *b, const struct breakdown_row *row);
char *breakdown_text(struct breakdown *b, const char *text);

#endif
