/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/admin.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "http/negotiate.h"

#include <stdlib.h>

#define BODY_MAX 4096 /* of a request */
#define BACKLOG  128

extern char **environ;

static void answer(struct service_request *r, unsigned status, const char *text)
{
    r->status = status;
    r->content_type = "text/plain";
    text_str(&r->answer, text);
    service_answer(r);
}

static void refuse_method(struct service_request *r, const char *allowed)
{
    r->extra_name = "allow";
    r->extra_value = allowed;
    answer(r, 405, "");
}

static bool is_method(const struct service_request *r, const char *method)
{
    return bytes_eq(r->head->method, bytes_str(method));
}

/* Wire 2.2; whoever asks for the head alone gets that (the service sees to it). */
static bool is_get(const struct service_request *r)
{
    return is_method(r, "GET") || is_method(r, "HEAD");
}

/* --- the small pages -------------------------------------------------------------------------- */

static void serve_log_level(struct service_request *r)
{
    char filter[512];

    if (!addr_is_loopback(&r->peer)) {
        answer(r, 403, "Requests are only permitted from localhost.");
    } else if (is_get(r)) {
        log_get_filter(filter, sizeof(filter));
        answer(r, 200, filter);
    } else if (is_method(r, "PUT")) {
        struct bytes body = bytes_trim(r->body, " \r\n");

        (void)snprintf(filter, sizeof(filter), BYTES_FMT, BYTES_ARG(body));
        if (body.len >= sizeof(filter) || log_set_filter(filter) != 0) {
            answer(r, 400, "the filter is not of the form warn,proxy=info,net=debug\n");
        } else {
            answer(r, 204, "");
        }
    } else {
        refuse_method(r, "GET, PUT");
    }
}

static void serve_shutdown(struct proxy *p, struct service_request *r)
{
    if (!is_method(r, "POST")) {
        refuse_method(r, "POST");
    } else if (!addr_is_loopback(&r->peer)) {
        answer(r, 403, "Requests are only permitted from localhost.");
    } else if (!p->config.shutdown_endpoint) {
        answer(r, 404, "shutdown endpoint is not enabled\n");
    } else {
        answer(r, 200, "shutdown\n");
        proxy_drain(p, "asked to by the shutdown endpoint");
    }
}

static void env_pair(struct text *t, struct bytes name, const char *value, bool *first)
{
    text_str(t, *first ? "{" : ",");
    *first = false;
    text_json(t, name);
    text_char(t, ':');
    if (value != NULL) {
        text_json(t, bytes_str(value));
    } else {
        text_str(t, "null");
    }
}

void admin_json_error(struct service_request *r, unsigned status, const char *text)
{
    r->status = status;
    r->content_type = "application/json";
    text_str(&r->answer, "{\"error\":");
    text_json(&r->answer, bytes_str(text));
    text_printf(&r->answer, ",\"status\":%u}", status);
    service_answer(r);
}

/* No Accept is as good as all. */
static bool takes_json(const struct service_request *r)
{
    const struct fields *f = &r->head->fields;

    return fields_find(f, BYTES("accept")) == NULL ||
           negotiate_fields(f, BYTES("accept"), BYTES("application/json"), false) > 0;
}

static void refuse_types(struct service_request *r)
{
    answer(r, 406, "application/json");
}

static void serve_env(struct service_request *r)
{
    struct bytes rest = r->query, name, value;
    bool first = true;

    if (!is_get(r)) {
        refuse_method(r, "GET");
        return;
    }
    if (!takes_json(r)) {
        refuse_types(r);
        return;
    }
    if (bytes_find(rest, BYTES("="), &(size_t){0})) {
        admin_json_error(r, 400, "the query names variables, without values: ?A&B");
        return;
    }
    if (rest.len == 0) {
        for (char **e = environ; *e != NULL; e++) {
            (void)bytes_split(bytes_str(*e), '=', &name, &value);
            env_pair(&r->answer, name, value.at, &first);
        }
    }
    while (rest.len > 0) {
        char copy[256];

        (void)bytes_split(rest, '&', &name, &rest);
        (void)snprintf(copy, sizeof(copy), BYTES_FMT, BYTES_ARG(name));
        env_pair(&r->answer, name, name.len < sizeof(copy) ? getenv(copy) : NULL, &first);
    }
    text_str(&r->answer, first ? "{}" : "}");
    r->content_type = "application/json";
    r->status = 200;
    service_answer(r);
}

