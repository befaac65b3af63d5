/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PUBLIC_API_PROMETHEUS_H
#define PUBLIC_API_PROMETHEUS_H

/*
 * Questions to Prometheus (POST /api/v1/query) from a loop: nothing here waits.
 *
 * Limits: PROM_CONNS_MAX connections, which are kept for the next question; further questions wait for one,
 * PROM_WAITING_MAX at most (E_OVERLOAD beyond). A question has PROM_DEADLINE_NS, waiting included, and an
 * answer at most PROM_ANSWER_BYTES_MAX.
 * Threads: one loop.
 */
#include "core/list.h"
#include "core/loop.h"
#include "core/text.h"

#include <jansson.h>

#define PROM_CONNS_MAX        16
#define PROM_WAITING_MAX      1024
#define PROM_DEADLINE_NS      (10 * UINT64_C(1000000000))
#define PROM_ANSWER_BYTES_MAX (16u << 20)
#define PROM_QUERY_BYTES_MAX  (256u << 10)

struct prometheus;
struct prom_query { /* embedded in its owner; zeroed, then `on_answer` and `user` set */
    /* Called once, from the loop: the array of samples (borrowed), or an error and a sentence that names
     * Prometheus' address and what to look at. */
    void (*on_answer)(struct prom_query *q, int err, const json_t *samples, const char *problem);
    void *user;
    /* private */
    struct list node;
    struct prometheus *prometheus; /* NULL: not under way */
    struct prom_conn *conn;
    struct timer deadline;
    char *form;
    struct text answer;
    unsigned status;
};

/* `url`: "http://host[:port][/path]"; NULL or "": every question is answered with a sentence about that. */
int prometheus_open(struct loop *l, const char *url, struct prometheus **out, char *problem,
                    size_t problem_bytes) MUST_USE;
void prometheus_close(struct prometheus *p); /* questions under way end without an answer; NULL is fine */
const char *prometheus_url(const struct prometheus *p);
void prometheus_ask(struct prometheus *p, struct prom_query *q, struct bytes promql);
void prom_query_cancel(struct prom_query *q); /* idempotent; no answer follows */

/* --- answers (pure) ------------------------------------------------------------------------------ */

/* The samples of an instant vector; the caller json_decref()s. E_JSON, or E_INTERNAL with Prometheus' own
 * words. */
int prom_parse(struct bytes body, unsigned status, json_t **out_samples, char *problem,
               size_t problem_bytes) MUST_USE;
/* False when the value is no number (NaN: a quantile of nothing). */
bool prom_sample_value(const json_t *sample, double *out_value);
const char *prom_sample_label(const json_t *sample, const char *label); /* "" when absent */

#endif
