/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/handover.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define READY_NS   (300 * NS_PER_S) /* for the new process to get its certificate */
#define SERVING_NS (20 * NS_PER_S)  /* from GO until it accepts; meanwhile connections wait */
#define REFUSE_NS  (2 * NS_PER_S)   /* for the new process to say what it wants */

#define HANDOVER_STATES(X)                                                                         \
    X(IDLE, "waiting for a successor")                                                             \
    X(GREETED, "a successor has connected; waiting for its HELLO")                                 \
    X(GIVING, "the successor has the sockets; waiting until it has a certificate")                 \
    X(PAUSING, "the workers are told to accept nothing")                                           \
    X(PAUSED, "nobody accepts; waiting until the successor does")                                  \
    X(TAKING, "we have the sockets; waiting for our certificate")                                  \
    X(ASKING, "we could serve; waiting until the other process has stopped accepting")             \
    X(STARTING, "our workers are told to accept")                                                  \
    X(OVER, "handed over, or the proxy ends")

enum handover_state {
#define X(id, doing) STATE_##id,
    HANDOVER_STATES(X)
#undef X
};

static const char *const state_doing[] = {
#define X(id, doing) [STATE_##id] = doing,
    HANDOVER_STATES(X)
#undef X
};

struct handover {
    struct proxy *p;
    const char *at;
    enum handover_state state;
    int listen_fd; /* until `listener` has it */
    struct listener listener;
    struct watch link; /* to the other process */
    struct task task;
    struct timer patience;
    bool is_ready;
};

static void set_state(struct handover *h, enum handover_state next)
{
    h->state = next;
    log_debug("hand-over: %s", state_doing[next]);
}

static void hang_up(struct handover *h)
{
    timer_cancel(&h->p->loop, &h->patience);
    task_cancel(&h->task);
    watch_close(&h->link);
}

bool handover_is_pending(const struct handover *h)
{
    return h != NULL && (h->state == STATE_TAKING || h->state == STATE_ASKING);
}

/* --- as the running process ------------------------------------------------------------------- */

/* The new process has failed: whatever came of it, we are the proxy. */
static void carry_on(struct handover *h, const char *why)
{
    bool was_paused = h->state == STATE_PAUSING || h->state == STATE_PAUSED;

    log_warn("the new proxy does not take over, this one carries on: %s; state=\"%s\"", why,
             state_doing[h->state]);
    if (h->link.fd >= 0) {
        (void)!handover_send(h->link.fd, HANDOVER_ABORT, why);
    }
    hang_up(h);
    set_state(h, STATE_IDLE);
    if (was_paused) {
        proxy_order(h->p, WORKER_RESUME);
    }
}

static void refuse(struct handover *h, const char *why)
{
    log_warn("a new proxy is refused the sockets: %s", why);
    (void)!handover_send(h->link.fd, HANDOVER_REFUSE, why);
    hang_up(h);
    set_state(h, STATE_IDLE);
}

static void give(struct handover *h, const char *version)
{
    int rc = handover_send_sockets(h->link.fd, h->p->sockets, h->p->sockets_count);

    if (rc != 0) {
        carry_on(h, err_text(rc));
        return;
    }
    log_info("a new proxy takes the listening sockets; version=%s sockets=%zu", version,
             h->p->sockets_count);
    set_state(h, STATE_GIVING);
    timer_arm_in(&h->p->loop, &h->patience, READY_NS);
}

static void hand_over(struct handover *h)
{
    hang_up(h);
    listener_close(&h->listener); /* the new process has its own copy */
    set_state(h, STATE_OVER);
    proxy_hand_over(h->p);
}

