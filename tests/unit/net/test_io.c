/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP layer and the layer of peeked bytes: what is sent and received. */
#include "io_probe.h"

#include "net/io_private.h"

static void accepted_socket_needs_no_handshake(void **state)
{
    int fds[2];
    struct io *io;

    (void)state;
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[1]);
    assert_int_equal(io_handshake(io), 0);
    assert_int_equal(io_fd(io), fds[1]);
    io_close(io);
    close(fds[0]);
}

static void one_small_message_takes_one_chunk_and_empties_the_socket(void **state)
{
    struct chain c;
    struct io *io;
    int fds[2];
    size_t n = 0;

    (void)state;
    chain_init(&c);
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[1]);
    write_all(fds[0], "hello");
    (void)loop_turn(&loop, 1000);
    assert_int_equal(io_recv(io, &c, 65536, &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(loop.chunks.used_count, 1);
    assert_false(io->readable); /* known without a further system call */
    write_all(fds[0], " world");
    (void)loop_turn(&loop, 1000);
    assert_int_equal(io_recv(io, &c, 65536, &n), 0);
    assert_int_equal(loop.chunks.used_count, 1); /* behind the first */
    assert_true(bytes_eq(chain_head(&c), BYTES("hello world")));
    assert_int_equal(io_recv(io, &c, 65536, &n), E_AGAIN);
    chain_clear(&c);
    io_close(io);
    close(fds[0]);
}

static void no_more_than_asked_for_is_read(void **state)
{
    struct chain c;
    struct io *io;
    int fds[2];
    size_t n = 0;

    (void)state;
    chain_init(&c);
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[1]);
    write_all(fds[0], "abcdef");
    (void)loop_turn(&loop, 1000);
    assert_int_equal(io_recv(io, &c, 4, &n), 0);
    assert_int_equal(n, 4);
    assert_true(io->readable);
    assert_int_equal(io_recv(io, &c, 4, &n), 0);
    assert_int_equal(n, 2);
    chain_clear(&c);
    io_close(io);
    close(fds[0]);
}

static void many_bytes_both_ways(void **state)
{
    struct end a, b;
    int fds[2];

    (void)state;
    tcp_pair(fds, 0);
    end_init(&a, &loop, tcp_io(&loop, fds[0]));
    end_init(&b, &loop, tcp_io(&loop, fds[1]));
    a.to_send = b.to_send = 8 << 20;
    a.shut_when_sent = b.shut_when_sent = true;
    TURN_UNTIL(&loop, a.recv_rc == E_EOF && b.recv_rc == E_EOF);
    assert_int_equal(a.got, 8 << 20);
    assert_int_equal(b.got, 8 << 20);
    assert_int_equal(a.io->bytes_in, 8 << 20);
    assert_int_equal(a.io->bytes_out, 8 << 20);
    end_close(&a);
    end_close(&b);
}

/* Unix sockets do not tell what is left; they must work all the same. */
static void sockets_without_inq_are_read_to_the_end(void **state)
{
    struct end a, b;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    end_init(&a, &loop, tcp_io(&loop, fds[0]));
    end_init(&b, &loop, tcp_io(&loop, fds[1]));
    a.to_send = b.to_send = 1 << 20;
    a.shut_when_sent = b.shut_when_sent = true;
    TURN_UNTIL(&loop, a.recv_rc == E_EOF && b.recv_rc == E_EOF);
    assert_int_equal(a.got, 1 << 20);
    assert_int_equal(b.got, 1 << 20);
    end_close(&a);
    end_close(&b);
}

static void writer_waits_for_a_slow_reader(void **state)
{
    struct end a, b;
    int fds[2];

    (void)state;
    tcp_pair(fds, 8192);
    end_init(&a, &loop, tcp_io(&loop, fds[0]));
    end_init(&b, &loop, tcp_io(&loop, fds[1]));
    a.to_send = 4 << 20;
    a.shut_when_sent = true;
    b.stop_reading_at = 1000;
    TURN_UNTIL(&loop, a.send_rc == E_AGAIN && b.got == 1000);
    b.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &b.task);
    TURN_UNTIL(&loop, b.recv_rc == E_EOF);
    assert_int_equal(b.got, 4 << 20);
    end_close(&a);
    end_close(&b);
}

static void refused_connect_fails_in_the_handshake(void **state)
{
    struct addr at = addr_v4(0x7f000001, 0);
    struct end e;
    int fd, rc;

    (void)state;
    assert_int_equal(sock_listen(&at, false, 1, &fd), 0);
    assert_int_equal(sock_local(fd, &at), 0);
    close(fd); /* nobody listens there now */
    end_init(&e, &loop, NULL);
    rc = sock_dial(&loop, &at, NULL, &e.task, &e.io);
    if (rc == 0) {
        TURN_UNTIL(&loop, e.handshake_rc < 0 && e.handshake_rc != E_AGAIN);
        rc = e.handshake_rc;
        assert_int_equal(io_handshake(e.io), rc);
        assert_int_equal(io_recv(e.io, &e.out, 10, &(size_t){0}), rc);
    }
    assert_int_equal(rc, -ECONNREFUSED);
    end_close(&e);
}

static void exhausted_pool_is_told_and_loses_nothing(void **state)
{
    struct chunk *all[PROBE_CHUNKS];
    struct chain c;
    struct io *io;
    int fds[2];
    size_t n = 0;

    (void)state;
    chain_init(&c);
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[1]);
    write_all(fds[0], "abc");
    (void)loop_turn(&loop, 1000);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        all[i] = chunk_new(&loop.chunks);
        assert_non_null(all[i]);
    }
    assert_int_equal(io_recv(io, &c, 100, &n), E_LIMIT);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        chunk_free(all[i]);
    }
    assert_int_equal(io_recv(io, &c, 100, &n), 0);
    assert_int_equal(n, 3);
    chain_clear(&c);
    io_close(io);
    close(fds[0]);
}

static void peeked_bytes_come_first(void **state)
{
    struct chain c;
    struct io *io;
    int fds[2];
    size_t n = 0;

    (void)state;
    chain_init(&c);
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[1]);
    write_all(fds[0], "GET / HTTP/1.1");
    (void)loop_turn(&loop, 1000);
    assert_int_equal(io_recv(io, &c, 6, &n), 0);
    io = io_peeked_new(io, &c);
    assert_int_equal(chain_size(&c), 0);
    assert_null(io_bare_tcp(io));
    assert_int_equal(io_recv(io, &c, 4, &n), 0);
    assert_int_equal(n, 4);
    assert_true(io->readable);
    assert_int_equal(io_recv(io, &c, 100, &n), 0);
    assert_int_equal(n, 2);
    assert_true(io->readable);
    assert_int_equal(io_recv(io, &c, 100, &n), 0);
    assert_int_equal(n, 8);
    assert_int_equal(io_recv(io, &c, 100, &n), E_AGAIN);
    char all[14];

    assert_int_equal(chain_peek(&c, all, sizeof(all)), 14);
    assert_memory_equal(all, "GET / HTTP/1.1", 14);
    assert_non_null(io_bare_tcp(io));
    chain_clear(&c);
    io_close(io);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(accepted_socket_needs_no_handshake),
        TEST(one_small_message_takes_one_chunk_and_empties_the_socket),
        TEST(no_more_than_asked_for_is_read),
        TEST(many_bytes_both_ways),
        TEST(sockets_without_inq_are_read_to_the_end),
        TEST(writer_waits_for_a_slow_reader),
        TEST(refused_connect_fails_in_the_handshake),
        TEST(exhausted_pool_is_told_and_loses_nothing),
        TEST(peeked_bytes_come_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
