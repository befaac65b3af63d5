/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels: spliced, copied, half-closed, reset, blocked, idle. */
#include "tls_probe.h"

#include <sys/ioctl.h>

#include "net/splice.h"

#define MANY (64ULL << 20)

static struct loop loop;
static struct pki pki;

struct relay {
    struct tunnel t;
    bool ended;
    int err;
};

static int group_setup(void **state)
{
    (void)state;
    pki_open(&pki, "root");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    pki_close(&pki);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    probe_open(&loop);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tunnel_cache_clear();
    probe_close(&loop);
    return 0;
}

static void on_end(struct tunnel *t, int err)
{
    struct relay *r = t->user;

    assert_false(r->ended); /* once */
    r->ended = true;
    r->err = err;
}

/* client -- [a tunnel b] -- server, over loopback. */
struct line {
    struct relay relay;
    struct end client, server;
};

static void line_open(struct line *n, uint64_t idle_ns, int buffers)
{
    int left[2], right[2];

    memset(&n->relay, 0, sizeof(n->relay));
    tcp_pair(left, buffers);
    tcp_pair(right, buffers);
    end_init(&n->client, &loop, tcp_io(&loop, left[0]));
    end_init(&n->server, &loop, tcp_io(&loop, right[1]));
    tunnel_open(&n->relay.t, &loop, tcp_io(&loop, left[1]), NULL, tcp_io(&loop, right[0]), NULL,
                idle_ns, on_end, &n->relay);
}

static void line_close(struct line *n)
{
    tunnel_close(&n->relay.t, 0); /* idempotent */
    end_close(&n->client);
    end_close(&n->server);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void much_both_ways(void **state)
{
    struct line n;

    (void)state;
    line_open(&n, 0, 0);
    n.client.to_send = n.server.to_send = MANY;
    n.client.shut_when_sent = n.server.shut_when_sent = true;
    TURN_UNTIL(&loop, n.relay.ended);
    TURN_UNTIL(&loop, n.client.recv_rc == E_EOF && n.server.recv_rc == E_EOF);
    assert_int_equal(n.relay.err, 0);
    assert_int_equal(n.client.got, MANY);
    assert_int_equal(n.server.got, MANY);
    assert_int_equal(n.relay.t.a.bytes_read, MANY);
    assert_int_equal(n.relay.t.b.bytes_written, MANY);
    assert_int_equal(n.relay.t.b.bytes_read, MANY);
    assert_int_equal(n.relay.t.a.bytes_written, MANY);
    line_close(&n);
}

static void much_through_tiny_buffers(void **state)
{
    struct line n;

    (void)state;
    line_open(&n, 0, 4096);
    n.client.to_send = n.server.to_send = 4 << 20;
    n.client.shut_when_sent = n.server.shut_when_sent = true;
    TURN_UNTIL(&loop, n.relay.ended);
    TURN_UNTIL(&loop, n.client.recv_rc == E_EOF && n.server.recv_rc == E_EOF);
    assert_int_equal(n.client.got, 4 << 20);
    assert_int_equal(n.server.got, 4 << 20);
    line_close(&n);
}

static void idle_tunnel_holds_neither_pipe_nor_chunk(void **state)
{
    struct line n;
    unsigned before;

    (void)state;
    line_open(&n, 0, 0);
    before = open_descriptors();
    n.client.to_send = 1 << 20;
    TURN_UNTIL(&loop, n.server.got == 1 << 20);
    tunnel_cache_clear();
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(loop.chunks.used_count, 0);
    n.client.to_send = 2 << 20;
    task_wake(&loop, &n.client.task);
    TURN_UNTIL(&loop, n.server.got == 2 << 20);
    line_close(&n);
}

static void one_way_ends_the_other_goes_on(void **state)
{
    struct line n;

    (void)state;
    line_open(&n, 0, 0);
    n.client.to_send = 3;
    n.client.shut_when_sent = true;
    TURN_UNTIL(&loop, n.server.recv_rc == E_EOF);
    assert_int_equal(n.server.got, 3);
    assert_false(n.relay.ended);
    n.server.to_send = 1 << 20;
    n.server.shut_when_sent = true;
    task_wake(&loop, &n.server.task);
    TURN_UNTIL(&loop, n.client.recv_rc == E_EOF && n.relay.ended);
    assert_int_equal(n.client.got, 1 << 20);
    assert_int_equal(n.relay.err, 0);
    line_close(&n);
}

static void reset_is_passed_on(void **state)
{
    struct line n;

    (void)state;
    line_open(&n, 0, 0);
    n.client.to_send = 1 << 20;
    TURN_UNTIL(&loop, n.server.got > 0);
    io_abort(n.client.io);
    n.client.io = NULL;
    TURN_UNTIL(&loop, n.relay.ended && n.server.recv_rc != E_AGAIN);
    assert_int_equal(n.relay.err, -ECONNRESET);
    assert_int_equal(n.relay.t.a.err, -ECONNRESET);
    assert_int_equal(n.server.recv_rc, -ECONNRESET);
    line_close(&n);
}

/* splice(2) into a closed socket would raise SIGPIPE; this test would not survive it. */
static void server_that_vanishes_under_load(void **state)
{
    struct line n;

    (void)state;
    line_open(&n, 0, 0);
    n.client.to_send = UINT32_MAX;
    TURN_UNTIL(&loop, n.server.got > 1 << 20);
    end_close(&n.server);
    TURN_UNTIL(&loop, n.relay.ended);
    assert_int_equal(err_category(n.relay.err), ERR_CLOSED);
    line_close(&n);
}

static int queued(int fd)
{
    int n = 0;

    assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
    return n;
}

static void slow_reader_holds_the_writer_back(void **state)
{
    struct line n;

    (void)state;
    line_open(&n, 0, 16384);
    n.client.to_send = 16 << 20;
    n.client.shut_when_sent = true;
    n.server.stop_reading_at = 1;
    TURN_UNTIL(&loop, n.client.send_rc == E_AGAIN &&
                          n.relay.t.a.bytes_read > n.relay.t.b.bytes_written &&
                          queued(io_fd(n.relay.t.a.io)) > 0);
    for (int i = 0; i < 10; i++) {
        (void)loop_turn(&loop, 0);
    }
    assert_true(n.relay.t.a.bytes_read - n.relay.t.b.bytes_written <= 256 * 1024);
    assert_true(n.client.sent - chain_size(&n.client.out) < 2 << 20);
    n.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &n.server.task);
    TURN_UNTIL(&loop, n.server.recv_rc == E_EOF);
    assert_int_equal(n.server.got, 16 << 20);
    line_close(&n);
}

