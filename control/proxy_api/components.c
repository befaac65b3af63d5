/* SPDX-License-Identifier: Apache-2.0 */
#include "control/proxy_api/proxy_api.h"

#include "api/names.h"
#include "control/destination/destination.h"
#include "control/policy/policy.h"
#include "core/alloc.h"

/*
 * The components that serve the proxy API: destination and policy, each its own; and proxy-api, the
 * proxies' front door to both (design D4, D5).
 */
struct front {
    const struct control_env *env;
    struct api_server *destination, *policy; /* NULL: not this component's */
};

static void front_close(void *state)
{
    struct front *f = state;

    api_server_close(f->destination);
    api_server_close(f->policy);
    mem_free(f);
}

static int front_open(const struct control_env *env, uint16_t destination_port,
                      uint16_t policy_port, void **out_state, char *problem, size_t problem_bytes)
{
    struct front *f = mem_new(sizeof(*f));
    int rc = 0;

    f->env = env;
    if (destination_port != 0) {
        rc = api_server_open(env, API_DESTINATION, destination_port, &f->destination, problem,
                             problem_bytes);
    }
    if (rc == 0 && policy_port != 0) {
        rc = api_server_open(env, API_POLICY, policy_port, &f->policy, problem, problem_bytes);
    }
    if (rc != 0) {
        front_close(f);
        return rc;
    }
    *out_state = f;
    return 0;
}

static bool front_is_ready(const void *state)
{
    const struct front *f = state;

    return (f->destination == NULL || destination_is_synced(f->env->destination)) &&
           (f->policy == NULL || policy_is_synced(f->env->policy));
}

static void front_drain(void *state)
{
    struct front *f = state;

    if (f->destination != NULL) {
        api_server_drain(f->destination);
    }
    if (f->policy != NULL) {
        api_server_drain(f->policy);
    }
}

static int destination_open(const struct control_env *env, void **out_state, char *problem,
                            size_t problem_bytes)
{
    return front_open(env, PORT_DESTINATION, 0, out_state, problem, problem_bytes);
}

static int policy_open(const struct control_env *env, void **out_state, char *problem,
                       size_t problem_bytes)
{
    return front_open(env, 0, PORT_POLICY, out_state, problem, problem_bytes);
}

static int proxy_api_open(const struct control_env *env, void **out_state, char *problem,
                          size_t problem_bytes)
{
    return front_open(env, PORT_PROXY_API, PORT_POLICY_FRONT, out_state, problem, problem_bytes);
}

const struct component component_destination = {
    .name = "destination",
    .port = PORT_DESTINATION,
    .admin_port = PORT_ADMIN_DESTINATION,
    .engines = ENGINE_DESTINATION,
    .open = destination_open,
    .is_ready = front_is_ready,
    .drain = front_drain,
    .close = front_close,
};

const struct component component_policy = {
    .name = "policy",
    .port = PORT_POLICY,
    .admin_port = PORT_ADMIN_POLICY,
    .engines = ENGINE_POLICY,
    .open = policy_open,
    .is_ready = front_is_ready,
    .drain = front_drain,
    .close = front_close,
};

const struct component component_proxy_api = {
    .name = "proxy-api",
    .port = PORT_PROXY_API,
    .admin_port = PORT_ADMIN_PROXY_API,
    .engines = ENGINE_DESTINATION | ENGINE_POLICY,
    .open = proxy_api_open,
    .is_ready = front_is_ready,
    .drain = front_drain,
    .close = front_close,
};
