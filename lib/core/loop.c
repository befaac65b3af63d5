/* SPDX-License-Identifier: Apache-2.0 */
#include "core/loop.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/mailbox.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LOOP_EVENTS_MAX   256 /* taken from the kernel in one turn; the rest waits for the next */
#define LOOP_TASK_ROUNDS  16  /* of one turn; then the kernel is asked for events again */
#define LOOP_CLOSE_ROUNDS 1000
#define LOOP_FREE_CHUNKS  128 /* unused chunks kept: 2 MiB, given back when idle */
#define LOOP_TRIM_NS      NS_PER_S
#define LOOP_HEAP_MIN     64

static _Thread_local const struct loop *loop_of_thread;

const struct loop *loop_self(void)
{
    return loop_of_thread;
}

const struct loop *loop_set_self(const struct loop *l)
{
    const struct loop *before = loop_of_thread;

    loop_of_thread = l;
    return before;
}

/* --- tasks ------------------------------------------------------------------------------------- */

void task_wake(struct loop *l, struct task *t)
{
    assert(t->run != NULL);
    if (!list_is_linked(&t->node)) {
        list_append(&l->ready, &t->node);
    }
}

void task_wake_late(struct loop *l, struct task *t)
{
    assert(t->run != NULL);
    if (!list_is_linked(&t->node)) {
        list_append(&l->late, &t->node);
    }
}

void task_cancel(struct task *t)
{
    list_unlink(&t->node);
}

/* Run what is in `pending` now; what is woken meanwhile stays for the next call. */
static void tasks_run_once(struct list *pending)
{
    struct list batch, *node;

    list_init(&batch);
    list_move(&batch, pending);
    while ((node = list_pop(&batch)) != NULL) {
        struct task *t = LIST_ITEM(node, struct task, node);

        t->run(t);
    }
}

/* --- watches ----------------------------------------------------------------------------------- */

static int watch_control(struct watch *w, const struct loop *l, int fd, int op, bool has_out)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLRDHUP | EPOLLET | (has_out ? (uint32_t)EPOLLOUT : 0),
        .data = {.ptr = w},
    };

    return epoll_ctl(l->epoll_fd, op, fd, &event) == 0 ? 0 : -errno;
}

static int watch_begin(struct watch *w, struct loop *l, int fd, struct task *owner, bool has_out)
{
    assert(fd >= 0);
    TRY(watch_control(w, l, fd, EPOLL_CTL_ADD, has_out));
    *w = (struct watch){.fd = fd, .owner = owner, .loop = l, .has_out = has_out};
    l->watch_count++;
    return 0;
}

int watch_open(struct watch *w, struct loop *l, int fd, struct task *owner)
{
    return watch_begin(w, l, fd, owner, true);
}

int watch_open_writable(struct watch *w, struct loop *l, int fd, struct task *owner)
{
    return watch_begin(w, l, fd, owner, false);
}

/* Asking for it has the kernel look again, so that no event is lost that came since the write. */
void watch_await_out(struct watch *w)
{
    int err;

    w->ready &= ~(unsigned)WATCH_OUT;
    if (!w->has_out) {
        w->has_out = true;
        err = watch_control(w, w->loop, w->fd, EPOLL_CTL_MOD, true);
        assert(err == 0);
    }
}

static int watch_end(struct watch *w)
{
    int fd = w->fd;

    w->loop->watch_count--;
    w->fd = -1;
    w->ready = 0;
    return fd;
}

int watch_release(struct watch *w)
{
    int err;

    assert(w->loop != NULL && w->fd >= 0);
    err = epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    assert(err == 0);
    return watch_end(w);
}

void watch_close(struct watch *w)
{
    if (w->loop == NULL || w->fd < 0) {
        return;
    }
    /* Left to close() only where no copy of the descriptor, in a child say, would keep the events
     * coming: epoll(7). */
    (void)close(w->loop->is_sole_owner ? watch_end(w) : watch_release(w));
}

