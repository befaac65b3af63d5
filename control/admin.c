/* SPDX-License-Identifier: Apache-2.0 */
#include "control/admin.h"

#include "core/alloc.h"
#include "core/process.h"

struct admin {
    const struct control_env *env;
    const struct component *component;
    void *const *state;
    struct service *service;
    struct port_listener *listener;
};

static void answer_metrics(struct admin *a, struct service_request *r)
{
    struct metric_samples samples = {0};
    struct loop *l = a->env->loop;

    metrics_collect(a->env->metrics, &samples, l->now_ns);
    process_collect(&samples);
    r->status = 200;
    r->content_type = "text/plain; version=0.0.4";
    metric_samples_print(&samples, METRIC_TEXT, &r->answer);
    metric_samples_clear(&samples);
    service_answer(r);
}

static void handle(struct service_request *r, void *user)
{
    struct admin *a = user;
    bool ready;

    r->content_type = "text/plain";
    if (bytes_eq(r->path, BYTES("/metrics"))) {
        answer_metrics(a, r);
        return;
    }
    if (bytes_eq(r->path, BYTES("/ping"))) {
        r->status = 200;
        text_str(&r->answer, "pong\n");
    } else if (bytes_eq(r->path, BYTES("/live"))) {
        r->status = 200;
        text_str(&r->answer, "live\n");
    } else if (bytes_eq(r->path, BYTES("/ready"))) {
        ready = a->component->is_ready(*a->state);
        r->status = ready ? 200 : 500;
        text_str(&r->answer, ready ? "ok\n" : "not ready\n");
    } else {
        r->status = 404;
    }
    service_answer(r);
}

static void on_gone(struct service_request *r, void *user)
{
    (void)r; /* every answer is given at once: nothing is left over */
    (void)user;
}

int admin_open(const struct control_env *env, const struct component *c, void *const *state,
               struct admin **out, char *problem, size_t problem_bytes)
{
    struct admin *a = mem_new(sizeof(*a));
    int rc;

    a->env = env;
    a->component = c;
    a->state = state;
    a->service = service_new(env->loop, 4096, handle, on_gone, a);
    rc = serve_http(env, c->admin_port, a->service, &a->listener, problem, problem_bytes);
    if (rc != 0) {
        admin_close(a);
        return rc;
    }
    *out = a;
    return 0;
}

void admin_close(struct admin *a)
{
    if (a != NULL) {
        serve_close(a->listener);
        service_free(a->service);
        mem_free(a);
    }
}
