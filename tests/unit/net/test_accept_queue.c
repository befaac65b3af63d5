/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of a listening socket that stands: made as short as what is accepted in time, and long again. */
#include "door_probe.h"

#include <time.h>

#include "net/accept_queue.h"

#define BOUND 100

struct crowd {
    struct accept_queue queue;
    struct addr at;
    uint64_t now_ns; /* of the queue's clock; the sockets have the kernel's */
    int listen_fd, clients[64];
    unsigned count;
};

static void crowd_open(struct crowd *c)
{
    struct addr at = addr_v4(0x7f000001, 0);

    memset(c, 0, sizeof(*c));
    c->now_ns = 1000 * NS_PER_S;
    assert_int_equal(sock_listen(&at, false, BOUND, &c->listen_fd), 0);
    assert_int_equal(sock_local(c->listen_fd, &c->at), 0);
    accept_queue_bound(&c->queue, c->listen_fd, BOUND);
}

static void crowd_close(struct crowd *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        close(c->clients[i]);
    }
    close(c->listen_fd);
}

static void fall_behind(struct crowd *c)
{
    accept_queue_saw_more(&c->queue, c->now_ns);
    c->now_ns += NS_PER_S / 2;
    accept_queue_saw_more(&c->queue, c->now_ns);
    assert_true(accept_queue_is_behind(&c->queue, c->now_ns));
}

static void come(struct crowd *c, unsigned count)
{
    for (; count > 0; count--) {
        assert_true(c->count < ARRAY_LEN(c->clients));
        c->clients[c->count++] = connect_to(&c->at);
    }
}

static unsigned bound_of(const struct crowd *c)
{
    return tcp_info_of(c->listen_fd).tcpi_sacked;
}

static void wait_ms(unsigned ms)
{
    struct timespec t = {.tv_nsec = (long)(ms * NS_PER_MS)};

    assert_int_equal(nanosleep(&t, NULL), 0);
}

/* Accept the first one, which has waited for so long at least, and let the queue know. */
static void accept_after(struct crowd *c, unsigned ms)
{
    int fd;

    wait_ms(ms);
    fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    c->now_ns += NS_PER_S / 10;
    accept_queue_measure(&c->queue, c->listen_fd, fd, c->now_ns);
    close(fd);
}

static void a_queue_in_which_they_wait_too_long_is_shortened(void **state)
{
    struct crowd c;

    (void)state;
    crowd_open(&c);
    fall_behind(&c);
    come(&c, 50);
    accept_after(&c, 250); /* 49 are left: 0.8 of these can be accepted in time, fewer on a slow machine */
    assert_in_range(bound_of(&c), 16, 39);
    assert_int_equal(tcp_info_of(c.listen_fd).tcpi_unacked, 49); /* who is in, stays */
    for (unsigned i = 0; i < 45; i++) {
        accept_after(&c, 0);
        accept_queue_saw_more(&c.queue, c.now_ns);
    }
    assert_int_equal(bound_of(&c), 16); /* a queue of few is no burden */
    accept_queue_saw_empty(&c.queue, c.listen_fd, c.now_ns);
    assert_int_equal(bound_of(&c), BOUND);
    assert_true(accept_queue_is_behind(&c.queue, c.now_ns)); /* who comes back all at once finds room */
    crowd_close(&c);
}

static void a_queue_that_moves_again_becomes_longer(void **state)
{
    struct crowd c;

    (void)state;
    crowd_open(&c);
    fall_behind(&c);
    come(&c, 2);
    accept_after(&c, 250);
    assert_int_equal(bound_of(&c), 16);
    accept_after(&c, 0); /* it has waited, too */
    assert_int_equal(bound_of(&c), 16);
    /* On a slow machine they wait. */
    for (unsigned tries = 0; bound_of(&c) < BOUND && tries < 1000; tries++) {
        come(&c, 1);
        accept_after(&c, 0);
        accept_queue_saw_more(&c.queue, c.now_ns);
        close(c.clients[--c.count]);
    }
    assert_int_equal(bound_of(&c), BOUND);
    assert_false(c.queue.is_short);
    crowd_close(&c);
}

static void a_queue_is_measured_now_and_then_while_behind(void **state)
{
    struct crowd c;

    (void)state;
    crowd_open(&c);
    come(&c, 40);
    accept_after(&c, 250);
    assert_int_equal(bound_of(&c), BOUND); /* not behind */
    fall_behind(&c);
    accept_after(&c, 0);
    assert_in_range(bound_of(&c), 16, 31);
    accept_queue_widen(&c.queue, c.listen_fd);
    accept_queue_widen(&c.queue, c.listen_fd); /* idempotent */
    assert_int_equal(bound_of(&c), BOUND);
    c.now_ns -= NS_PER_S / 10; /* no time goes by */
    accept_after(&c, 0);
    assert_int_equal(bound_of(&c), BOUND);
    accept_after(&c, 0);
    assert_in_range(bound_of(&c), 16, 31);
    crowd_close(&c);
}

/* However short the process before has left it; and one whose owner says no bound is left alone. */
static void who_has_the_socket_next_sets_its_own_bound(void **state)
{
    struct accept_queue next = {0};
    struct crowd c;

    (void)state;
    crowd_open(&c);
    fall_behind(&c);
    come(&c, 30);
    accept_after(&c, 250);
    assert_in_range(bound_of(&c), 16, 24);
    accept_queue_bound(&next, c.listen_fd, BOUND * 2);
    assert_int_equal(bound_of(&c), BOUND * 2);
    c.queue = (struct accept_queue){0};
    fall_behind(&c);
    accept_after(&c, 0);
    assert_int_equal(bound_of(&c), BOUND * 2);
    crowd_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_in_which_they_wait_too_long_is_shortened),
        cmocka_unit_test(a_queue_that_moves_again_becomes_longer),
        cmocka_unit_test(a_queue_is_measured_now_and_then_while_behind),
        cmocka_unit_test(who_has_the_socket_next_sets_its_own_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