static void watch_record(struct watch *w, uint32_t events)
{
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        w->ready |= WATCH_IN;
    }
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        w->ready |= WATCH_OUT;
    }
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        w->ready |= WATCH_HUP;
    }
    if ((events & EPOLLRDHUP) != 0) {
        w->ready |= WATCH_FIN;
    }
    if (w->owner != NULL) {
        task_wake(w->loop, w->owner);
    }
}

/* --- timers ------------------------------------------------------------------------------------ */

static void heap_set(struct loop *l, size_t slot, struct timer *t)
{
    l->heap[slot] = t;
    t->heap_slot = slot;
}

static void heap_up(struct loop *l, struct timer *t, size_t slot)
{
    while (slot > 1 && l->heap[slot / 2]->at_ns > t->at_ns) {
        heap_set(l, slot, l->heap[slot / 2]);
        slot /= 2;
    }
    heap_set(l, slot, t);
}

static void heap_down(struct loop *l, struct timer *t, size_t slot)
{
    for (;;) {
        size_t child = slot * 2;

        if (child > l->heap_count) {
            break;
        }
        if (child < l->heap_count && l->heap[child + 1]->at_ns < l->heap[child]->at_ns) {
            child++;
        }
        if (l->heap[child]->at_ns >= t->at_ns) {
            break;
        }
        heap_set(l, slot, l->heap[child]);
        slot = child;
    }
    heap_set(l, slot, t);
}

void timer_arm(struct loop *l, struct timer *t, uint64_t at_ns)
{
    uint64_t before = t->at_ns;

    assert(t->run != NULL);
    /* Later than this turn, so that a timer that rearms itself cannot hold the turn up. */
    t->at_ns = MAX(at_ns, l->now_ns + 1);
    if (t->heap_slot != 0) {
        assert(t->heap_slot <= l->heap_count && l->heap[t->heap_slot] == t);
        if (t->at_ns < before) {
            heap_up(l, t, t->heap_slot);
        } else {
            heap_down(l, t, t->heap_slot);
        }
        return;
    }
    if (l->heap_count + 1 >= l->heap_capacity) { /* slot 0 is not used */
        l->heap_capacity = MAX(l->heap_capacity * 2, (size_t)LOOP_HEAP_MIN);
        l->heap = mem_resize(l->heap, l->heap_capacity, sizeof(struct timer *));
    }
    heap_up(l, t, ++l->heap_count);
}

void timer_arm_in(struct loop *l, struct timer *t, uint64_t delay_ns)
{
    timer_arm(l, t, delay_ns > UINT64_MAX - l->now_ns ? UINT64_MAX : l->now_ns + delay_ns);
}

void timer_cancel(struct loop *l, struct timer *t)
{
    size_t slot = t->heap_slot;
    struct timer *last;

    if (slot == 0) {
        return;
    }
    assert(slot <= l->heap_count && l->heap[slot] == t);
    t->heap_slot = 0;
    last = l->heap[l->heap_count--];
    if (last == t) {
        return;
    }
    if (slot > 1 && l->heap[slot / 2]->at_ns > last->at_ns) {
        heap_up(l, last, slot);
    } else {
        heap_down(l, last, slot);
    }
}

static void timers_run(struct loop *l)
{
    while (l->heap_count > 0 && l->heap[1]->at_ns <= l->now_ns) {
        struct timer *t = l->heap[1];

        timer_cancel(l, t);
        t->run(t);
    }
}

/* --- memory ------------------------------------------------------------------------------------ */

void loop_free_later(struct loop *l, struct grave *g, void (*bury)(struct grave *g))
{
    assert(!list_is_linked(&g->node));
    g->bury = bury;
    list_append(&l->graves, &g->node);
}

static void graves_bury(struct loop *l)
{
    struct list *node;

    while ((node = list_pop(&l->graves)) != NULL) {
        struct grave *g = LIST_ITEM(node, struct grave, node);

        g->bury(g);
    }
}

/*
 * Every second, chunks that nobody needed go back to the system, half of them each time. When
 * nothing is left to give back the clock stops, so that an idle loop sleeps undisturbed.
 */
