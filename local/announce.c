/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define PROBLEMS_MAX   100
#define TEXT_BYTES_MAX 2048
#define OUT_BYTES_MAX  (16u << 20)
#define PATIENCE_NS    (10 * NS_PER_S) /* without progress: then it is said what is waited for */
#define NAMED_MAX      3

struct announce {
    struct home *home;
    int fd; /* -1: nobody waits, or no longer */
    bool was_open;
    struct watch watch; /* of fd, where it can be watched: not when it is a file */
    struct task task;
    struct text out;
    size_t sent;
    size_t told_ready, told_total;
    struct timer patience;
};

struct problem {
    struct list node;
    char *about, *text;
};

/* --- the descriptor ------------------------------------------------------------------------------ */

static void listener_gone(struct announce *a)
{
    if (a->watch.loop != NULL) {
        watch_close(&a->watch);
    } else if (a->fd >= 0) {
        (void)close(a->fd);
    }
    a->fd = -1;
    task_cancel(&a->task);
}

static void announce_run(struct task *t)
{
    struct announce *a = CONTAINER_OF(t, struct announce, task);
    struct home *h = a->home;

    while (a->fd >= 0 && a->sent < a->out.len) {
        ssize_t n = write(a->fd, a->out.at + a->sent, a->out.len - a->sent);

        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            listener_gone(a);
            break;
        }
        a->sent += (size_t)n;
    }
    text_reset(&a->out);
    a->sent = 0;
    if (a->fd >= 0 &&
        ((h->is_announced && !h->options->foreground) || (a->watch.ready & WATCH_HUP) != 0)) {
        listener_gone(a);
    }
    if (a->fd < 0 && a->was_open && (!h->is_announced || h->options->foreground) &&
        !h->is_stopping) {
        log_warn("whoever started the home is gone: it ends");
        home_stop(h);
    }
}

static void tell(struct home *h, json_t *line)
{
    struct announce *a = h->announce;
    char *dump = json_dumps(line, JSON_COMPACT);

    json_decref(line);
    if (a->fd >= 0 && dump != NULL) {
        text_str(&a->out, dump);
        text_char(&a->out, '\n');
        task_wake(&h->loop, &a->task);
    }
    mem_free(dump);
}

/* Which containers `up` waits for, of many the first few; then it is quiet for longer. */
static void on_patience(struct timer *t)
{
    struct announce *a = CONTAINER_OF(t, struct announce, patience);
    struct home *h = a->home;
    json_t *list = home_unready(h, true), *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        if (i < NAMED_MAX) {
            announce_notice(h, "still waiting for pod %s/%s, container %s: %s",
                            json_text(item, "namespace"), json_text(item, "pod"),
                            json_text(item, "container"), json_text(item, "reason"));
        }
    }
    if (json_array_size(list) > NAMED_MAX) {
        announce_notice(h, "and for %zu more", json_array_size(list) - NAMED_MAX);
    }
    json_decref(list);
    if (!h->is_announced) {
        timer_arm_in(&h->loop, t, 3 * PATIENCE_NS);
    }
}

void announce_open(struct home *h, int fd)
{
    struct announce *a = mem_new(sizeof(*a));

    h->announce = a;
    a->home = h;
    a->fd = fd;
    a->was_open = fd >= 0;
    a->told_total = SIZE_MAX;
    a->task.run = announce_run;
    a->patience.run = on_patience;
    text_init(&a->out, OUT_BYTES_MAX);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0 ||
        watch_open(&a->watch, &h->loop, fd, &a->task) != 0) {
        a->watch = (struct watch){.fd = -1};
    }
}

/* What could not be written by now is not waited for. */
void announce_close(struct home *h)
{
    struct announce *a = h->announce;
    struct list *node;

    if (a != NULL) {
        h->is_stopping = true;
        announce_run(&a->task);
        listener_gone(a);
        timer_cancel(&h->loop, &a->patience);
        text_clear(&a->out);
        mem_free(a);
        h->announce = NULL;
    }
    while ((node = list_pop(&h->problems)) != NULL) {
        struct problem *p = LIST_ITEM(node, struct problem, node);

        mem_free(p->about);
        mem_free(p->text);
        mem_free(p);
    }
}