static void serve_logs(struct proxy *p, struct service_request *r)
{
    if (!addr_is_loopback(&r->peer)) {
        answer(r, 403, "Requests are only permitted from localhost.");
    } else if (!is_get(r) && !is_method(r, "QUERY")) {
        refuse_method(r, "GET, QUERY");
    } else if (!takes_json(r)) {
        refuse_types(r);
    } else {
        admin_logs(p, r);
    }
}

static void handle(struct service_request *r, void *user)
{
    struct proxy *p = user;

    if (!admin_allows(p->admin, r)) {
        answer(r, 403, "");
    } else if (bytes_eq(r->path, BYTES("/metrics"))) {
        admin_metrics(p, r);
    } else if (bytes_eq(r->path, BYTES("/ready"))) {
        bool ready = identity_is_ready(p->identity);

        answer(r, ready ? 200 : 503, ready ? "ready\n" : "not ready\n");
    } else if (bytes_eq(r->path, BYTES("/live"))) {
        answer(r, 200, "live\n");
    } else if (bytes_eq(r->path, BYTES("/proxy-log-level"))) {
        serve_log_level(r);
    } else if (bytes_eq(r->path, BYTES("/shutdown"))) {
        serve_shutdown(p, r);
    } else if (bytes_eq(r->path, BYTES("/env.json"))) {
        serve_env(r);
    } else if (bytes_eq(r->path, BYTES("/logs.json"))) {
        serve_logs(p, r);
    } else {
        answer(r, 404, "");
    }
}

static void on_gone(struct service_request *r, void *user)
{
    (void)user;
    if (r->user != NULL && bytes_eq(r->path, BYTES("/logs.json"))) {
        admin_logs_gone(r);
    } else if (r->user != NULL) {
        admin_metrics_gone(r);
    }
}

struct service *admin_service_new(struct proxy *p)
{
    return service_new(&p->loop, BODY_MAX, handle, on_gone, p);
}

static int admin_problem(const struct proxy *p, int rc, char *problem, size_t problem_bytes)
{
    char at[ADDR_TEXT_BYTES];

    (void)snprintf(problem, problem_bytes,
                   "cannot listen on %s (LINKERD2_PROXY_ADMIN_LISTEN_ADDR): %s",
                   addr_format(&p->config.admin_listen, at), err_text(rc));
    return rc;
}

int admin_bind(struct proxy *p, char *problem, size_t problem_bytes)
{
    int rc = p->admin_fd >= 0
                 ? 0
                 : sock_listen(&p->config.admin_listen, false, BACKLOG, &p->admin_fd);

    return rc == 0 ? 0 : admin_problem(p, rc, problem, problem_bytes);
}

int admin_open(struct proxy *p, char *problem, size_t problem_bytes)
{
    int fd = p->admin_fd, rc;

    p->admin_fd = -1;
    p->admin = mem_new(sizeof(*p->admin));
    p->admin->proxy = p;
    p->admin->service = admin_service_new(p);
    rc = admin_listen(p->admin, fd);
    return rc == 0 ? 0 : admin_problem(p, rc, problem, problem_bytes);
}

void admin_pause(struct proxy *p, bool is_over)
{
    if (p->admin != NULL && is_over) {
        listener_resume(&p->admin->listener);
    } else if (p->admin != NULL) {
        listener_pause(&p->admin->listener);
    }
}

void admin_drain(struct proxy *p)
{
    if (p->admin != NULL) {
        listener_close(&p->admin->listener);
        service_drain(p->admin->service);
    }
}

void admin_close(struct proxy *p)
{
    if (p->admin != NULL) {
        admin_listen_close(p->admin);
        service_free(p->admin->service);
        mem_free(p->admin);
        p->admin = NULL;
    }
}
