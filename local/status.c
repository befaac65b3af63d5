/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>
#include <sys/wait.h>

/*
 * The Pod object as a cluster would show it, written into the state folder's cluster: that is how the control plane
 * learns of pods.
 */

static json_t *container_status(const struct container *c)
{
    json_t *state;

    if (c->state == CONTAINER_RUNNING) {
        state = json_pack("{s:{}}", "running");
    } else if (c->state == CONTAINER_DONE) {
        state = json_pack("{s:{s:i, s:s}}", "terminated", "exitCode",
                          WIFEXITED(c->exit_status) ? WEXITSTATUS(c->exit_status)
                                                    : 128 + WTERMSIG(c->exit_status),
                          "reason", c->exit_status == 0 ? "Completed" : "Error");
    } else {
        state = json_pack("{s:{s:s, s:s}}", "waiting", "reason",
                          c->state == CONTAINER_BACKOFF ? "CrashLoopBackOff" : "PodInitializing",
                          "message", c->reason);
    }
    return json_pack("{s:s, s:b, s:b, s:i, s:o, s:s, s:s}", "name", c->name, "ready",
                     container_is_ready(c), "started", container_has_started(c), "restartCount",
                     (int)c->restarts, "state", state, "image",
                     json_text(c->spec, "image") != NULL ? json_text(c->spec, "image") : "",
                     "imageID", "");
}

static json_t *condition(const char *type, bool is_true)
{
    return json_pack("{s:s, s:s}", "type", type, "status", is_true ? "True" : "False");
}

static json_t *pod_status(const struct pod *p)
{
    char ip4[ADDR_TEXT_BYTES], ip6[ADDR_TEXT_BYTES], node_ip[ADDR_TEXT_BYTES], started[32];
    struct addr node = net_node_ip4(p->home->net);
    json_t *init = json_array(), *main = json_array(), *ips = json_array(),
           *conditions = json_array();

    for (size_t i = 0; i < p->count; i++) {
        json_array_append_new(p->containers[i].role == ROLE_MAIN ? main : init,
                              container_status(&p->containers[i]));
    }
    json_array_append_new(ips, json_pack("{s:s}", "ip", addr_format_ip(&p->net.ip4, ip4)));
    if (!addr_is_none(&p->net.ip6)) {
        json_array_append_new(ips, json_pack("{s:s}", "ip", addr_format_ip(&p->net.ip6, ip6)));
    }
    json_array_append_new(conditions, condition("PodScheduled", true));
    json_array_append_new(conditions, condition("Initialized", p->phase >= POD_RUNNING));
    json_array_append_new(conditions, condition("ContainersReady", p->is_ready));
    json_array_append_new(conditions, condition("Ready", p->is_ready));
    clock_format_rfc3339(p->created_wall_ns, started);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s}", "phase",
                     p->phase == POD_STARTING ? "Pending" : "Running", "podIP", ip4, "hostIP",
                     addr_format_ip(&node, node_ip), "podIPs", ips, "conditions", conditions,
                     "initContainerStatuses", init, "containerStatuses", main, "startTime",
                     started);
}

void pod_status_write(struct pod *p)
{
    json_t *object = json_copy(p->json);
    int rc;

    json_object_set_new(object, "status", pod_status(p));
    if (p->phase >= POD_LEAVING) {
        char now[32];
        json_t *metadata = json_copy(json_object_get(p->json, "metadata"));

        clock_format_rfc3339(p->left_wall_ns, now);
        json_object_set_new(metadata, "deletionTimestamp", json_string(now));
        json_object_set_new(object, "metadata", metadata);
    }
    rc = cluster_put(p->home->cluster, object);
    if (rc != 0) {
        home_problem(p->home, "the state of pod %s cannot be written: %s", p->key, err_text(rc));
        timer_arm_in(&p->home->loop, &p->home->retry, NS_PER_S);
    }
}

void pod_status_remove(struct pod *p)
{
    int rc = cluster_delete(p->home->cluster, KIND_POD, p->ns, p->name);

    if (rc != 0 && rc != E_NOT_FOUND) {
        home_problem(p->home, "the state of pod %s cannot be removed: %s", p->key, err_text(rc));
    }
}
