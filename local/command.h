/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_COMMAND_H
#define LOCAL_COMMAND_H

/*
 * Commands of the CLI over run/supervisor.sock: one JSON object a line, one answer a line, then the
 * connection ends. `exec` also passes the caller's three standard streams; its answer comes when the
 * program has ended.
 *
 * Limits: 64 clients; a request of 1 MiB; a fetched body of 16 MiB, within 10 s.
 * Ownership: a client lives until its answer is written or its peer is gone; what it started is told.
 */
#include "local/supervisor.h"
#include "net/sock.h"

#define REQUEST_BYTES_MAX (1u << 20)
#define FETCH_BYTES_MAX   (16u << 20)
#define ANSWER_BYTES_MAX  (112u << 20) /* as JSON a byte may take six */

struct commands {
    struct home *home;
    struct listener listener;
    struct list clients;
    size_t count;
};

struct client {
    struct list node;
    struct commands *commands;
    struct watch watch;
    struct task task;
    struct grave grave;
    struct text request, answer;
    size_t sent;
    int fds[3];              /* passed along; -1 */
    bool is_dispatched, is_answered;
    struct upgrade *upgrade; /* that it waits for; or NULL */
    pid_t pid;               /* of exec, while it runs */
    /* fetch */
    struct io *io;
    struct chain received;
    struct text body;
    struct task fetch_task;
    struct timer fetch_timer;
    bool is_asked;
};

void client_answer(struct client *c, json_t *answer); /* takes it; the first one counts */
void client_refuse(struct client *c, const char *format, ...) PRINTF_LIKE(2, 3);
/* There is no such Deployment or pod in this namespace; says in which it is. */
void client_refuse_name(struct client *c, const char *ns, const char *name);
/* The request's pod, by its name or its Deployment's (a ready one if there is any). NULL: refused. */
struct pod *client_pod(struct client *c, const json_t *request);

/* exec.c */
void client_exec(struct client *c, const json_t *request);
void client_exec_end(struct client *c);       /* its peer is gone */

/* upgrade.c */
void client_upgrade(struct client *c, const json_t *request);
void client_upgrade_end(struct client *c);    /* its peer is gone; idempotent */

/* fetch.c: an HTTP GET of a pod's port */
void client_fetch(struct client *c, const json_t *request);
void client_fetch_end(struct client *c);      /* idempotent */

#endif
