/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP layer and the layer of peeked bytes. */
#include "loop_probe.h"

#include <sys/ioctl.h>

#include "net/io_private.h"

#include <linux/tcp.h> /* tcpi_segs_in, which netinet/tcp.h does not have */

static void write_all(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void nobody(struct task *task)
{
    (void)task;
}

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

/* --- bulk: how much a read offers ---------------------------------------------------------------- */

#define BULK_CHUNK (CHUNK_BYTES - CHUNK_HEADROOM) /* what a read puts into a chunk of its own */

struct bulk {
    int peer;
    struct io *io;
    struct task owner;
    uint64_t written, got;
};

static void bulk_open(struct bulk *b)
{
    int fds[2];

    tcp_pair(fds, 1 << 20);
    *b = (struct bulk){.peer = fds[0], .io = tcp_io(&loop, fds[1]), .owner = {.run = nobody}};
    io_set_owner(b->io, &b->owner);
}

static void bulk_close(struct bulk *b)
{
    task_cancel(&b->owner);
    io_close(b->io);
    close(b->peer);
}

/* Have `bytes` of the pattern wait in the socket, and the loop know of them. */
static void bulk_fill(struct bulk *b, size_t bytes)
{
    static char block[256 * 1024];
    int waiting = (int)(b->written - b->got);

    assert_true(bytes <= sizeof(block) && (size_t)waiting <= bytes);
    bytes -= (size_t)waiting;
    for (size_t i = 0; i < bytes; i++) {
        block[i] = (char)pattern_at(b->written + i);
    }
    if (bytes > 0) {
        assert_int_equal(write(b->peer, block, bytes), bytes);
        b->written += bytes;
    }
    do {
        (void)loop_turn(&loop, 1);
        assert_int_equal(ioctl(io_fd(b->io), FIONREAD, &waiting), 0);
    } while ((uint64_t)waiting < b->written - b->got);
}

/* Read once behind what is in `c`, and look at every byte. */
static size_t bulk_read(struct bulk *b, struct chain *c, size_t bytes_max)
{
    static char all[512 * 1024];
    size_t before = chain_size(c), n = 0;

    assert_int_equal(io_recv(b->io, c, bytes_max, &n), 0);
    assert_true(n > 0 && n <= bytes_max);
    assert_int_equal(chain_size(c), before + n);
    assert_int_equal(chain_peek(c, all, sizeof(all)), before + n);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)all[before + i] != pattern_at(b->got + i)) {
            fail_msg("byte %llu differs", (unsigned long long)(b->got + i));
        }
    }
    b->got += n;
    return n;
}

static struct io_tcp *bulk_tcp(struct bulk *b)
{
    return CONTAINER_OF(b->io, struct io_tcp, io);
}

static void reads_leave_room_before_the_bytes(void **state)
{
    struct bulk b;
    struct chain c;
    struct chunk *chunk;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    bulk_fill(&b, 3 * BULK_CHUNK);
    bulk_tcp(&b)->chunks_wanted = 3;
    assert_int_equal(bulk_read(&b, &c, 65536), 3 * BULK_CHUNK);
    assert_int_equal(loop.chunks.used_count, 3);
    while ((chunk = chain_pop_whole(&c, BULK_CHUNK, CHUNK_HEADROOM)) != NULL) {
        chunk_free(chunk);
    }
    assert_int_equal(chain_size(&c), 0);
    bulk_close(&b);
}

/* What the socket still has, or half of what came last: so a body that flows keeps its share. */
static void offers_grow_at_once_and_shrink_slowly(void **state)
{
    static const struct {
        size_t waiting, got;
        unsigned next;
    } steps[] = {
        {100000, BULK_CHUNK, (100000 - BULK_CHUNK) / CHUNK_BYTES + 1}, /* one chunk to begin with */
        {100000, 6 * (size_t)BULK_CHUNK, 3},
        {100000, 3 * (size_t)BULK_CHUNK, (100000 - 3 * BULK_CHUNK) / CHUNK_BYTES + 1},
        {60000, 60000, 60000 / 2 / CHUNK_BYTES + 1},
        {20000, 20000, 1},
        {100, 100, 1},
    };
    struct bulk b;
    struct chain c;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        bulk_fill(&b, steps[i].waiting);
        assert_int_equal(bulk_read(&b, &c, 262144), steps[i].got);
        assert_int_equal(bulk_tcp(&b)->chunks_wanted, steps[i].next);
        chain_clear(&c);
    }
    bulk_close(&b);
}

