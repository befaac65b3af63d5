/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/prometheus.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "http/conn.h"
#include "net/dns.h"
#include "net/sock.h"

#include <stdio.h>

#define IDLE_NS       (30 * NS_PER_S)
#define ADDRS_MAX     8
#define PROBLEM_BYTES 512
#define PORT_HTTP     80

struct prometheus {
    struct loop *loop;
    struct dns *dns;
    char *url, *host, *authority, *path; /* host NULL: no Prometheus is configured */
    uint16_t port;
    struct list waiting; /* questions without a connection */
    struct list conns;
    size_t waiting_count, conns_count;
    struct task serve;
    struct grave grave;
};

/* A connection: looking up, dialing, open and used by one question, or idle. */
struct prom_conn {
    struct list node;
    struct prometheus *prometheus;
    struct dns_query lookup;
    struct addr addrs[ADDRS_MAX];
    size_t addrs_count, next;
    struct io *io; /* while dialing */
    struct task dial;
    struct timer idle;
    struct http_client *client;
    struct prom_query *query;
    struct stream *stream;
    struct bytes unsent; /* of the question's form */
    bool was_used;
    struct grave grave;
};

/* --- questions ----------------------------------------------------------------------------------- */

/* Back to what it was before it was asked. */
static void query_detach(struct prom_query *q)
{
    struct prometheus *p = q->prometheus;

    if (list_is_linked(&q->node)) {
        list_unlink(&q->node);
        p->waiting_count--;
    }
    timer_cancel(p->loop, &q->deadline);
    mem_free(q->form);
    q->form = NULL;
    text_clear(&q->answer);
    q->prometheus = NULL;
    q->conn = NULL;
}

static void query_fail(struct prom_query *q, int err, const char *why)
{
    struct prometheus *p = q->prometheus;
    bool is_reached = err == E_LIMIT || err == E_OVERLOAD || err == E_INTERNAL;
    char problem[PROBLEM_BYTES];

    if (p->host == NULL) {
        (void)snprintf(problem, sizeof(problem),
                       "no Prometheus is configured; start public-api with --prometheus-url");
    } else {
        (void)snprintf(problem, sizeof(problem), "Prometheus at %s gives no figures: %s%s", p->url,
                       why, is_reached ? "" : "; is it running, and is --prometheus-url right?");
    }
    query_detach(q);
    q->on_answer(q, err, NULL, problem);
}

static void query_finish(struct prom_query *q)
{
    char why[PROBLEM_BYTES - 128];
    json_t *samples = NULL;
    int rc = prom_parse(text_bytes(&q->answer), q->status, &samples, why, sizeof(why));

    if (rc != 0) {
        query_fail(q, rc, why);
        return;
    }
    query_detach(q);
    q->on_answer(q, 0, samples, NULL);
    json_decref(samples);
}

static void conn_close(struct prom_conn *c);

void prom_query_cancel(struct prom_query *q)
{
    struct prom_conn *c = q->conn;

    if (q->prometheus == NULL) {
        return;
    }
    query_detach(q);
    if (c != NULL) {
        c->query = NULL;
        conn_close(c);
    }
}

static void on_deadline(struct timer *t)
{
    struct prom_query *q = CONTAINER_OF(t, struct prom_query, deadline);
    struct prom_conn *c = q->conn;

    if (c != NULL) {
        c->query = NULL;
        conn_close(c);
    }
    query_fail(q, E_TIMEOUT, "no answer within 10 s");
}

/* application/x-www-form-urlencoded */
static void form_add(struct text *t, struct bytes value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.at[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '_' || c == '.' || c == '-') {
            text_char(t, (char)c);
        } else {
            text_printf(t, "%%%02X", c);
        }
    }
}

void prometheus_ask(struct prometheus *p, struct prom_query *q, struct bytes promql)
{
    struct text form;

    assert(q->prometheus == NULL && promql.len <= PROM_QUERY_BYTES_MAX);
    text_init(&form, 3 * PROM_QUERY_BYTES_MAX + 64);
    text_str(&form, "timeout=9s&query=");
    form_add(&form, promql);
    q->form = mem_strndup(form.at, form.len);
    text_clear(&form);
    text_init(&q->answer, PROM_ANSWER_BYTES_MAX);
    q->prometheus = p;
    q->conn = NULL;
    q->status = 0;
    q->deadline.run = on_deadline;
    timer_arm_in(p->loop, &q->deadline, PROM_DEADLINE_NS);
    list_append(&p->waiting, &q->node);
    p->waiting_count++;
    task_wake(p->loop, &p->serve);
}

