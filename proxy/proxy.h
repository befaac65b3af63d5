/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

/*
 * The proxy as a whole: what the control thread owns (main.c), and its admin server (admin.c).
 */
#include "http/service.h"
#include "mesh/identity.h"
#include "proxy/stats.h"
#include "proxy/worker.h"

#define WORKERS_MAX 256

struct proxy {
    struct config config;
    struct loop loop;             /* of the control thread */
    struct metrics metrics;       /* of the control thread */
    struct dns *dns;
    struct control *identity_channel, *destination_channel, *policy_channel;
    struct identity *identity;
    struct discovery *discovery;
    struct proxy_worker *workers; /* config.workers of them */
    unsigned started, drained;
    struct listener admin;
    struct service *service;
    struct timer grace;
    bool is_draining;
};

int admin_open(struct proxy *p, char *problem, size_t problem_bytes) MUST_USE;
void admin_close(struct proxy *p);
void proxy_drain(struct proxy *p, const char *why); /* stop accepting, finish what is open, then end; idempotent */

#endif