/* Every limit, behind chunks with every kind of rest, with few and many chunks on offer. */
static void reads_keep_every_bound(void **state)
{
    static const size_t limits[] = {1, 2, 3, 100, 4095, 4096, 8191, 8192, 16031, 16032, 16033,
                                    16384, 20000, 24225, 65536, 262144};
    static const size_t rests[] = {0, 1, 2, 99, 4095, 4096, 8192, 16383, CHUNK_BYTES};
    static const unsigned char wanted[] = {1, 2, 16};
    static const char filler[CHUNK_BYTES];
    struct bulk b;
    struct chain c;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(limits) * ARRAY_LEN(rests) * ARRAY_LEN(wanted); i++) {
        size_t limit = limits[i % ARRAY_LEN(limits)];
        size_t rest = rests[i / ARRAY_LEN(limits) % ARRAY_LEN(rests)];
        unsigned char chunks = wanted[i / ARRAY_LEN(limits) / ARRAY_LEN(rests)];
        size_t n;

        bulk_fill(&b, 100000);
        assert_int_equal(chain_append(&c, &loop.chunks, bytes_of(filler, CHUNK_BYTES - rest)), 0);
        bulk_tcp(&b)->chunks_wanted = chunks;
        n = bulk_read(&b, &c, limit);
        assert_true(n >= MIN(limit, (size_t)4096) / 2);
        assert_true(chunks < 16 || n >= MIN(limit, (size_t)100000) / 2);
        assert_true(n <= rest % CHUNK_BYTES + (size_t)chunks * CHUNK_BYTES);
        chain_clear(&c);
        assert_int_equal(loop.chunks.used_count, 0); /* chunks that were not filled are back */
    }
    bulk_close(&b);
}

static void a_tight_pool_gives_a_read_few_chunks(void **state)
{
    struct chunk *taken[9];
    struct bulk b;
    struct chain c;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    chunk_pool_limit(&loop.chunks, 64);
    bulk_fill(&b, 200000);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 262144), 200000);
    chain_clear(&c);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        taken[i] = chunk_new(&loop.chunks);
    }
    bulk_fill(&b, 200000);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 262144), 4 * BULK_CHUNK);
    /* Two can be had, then none but the rest of the last one. */
    chunk_pool_limit(&loop.chunks, loop.chunks.used_count + 2);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 25000), 25000);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 262144), 2 * BULK_CHUNK - 25000);
    assert_int_equal(io_recv(b.io, &c, 262144, &(size_t){0}), E_LIMIT);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        chunk_free(taken[i]);
    }
    bulk_tcp(&b)->chunks_wanted = 16;
    (void)bulk_read(&b, &c, 262144);
    chain_clear(&c);
    bulk_close(&b);
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
        cmocka_unit_test_setup_teardown(accepted_socket_needs_no_handshake, setup, teardown),
        cmocka_unit_test_setup_teardown(connection_that_was_reset_in_the_backlog_fails, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(end_that_comes_with_the_bytes_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(one_small_message_takes_one_chunk_and_empties_the_socket,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_than_asked_for_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(many_bytes_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(sockets_without_inq_are_read_to_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(writer_waits_for_a_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(reset_is_reported_to_both_directions_and_stays, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(answer_is_readable_after_a_failed_send, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_connect_fails_in_the_handshake, setup, teardown),
        cmocka_unit_test_setup_teardown(exhausted_pool_is_told_and_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_leave_room_before_the_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(offers_grow_at_once_and_shrink_slowly, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_keep_every_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tight_pool_gives_a_read_few_chunks, setup, teardown),
        cmocka_unit_test_setup_teardown(peeked_bytes_come_first, setup, teardown),
        cmocka_unit_test_setup_teardown(closed_io_wakes_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_leaves_with_the_last_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_close_is_not_clean_while_bytes_may_be_unread, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
