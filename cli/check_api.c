/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"

#include "cli/api.h"
#include "core/err.h"

#define NAMES_MAX 8

int check_api_answers(struct checker *c, char *problem, size_t problem_bytes)
{
    ProtobufCMessage *answer = NULL;

    TRY(api_call(&c->target, "Version", NULL, &linkerd2__public__version_info__descriptor, &answer,
                 problem, problem_bytes));
    api_answer_free(answer);
    return 0;
}

/* --- the control plane's own checks -------------------------------------------------------------- */

static int self_check(struct checker *c, const char *description, char *problem,
                      size_t problem_bytes)
{
    ProtobufCMessage *answer = NULL;
    const Linkerd2__Public__SelfCheckResponse *response;
    struct text reasons;
    int rc = 0;

    TRY(api_call(&c->target, "SelfCheck", NULL, &linkerd2__public__self_check_response__descriptor,
                 &answer, problem, problem_bytes));
    response = (const Linkerd2__Public__SelfCheckResponse *)answer;
    text_init_fixed(&reasons, problem, problem_bytes);
    for (size_t i = 0; i < response->n_results; i++) {
        const Linkerd2__Public__CheckResult *r = response->results[i];

        if (strcmp(r->checkdescription, description) == 0 &&
            r->status != LINKERD2__PUBLIC__CHECK_STATUS__OK) {
            text_str(&reasons, rc != 0 ? "\n" : "");
            check_add_problem(&reasons, r);
            rc = E_INTERNAL;
        }
    }
    api_answer_free(answer);
    return rc;
}

int check_cluster_read(struct checker *c, char *problem, size_t problem_bytes)
{
    return self_check(c, "the control plane has read the cluster's objects", problem,
                      problem_bytes);
}

int check_objects(struct checker *c, char *problem, size_t problem_bytes)
{
    return self_check(c, "policies, routes, profiles and annotations are in effect", problem,
                      problem_bytes);
}

int check_prometheus(struct checker *c, char *problem, size_t problem_bytes)
{
    return self_check(c, "Prometheus answers the control plane", problem, problem_bytes);
}

int check_scrapes(struct checker *c, char *problem, size_t problem_bytes)
{
    return self_check(c, "Prometheus scrapes the proxies", problem, problem_bytes);
}

int check_version(struct checker *c, char *problem, size_t problem_bytes)
{
    ProtobufCMessage *answer = NULL;
    const char *version;
    int rc = 0;

    TRY(api_call(&c->target, "Version", NULL, &linkerd2__public__version_info__descriptor, &answer,
                 problem, problem_bytes));
    version = ((const Linkerd2__Public__VersionInfo *)answer)->releaseversion;
    if (strcmp(version, TULLE_VERSION) != 0) {
        (void)snprintf(problem, problem_bytes,
                       "the control plane is %s, the command line " TULLE_VERSION, version);
        rc = E_CONFIG;
    }
    api_answer_free(answer);
    return rc;
}

/* --- pods ---------------------------------------------------------------------------------------- */

static int fetch_pods(struct checker *c, char *problem, size_t problem_bytes)
{
    if (c->pods != NULL) {
        api_answer_free(&c->pods->base);
        c->pods = NULL;
    }
    return api_list_pods(&c->target, "", &c->pods, problem, problem_bytes);
}

static bool is_in(const Linkerd2__Public__Pod *pod, const char *ns)
{
    size_t len = strlen(ns);

    return len == 0 || (strncmp(pod->name, ns, len) == 0 && pod->name[len] == '/');
}

/* Collects what is wrong with pods; the names of the first few. */
struct complaint {
    struct text text;
    size_t count;
};

static void complain(struct complaint *k, const Linkerd2__Public__Pod *pod, const char *what)
{
    if (k->count++ < NAMES_MAX) {
        text_printf(&k->text, "%s%s%s%s", k->text.len > 0 ? ", " : "", pod->name,
                    what[0] != '\0' ? " is " : "", what);
    }
}

static int complaint_end(struct complaint *k)
{
    if (k->count > NAMES_MAX) {
        text_printf(&k->text, " and %zu more", k->count - NAMES_MAX);
    }
    return k->count > 0 ? E_NOT_FOUND : 0;
}

int check_control_pods(struct checker *c, char *problem, size_t problem_bytes)
{
    struct complaint k = {0};
    size_t found = 0;

    TRY(fetch_pods(c, problem, problem_bytes));
    text_init_fixed(&k.text, problem, problem_bytes);
    for (size_t i = 0; i < c->pods->n_pods; i++) {
        const Linkerd2__Public__Pod *pod = c->pods->pods[i];

        if (!pod->controlplane || !is_in(pod, c->target.control_ns)) {
            continue;
        }
        found++;
        if (strcmp(pod->status, "Running") != 0) {
            complain(&k, pod, pod->status);
        } else if (pod->controllernamespace[0] != '\0' && !pod->proxyready) {
            complain(&k, pod, "waiting for its proxy");
        }
    }
    if (found == 0) {
        (void)snprintf(problem, problem_bytes,
                       "there are no pods of the control plane in namespace %s",
                       c->target.control_ns);
        return E_NOT_FOUND;
    }
    return complaint_end(&k);
}

int check_namespace(struct checker *c, char *problem, size_t problem_bytes)
{
    return api_has_namespace(&c->target, c->ns, problem, problem_bytes);
}

/* Annotations may write a version with a "v". */
static bool is_own_version(const char *version)
{
    return strcmp(version[0] == 'v' ? version + 1 : version, TULLE_VERSION) == 0;
}

enum proxy_question { PROXY_READY, PROXY_SEEN, PROXY_VERSION };

static int check_proxies(struct checker *c, enum proxy_question what, char *problem,
                         size_t problem_bytes)
{
    struct complaint k = {0};

    TRY(fetch_pods(c, problem, problem_bytes));
    text_init_fixed(&k.text, problem, problem_bytes);
    for (size_t i = 0; i < c->pods->n_pods; i++) {
        const Linkerd2__Public__Pod *pod = c->pods->pods[i];

        if (pod->controllernamespace[0] == '\0' || !is_in(pod, c->ns)) {
            continue;
        }
        if (what == PROXY_READY && !pod->proxyready) {
            complain(&k, pod, "");
        } else if (what == PROXY_SEEN && !pod->added) {
            complain(&k, pod, "");
        } else if (what == PROXY_VERSION && !is_own_version(pod->proxyversion)) {
            complain(&k, pod,
                     pod->proxyversion[0] != '\0' ? pod->proxyversion : "of an unknown version");
        }
    }
    return complaint_end(&k);
}

int check_proxies_ready(struct checker *c, char *problem, size_t problem_bytes)
{
    return check_proxies(c, PROXY_READY, problem, problem_bytes);
}

int check_proxies_seen(struct checker *c, char *problem, size_t problem_bytes)
{
    return check_proxies(c, PROXY_SEEN, problem, problem_bytes);
}

int check_proxies_version(struct checker *c, char *problem, size_t problem_bytes)
{
    return check_proxies(c, PROXY_VERSION, problem, problem_bytes);
}
