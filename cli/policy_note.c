/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy_note.h"

#include "cli/api.h"

typedef Linkerd2__Public__Pod pod_message;

static bool is_spoken_of(const pod_message *pod, uint16_t port)
{
    for (size_t i = 0; i < pod->n_ports; i++) {
        if (pod->ports[i] == port) {
            return true;
        }
    }
    for (size_t i = 0; i < pod->n_service_ports; i++) {
        if (pod->service_ports[i]->target == port) {
            return true;
        }
    }
    return false;
}

void policy_note(const Linkerd2__Public__ListPodsResponse *pods, uint16_t port, struct text *to)
{
    const pod_message *pod = pods->n_pods == 1 ? pods->pods[0] : NULL;
    const char *slash = pod != NULL ? strchr(pod->name, '/') : NULL;

    /* A control plane that does not tell has none at all; a meshed pod has those of its sidecar. */
    if (pod == NULL || pod->n_ports + pod->n_service_ports == 0 || is_spoken_of(pod, port)) {
        return;
    }
    text_printf(to, "note: nothing names port %u of pod %s: no container, probe, Service or Server. A proxy "
                    "decides so for any port, whether or not something listens there.",
                port, slash != NULL ? slash + 1 : pod->name);
    for (size_t i = 0; i < pod->n_service_ports; i++) {
        if (pod->service_ports[i]->port == port) {
            text_printf(to, " Port %u of Service %s leads to port %u of its pods.", port,
                        pod->service_ports[i]->service, pod->service_ports[i]->target);
        }
    }
    text_char(to, '\n');
}

void policy_note_ask(const struct cli_target *t, const char *ns, const char *pod, uint16_t port,
                     struct text *to)
{
    Linkerd2__Public__ListPodsRequest request;
    Linkerd2__Public__ResourceSelection selection;
    Linkerd2__Public__Resource resource;
    ProtobufCMessage *answer = NULL;
    char problem[512];

    linkerd2__public__list_pods_request__init(&request);
    linkerd2__public__resource_selection__init(&selection);
    linkerd2__public__resource__init(&resource);
    resource.namespace_ = api_text(ns);
    resource.type = api_text("pod");
    resource.name = api_text(pod);
    selection.resource = &resource;
    request.selector = &selection;
    request.with_ports = true;
    if (api_call(t, "ListPods", &request.base, &linkerd2__public__list_pods_response__descriptor, &answer,
                 problem, sizeof(problem)) == 0) {
        policy_note((const Linkerd2__Public__ListPodsResponse *)answer, port, to);
        api_answer_free(answer);
    }
}
