/* SPDX-License-Identifier: Apache-2.0 */
#include "local/command.h"

#include "core/clock.h"
#include "core/err.h"

#include <stdlib.h>

#define FETCH_NS     (10 * NS_PER_S)
#define STATUS_BYTES 12 /* "HTTP/1.0 200" */

void client_fetch_end(struct client *c)
{
    timer_cancel(&c->commands->home->loop, &c->fetch_timer);
    task_cancel(&c->fetch_task);
    io_close(c->io);
    c->io = NULL;
    chain_clear(&c->received);
}

static void finish(struct client *c, const char *problem)
{
    struct bytes all = text_bytes(&c->body);
    size_t at = 0;
    json_t *answer;

    client_fetch_end(c);
    if (problem == NULL && c->body.err != 0) {
        problem = "it says more than 16 MiB";
    }
    if (problem == NULL && (all.len < STATUS_BYTES || !bytes_find(all, BYTES("\r\n\r\n"), &at))) {
        problem = "it speaks no HTTP";
    }
    if (problem != NULL) {
        client_refuse(c, "the pod's port did not answer: %s", problem);
        return;
    }
    answer = json_pack("{s:b, s:i, s:s%}", "ok", 1, "status",
                       (int)strtol(all.at + STATUS_BYTES - 3, NULL, 10), "body", all.at + at + 4,
                       (int)(all.len - at - 4));
    if (answer == NULL) {
        client_refuse(c, "the pod's answer is no text");
        return;
    }
    client_answer(c, answer);
}

/* The body holds the request first, then the answer. */
static int send_request(struct client *c)
{
    struct chain out;
    int rc;

    chain_init(&out);
    rc = chain_append(&out, &c->commands->home->loop.chunks, text_bytes(&c->body));
    if (rc == 0) {
        rc = io_send(c->io, &out);
    }
    chain_clear(&out);
    text_reset(&c->body);
    c->is_asked = true;
    return rc;
}

static void fetch_run(struct task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, fetch_task);
    size_t got;
    int rc = io_handshake(c->io);

    if (rc == 0 && !c->is_asked) {
        rc = send_request(c);
    }
    while (rc == 0) {
        rc = io_recv(c->io, &c->received, 65536, &got);
        while (chain_size(&c->received) > 0) {
            struct bytes head = chain_head(&c->received);

            text_add(&c->body, head);
            chain_drop(&c->received, head.len);
        }
        rc = c->body.err != 0 ? E_LIMIT : rc;
    }
    if (rc != E_AGAIN) {
        finish(c, rc == E_EOF || rc == E_LIMIT ? NULL : err_text(rc));
    }
}

static void on_timeout(struct timer *t)
{
    finish(CONTAINER_OF(t, struct client, fetch_timer), "it took too long");
}

void client_fetch(struct client *c, const json_t *request)
{
    struct home *h = c->commands->home;
    struct pod *p = client_pod(c, request);
    const char *path = json_text(request, "path");
    int64_t port = json_number(request, "port", 0);
    struct addr to;
    int rc;

    if (p == NULL) {
        return;
    }
    if (port < 1 || port > UINT16_MAX || (path != NULL && strpbrk(path, " \r\n") != NULL)) {
        client_refuse(c, "a port from 1 to 65535 and a path without blanks are needed");
        return;
    }
    to = p->net.ip4;
    to.port = (uint16_t)port;
    text_printf(&c->body, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", path != NULL ? path : "/");
    c->fetch_task.run = fetch_run;
    c->fetch_timer.run = on_timeout;
    rc = sock_dial(&h->loop, &to, NULL, &c->fetch_task, &c->io);
    if (rc != 0) {
        c->io = NULL;
        client_refuse(c, "the pod's port cannot be dialed: %s", err_text(rc));
        return;
    }
    timer_arm_in(&h->loop, &c->fetch_timer, FETCH_NS);
    task_wake(&h->loop, &c->fetch_task);
}
