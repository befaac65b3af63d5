/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"

#include <stdarg.h>

#define REQUEST_BYTES_MAX 65536
#define PATH_PREFIX       "/api/v1/"

static const struct method {
    const char *name;
    void (*call)(struct public_api *api, struct service_request *r);
    bool needs_cluster;
} methods[] = {
    {"StatSummary", call_stat_summary, true},   {"ListPods", call_list_pods, true},
    {"ListServices", call_list_services, true}, {"SelfCheck", call_self_check, false},
    {"TopRoutes", call_top_routes, true},       {"StatInbound", call_stat_inbound, true},
    {"StatOutbound", call_stat_outbound, true}, {"Version", call_version, false},
};

/* --- answers ------------------------------------------------------------------------------------- */

void answer_message(struct service_request *r, const ProtobufCMessage *m)
{
    size_t bytes = protobuf_c_message_get_packed_size(m);
    uint8_t *packed = mem_new(bytes + 1);

    protobuf_c_message_pack(m, packed);
    text_add(&r->answer, bytes_of(packed, bytes));
    mem_free(packed);
    r->status = 200;
    r->content_type = "application/octet-stream";
    service_answer(r);
}

void answer_error(struct service_request *r, unsigned status, const char *format, ...)
{
    Linkerd2__Public__ApiError error;
    char text[1024];
    uint8_t packed[1100];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_debug("call refused; path=\"" BYTES_FMT "\" status=%u reason=\"%s\"", BYTES_ARG(r->path),
              status, text);
    linkerd2__public__api_error__init(&error);
    error.error = text;
    text_add(&r->answer, bytes_of(packed, linkerd2__public__api_error__pack(&error, packed)));
    r->status = status;
    r->content_type = "application/octet-stream";
    r->extra_name = "linkerd-error";
    r->extra_value = http_reason(status);
    service_answer(r);
}

/* --- calls that wait ----------------------------------------------------------------------------- */

bool call_begin(struct public_api *api, struct call *c, struct service_request *r,
                void (*abandon)(struct call *c))
{
    if (api->calls_count >= IN_PROGRESS_MAX) {
        answer_error(r, 503, "%d calls are being answered already; try again in a moment",
                     IN_PROGRESS_MAX);
        return false;
    }
    c->api = api;
    c->request = r;
    c->abandon = abandon;
    r->user = c;
    list_append(&api->calls, &c->node);
    api->calls_count++;
    return true;
}

void call_end(struct call *c)
{
    if (list_is_linked(&c->node)) {
        list_unlink(&c->node);
        c->api->calls_count--;
    }
}

static void on_gone(struct service_request *r, void *user UNUSED)
{
    struct call *c = r->user;

    c->abandon(c);
}

/* --- dispatch ------------------------------------------------------------------------------------ */

void call_version(struct public_api *api UNUSED, struct service_request *r)
{
    Linkerd2__Public__VersionInfo info;
    char compiler[] = "gcc " __VERSION__, version[] = TULLE_VERSION;

    linkerd2__public__version_info__init(&info);
    info.goversion = compiler;
    info.releaseversion = version;
    answer_message(r, &info.base);
}

static void handle(struct service_request *r, void *user)
{
    struct public_api *api = user;
    struct bytes name;

    if (!bytes_starts(r->path, BYTES(PATH_PREFIX))) {
        answer_error(r, 404, "the API is at " PATH_PREFIX "METHOD");
        return;
    }
    name = bytes_from(r->path, sizeof(PATH_PREFIX) - 1);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (!bytes_eq(name, bytes_str(methods[i].name))) {
            continue;
        }
        if (!bytes_eq(r->head->method, BYTES("POST"))) {
            answer_error(r, 405, "%s takes a POST with a protobuf message", methods[i].name);
        } else if (methods[i].needs_cluster && !api->env->cluster->synced) {
            answer_error(r, 503,
                         "the cluster's objects are still being read; try again in a moment");
        } else {
            methods[i].call(api, r);
        }
        return;
    }
    answer_error(r, 404, "there is no method \"%.*s\"", (int)MIN(name.len, (size_t)64), name.at);
}

/* --- the component ------------------------------------------------------------------------------- */

static void public_api_close(void *state)
{
    struct public_api *api = state;

    serve_close(api->listener);
    if (api->service != NULL) {
        service_free(api->service); /* calls that wait are abandoned */
    }
    prometheus_close(api->prometheus);
    assert(list_is_empty(&api->calls));
    mem_free(api);
}

static int public_api_open(const struct control_env *env, void **out_state, char *problem,
                           size_t problem_bytes)
{
    struct public_api *api = mem_new(sizeof(*api));
    int rc;

    api->env = env;
    list_init(&api->calls);
    rc = prometheus_open(env->loop, env->prometheus_url, &api->prometheus, problem, problem_bytes);
    if (rc == 0) {
        api->service = service_new(env->loop, REQUEST_BYTES_MAX, handle, on_gone, api);
        rc = serve_http(env, component_public_api.port, api->service, &api->listener, problem,
                        problem_bytes);
    }
    if (rc != 0) {
        public_api_close(api);
        return rc;
    }
    *out_state = api;
    return 0;
}

/* Prometheus may come and go: what needs it says so. */
static bool public_api_is_ready(const void *state)
{
    const struct public_api *api = state;

    return api->env->cluster->synced;
}

const struct component component_public_api = {
    .name = "public-api",
    .port = PORT_PUBLIC_API,
    .admin_port = PORT_ADMIN_PUBLIC_API,
    .engines = ENGINE_POLICY, /* it knows what is wrong with objects */
    .open = public_api_open,
    .is_ready = public_api_is_ready,
    .close = public_api_close,
};
