/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/api.h"

#include "core/alloc.h"
#include "core/err.h"
#include "local/home.h"

#include <curl/curl.h>

#define ANSWER_BYTES_MAX (64u << 20)
#define CONNECT_MS       5000L
#define ANSWER_MS        30000L

struct exchange {
    struct text body;
    bool is_error; /* the answer carries the header linkerd-error */
};

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct exchange *x = user;

    text_add(&x->body, bytes_of(data, size * count));
    return x->body.err == 0 ? size * count : 0;
}

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct exchange *x = user;
    struct bytes line = bytes_of(data, size * count);

    if (line.len >= 14 && bytes_eq_nocase(bytes_first(line, 14), BYTES("linkerd-error:"))) {
        x->is_error = true;
    }
    return size * count;
}

/* A proxy that answers in the control plane's place explains nothing: an empty body is an empty message. */
static void describe_error(const struct exchange *x, long status, char *problem,
                           size_t problem_bytes)
{
    Linkerd2__Public__ApiError *e = linkerd2__public__api_error__unpack(
        NULL, x->body.len, (const uint8_t *)(const void *)x->body.at);

    if (e != NULL && e->error[0] != '\0') {
        (void)snprintf(problem, problem_bytes, "%s", e->error);
    } else {
        (void)snprintf(
            problem, problem_bytes,
            "the control plane does not answer (HTTP status %ld); `tulle check` says more", status);
    }
    if (e != NULL) {
        linkerd2__public__api_error__free_unpacked(e, NULL);
    }
}

static int where(const struct cli_target *t, const char *method, CURL *curl, char *problem,
                 size_t problem_bytes)
{
    char path[HOME_PATH_MAX], socket[HOME_PATH_MAX + 16], url[512];

    if (t->api_addr != NULL) {
        snprintf(url, sizeof(url), "http://%s/api/v1/%s", t->api_addr, method);
    } else {
        TRY(home_path(t->home, t->state, path, problem, problem_bytes));
        snprintf(socket, sizeof(socket), "%s/run/api.sock", path);
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket);
        snprintf(url, sizeof(url), "http://localhost/api/v1/%s", method);
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    return 0;
}

static void describe_silence(const struct cli_target *t, CURLcode rc, char *problem,
                             size_t problem_bytes)
{
    const char *home = t->home != NULL && t->home[0] != '\0' ? t->home : "default";
    char path[HOME_PATH_MAX], others[OTHERS_BYTES] = "", unused[256];

    if (t->api_addr != NULL) {
        (void)snprintf(problem, problem_bytes,
                       "the public API at %s cannot be reached (%s); is it listening there? `tulle "
                       "check` says more",
                       t->api_addr, curl_easy_strerror(rc));
    } else if (rc == CURLE_COULDNT_CONNECT) {
        if (home_path(t->home, t->state, path, unused, sizeof(unused)) == 0) {
            (void)home_others(path, others, sizeof(others));
        }
        (void)snprintf(problem, problem_bytes,
                       "no local home called %s runs; `tulle local up` starts one, --home or "
                       "TULLE_HOME names another%s",
                       home, others);
    } else {
        (void)snprintf(problem, problem_bytes,
                       "the control plane of the local home %s does not answer (%s); `tulle "
                       "check` says more",
                       home, curl_easy_strerror(rc));
    }
}

static int perform(const struct cli_target *t, CURL *curl, struct bytes request, struct exchange *x,
                   char *problem, size_t problem_bytes)
{
    struct curl_slist *headers = curl_slist_append(NULL, "content-type: application/octet-stream");
    long status = 0;
    CURLcode rc;

    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.at != NULL ? request.at : "");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request.len);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ANSWER_MS);
    rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    if (rc != CURLE_OK) {
        describe_silence(t, rc, problem, problem_bytes);
        return E_CLOSED;
    }
    if (x->is_error || status != 200) {
        describe_error(x, status, problem, problem_bytes);
        return E_INTERNAL;
    }
    return 0;
}

/* Send and receive bytes; the caller frees. */
static int exchange(const struct cli_target *t, const char *method, struct bytes request,
                    struct exchange *x, char *problem, size_t problem_bytes)
{
    CURL *curl = curl_easy_init();
    int rc;