static void chunks_trim(struct loop *l)
{
    if (l->trim_at_ns == UINT64_MAX) {
        if (l->chunks.free_count > CHUNK_RESERVE) {
            l->trim_at_ns = l->now_ns + LOOP_TRIM_NS;
            l->chunks.free_low = l->chunks.free_count;
        }
    } else if (l->now_ns >= l->trim_at_ns) {
        l->trim_at_ns = chunk_pool_trim_unused(&l->chunks) ? l->now_ns + LOOP_TRIM_NS : UINT64_MAX;
    }
}

/* --- the loop ---------------------------------------------------------------------------------- */

int loop_open(struct loop *l, unsigned index, size_t chunks_max)
{
    int err;

    *l = (struct loop){.index = index, .trim_at_ns = UINT64_MAX};
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll_fd < 0) {
        return -errno;
    }
    list_init(&l->ready);
    list_init(&l->late);
    list_init(&l->graves);
    chunk_pool_init(&l->chunks, chunks_max, MIN(chunks_max, (size_t)LOOP_FREE_CHUNKS));
    rand_init(&l->rand);
    l->now_ns = clock_mono_ns();
    err = mailbox_open(l);
    if (err != 0) {
        (void)close(l->epoll_fd);
        return err;
    }
    (void)loop_set_self(l);
    return 0;
}

void loop_close(struct loop *l)
{
    const struct loop *before = loop_set_self(l);
    unsigned rounds = 0;

    while (mailbox_deliver(l) || !list_is_empty(&l->ready) || !list_is_empty(&l->late)) {
        tasks_run_once(&l->ready);
        tasks_run_once(&l->late);
        graves_bury(l);
        assert(++rounds < LOOP_CLOSE_ROUNDS && "a task or message wakes itself for ever");
    }
    graves_bury(l);
    mailbox_close(l);
    assert(l->watch_count == 0);
    assert(l->heap_count == 0);
    chunk_pool_clear(&l->chunks);
    mem_free(l->heap);
    (void)close(l->epoll_fd);
    l->epoll_fd = -1;
    (void)loop_set_self(before == l ? NULL : before);
}

/* How long the kernel may let us sleep, in ms, rounded up so that no timer is met early. */
static int loop_sleep_ms(const struct loop *l, int wait_ms)
{
    uint64_t until = MIN(l->heap_count > 0 ? l->heap[1]->at_ns : UINT64_MAX, l->trim_at_ns);
    uint64_t now, ms;

    if (wait_ms == 0 || !list_is_empty(&l->ready) || !list_is_empty(&l->late)) {
        return 0;
    }
    if (until == UINT64_MAX) {
        return wait_ms;
    }
    now = clock_mono_ns();
    ms = until <= now ? 0 : (until - now - 1) / NS_PER_MS + 1;
    ms = MIN(ms, (uint64_t)INT_MAX);
    return wait_ms < 0 ? (int)ms : MIN((int)ms, wait_ms);
}

static void loop_wait(struct loop *l, int wait_ms)
{
    struct epoll_event events[LOOP_EVENTS_MAX];
    int count = epoll_wait(l->epoll_fd, events, LOOP_EVENTS_MAX, loop_sleep_ms(l, wait_ms));

    assert(count >= 0 || errno == EINTR);
    l->now_ns = clock_mono_ns();
    l->events = count > 0 ? (unsigned)count : 0;
    for (int i = 0; i < count; i++) {
        watch_record(events[i].data.ptr, events[i].events);
    }
}

bool loop_turn(struct loop *l, int wait_ms)
{
    (void)loop_set_self(l);
    loop_wait(l, wait_ms);
    if (mailbox_is_signaled(l)) {
        (void)mailbox_deliver(l);
    }
    timers_run(l);
    for (unsigned round = 0; round < LOOP_TASK_ROUNDS && !list_is_empty(&l->ready); round++) {
        tasks_run_once(&l->ready);
    }
    tasks_run_once(&l->late);
    graves_bury(l);
    chunks_trim(l);
    return !l->stopping;
}

void loop_run(struct loop *l)
{
    while (loop_turn(l, -1)) {
    }
}

void loop_stop(struct loop *l)
{
    assert(loop_self() == l);
    l->stopping = true;
}
