/* SPDX-License-Identifier: Apache-2.0 */
#include "control/component.h"

#include "core/alloc.h"
#include "core/err.h"
#include "net/sock.h"

#include <unistd.h>

struct port_listener {
    struct listener listener;
    struct grpc_server *grpc; /* one of the two */
    struct service *http;
};

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct port_listener *l = ln->user;

    if (l->grpc != NULL) {
        grpc_server_accept(l->grpc, fd);
    } else {
        service_accept(l->http, fd, peer);
    }
}

static int serve(const struct control_env *env, uint16_t port, struct grpc_server *grpc,
                 struct service *http, struct port_listener **out, char *problem,
                 size_t problem_bytes)
{
    struct port_listener *l;
    struct addr at = env->bind;
    char text[ADDR_TEXT_BYTES];
    int fd = -1, rc;

    at.port = port;
    rc = sock_listen(&at, false, 1024, &fd);
    if (rc != 0) {
        snprintf(problem, problem_bytes, "cannot listen on %s: %s", addr_format(&at, text),
                 err_text(rc));
        return rc;
    }
    l = mem_new(sizeof(*l));
    l->grpc = grpc;
    l->http = http;
    rc = listener_open(&l->listener, env->loop, fd, on_accept, l);
    if (rc != 0) {
        snprintf(problem, problem_bytes, "cannot accept on port %u: %s", port, err_text(rc));
        mem_free(l);
        return rc;
    }
    *out = l;
    return 0;
}

int serve_grpc(const struct control_env *env, uint16_t port, struct grpc_server *s,
               struct port_listener **out, char *problem, size_t problem_bytes)
{
    return serve(env, port, s, NULL, out, problem, problem_bytes);
}

int serve_http(const struct control_env *env, uint16_t port, struct service *s,
               struct port_listener **out, char *problem, size_t problem_bytes)
{
    return serve(env, port, NULL, s, out, problem, problem_bytes);
}

void serve_close(struct port_listener *l)
{
    if (l != NULL) {
        listener_close(&l->listener);
        mem_free(l);
    }
}