/* --- problems ------------------------------------------------------------------------------------ */

static struct problem *find(const struct home *h, const char *about)
{
    LIST_FOREACH(node, &h->problems)
    {
        struct problem *p = LIST_ITEM(node, struct problem, node);

        if (strcmp(p->about, about) == 0) {
            return p;
        }
    }
    return NULL;
}

/* A text that was cut within a character, or quotes bytes of who knows what, is no JSON string. */
void home_clean(char *text)
{
    json_t *j = json_string(text);

    for (char *c = text; j == NULL && *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x80 ? *c : '?';
    }
    json_decref(j);
}

static size_t count(const struct home *h)
{
    size_t n = 0;

    LIST_FOREACH(node, &h->problems)
    {
        n++;
    }
    return n;
}

static void forget(struct problem *p)
{
    list_unlink(&p->node);
    mem_free(p->about);
    mem_free(p->text);
    mem_free(p);
}

void home_problem(struct home *h, const char *about, const char *format, ...)
{
    struct problem *p = find(h, about);
    char text[TEXT_BYTES_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    home_clean(text);
    if (p != NULL && strcmp(p->text, text) == 0) {
        return;
    }
    if (p != NULL) {
        forget(p);
    } else if (count(h) == PROBLEMS_MAX) {
        forget(LIST_ITEM(h->problems.next, struct problem, node));
    }
    p = mem_new(sizeof(*p));
    p->about = mem_strdup(about);
    p->text = mem_strdup(text);
    list_append(&h->problems, &p->node);
    log_error("%s", text);
    if (!h->is_stopping) {
        tell(h, json_pack("{s:s}", "problem", text));
        home_reconcile_soon(h);
    }
}

void home_problem_over(struct home *h, const char *about)
{
    struct problem *p = find(h, about);

    if (p != NULL) {
        log_info("this is over: %s", p->text);
        forget(p);
    }
}

const char *home_problem_of(const struct home *h, const char *about)
{
    const struct problem *p = find(h, about);

    return p != NULL ? p->text : NULL;
}

json_t *home_problems(const struct home *h)
{
    json_t *texts = json_array();

    LIST_FOREACH(node, &h->problems)
    {
        json_array_append_new(texts, json_string(LIST_ITEM(node, struct problem, node)->text));
    }
    return texts;
}

/* --- what is said -------------------------------------------------------------------------------- */

void announce_notice(struct home *h, const char *format, ...)
{
    char text[TEXT_BYTES_MAX];
    va_list args;

    if (h->is_announced || h->is_stopping) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    home_clean(text);
    tell(h, json_pack("{s:s}", "notice", text));
}

static void announce(struct home *h, bool ready)
{
    json_t *unready = ready ? json_array() : home_unready(h, h->is_late);

    timer_cancel(&h->loop, &h->deadline);
    timer_cancel(&h->loop, &h->announce->patience);
    tell(h, json_pack("{s:b, s:o, s:o}", "ready", ready, "status", home_status(h), "unready",
                      unready));
    h->is_announced = true;
    if (!ready) {
        home_stop(h);
    } else if (state_note(h) !=
               0) { /* now with the published ports; what is there is true all the same */
        log_warn("home.json cannot be written");
    }
}

void announce_progress(struct home *h)
{
    struct announce *a = h->announce;
    size_t ready, total;

    if (h->is_announced || h->is_stopping || !desired_is_synced(h->desired)) {
        return;
    }
    if (!list_is_empty(&h->problems)) { /* a home that is not what was asked for does not start */
        announce(h, false);
    } else if (home_is_ready(h, &ready, &total)) {
        uint64_t wait_ns = home_unsettled_ns(h);

        if (wait_ns == 0) {
            announce(h, true);
        } else {
            timer_arm_in(&h->loop, &h->settle, wait_ns);
        }
    } else if (ready != a->told_ready || total != a->told_total) {
        a->told_ready = ready;
        a->told_total = total;
        timer_arm_in(&h->loop, &a->patience, PATIENCE_NS);
        tell(h, json_pack("{s:i, s:i}", "pods_ready", (int)ready, "pods_total", (int)total));
    }
}