static void on_successor(struct listener *ln, int fd, const struct addr *peer)
{
    struct handover *h = ln->user;
    const char *why = NULL;

    (void)peer;
    if (!handover_is_peer_allowed(fd)) {
        why = "the running proxy belongs to another user";
    } else if (h->state != STATE_IDLE) {
        why = "another process is taking over";
    } else if (watch_open(&h->link, &h->p->loop, fd, &h->task) != 0) {
        why = "the running proxy has no room for it";
    }
    if (why != NULL) {
        log_warn("a process that asks for the listening sockets is refused: %s", why);
        (void)!handover_send(fd, HANDOVER_REFUSE, why);
        (void)close(fd);
        return;
    }
    set_state(h, STATE_GREETED);
    timer_arm_in(&h->p->loop, &h->patience, REFUSE_NS);
}

/* --- as the new process ----------------------------------------------------------------------- */

static void start(struct handover *h)
{
    set_state(h, STATE_STARTING);
    proxy_take_over(h->p);
}

static void ask(struct handover *h)
{
    set_state(h, STATE_ASKING);
    if (handover_send(h->link.fd, HANDOVER_READY, NULL) != 0) {
        start(h); /* it has gone */
    }
}

/* The other process is gone without a word: what it had is ours alone. */
static void inherit(struct handover *h)
{
    log_warn("the proxy before this one ended before it had handed over: going on alone");
    hang_up(h);
    if (h->state == STATE_ASKING) {
        start(h);
    } else if (h->state == STATE_TAKING) { /* as after any start: there is a certificate to come */
        set_state(h, STATE_IDLE);
        listener_resume(&h->listener);
        proxy_take_over(h->p);
    }
}

static void give_way(struct handover *h, const char *why)
{
    char text[HANDOVER_TEXT_MAX + 100];

    (void)snprintf(text, sizeof(text), "the running proxy carries on: %s", why);
    hang_up(h);
    proxy_give_way(h->p, text, h->state == STATE_STARTING);
    set_state(h, STATE_OVER);
}

void handover_ready(struct handover *h)
{
    if (h == NULL || h->is_ready) {
        return;
    }
    h->is_ready = true;
    if (h->state == STATE_TAKING) {
        ask(h);
    }
}

/* --- messages --------------------------------------------------------------------------------- */

static void on_message(struct handover *h, const struct handover_message *m)
{
    if (h->state == STATE_GREETED && m->type == HANDOVER_HELLO) {
        give(h, m->text);
    } else if (h->state == STATE_GIVING && m->type == HANDOVER_READY) {
        set_state(h, STATE_PAUSING);
        timer_arm_in(&h->p->loop, &h->patience, SERVING_NS);
        proxy_order(h->p, WORKER_PAUSE);
    } else if (h->state == STATE_PAUSED && m->type == HANDOVER_SERVING) {
        hand_over(h);
    } else if (h->state == STATE_ASKING && m->type == HANDOVER_GO) {
        start(h);
    } else if (m->type == HANDOVER_ABORT || m->type == HANDOVER_REFUSE) {
        if (h->state >= STATE_TAKING) {
            give_way(h, m->text);
        } else {
            carry_on(h, m->text);
        }
    } else if (h->state < STATE_TAKING) {
        carry_on(h, "it sends what is not expected now");
    } else {
        give_way(h, "it sends what is not expected now");
    }
}

static void on_unknown(struct handover *h, int rc, const struct handover_message *m)
{
    char why[120];

    if (rc == E_UNSUPPORTED) {
        (void)snprintf(why, sizeof(why),
                       "it speaks version %u of the hand-over, and the running proxy version %d",
                       m->version, HANDOVER_VERSION);
    } else {
        (void)snprintf(why, sizeof(why), "what it sends is no message of a hand-over");
    }
    if (h->state == STATE_GREETED) {
        refuse(h, why);
    } else if (h->state < STATE_TAKING) {
        carry_on(h, why);
    } else {
        give_way(h, why);
    }
}

static void on_link(struct task *t)
{
    struct handover *h = CONTAINER_OF(t, struct handover, task);
    struct handover_message m;
    int rc = 0;

    while (h->link.fd >= 0 && (rc = handover_recv(h->link.fd, &m)) != E_AGAIN) {
        for (size_t i = 0; i < m.fds_count; i++) {
            (void)close(m.fds[i]); /* nobody asked for more */
        }
        if (rc == 0) {
            on_message(h, &m);
        } else if (rc == E_SYNTAX || rc == E_UNSUPPORTED) {
            on_unknown(h, rc, &m);
        } else if (h->state >= STATE_TAKING) {
            inherit(h);
        } else {
            carry_on(h, "it has ended");
        }
    }
}