/* --- connections --------------------------------------------------------------------------------- */

static void conn_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct prom_conn, grave));
}

/* Its question, if it has one, is no longer its own. */
static void conn_close(struct prom_conn *c)
{
    struct loop *l = c->prometheus->loop;

    assert(c->query == NULL);
    dns_cancel(&c->lookup);
    task_cancel(&c->dial);
    timer_cancel(l, &c->idle);
    io_close(c->io);
    if (c->stream != NULL) {
        stream_close(c->stream, RESET_CANCEL);
        c->stream = NULL;
    }
    if (c->client != NULL) {
        http_client_close(c->client, E_CANCELED);
        c->client = NULL;
    }
    list_unlink(&c->node);
    c->prometheus->conns_count--;
    task_wake(l, &c->prometheus->serve);
    loop_free_later(l, &c->grave, conn_bury);
}

static void conn_fail(struct prom_conn *c, int err, const char *why)
{
    struct prom_query *q = c->query;

    c->query = NULL;
    conn_close(c);
    if (q != NULL) {
        query_fail(q, err, why);
    }
}

static void send_more(struct prom_conn *c)
{
    size_t size = MIN(c->unsent.len, c->stream->room);
    struct chain piece;

    if (c->unsent.len == 0 || size == 0) {
        return;
    }
    chain_init(&piece);
    if (chain_append(&piece, &c->prometheus->loop->chunks, bytes_first(c->unsent, size)) != 0) {
        conn_fail(c, E_OVERLOAD, "too many bytes are under way");
        return;
    }
    stream_send_data(c->stream, &piece);
    c->unsent = bytes_from(c->unsent, size);
    if (c->unsent.len == 0) {
        stream_send_end(c->stream, NULL);
    }
}

static void exchange_end(struct prom_conn *c)
{
    struct prom_query *q = c->query;

    stream_close(c->stream, RESET_NONE); /* on_idle or on_closed follows */
    c->stream = NULL;
    c->query = NULL;
    query_finish(q);
}

static void on_head(void *user, struct head *h)
{
    struct prom_conn *c = user;

    if (h->status < 200) {
        return;
    }
    c->query->status = h->status;
    if (h->ends) {
        exchange_end(c); /* no on_end follows */
    } else {
        stream_credit(c->stream, PROM_ANSWER_BYTES_MAX + 1);
    }
}

static void on_data(void *user, struct chain *bytes)
{
    struct prom_conn *c = user;

    while (chain_size(bytes) > 0) {
        struct bytes head = chain_head(bytes);

        text_add(&c->query->answer, head);
        chain_drop(bytes, head.len);
    }
    if (c->query->answer.err != 0) {
        conn_fail(c, E_LIMIT, "the answer is longer than 16 MiB; ask for fewer resources at once");
    }
}

static void on_room(void *user, size_t bytes UNUSED)
{
    send_more(user);
}

static void on_end(void *user, struct fields *trailers UNUSED)
{
    exchange_end(user);
}

/* A connection that was kept may have been given up by the other side just before it was used. */
static void on_reset(void *user, enum reset why UNUSED, int err)
{
    struct prom_conn *c = user;
    struct prom_query *q = c->query;
    struct prometheus *p = c->prometheus;

    if (c->was_used && q->status == 0) { /* each such connection is gone then; a fresh one decides */
        q->conn = NULL;
        c->query = NULL;
        conn_close(c);
        list_prepend(&p->waiting, &q->node);
        p->waiting_count++;
        return;
    }
    conn_fail(c, err, err_text(err));
}

static const struct stream_events stream_events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_room = on_room,
    .on_end = on_end,
    .on_reset = on_reset,
};

