/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners: who is accepted when, and the queue of those who are not. */
#include "door_probe.h"
#include "loop_probe.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>

static int connect_begin(const struct addr *at)
{
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(at, &sa);
    int fd = socket(at->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), -1);
    assert_int_equal(errno, EINPROGRESS);
    return fd;
}

static void many_wait_at_the_door(void **state)
{
    struct door d;
    struct addr at;
    int fds[100];

    (void)state;
    door_open(&d, &loop, &at);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_to(&at);
    }
    TURN_UNTIL(&loop, d.count == 100);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    door_close(&d);
}

static void paused_listener_leaves_them_in_the_backlog(void **state)
{
    struct door d;
    struct addr at;
    int fd;

    (void)state;
    door_open(&d, &loop, &at);
    (void)loop_turn(&loop, 0);
    listener_pause(&d.ln);
    fd = connect_to(&at);
    (void)loop_turn(&loop, 1000); /* the event comes ... */
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 0); /* ... and nobody is let in */
    listener_resume(&d.ln);
    TURN_UNTIL(&loop, d.count == 1);
    close(fd);
    door_close(&d);
}

/* Few in a turn, so that those who come do not hold up those who are there; and a queue that stands
 * is told from a burst. */
static void a_listener_falls_behind_and_catches_up(void **state)
{
    struct door d;
    struct addr at;
    int fds[40];
    uint64_t began_ns;

    (void)state;
    door_open(&d, &loop, &at);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_to(&at);
    }
    (void)loop_turn(&loop, 1000);
    assert_in_range(d.count, 1, 16); /* at its opening, and late in the turn */
    assert_false(listener_is_behind(&d.ln));
    began_ns = loop.now_ns;
    while (d.count < 200 && !listener_is_behind(&d.ln)) { /* one comes, one is let in */
        unsigned before = d.count;

        (void)loop_turn(&loop, 0);
        loop.now_ns = began_ns;
        for (; before < d.count; before++) {
            close(fds[before % ARRAY_LEN(fds)]);
            fds[before % ARRAY_LEN(fds)] = connect_to(&at);
        }
        d.ln.queue.crowded_ns -= MIN(d.ln.queue.crowded_ns, 50 * NS_PER_MS); /* as if time went by */
    }
    assert_true(listener_is_behind(&d.ln));
    TURN_UNTIL(&loop, d.ln.queue.crowded_ns == 0);
    assert_true(listener_is_behind(&d.ln)); /* for a second more */
    d.ln.queue.behind_ns = loop.now_ns;
    assert_false(listener_is_behind(&d.ln)); /* before anybody comes */
    d.ln.queue.behind_ns = 1;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
        fds[i] = connect_to(&at);
    }
    (void)loop_turn(&loop, 1000);
    assert_int_not_equal(d.ln.queue.crowded_ns, 0);
    assert_false(listener_is_behind(&d.ln)); /* it was long ago: this is a burst */
    TURN_UNTIL(&loop, d.ln.queue.behind_ns == 0);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    door_close(&d);
}

/* --- a turn with much else to do -------------------------------------------------------------------- */

static void stay_ready(struct task *task)
{
    (void)task;
}

struct busy {
    struct task task;
    struct watch watches[64];
};

/* So many events come in the next turn. */
static void make_busy(struct busy *b, size_t count)
{
    uint64_t one = 1;

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(write(b->watches[i].fd, &one, sizeof(one)), sizeof(one));
    }
}

static void refuse(struct listener *ln, int fd, const struct addr *peer)
{
    door_accept(ln, fd, peer);
    listener_refused(ln);
}

/* Those who are in come first while others come too fast; who is refused does not count. */
static void a_busy_listener_that_is_behind_takes_one_in_a_turn(void **state)
{
    struct busy b = {.task.run = stay_ready};
    struct door d;
    struct addr at;
    int fds[40];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(b.watches); i++) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

        assert_int_equal(watch_open(&b.watches[i], &loop, fd, &b.task), 0);
    }
    door_open(&d, &loop, &at);
    (void)loop_turn(&loop, 0); /* the watches are writable: those events, too */
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_to(&at);
    }
    listener_pause(&d.ln);
    (void)loop_turn(&loop, 0);
    d.count = 0;
    listener_resume(&d.ln);
    make_busy(&b, 64);
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 16); /* not behind: in the turn, and late in it */
    d.ln.queue.behind_ns = UINT64_MAX;
    make_busy(&b, 64);
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 17);
    make_busy(&b, 63);
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 25);
    d.ln.on_accept = refuse;
    make_busy(&b, 64);
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 33);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(b.watches); i++) {
        watch_close(&b.watches[i]);
    }
    door_close(&d);
}

static void on_finished(struct listener *ln)
{
    struct door *d = ln->user;

    assert_int_equal(ln->watch.fd, -1);
    d->is_finished = true;
}