static void on_patience(struct timer *t)
{
    struct handover *h = CONTAINER_OF(t, struct handover, patience);

    if (h->state == STATE_GREETED) {
        refuse(h, "it does not say what it wants");
    } else if (h->state == STATE_GIVING) {
        carry_on(h, "it did not get a certificate in time");
    } else {
        carry_on(h, "it did not begin to serve in time");
    }
}

void handover_obeyed(struct handover *h)
{
    if (h == NULL) {
        return;
    }
    if (h->state == STATE_PAUSING) {
        set_state(h, STATE_PAUSED);
        if (handover_send(h->link.fd, HANDOVER_GO, NULL) != 0) {
            carry_on(h, "it has ended");
        }
    } else if (h->state == STATE_STARTING) {
        bool has_ancestor = h->link.fd >= 0 && handover_send(h->link.fd, HANDOVER_SERVING, NULL) == 0;

        hang_up(h);
        set_state(h, STATE_IDLE);
        listener_resume(&h->listener);
        proxy_serving(h->p, has_ancestor ? "took over from the proxy before this one" : NULL);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

/* The name's own socket is handed over with the others, so that it is never without a listener. */
static int open_socket(struct handover *h, struct handover_taken *t)
{
    for (size_t i = 0; i < t->count && h->listen_fd < 0; i++) {
        if (t->fds[i] >= 0 && handover_is_at(t->fds[i], h->at)) {
            h->listen_fd = t->fds[i];
            t->fds[i] = -1;
        }
    }
    return h->listen_fd >= 0 ? 0 : handover_listen(h->at, &h->listen_fd);
}

int handover_open(struct proxy *p, const char *at, struct handover_taken *t, struct handover **out,
                  char *problem, size_t problem_bytes)
{
    struct handover *h;
    int rc;

    if (at == NULL) {
        return 0;
    }
    h = mem_new(sizeof(*h));
    *h = (struct handover){.p = p, .at = at, .listen_fd = -1, .link = {.fd = -1}};
    h->task.run = on_link;
    h->patience.run = on_patience;
    *out = h;
    rc = open_socket(h, t);
    if (rc == 0) {
        proxy_add_socket(p, h->listen_fd);
        rc = listener_open(&h->listener, &p->loop, h->listen_fd, on_successor, h);
        h->listen_fd = -1;
    }
    if (rc == 0 && t->is_heir) {
        set_state(h, STATE_TAKING);
        listener_pause(&h->listener); /* until we are who hands over */
        rc = fcntl(t->link_fd, F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
        if (rc == 0) {
            rc = watch_open(&h->link, &p->loop, t->link_fd, &h->task);
        }
        if (rc == 0) {
            t->link_fd = -1;
            task_wake(&p->loop, &h->task); /* it may have said something already */
        }
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "cannot listen on %s (" ENV_PROXY_HANDOVER "): %s", at,
                       err_text(rc));
    }
    handover_taken_clear(t);
    return rc;
}

bool handover_drained(struct handover *h)
{
    bool is_shared;

    if (h == NULL || h->state == STATE_OVER) {
        return h != NULL;
    }
    is_shared = h->state >= STATE_GIVING;
    hang_up(h); /* a successor that has the sockets goes on alone */
    listener_close(&h->listener);
    if (h->state == STATE_IDLE && h->at[0] != '@') { /* else it is another's as well */
        (void)unlink(h->at);
    }
    set_state(h, STATE_OVER);
    return is_shared;
}

void handover_close(struct handover *h)
{
    if (h != NULL) {
        (void)handover_drained(h);
        listener_close(&h->listener);
        mem_free(h);
    }
}