static void conn_send(struct prom_conn *c)
{
    struct prometheus *p = c->prometheus;
    struct head h = {
        .method = BYTES("POST"),
        .scheme = BYTES("http"),
        .authority = bytes_str(p->authority),
        .path = bytes_str(p->path),
        .version = HTTP_11,
        .content_length = (int64_t)strlen(c->query->form),
    };
    struct arena arena;
    int rc;

    timer_cancel(p->loop, &c->idle);
    arena_init(&arena, 65536);
    fields_init(&h.fields, &arena);
    rc = fields_add(&h.fields, BYTES("content-type"), BYTES("application/x-www-form-urlencoded"));
    if (rc == 0) {
        rc = http_client_open(c->client, &h, false, &stream_events, c, &c->stream);
    }
    arena_clear(&arena);
    if (rc != 0) {
        conn_fail(c, rc, err_text(rc));
        return;
    }
    c->unsent = bytes_str(c->query->form);
    send_more(c);
}

static void on_idle(void *user)
{
    struct prom_conn *c = user;

    c->was_used = true;
    timer_arm_in(c->prometheus->loop, &c->idle, IDLE_NS);
    task_wake(c->prometheus->loop, &c->prometheus->serve);
}

static void on_closed(void *user, int err)
{
    struct prom_conn *c = user;

    c->client = NULL; /* it goes by itself */
    if (c->stream == NULL) {
        conn_fail(c, err != 0 ? err : E_CLOSED, "the connection ended");
    }
}

static const struct http_client_events client_events = {.on_idle = on_idle, .on_closed = on_closed};

static void on_idle_long(struct timer *t)
{
    conn_close(CONTAINER_OF(t, struct prom_conn, idle));
}

/* --- dialing ------------------------------------------------------------------------------------- */

/* The next address; the last one's failure is told. */
static void dial_next(struct prom_conn *c, int err)
{
    io_close(c->io);
    c->io = NULL;
    while (c->next < c->addrs_count) {
        err = sock_dial(c->prometheus->loop, &c->addrs[c->next++], NULL, &c->dial, &c->io);
        if (err == 0) {
            task_wake(c->prometheus->loop, &c->dial);
            return;
        }
    }
    conn_fail(c, err, err_text(err));
}

static void dial_run(struct task *t)
{
    struct prom_conn *c = CONTAINER_OF(t, struct prom_conn, dial);
    int rc = io_handshake(c->io);

    if (rc == 0) {
        struct io *io = c->io;

        c->io = NULL;
        c->client = http1_client_new(io, NULL, &client_events, c);
        conn_send(c);
    } else if (rc != E_AGAIN) {
        dial_next(c, rc);
    }
}

static void on_addrs(struct dns_query *lookup, int err, const struct dns_answer *answer)
{
    struct prom_conn *c = lookup->user;

    if (err != 0) {
        conn_fail(c, err, err_text(err));
        return;
    }
    c->addrs_count = MIN(answer->count, (size_t)ADDRS_MAX);
    memcpy(c->addrs, answer->addrs, c->addrs_count * sizeof(c->addrs[0]));
    dial_next(c, E_DNS_NAME);
}

static void conn_new(struct prometheus *p, struct prom_query *q)
{
    struct prom_conn *c = mem_new(sizeof(*c));

    c->prometheus = p;
    c->query = q;
    q->conn = c;
    c->dial.run = dial_run;
    c->idle.run = on_idle_long;
    c->lookup.on_answer = on_addrs;
    c->lookup.user = c;
    list_append(&p->conns, &c->node);
    p->conns_count++;
    dns_resolve(p->dns, &c->lookup, bytes_str(p->host), p->port, false);
}

static struct prom_conn *find_idle(struct prometheus *p)
{
    LIST_FOREACH(node, &p->conns)
    {
        struct prom_conn *c = LIST_ITEM(node, struct prom_conn, node);

        if (c->query == NULL && c->stream == NULL && c->client != NULL &&
            http_client_capacity(c->client) > 0) {
            return c;
        }
    }
    return NULL;
}

