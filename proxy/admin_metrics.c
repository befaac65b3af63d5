/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "http/negotiate.h"
#include "proxy/admin.h"
#include "proxy/process_stats.h"
#include "text/gzip.h"

/*
 * A scrape: every worker copies its figures, a few hundred series in a turn of its loop; when the last
 * is through, the whole is printed and, if the client takes it, compressed, a piece in a turn of this
 * loop and only as fast as the client reads. So there is one copy of the figures, without their
 * labels, and never one of the text.
 */
#define PIECE_BYTES     65536
#define PIECE_BYTES_MAX (1u << 20) /* with the longest series */

struct collection {
    struct list node;
    struct service_request *request; /* NULL: the client went away */
    struct proxy *proxy;
    struct scrape *scrapes;
    unsigned pending;
    struct metric_samples samples;
    struct metric_printer printer;
    enum metric_format format;
    struct gzip *gzip; /* NULL: as it is */
    struct text piece; /* before compression */
};

static void collection_free(struct collection *c)
{
    metric_samples_clear(&c->samples);
    gzip_free(c->gzip);
    text_clear(&c->piece);
    mem_free(c->scrapes);
    list_unlink(&c->node);
    c->proxy->scrapes_count--;
    mem_free(c);
}

static int next_piece(struct service_request *r)
{
    struct collection *c = r->user;
    struct text *to = c->gzip != NULL ? &c->piece : &r->answer;
    bool is_more;
    int rc;

    text_reset(&c->piece);
    is_more = metric_printer_some(&c->printer, to, PIECE_BYTES);
    rc = to->err;
    if (rc == 0 && c->gzip != NULL) {
        rc = gzip_add(c->gzip, text_bytes(&c->piece), !is_more, &r->answer);
    }
    if (rc == 0 && is_more) {
        return 0;
    }
    r->user = NULL;
    collection_free(c);
    return rc != 0 ? rc : E_EOF;
}

static void collection_finish(struct collection *c)
{
    struct service_request *r = c->request;

    if (r == NULL) {
        collection_free(c);
        return;
    }
    metrics_collect(&c->proxy->metrics, &c->samples, c->proxy->loop.now_ns);
    shed_collect(&c->proxy->shed, &c->samples);
    process_stats_collect(c->proxy, &c->samples);
    metric_printer_init(&c->printer, &c->samples, c->format);
    r->status = 200;
    r->content_type = c->format == METRIC_OPENMETRICS
                          ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                          : "text/plain; version=0.0.4";
    if (c->gzip != NULL) {
        r->extra_name = "content-encoding";
        r->extra_value = "gzip";
    }
    r->answer.bytes_max = PIECE_BYTES_MAX;
    r->more = next_piece;
    service_answer(r);
}

static void on_scraped(struct scrape *s)
{
    struct collection *c = s->user;

    metric_samples_merge(&c->samples, &s->samples);
    c->pending--;
    if (c->pending == 0) {
        collection_finish(c);
    }
}

/* OpenMetrics only where it is named, so that a browser gets what it can show. */
static enum metric_format format_of(const struct fields *f)
{
    unsigned open =
        negotiate_fields(f, BYTES("accept"), BYTES("application/openmetrics-text"), true);

    return open > 0 && open >= negotiate_fields(f, BYTES("accept"), BYTES("text/plain"), false)
               ? METRIC_OPENMETRICS
               : METRIC_TEXT;
}

/* Readers that are slow do not keep others out: the one that is at it longest goes. */
static bool make_room(struct proxy *p)
{
    if (p->scrapes_count < ADMIN_SCRAPES_MAX) {
        return true;
    }
    LIST_FOREACH(node, &p->scrapes)
    {
        struct collection *c = LIST_ITEM(node, struct collection, node);

        if (c->request != NULL && c->pending == 0) {
            log_info("a scrape is broken off: its reader is slow, and there are many");
            service_break(c->request);
            return true;
        }
    }
    return false;
}

void admin_metrics(struct proxy *p, struct service_request *r)
{
    const struct fields *f = &r->head->fields;
    struct collection *c;

    if (!make_room(p)) {
        admin_json_error(r, 503, "there are enough scrapes under way");
        return;
    }
    c = mem_new(sizeof(*c));
    list_append(&p->scrapes, &c->node);
    p->scrapes_count++;
    c->request = r;
    c->proxy = p;
    c->pending = p->started;
    c->scrapes = mem_new_array(p->started, sizeof(*c->scrapes));
    c->format = format_of(f);
    text_init(&c->piece, PIECE_BYTES_MAX);
    if (negotiate_fields(f, BYTES("accept-encoding"), BYTES("gzip"), false) > 0) {
        c->gzip = gzip_new();
    }
    r->user = c;
    for (unsigned i = 0; i < p->started; i++) {
        c->scrapes[i].on_done = on_scraped;
        c->scrapes[i].user = c;
        proxy_worker_scrape(&p->workers[i], &c->scrapes[i]);
    }
}

void admin_metrics_gone(struct service_request *r)
{
    struct collection *c = r->user;

    c->request = NULL;
    if (c->pending == 0) { /* nobody else will */
        collection_free(c);
    }
}
