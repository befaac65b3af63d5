/* SPDX-License-Identifier: Apache-2.0 */
/* How a TCP connection ends: with its last bytes, by a reset, before it was accepted. */
#include "io_probe.h"

#include <linux/tcp.h> /* tcpi_segs_in, which netinet/tcp.h does not have */

/*
 * A client may connect and reset before anybody accepts. getpeername(2) says then what it says of a
 * socket that is still connecting; an owner that only reads has to learn of the end all the same.
 */
static void check_reset_in_the_backlog(struct io *(*make)(struct loop *, int, struct task *))
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct task owner = {.run = nobody};
    struct addr at = addr_v4(0x7f000001, 0);
    struct sockaddr_storage sa;
    socklen_t len;
    struct chain c;
    struct io *io;
    int listener, client, rc = E_AGAIN;
    size_t n = 0;

    assert_int_equal(sock_listen(&at, false, 1, &listener), 0);
    assert_int_equal(sock_local(listener, &at), 0);
    len = addr_to_sockaddr(&at, &sa);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(client);
    chain_init(&c);
    io = make(&loop, accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), &owner);
    assert_non_null(io);
    for (unsigned turn = 0; turn < 10 && rc == E_AGAIN; turn++) {
        (void)loop_turn(&loop, 100);
        rc = io_recv(io, &c, 100, &n);
    }
    assert_int_equal(rc, -ECONNRESET);
    task_cancel(&owner);
    io_close(io);
    close(listener);
}

static void connection_that_was_reset_in_the_backlog_fails(void **state)
{
    (void)state;
    check_reset_in_the_backlog(io_tcp_new);
    check_reset_in_the_backlog(io_tcp_accepted);
}

/* A message and the end may arrive as one event, with no second one for the end. */
static void end_that_comes_with_the_bytes_is_seen(void **state)
{
    struct end e;
    int fds[2];

    (void)state;
    tcp_pair(fds, 0);
    assert_int_equal(write(fds[0], (unsigned char[]){pattern_at(0)}, 1), 1);
    assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
    end_init(&e, &loop, tcp_io(&loop, fds[1]));
    TURN_UNTIL(&loop, e.recv_rc == E_EOF);
    assert_int_equal(e.got, 1);
    end_close(&e);
    close(fds[0]);
}

static void reset_is_reported_to_both_directions_and_stays(void **state)
{
    struct end a, b;
    int fds[2];

    (void)state;
    tcp_pair(fds, 0);
    end_init(&a, &loop, tcp_io(&loop, fds[0]));
    end_init(&b, &loop, tcp_io(&loop, fds[1]));
    TURN_UNTIL(&loop, a.recv_rc == E_AGAIN && b.recv_rc == E_AGAIN);
    io_abort(a.io);
    a.io = NULL;
    TURN_UNTIL(&loop, b.recv_rc == -ECONNRESET);
    assert_int_equal(err_category(b.recv_rc), ERR_CLOSED);
    assert_int_equal(io_send(b.io, &b.out), -ECONNRESET);
    end_run(&b.task);
    assert_int_equal(b.recv_rc, -ECONNRESET);
    end_close(&a);
    end_close(&b);
}

/* A server may answer early and close: the answer is to be had although sending fails. */
static void answer_is_readable_after_a_failed_send(void **state)
{
    struct chain c;
    struct io *io;
    int fds[2];
    size_t n = 0;

    (void)state;
    chain_init(&c);
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[0]);
    write_all(fds[1], "no");
    close(fds[1]);
    assert_int_equal(chain_append(&c, &loop.chunks, BYTES("x")), 0);
    (void)loop_turn(&loop, 1000);
    assert_int_equal(io_send(io, &c), 0); /* the peer answers this with a reset */
    (void)loop_turn(&loop, 1000);
    assert_int_equal(chain_append(&c, &loop.chunks, BYTES("x")), 0);
    assert_int_equal(err_category(io_send(io, &c)), ERR_CLOSED);
    chain_clear(&c);
    assert_int_equal(io_recv(io, &c, 100, &n), 0);
    assert_true(bytes_eq(chain_head(&c), BYTES("no")));
    chain_clear(&c);
    io_close(io);
}

static void closed_io_wakes_nobody(void **state)
{
    struct end e;
    int fds[2];
    unsigned runs;

    (void)state;
    tcp_pair(fds, 0);
    end_init(&e, &loop, tcp_io(&loop, fds[1]));
    TURN_UNTIL(&loop, e.recv_rc == E_AGAIN);
    io_set_owner(e.io, NULL);
    runs = e.runs;
    write_all(fds[0], "x");
    (void)loop_turn(&loop, 1000);
    assert_int_equal(e.runs, runs);
    end_close(&e);
    io_close(NULL);
    io_abort(NULL);
    close(fds[0]);
}

static unsigned segments_in(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info.tcpi_segs_in;
}

/* One segment for the last bytes and the end, be it a shutdown or a close. */
static void the_end_leaves_with_the_last_bytes(void **state)
{
    (void)state;
    for (unsigned closes = 0; closes < 2; closes++) {
        struct chain c;
        struct io *io;
        char answer[16];
        unsigned before;
        int fds[2];
        size_t n = 0;

        chain_init(&c);
        tcp_pair(fds, 0);
        io = tcp_io(&loop, fds[1]);
        write_all(fds[0], "hello");
        (void)loop_turn(&loop, 1000);
        assert_int_equal(io_recv(io, &c, 100, &n), 0);
        before = segments_in(fds[0]);
        io_last(io);
        assert_int_equal(io_send(io, &c), 0);
        assert_int_equal(read(fds[0], answer, sizeof(answer)), -1); /* kept for the end */
        assert_true(io_closes_clean(io));
        if (closes) {
            io_close(io);
        } else {
            assert_int_equal(io_shut(io), 0);
        }
        assert_int_equal(read(fds[0], answer, sizeof(answer)), 5);
        assert_int_equal(read(fds[0], answer, sizeof(answer)), 0);
        assert_int_equal(segments_in(fds[0]), before + 1);
        if (!closes) {
            io_close(io);
        }
        close(fds[0]);
    }
}

/* RFC 9112 9.6: closing with bytes unread is a reset. */
static void a_close_is_not_clean_while_bytes_may_be_unread(void **state)
{
    struct chain c;
    struct io *io;
    int fds[2];
    size_t n = 0;

    (void)state;
    chain_init(&c);
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[1]);
    assert_false(io_closes_clean(io)); /* nobody looked yet */
    write_all(fds[0], "hello");
    (void)loop_turn(&loop, 1000);
    assert_int_equal(io_recv(io, &c, 3, &n), 0);
    assert_false(io_closes_clean(io));
    assert_int_equal(io_recv(io, &c, 100, &n), 0);
    assert_true(io_closes_clean(io));
    write_all(fds[0], "more");
    (void)loop_turn(&loop, 1000);
    assert_false(io_closes_clean(io));
    assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
    while (io_recv(io, &c, 100, &n) == 0) {
    }
    assert_true(io_closes_clean(io)); /* it has finished */
    chain_clear(&c);
    io_close(io);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(connection_that_was_reset_in_the_backlog_fails),
        TEST(end_that_comes_with_the_bytes_is_seen),
        TEST(reset_is_reported_to_both_directions_and_stays),
        TEST(answer_is_readable_after_a_failed_send),
        TEST(closed_io_wakes_nobody),
        TEST(the_end_leaves_with_the_last_bytes),
        TEST(a_close_is_not_clean_while_bytes_may_be_unread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
