/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_CONTROL_H
#define MESH_CONTROL_H

/*
 * A channel to one control-plane service: resolve (SRV, then A/AAAA; asked again when the answer is
 * older than its TTL and after a failure), dial, TLS (none when the host is loopback), HTTP/2, back
 * off (100 ms to 10 s, jitter), and calls on it that resume by themselves. Wire 2.1 (addresses),
 * 3.2 to 3.7 (streams).
 *
 * A channel connects when there is something to ask, and keeps one connection; or as many, up to 64, as
 * its streams need where the service allows few on each. Callbacks come from the loop's tasks and timers,
 * never from inside a call of this header.
 *
 * Threads: the control thread's loop.
 */
#include "core/text.h"
#include "http/grpc.h"
#include "net/dns.h"
#include "net/tls.h"

struct control_config {
    const char *name; /* "destination": metrics, logs */
    const char *host; /* "linkerd-dst-headless.linkerd.svc.cluster.local." */
    uint16_t port;
    const char *server_name; /* identity and SNI of the service; NULL for loopback */
    uint64_t first_message_ns, idle_ns, lifetime_ns; /* stream bounds; 0: none; not for loopback */
    uint32_t mark;                                   /* SO_MARK of the dials */
};
struct control;
struct control *control_new(struct loop *l, struct dns *dns, const struct control_config *config);
void control_free(struct control *c); /* its watches and calls are stopped before; NULL is fine */
/*
 * From now on dial with these (a reference is taken); connections in use stay. Without credentials
 * a TLS channel waits.
 */
void control_set_creds(struct control *c, struct tls_creds *creds);
bool control_is_connected(const struct control *c);
struct metric_samples;
void control_collect(const struct control *c,
                     struct metric_samples *to); /* its gauges; its counters are the loop's */
/* The next call or watch dials anew; what is open resumes. */
void control_hang_up(struct control *c);

/*
 * A server-streaming call that is opened again whenever it ends, until told otherwise. Embedded in
 * its owner, zeroed before first use.
 */
enum control_verdict { CONTROL_RETRY, CONTROL_STOP };
struct control_watch {
    struct list node;
    struct control *control;
    const char *path;
    struct bytes request; /* owned by the watch's owner, must stay */
    /*
     * `is_first`: the first message since this (re)connect. May stop the watch and free its owner.
     */
    void (*on_message)(struct control_watch *w, struct bytes message, bool is_first);
    /*
     * The stream ended. Default (NULL): retry unless InvalidArgument or FailedPrecondition. Says
     * STOP instead of calling control_watch_stop(), and leaves the owner alive.
     */
    enum control_verdict (*on_end)(struct control_watch *w, enum grpc_status status,
                                   struct bytes message);
    /* internal */
    struct grpc_call *call;
    struct timer retry, bound;
    unsigned failures;
    uint64_t queued_ns, opened_ns, first_ns; /* first_ns: of the first message; 0: none came */
    bool is_first, is_started;
};
void control_watch_start(struct control *c, struct control_watch *w);
void control_watch_stop(struct control_watch *w); /* idempotent; no event follows */

/*
 * One unary call; on_answer is called once, with a message when the status is OK, else with a
 * sentence. `timeout_ns` covers connecting too, and that it is made again where the service refused it
 * unprocessed. Embedded in its owner, zeroed before first use.
 */
struct control_call {
    void (*on_answer)(struct control_call *call, enum grpc_status status,
                      struct bytes message_or_problem);
    void *pending; /* internal */
};
/* `path` must stay; the request is copied. */
void control_call_start(struct control *c, struct control_call *call, const char *path,
                        struct bytes request, uint64_t timeout_ns);
void control_call_cancel(struct control_call *call); /* idempotent */

#endif
