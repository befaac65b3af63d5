/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#define MESSAGE_BYTES_MAX 1024

/* --- one word ------------------------------------------------------------------------------------ */

/* Why a container waits or ended; NULL when it runs, or ended well. */
static const char *container_reason(const json_t *status)
{
    const char *reason = json_text(status, "state.waiting.reason");

    if (reason == NULL && json_at(status, "state.terminated") != NULL) {
        reason = json_text(status, "state.terminated.reason");
        reason = reason != NULL ? reason : "Error";
    }
    return reason != NULL && reason[0] != '\0' ? reason : NULL;
}

static bool is_sidecar(const struct object *pod, const char *name)
{
    struct json_iter it = JSON_ITER(json_object_get(pod->spec, "initContainers"));

    while (name != NULL && json_next(&it)) {
        const char *own = json_text(it.value, "name"),
                   *policy = json_text(it.value, "restartPolicy");

        if (own != NULL && strcmp(own, name) == 0) {
            return policy != NULL && strcmp(policy, "Always") == 0;
        }
    }
    return false;
}

/* "Init:1/2", "Init:CrashLoopBackOff" while the pod is being initialised. */
static bool init_word(const struct object *pod, char out[64])
{
    const json_t *all = json_object_get(pod->status, "initContainerStatuses");
    size_t total = json_array_size(json_object_get(pod->spec, "initContainers")), done = 0;
    struct json_iter it = JSON_ITER(all);

    while (json_next(&it)) {
        const char *reason = json_text(it.value, "state.waiting.reason");
        bool ended_well = json_at(it.value, "state.terminated") != NULL &&
                          json_number(it.value, "state.terminated.exitCode", 0) == 0;
        bool is_up =
            is_sidecar(pod, json_text(it.value, "name")) && json_flag(it.value, "started", false);

        if (ended_well || is_up) {
            done++;
            continue;
        }
        if (json_at(it.value, "state.terminated") != NULL) {
            reason = container_reason(it.value);
        }
        if (reason != NULL && strcmp(reason, "PodInitializing") != 0) {
            (void)snprintf(out, 64, "Init:%.50s", reason);
        } else {
            (void)snprintf(out, 64, "Init:%zu/%zu", done, total);
        }
        return true;
    }
    return false;
}

void pod_status_word(const struct object *pod, char out[64])
{
    const char *phase = json_text(pod->status, "phase"), *reason = json_text(pod->status, "reason");
    struct json_iter it = JSON_ITER(json_object_get(pod->status, "containerStatuses"));

    if (json_text(pod->metadata, "deletionTimestamp") != NULL) {
        (void)snprintf(out, 64, "Terminating");
        return;
    }
    (void)snprintf(out, 64, "%.60s", reason != NULL ? reason : phase != NULL ? phase : "Unknown");
    if (init_word(pod, out)) {
        return;
    }
    while (json_next(&it)) {
        const char *why = container_reason(it.value);

        if (why != NULL && !json_flag(it.value, "ready", false)) {
            (void)snprintf(out, 64, "%.60s", why);
        }
    }
}

/* --- errors -------------------------------------------------------------------------------------- */

static bool is_error(const json_t *status, const json_t **out_state)
{
    const json_t *waiting = json_at(status, "state.waiting");
    const json_t *ended = json_at(status, "state.terminated");
    const char *reason = json_text(waiting, "reason");

    *out_state = waiting != NULL ? waiting : ended;
    if (waiting != NULL) { /* the two are the ordinary way to the first start */
        return reason != NULL && strcmp(reason, "PodInitializing") != 0 &&
               strcmp(reason, "ContainerCreating") != 0;
    }
    return ended != NULL && json_number(ended, "exitCode", 0) != 0;
}

/* A copy, cut where it gets long, between two characters of UTF-8. */
static char *text_in(struct arena *a, const char *text)
{
    struct bytes all = bytes_str(text != NULL ? text : "");
    size_t len = MIN(all.len, (size_t)MESSAGE_BYTES_MAX);

    while (len > 0 && len < all.len && ((unsigned char)all.at[len] & 0xc0) == 0x80) {
        len--;
    }
    return arena_strdup(a, bytes_first(all, len));
}

static void add_errors(struct arena *a, const json_t *statuses, Linkerd2__Public__PodErrors *to)
{
    struct json_iter it = JSON_ITER(statuses);

    while (json_next(&it) && to->n_errors < ERRORS_MAX) {
        Linkerd2__Public__PodErrors__PodError *e;
        Linkerd2__Public__PodErrors__PodError__ContainerError *c;
        const json_t *state;

        if (!is_error(it.value, &state)) {
            continue;
        }
        e = arena_new(a, sizeof(*e));
        c = arena_new(a, sizeof(*c));
        linkerd2__public__pod_errors__pod_error__init(e);
        linkerd2__public__pod_errors__pod_error__container_error__init(c);
        c->container = text_in(a, json_text(it.value, "name"));
        c->image = text_in(a, json_text(it.value, "image"));
        c->reason = text_in(a, json_text(state, "reason"));
        c->message = text_in(a, json_text(state, "message"));
        e->container = c;
        e->error_case = LINKERD2__PUBLIC__POD_ERRORS__POD_ERROR__ERROR_CONTAINER;
        to->errors[to->n_errors++] = e;
    }
}

Linkerd2__Public__PodErrors *pod_errors(const struct object *pod, struct arena *a)
{
    Linkerd2__Public__PodErrors *errors = arena_new(a, sizeof(*errors));

    linkerd2__public__pod_errors__init(errors);
    errors->errors = arena_new(a, ERRORS_MAX * sizeof(errors->errors[0]));
    add_errors(a, json_object_get(pod->status, "initContainerStatuses"), errors);
    add_errors(a, json_object_get(pod->status, "containerStatuses"), errors);
    return errors->n_errors > 0 ? errors : NULL;
}