/* Questions that wait get a connection. */
static void serve_run(struct task *t)
{
    struct prometheus *p = CONTAINER_OF(t, struct prometheus, serve);

    while (!list_is_empty(&p->waiting)) {
        struct prom_query *q = LIST_ITEM(p->waiting.next, struct prom_query, node);
        struct prom_conn *c = find_idle(p);

        if (p->host == NULL) {
            query_fail(q, E_CONFIG, "");
        } else if (p->waiting_count > PROM_WAITING_MAX) {
            query_fail(q, E_OVERLOAD, "too many questions wait for it");
        } else if (c != NULL || p->conns_count < PROM_CONNS_MAX) {
            list_unlink(&q->node);
            p->waiting_count--;
            if (c != NULL) {
                c->query = q;
                q->conn = c;
                conn_send(c);
            } else {
                conn_new(p, q);
            }
        } else {
            return; /* whoever is done wakes us */
        }
    }
}

/* --- opening ------------------------------------------------------------------------------------- */

/* "http://host[:port][/path]" */
static int read_url(struct prometheus *p, const char *url)
{
    struct bytes rest = bytes_str(url), authority, path, host, port;
    uint64_t number = PORT_HTTP;

    if (!bytes_starts(rest, BYTES("http://"))) {
        return E_CONFIG;
    }
    rest = bytes_from(rest, 7);
    (void)bytes_split(rest, '/', &authority, &path);
    if (authority.len > 0 && authority.at[0] == '[') { /* [v6]:port */
        if (!bytes_split(bytes_from(authority, 1), ']', &host, &port)) {
            return E_CONFIG;
        }
        port = port.len > 0 && port.at[0] == ':' ? bytes_from(port, 1) : port;
    } else {
        (void)bytes_split(authority, ':', &host, &port);
    }
    if (host.len == 0 || host.len > 253 ||
        (port.len > 0 && (bytes_to_u64(port, UINT16_MAX, &number) != 0 || number == 0))) {
        return E_CONFIG;
    }
    while (path.len > 0 && path.at[path.len - 1] == '/') {
        path.len--;
    }
    p->host = bytes_dup(host);
    p->authority = bytes_dup(authority);
    p->path = mem_printf("%s" BYTES_FMT "/api/v1/query", path.len > 0 ? "/" : "", BYTES_ARG(path));
    p->port = (uint16_t)number;
    return 0;
}

static void prometheus_free(struct prometheus *p)
{
    mem_free(p->url);
    mem_free(p->host);
    mem_free(p->authority);
    mem_free(p->path);
    mem_free(p);
}

static void prometheus_bury(struct grave *g)
{
    prometheus_free(CONTAINER_OF(g, struct prometheus, grave));
}

int prometheus_open(struct loop *l, const char *url, struct prometheus **out, char *problem,
                    size_t problem_bytes)
{
    struct prometheus *p = mem_new(sizeof(*p));
    int rc = 0;

    p->loop = l;
    p->serve.run = serve_run;
    p->url = mem_strdup(url != NULL ? url : "");
    list_init(&p->waiting);
    list_init(&p->conns);
    if (p->url[0] != '\0') {
        rc = read_url(p, url);
        if (rc != 0) {
            (void)snprintf(problem, problem_bytes,
                           "--prometheus-url is \"%s\": http://HOST[:PORT][/PATH] is needed", url);
        }
    }
    if (rc == 0) {
        rc = dns_open(l, &p->dns);
        if (rc != 0) {
            (void)snprintf(problem, problem_bytes, "names cannot be looked up: %s", err_text(rc));
        }
    }
    if (rc != 0) {
        prometheus_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void prometheus_close(struct prometheus *p)
{
    if (p == NULL) {
        return;
    }
    while (!list_is_empty(&p->waiting)) {
        prom_query_cancel(LIST_ITEM(p->waiting.next, struct prom_query, node));
    }
    while (!list_is_empty(&p->conns)) {
        struct prom_conn *c = LIST_ITEM(p->conns.next, struct prom_conn, node);

        if (c->query != NULL) {
            prom_query_cancel(c->query);
        } else {
            conn_close(c);
        }
    }
    dns_close(p->dns);
    task_cancel(&p->serve);
    loop_free_later(p->loop, &p->grave, prometheus_bury);
}

const char *prometheus_url(const struct prometheus *p)
{
    return p->url;
}
