/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

/*
 * The proxy as a whole: what the control thread owns (proxy.c), and its admin server (admin.c).
 */
#include "http/service.h"
#include "mesh/identity.h"
#include "proxy/shed.h"
#include "proxy/span_export.h"
#include "proxy/worker.h"

struct proxy {
    struct config config;
    const char *build, *profile; /* of proxy_build_info: "COMMIT DATE", "release"; NULL: unknown */
    struct loop loop;       /* of the control thread */
    struct metrics metrics; /* of the control thread */
    struct dns *dns;
    struct control *identity_channel, *destination_channel, *policy_channel;
    struct control *trace_channel; /* NULL, with what follows: there is no collector */
    struct span_export *span_export;
    struct span_queue span_queue;
    struct identity *identity;
    struct discovery *discovery;
    struct tls_ctx *tls_server;   /* of the admin server; NULL until there is a certificate */
    struct proxy_worker *workers; /* config.workers of them */
    unsigned started, drained;
    unsigned order_number, order_left; /* the last order to the workers; who has yet to obey */
    int admin_fd;                      /* bound, until admin_open() */
    struct admin *admin;
    struct list scrapes; /* of admin_metrics.c, the oldest first */
    unsigned scrapes_count;
    int *sockets; /* all that listen, for the process after this one; not owned */
    size_t sockets_count;
    struct handover *handover; /* NULL: not configured */
    struct shed shed;
    struct timer grace;
    bool is_serving;
    bool is_cut; /* the grace period is over, and the workers end what was open */
    bool is_draining, is_gentle; /* gentle: another process goes on with our sockets */
    bool has_failed;             /* the process is to end with a failure */
};

/* `config` is set and everything else zero. Binds every socket before a thread starts; on
 * failure a sentence in `problem`, and the process is to end. proxy_close() also clears the
 * configuration. */
int proxy_open(struct proxy *p, char *problem, size_t problem_bytes) MUST_USE;
void proxy_close(struct proxy *p);
void proxy_drain(struct proxy *p,
                 const char *why); /* stop accepting, finish what is open, then end; idempotent */

/* For handover.c. Orders are counted: handover_obeyed() comes when the last worker has obeyed the
 * last one. */
void proxy_order(struct proxy *p, enum worker_order order);
void proxy_add_socket(struct proxy *p, int fd);
void proxy_take_over(struct proxy *p); /* the sockets are ours alone: serve */
void proxy_serving(struct proxy *p, const char *how); /* the workers accept */
void proxy_hand_over(struct proxy *p); /* another process serves: drain gently */
/* Another process serves, or goes on to: end, with a failure. */
void proxy_give_way(struct proxy *p, const char *why, bool has_accepted);

/* Serves on p->admin_fd, which admin_bind() sets where it is -1, from the loop's next turn. */
int admin_bind(struct proxy *p, char *problem, size_t problem_bytes) MUST_USE;
int admin_open(struct proxy *p, char *problem, size_t problem_bytes) MUST_USE;
void admin_pause(struct proxy *p, bool is_over); /* accepts nothing for a while */
void admin_drain(struct proxy *p);               /* accepts nothing any more */
void admin_close(struct proxy *p); /* NULL is fine */

#endif
