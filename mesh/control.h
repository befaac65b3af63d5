/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_CONTROL_H
#define MESH_CONTROL_H

/*
 * A channel to one control-plane service: resolve (SRV, then A/AAAA; re-resolved at TTL and on failure),
 * dial, TLS (none when the host is loopback), HTTP/2, back off (100 ms to 10 s, jitter), and calls on it
 * that resume by themselves. Wire 2.1 (addresses), 3.2 to 3.7 (streams).
 *
 * Threads: the control thread's loop.
 */
#include "http/grpc.h"
#include "net/dns.h"
#include "net/tls.h"

struct control_config {
    const char *name;         /* "destination": metrics, logs */
    const char *host;         /* "linkerd-dst-headless.linkerd.svc.cluster.local." */
    uint16_t port;
    const char *server_name;  /* identity and SNI of the service; NULL for loopback */
    uint64_t first_message_ns, idle_ns, lifetime_ns; /* stream bounds; 0: none; not applied to loopback */
    uint32_t mark;            /* SO_MARK of the dials */
};
struct control;
struct control *control_new(struct loop *l, struct dns *dns, const struct control_config *config);
void control_free(struct control *c);
/* From now on dial with these (a reference is taken); connections in use stay. Without credentials a TLS channel waits. */
void control_set_creds(struct control *c, struct tls_creds *creds);
bool control_is_connected(const struct control *c);

/* A server-streaming call that is opened again whenever it ends, until told otherwise. Embedded in its owner. */
enum control_verdict { CONTROL_RETRY, CONTROL_STOP };
struct control_watch {
    struct list node;
    struct control *control;
    const char *path;
    struct bytes request;     /* owned by the watch's owner, must stay */
    /* `is_first`: the first message since this (re)connect. */
    void (*on_message)(struct control_watch *w, struct bytes message, bool is_first);
    /* The stream ended. Default (NULL): retry unless InvalidArgument or FailedPrecondition. */
    enum control_verdict (*on_end)(struct control_watch *w, enum grpc_status status, struct bytes message);
    /* internal */
    struct grpc_call *call;
    struct timer retry, bound;
    unsigned failures;
    bool is_first;
};
void control_watch_start(struct control *c, struct control_watch *w);
void control_watch_stop(struct control_watch *w); /* idempotent; no event follows */

/* One unary call; on_answer is called once. `timeout_ns` covers connecting too. Embedded in its owner. */
struct control_call {
    void (*on_answer)(struct control_call *call, enum grpc_status status, struct bytes message_or_problem);
    void *pending; /* internal */
};
void control_call_start(struct control *c, struct control_call *call, const char *path, struct bytes request,
                        uint64_t timeout_ns);
void control_call_cancel(struct control_call *call);

#endif
