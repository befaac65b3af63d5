/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mailbox.h"

#include "core/alloc.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * The lock covers the eventfd's write as well: once a receiver holds a message, its sender is done
 * with the mailbox, so a message may well be the one that ends the loop.
 *
 * The eventfd is never read. It is edge-triggered, each write is an edge of its own, and its counter
 * has room for centuries of them.
 */
struct mailbox {
    struct watch watch; /* WATCH_IN: somebody wrote */
    pthread_mutex_t lock;
    struct message *first, **last; /* guarded by `lock` */
};

int mailbox_open(struct loop *l)
{
    struct mailbox *box = mem_new(sizeof(*box));
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err;

    if (fd < 0) {
        err = -errno;
        mem_free(box);
        return err;
    }
    err = watch_open(&box->watch, l, fd, NULL);
    if (err != 0) {
        (void)close(fd);
        mem_free(box);
        return err;
    }
    err = pthread_mutex_init(&box->lock, NULL);
    assert(err == 0);
    box->last = &box->first;
    l->mailbox = box;
    return 0;
}

void loop_post(struct loop *l, struct message *m)
{
    struct mailbox *box = l->mailbox;
    bool was_empty;

    assert(m->deliver != NULL);
    m->next = NULL;
    (void)pthread_mutex_lock(&box->lock);
    was_empty = box->first == NULL;
    *box->last = m;
    box->last = &m->next;
    if (was_empty) {
        int err = eventfd_write(box->watch.fd, 1);

        assert(err == 0);
    }
    (void)pthread_mutex_unlock(&box->lock);
}

static struct message *mailbox_take(struct mailbox *box)
{
    struct message *first;

    (void)pthread_mutex_lock(&box->lock);
    first = box->first;
    box->first = NULL;
    box->last = &box->first;
    (void)pthread_mutex_unlock(&box->lock);
    return first;
}

bool mailbox_deliver(struct loop *l)
{
    struct message *m, *next;

    l->mailbox->watch.ready = 0;
    next = mailbox_take(l->mailbox);
    if (next == NULL) {
        return false;
    }
    while ((m = next) != NULL) {
        next = m->next; /* `deliver` frees the message */
        m->deliver(m, l);
    }
    return true;
}

bool mailbox_is_signaled(const struct loop *l)
{
    return (l->mailbox->watch.ready & WATCH_IN) != 0;
}

void mailbox_close(struct loop *l)
{
    struct mailbox *box = l->mailbox;

    assert(mailbox_take(box) == NULL);
    watch_close(&box->watch);
    (void)pthread_mutex_destroy(&box->lock);
    mem_free(box);
    l->mailbox = NULL;
}
