/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/err.h"
#include "core/log_stream.h"
#include "proxy/admin.h"

/*
 * /logs.json?FILTER: the log as it is written, a JSON object a line, as a response that does not end
 * (features H.2). What the reader does not take waits, up to a bound; beyond it the reader is dropped.
 */
#define WAITING_BYTES 262144
#define FILTER_BYTES  512

struct tail {
    struct log_stream stream;
    struct service_request *request;
    struct text waiting;
    uint64_t told_lost;
    bool is_slow;
};

static void tail_free(struct tail *t)
{
    log_stream_close(&t->stream);
    text_clear(&t->waiting);
    mem_free(t);
}

static void on_line(struct log_stream *s, struct bytes line)
{
    struct tail *t = CONTAINER_OF(s, struct tail, stream);

    if (s->lost != t->told_lost) {
        text_printf(&t->waiting, "{\"dropped_events\":%llu}\n",
                    (unsigned long long)(s->lost - t->told_lost));
        t->told_lost = s->lost;
    }
    text_add(&t->waiting, line);
    if (t->waiting.err != 0) {
        t->is_slow = true;
        log_stream_close(s);
    }
    service_resume(t->request);
}

static int next_lines(struct service_request *r)
{
    struct tail *t = r->user;

    if (t->is_slow) {
        r->user = NULL;
        tail_free(t);
        return E_LIMIT;
    }
    if (t->waiting.len == 0) {
        return E_AGAIN;
    }
    text_add(&r->answer, text_bytes(&t->waiting));
    text_reset(&t->waiting);
    return E_AGAIN;
}

void admin_logs_gone(struct service_request *r)
{
    tail_free(r->user);
}

/* The filter is the query of GET, or the body of QUERY. */
static bool filter_of(const struct service_request *r, char filter[FILTER_BYTES])
{
    struct bytes text = bytes_eq(r->head->method, BYTES("QUERY")) ? r->body : r->query;

    text = bytes_trim(text, " \t\r\n");
    if (text.len == 0 || text.len >= FILTER_BYTES) {
        return false;
    }
    memcpy(filter, text.at, text.len);
    filter[text.len] = '\0';
    return true;
}

void admin_logs(struct proxy *p, struct service_request *r)
{
    struct tail *t = mem_new(sizeof(*t));
    char filter[FILTER_BYTES];
    int rc = E_CONFIG;

    t->request = r;
    t->stream.on_line = on_line;
    text_init(&t->waiting, WAITING_BYTES);
    if (filter_of(r, filter)) {
        rc = log_stream_open(&t->stream, &p->loop, filter);
    }
    if (rc != 0) {
        tail_free(t);
        admin_json_error(r, rc == E_CONFIG ? 400 : 503,
                         rc == E_CONFIG ? "a filter is needed: /logs.json?warn,linkerd=debug"
                                        : "there are enough readers of the log");
        return;
    }
    r->user = t;
    r->more = next_lines;
    r->status = 200;
    r->content_type = "application/json";
    service_answer(r);
}