/* Whoever has the socket next, or is on the way to it by a handshake, finds all the room. */
static void a_shortened_queue_is_left_at_its_full_length(void **state)
{
    enum { PAUSE, FINISH, CLOSE };

    (void)state;
    for (int how = PAUSE; how <= CLOSE; how++) {
        struct door d;
        struct addr at;
        int fds[40], other;

        door_open(&d, &loop, &at);
        listener_bound(&d.ln, 100);
        other = dup(d.ln.watch.fd);
        (void)loop_turn(&loop, 0);
        d.ln.queue.behind_ns = UINT64_MAX;
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            fds[i] = connect_to(&at);
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)(250 * NS_PER_MS)}, NULL);
        (void)loop_turn(&loop, 0);
        assert_in_range(tcp_info_of(other).tcpi_sacked, 16, 39);
        if (how == PAUSE) {
            listener_pause(&d.ln);
        } else if (how == FINISH) {
            listener_finish(&d.ln, on_finished);
        } else {
            listener_close(&d.ln);
        }
        assert_int_equal(tcp_info_of(other).tcpi_sacked, 100);
        close(other);
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            close(fds[i]);
        }
        door_close(&d);
    }
}

static void who_has_gone_is_told(void **state)
{
    struct door d;
    struct addr at;
    int fd;

    (void)state;
    door_open(&d, &loop, &at);
    fd = connect_to(&at);
    TURN_UNTIL(&loop, d.count == 1);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    assert_false(sock_is_deserted(d.fds[0]));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    TURN_UNTIL(&loop, sock_is_deserted(d.fds[0])); /* though there is something to read */
    close(fd);
    door_close(&d);
}

/* Who has connected is accepted, though the listener was paused; who connects then is not reset by the close,
 * but refused. */
static void a_listener_that_finishes_resets_nobody(void **state)
{
    static const struct addr *at_both[2];
    struct addr v4 = addr_v4(0x7f000001, 0), v6 = {.family = AF_INET6, .ip[15] = 1};

    (void)state;
    at_both[0] = &v4;
    at_both[1] = &v6;
    for (size_t i = 0; i < ARRAY_LEN(at_both); i++) {
        struct door d = {.count = 0};
        struct addr at;
        int fds[100], late, fd;
        char byte;

        assert_int_equal(sock_listen(at_both[i], true, 128, &fd), 0);
        assert_int_equal(sock_local(fd, &at), 0);
        assert_int_equal(listener_open(&d.ln, &loop, fd, door_accept, &d), 0);
        listener_pause(&d.ln);
        for (size_t k = 0; k < ARRAY_LEN(fds); k++) {
            fds[k] = connect_to(&at);
            assert_int_equal(send(fds[k], "x", 1, 0), 1);
        }
        listener_finish(&d.ln, on_finished);
        late = connect_begin(&at);
        TURN_UNTIL(&loop, d.is_finished);
        assert_int_equal(d.count, ARRAY_LEN(fds));
        for (size_t k = 0; k < ARRAY_LEN(fds); k++) { /* each end still works both ways */
            assert_int_equal(recv(d.fds[k], &byte, 1, 0), 1);
            assert_int_equal(send(d.fds[k], "y", 1, 0), 1);
            assert_int_equal(recv(fds[k], &byte, 1, 0), 1);
            close(fds[k]);
        }
        assert_int_equal(poll(&(struct pollfd){.fd = late, .events = POLLOUT}, 1, 60000), 1);
        assert_int_equal(int_option(late, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
        close(late);
        door_close(&d);
    }
}

static void listener_may_be_closed_while_accepting(void **state)
{
    struct door d;
    struct addr at;
    int first, second;

    (void)state;
    door_open(&d, &loop, &at);
    d.close_on_accept = true;
    first = connect_to(&at);
    second = connect_to(&at);
    TURN_UNTIL(&loop, d.count == 1);
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 1);
    close(first);
    close(second);
    door_close(&d);
}

/* Out of descriptors: pause, do not spin, and go on by itself. */
static void exhausted_descriptors_pause_the_listener(void **state)
{
    struct rlimit before, none;
    struct door d;
    struct addr at;
    int fd, highest;

    (void)state;
    door_open(&d, &loop, &at);
    fd = connect_to(&at);
    highest = dup(fd); /* all below are taken */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)highest;
    close(highest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    TURN_UNTIL(&loop, timer_is_armed(&d.ln.pause));
    assert_int_equal(d.count, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    TURN_UNTIL(&loop, d.count == 1);
    close(fd);
    door_close(&d);
}

/* So that a connection costs no call for each of them. */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_wait_at_the_door, setup, teardown),
        cmocka_unit_test_setup_teardown(paused_listener_leaves_them_in_the_backlog, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listener_falls_behind_and_catches_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_busy_listener_that_is_behind_takes_one_in_a_turn, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_shortened_queue_is_left_at_its_full_length, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_gone_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listener_that_finishes_resets_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(listener_may_be_closed_while_accepting, setup, teardown),
        cmocka_unit_test_setup_teardown(exhausted_descriptors_pause_the_listener, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