static void first_bytes_go_first(void **state)
{
    struct relay r = {.ended = false};
    struct chain a_first, b_first;
    char got[16] = "";
    int left[2], right[2];

    (void)state;
    tcp_pair(left, 0);
    tcp_pair(right, 0);
    chain_init(&a_first);
    chain_init(&b_first);
    assert_int_equal(chain_append(&a_first, &loop.chunks, BYTES("GET ")), 0);
    assert_int_equal(chain_append(&b_first, &loop.chunks, BYTES("220 ")), 0);
    assert_int_equal(write(left[0], "/x", 2), 2);
    assert_int_equal(write(right[1], "hi", 2), 2);
    tunnel_open(&r.t, &loop, tcp_io(&loop, left[1]), &a_first, tcp_io(&loop, right[0]), &b_first, 0,
                on_end, &r);
    TURN_UNTIL(&loop, queued(right[1]) == 6 && queued(left[0]) == 6);
    assert_int_equal(read(right[1], got, sizeof(got)), 6);
    assert_memory_equal(got, "GET /x", 6);
    assert_int_equal(read(left[0], got, sizeof(got)), 6);
    assert_memory_equal(got, "220 hi", 6);
    assert_int_equal(r.t.a.bytes_read, 6);
    assert_int_equal(r.t.b.bytes_written, 6);
    tunnel_close(&r.t, E_CANCELED);
    tunnel_close(&r.t, 0);
    assert_false(r.ended);
    assert_int_equal(read(left[0], got, 1), -1); /* reset, as the end was an error */
    assert_int_equal(errno, ECONNRESET);
    close(left[0]);
    close(right[1]);
}

static void peeked_side_is_spliced_once_it_is_drained(void **state)
{
    struct line n;
    struct chain peeked;
    int left[2], right[2];

    (void)state;
    memset(&n.relay, 0, sizeof(n.relay));
    tcp_pair(left, 0);
    tcp_pair(right, 0);
    end_init(&n.client, &loop, tcp_io(&loop, left[0]));
    end_init(&n.server, &loop, tcp_io(&loop, right[1]));
    struct io *a = tcp_io(&loop, left[1]);

    chain_init(&peeked);
    n.client.to_send = 100;
    while (chain_size(&peeked) < 100) {
        size_t got;
        int rc;

        (void)loop_turn(&loop, 1000);
        rc = io_recv(a, &peeked, 1000, &got);
        assert_true(rc == 0 || rc == E_AGAIN);
    }
    n.client.to_send = 4 << 20;
    n.client.shut_when_sent = true;
    task_wake(&loop, &n.client.task);
    tunnel_open(&n.relay.t, &loop, io_peeked_new(a, &peeked), NULL, tcp_io(&loop, right[0]), NULL,
                0, on_end, &n.relay);
    TURN_UNTIL(&loop, n.server.recv_rc == E_EOF);
    assert_int_equal(n.server.got, 4 << 20);
    line_close(&n);
}