    if (curl == NULL) {
        (void)snprintf(problem, problem_bytes, "libcurl cannot be set up");
        return E_INTERNAL;
    }
    rc = where(t, method, curl, problem, problem_bytes);
    if (rc == 0) {
        rc = perform(t, curl, request, x, problem, problem_bytes);
    }
    curl_easy_cleanup(curl);
    return rc;
}

int api_call(const struct cli_target *t, const char *method, const ProtobufCMessage *request,
             const ProtobufCMessageDescriptor *type, ProtobufCMessage **out_answer, char *problem,
             size_t problem_bytes)
{
    size_t bytes = request != NULL ? protobuf_c_message_get_packed_size(request) : 0;
    AUTOFREE uint8_t *packed = mem_new(bytes + 1);
    struct exchange x = {0};
    ProtobufCMessage *answer = NULL;
    int rc;

    if (request != NULL) {
        protobuf_c_message_pack(request, packed);
    }
    text_init(&x.body, ANSWER_BYTES_MAX);
    rc = exchange(t, method, bytes_of(packed, bytes), &x, problem, problem_bytes);
    if (rc == 0) {
        answer = protobuf_c_message_unpack(type, NULL, x.body.len,
                                           (const uint8_t *)(const void *)x.body.at);
        if (answer == NULL) {
            (void)snprintf(problem, problem_bytes,
                           "the control plane's answer cannot be read; are the versions the same? "
                           "see `tulle version`");
            rc = E_PROTOBUF;
        } else {
            *out_answer = answer;
        }
    }
    text_clear(&x.body);
    return rc;
}

void api_answer_free(ProtobufCMessage *answer)
{
    protobuf_c_message_free_unpacked(answer, NULL);
}

int api_list_pods_of(const struct cli_target *t, const char *ns, const char *kind, const char *name,
                     Linkerd2__Public__ListPodsResponse **out, char *problem, size_t problem_bytes)
{
    Linkerd2__Public__ListPodsRequest request;
    Linkerd2__Public__ResourceSelection selection;
    Linkerd2__Public__Resource resource;
    ProtobufCMessage *answer;

    linkerd2__public__list_pods_request__init(&request);
    linkerd2__public__resource_selection__init(&selection);
    linkerd2__public__resource__init(&resource);
    resource.namespace_ = api_text(ns);
    resource.type = api_text(strcmp(kind, "all") == 0 ? "" : kind);
    resource.name = api_text(name);
    selection.resource = &resource;
    request.selector = &selection;
    TRY(api_call(t, "ListPods", &request.base, &linkerd2__public__list_pods_response__descriptor,
                 &answer, problem, problem_bytes));
    *out = (Linkerd2__Public__ListPodsResponse *)answer;
    return 0;
}

int api_list_pods(const struct cli_target *t, const char *ns,
                  Linkerd2__Public__ListPodsResponse **out, char *problem, size_t problem_bytes)
{
    return api_list_pods_of(t, ns, "", "", out, problem, problem_bytes);
}

int api_has_namespace(const struct cli_target *t, const char *ns, char *problem, size_t problem_bytes)
{
    Linkerd2__Public__StatSummaryRequest request;
    Linkerd2__Public__ResourceSelection selection;
    Linkerd2__Public__Resource resource;
    ProtobufCMessage *answer = NULL;
    const Linkerd2__Public__StatSummaryResponse *response;
    int rc = 0;

    linkerd2__public__stat_summary_request__init(&request);
    linkerd2__public__resource_selection__init(&selection);
    linkerd2__public__resource__init(&resource);
    resource.type = api_text("namespace");
    resource.name = api_text(ns);
    selection.resource = &resource;
    request.selector = &selection;
    request.skip_stats = true;
    TRY(api_call(t, "StatSummary", &request.base, &linkerd2__public__stat_summary_response__descriptor,
                 &answer, problem, problem_bytes));
    response = (const Linkerd2__Public__StatSummaryResponse *)answer;
    if (response->response_case == LINKERD2__PUBLIC__STAT_SUMMARY_RESPONSE__RESPONSE_ERROR) {
        (void)snprintf(problem, problem_bytes, "%s", response->error->error);
        rc = E_NOT_FOUND;
    }
    api_answer_free(answer);
    return rc;
}
