/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that is closed with bytes unread: what was sent before reaches the peer, and an end. */
#include "loop_probe.h"
#include "tls_probe.h"

#include <sys/ioctl.h>

#define UNREAD_BYTES 30000
#define BUFFERS      65536
#define ANSWER_BYTES (1 << 20)

static int waiting(int fd)
{
    int bytes = 0;

    assert_int_equal(ioctl(fd, FIONREAD, &bytes), 0);
    return bytes;
}

/* A connection whose peer has sent something and reads nothing, and which answers, as far as it can, and
 * ends. No chunk is to be had then: memory may be what it is closed for. Returns what the kernel took. */
static size_t answered(struct io **out_io, int *out_peer)
{
    static char bytes[ANSWER_BYTES];
    struct chain out;
    size_t taken;
    int fds[2];

    tcp_pair(fds, BUFFERS);
    *out_io = tcp_io(&loop, fds[1]);
    chain_init(&out);
    assert_int_equal(chain_append(&out, &loop.chunks, bytes_of(bytes, sizeof(bytes))), 0);
    assert_int_equal(write(fds[0], bytes, UNREAD_BYTES), UNREAD_BYTES);
    TURN_UNTIL(&loop, waiting(fds[1]) == UNREAD_BYTES);
    assert_int_equal(io_send(*out_io, &out), E_AGAIN);
    taken = sizeof(bytes) - chain_size(&out);
    chain_clear(&out);
    assert_int_equal(io_shut(*out_io), 0);
    chunk_pool_limit(&loop.chunks, 0);
    *out_peer = fds[0];
    return taken;
}

/* All that comes. *out_end: 0, or how it broke. */
static size_t read_all(int fd, int *out_end)
{
    char block[65536];
    size_t bytes = 0;
    ssize_t n;

    assert_int_equal(fcntl(fd, F_SETFL, 0), 0); /* wait for it */
    while ((n = read(fd, block, sizeof(block))) > 0) {
        bytes += (size_t)n;
    }
    *out_end = n < 0 ? errno : 0;
    (void)close(fd);
    return bytes;
}

static void close_and_settle(struct io *io)
{
    io_close(io);
    (void)loop_turn(&loop, 0);
}

/* Else the next test would show nothing. */
static void unread_bytes_destroy_what_was_sent(void **state)
{
    int peer, how;
    struct io *io;
    size_t taken = answered(&io, &peer);

    (void)state;
    close_and_settle(io);
    assert_true(read_all(peer, &how) < taken);
    assert_int_equal(how, ECONNRESET);
}

static void what_was_sent_arrives_where_the_unread_is_dropped(void **state)
{
    int peer, how;
    struct io *io;
    size_t taken = answered(&io, &peer);

    (void)state;
    io_drop_unread(io);
    assert_int_equal(waiting(io_fd(io)), 0);
    assert_int_equal(io->bytes_in, 0); /* not read: many may be closed in a turn */
    close_and_settle(io);
    assert_int_equal(read_all(peer, &how), taken);
    assert_int_equal(how, 0);
}

static void nothing_to_drop_changes_nothing(void **state)
{
    char got[64];
    int fds[2];
    struct io *io;

    (void)state;
    tcp_pair(fds, 0);
    io = tcp_io(&loop, fds[1]);
    io_drop_unread(io); /* at once, though nothing came */
    assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
    io_drop_unread(io);
    close_and_settle(io);
    assert_int_equal(read(fds[0], got, sizeof(got)), 0);
    (void)close(fds[0]);
}

/* Of records that nobody decrypts any more. */
static void what_is_unread_below_tls_is_dropped(void **state)
{
    struct tls_creds *creds;
    struct tls_pair t;
    struct pki pki;

    (void)state;
    pki_open(&pki, "root.linkerd.cluster.local");
    creds = pki_creds(&pki, SERVER_ID, pki.root_pem);
    tls_pair_open(&t, &loop, creds, creds, SERVER_ID, "", "", 0);
    TURN_UNTIL(&loop, t.client.handshake_rc == 0 && t.server.handshake_rc == 0 &&
                          t.client.recv_rc == E_AGAIN && t.server.recv_rc == E_AGAIN);
    t.server.stop_reading_at = 0;
    t.client.to_send = UNREAD_BYTES;
    task_wake(&loop, &t.client.task);
    TURN_UNTIL(&loop, t.client.sent == UNREAD_BYTES && t.client.send_rc == 0 &&
                          waiting(io_fd(t.server.io)) > UNREAD_BYTES);
    t.server.to_send = UNREAD_BYTES;
    end_send(&t.server);
    assert_int_equal(t.server.send_rc, 0);
    assert_int_equal(io_shut(t.server.io), 0);
    io_drop_unread(t.server.io);
    assert_int_equal(waiting(io_fd(t.server.io)), 0);
    end_close(&t.server);
    TURN_UNTIL(&loop, is_decided(t.client.recv_rc));
    assert_int_equal(t.client.recv_rc, E_EOF);
    assert_int_equal(t.client.got, UNREAD_BYTES);
    tls_pair_close(&t);
    tls_creds_unref(creds);
    pki_close(&pki);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unread_bytes_destroy_what_was_sent),
        TEST(what_was_sent_arrives_where_the_unread_is_dropped),
        TEST(nothing_to_drop_changes_nothing),
        TEST(what_is_unread_below_tls_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