static void tls_on_one_side(void **state)
{
    struct tls_creds *creds = pki_creds(&pki, SERVER_ID, pki.root_pem);
    struct tls_pair t;
    struct relay r = {.ended = false};
    struct end server;
    int right[2];

    (void)state;
    tls_pair_open(&t, &loop, creds, creds, SERVER_ID, "", "", 0);
    TURN_UNTIL(&loop, t.client.handshake_rc == 0 && t.server.handshake_rc == 0);
    tcp_pair(right, 0);
    end_init(&server, &loop, tcp_io(&loop, right[1]));
    /* client ==TLS== [t.server.io tunnel tcp] -- server */
    tunnel_open(&r.t, &loop, t.server.io, NULL, tcp_io(&loop, right[0]), NULL, 0, on_end, &r);
    t.server.io = NULL;
    t.client.to_send = server.to_send = 8 << 20;
    t.client.shut_when_sent = server.shut_when_sent = true;
    task_wake(&loop, &t.client.task);
    TURN_UNTIL(&loop, r.ended);
    TURN_UNTIL(&loop, t.client.recv_rc == E_EOF && server.recv_rc == E_EOF);
    assert_int_equal(r.err, 0);
    assert_int_equal(t.client.got, 8 << 20);
    assert_int_equal(server.got, 8 << 20);
    end_close(&server);
    tls_pair_close(&t);
    tls_creds_unref(creds);
}

static void silence_ends_it(void **state)
{
    struct line n;

    (void)state;
    line_open(&n, 20 * NS_PER_MS, 0);
    n.client.to_send = 10;
    TURN_UNTIL(&loop, n.relay.ended);
    assert_int_equal(n.relay.err, E_TIMEOUT);
    assert_int_equal(n.server.got, 10);
    line_close(&n);
}

/* Bytes only note the time; the timer looks at it when it runs out. */
static void talk_keeps_it_open(void **state)
{
    struct line n;
    struct tunnel *t = &n.relay.t;

    (void)state;
    line_open(&n, 3600 * NS_PER_S, 0);
    t->active_ns = 0;
    n.client.to_send = 1;
    TURN_UNTIL(&loop, n.server.got == 1);
    assert_true(t->active_ns > 0);
    timer_arm(&loop, &t->idle, loop.now_ns); /* as if the hour were over */
    TURN_UNTIL(&loop, t->idle.at_ns == t->active_ns + t->idle_ns);
    assert_false(n.relay.ended);
    t->active_ns = loop.now_ns - t->idle_ns; /* and nobody had spoken since */
    timer_arm(&loop, &t->idle, loop.now_ns);
    TURN_UNTIL(&loop, n.relay.ended);
    assert_int_equal(n.relay.err, E_TIMEOUT);
    line_close(&n);
}

static void exhausted_pool_only_delays(void **state)
{
    static struct chunk *all[PROBE_CHUNKS + 1];
    struct line n;
    size_t taken = 0;

    (void)state;
    line_open(&n, 0, 0);
    n.client.to_send = 5;
    end_run(&n.client.task); /* on its way */
    while ((all[taken] = chunk_new(&loop.chunks)) != NULL) {
        taken++;
    }
    TURN_UNTIL(&loop, timer_is_armed(&n.relay.t.idle)); /* it found no chunk and will try again */
    while (taken > 0) {
        chunk_free(all[--taken]);
    }
    TURN_UNTIL(&loop, n.server.got == 5);
    line_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(much_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(much_through_tiny_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_tunnel_holds_neither_pipe_nor_chunk, setup, teardown),
        cmocka_unit_test_setup_teardown(one_way_ends_the_other_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(reset_is_passed_on, setup, teardown),
        cmocka_unit_test_setup_teardown(server_that_vanishes_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_reader_holds_the_writer_back, setup, teardown),
        cmocka_unit_test_setup_teardown(first_bytes_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(peeked_side_is_spliced_once_it_is_drained, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_on_one_side, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_ends_it, setup, teardown),
        cmocka_unit_test_setup_teardown(talk_keeps_it_open, setup, teardown),
        cmocka_unit_test_setup_teardown(exhausted_pool_only_delays, setup, teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
