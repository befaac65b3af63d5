/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

/*
 * The proxy as a whole: what the control thread owns (proxy.c), and its admin server (admin.c).
 */
#include "http/service.h"
#include "mesh/identity.h"
#include "proxy/worker.h"

struct proxy {
    struct config config;
    struct loop loop;       /* of the control thread */
    struct metrics metrics; /* of the control thread */
    struct dns *dns;
    struct control *identity_channel, *destination_channel, *policy_channel;
    struct identity *identity;
    struct discovery *discovery;
    struct tls_ctx *tls_server;   /* of the admin server; NULL until there is a certificate */
    struct proxy_worker *workers; /* config.workers of them */
    unsigned started, drained;
    struct admin *admin;
    struct timer grace;
    bool is_draining;
};

/* `config` is set and everything else zero. Binds every socket before a thread starts; on
 * failure a sentence in `problem`, and the process is to end. proxy_close() also clears the
 * configuration. */
int proxy_open(struct proxy *p, char *problem, size_t problem_bytes) MUST_USE;
void proxy_close(struct proxy *p);
void proxy_drain(struct proxy *p,
                 const char *why); /* stop accepting, finish what is open, then end; idempotent */

/* Binds, and serves from the loop's first turn. */
int admin_open(struct proxy *p, char *problem, size_t problem_bytes) MUST_USE;
void admin_close(struct proxy *p); /* NULL is fine */

#endif
