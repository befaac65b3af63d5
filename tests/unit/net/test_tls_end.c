/* SPDX-License-Identifier: Apache-2.0 */
/* How TLS connections end, and what happens to bytes that the network does not take yet. */
#include "loop_probe.h"
#include "tls_probe.h"

#include <openssl/ssl.h>

#include "net/io_private.h"
#include "net/tls_io.h"

static struct pki pki;
static struct tls_creds *creds;

static int group_setup(void **state)
{
    (void)state;
    pki_open(&pki, "root.linkerd.cluster.local");
    creds = pki_creds(&pki, SERVER_ID, pki.root_pem);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    tls_creds_unref(creds);
    pki_close(&pki);
    return 0;
}

static void open_pair(struct tls_pair *t, int buffers)
{
    tls_pair_open(t, &loop, creds, creds, SERVER_ID, "", "", buffers);
    TURN_UNTIL(&loop, t->client.handshake_rc == 0 && t->server.handshake_rc == 0 &&
                          t->client.recv_rc == E_AGAIN && t->server.recv_rc == E_AGAIN);
}

static void half_close_leaves_the_other_way_open(void **state)
{
    struct tls_pair t;

    (void)state;
    open_pair(&t, 0);
    t.client.to_send = 5;
    t.client.shut_when_sent = true;
    task_wake(&loop, &t.client.task);
    TURN_UNTIL(&loop, t.server.recv_rc == E_EOF);
    assert_int_equal(t.server.got, 5);
    t.server.to_send = 1 << 20;
    t.server.shut_when_sent = true;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.client.recv_rc == E_EOF);
    assert_int_equal(t.client.got, 1 << 20);
    tls_pair_close(&t);
}

/* rustls and others end so at the end of a message; io.h says why that is no error. */
static void bare_end_between_records_is_an_end(void **state)
{
    struct tls_pair t;

    (void)state;
    open_pair(&t, 0);
    t.client.to_send = 3;
    task_wake(&loop, &t.client.task);
    TURN_UNTIL(&loop, t.server.got == 3);
    assert_int_equal(shutdown(io_fd(t.client.io), SHUT_WR), 0);
    TURN_UNTIL(&loop, t.server.recv_rc != E_AGAIN);
    assert_int_equal(t.server.recv_rc, E_EOF);
    tls_pair_close(&t);
}

/*
 * Make the client encrypt 1,000 bytes and take the record off the wire, so that it can be cut or
 * changed. The client's descriptor is replaced, whereupon the server's connection ends.
 */
static size_t client_record(struct tls_pair *t, char *to, size_t bytes)
{
    int raw[2];
    ssize_t n;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, raw), 0);
    close(watch_release(&CONTAINER_OF(t->client.io->below, struct io_tcp, io)->watch));
    assert_int_equal(watch_open(&CONTAINER_OF(t->client.io->below, struct io_tcp, io)->watch, &loop,
                                raw[0], NULL),
                     0);
    CONTAINER_OF(t->client.io->below, struct io_tcp, io)->watch.ready = WATCH_OUT;
    t->client.to_send = 1000;
    end_send(&t->client);
    n = read(raw[1], to, bytes);
    assert_int_equal(n, 1000 + 22);
    close(raw[1]);
    return (size_t)n;
}

/* Give `bytes` to the server as if they had come from the network. */
static void feed_server(struct tls_pair *t, const char *at, size_t bytes)
{
    struct tls_io *server = CONTAINER_OF(t->server.io, struct tls_io, io);

    assert_int_equal(chain_append(&server->in, &loop.chunks, bytes_of(at, bytes)), 0);
}

static void end_inside_a_record_is_an_error(void **state)
{
    static const size_t cuts[] = {1, 4, 5, 500, 1021};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct tls_pair t;
        char record[2048];

        open_pair(&t, 0);
        (void)client_record(&t, record, sizeof(record));
        feed_server(&t, record, cuts[i]);
        task_wake(&loop, &t.server.task);
        TURN_UNTIL(&loop, t.server.recv_rc != E_AGAIN);
        assert_int_equal(t.server.recv_rc, E_TLS);
        assert_int_equal(t.server.got, 0);
        assert_non_null(strstr(io_tls_problem(t.server.io), "inside a TLS record"));
        tls_pair_close(&t);
    }
}

static void changed_record_is_refused(void **state)
{
    struct tls_pair t;
    char record[2048];
    size_t n;

    (void)state;
    open_pair(&t, 0);
    n = client_record(&t, record, sizeof(record));
    record[n / 2] ^= 1;
    feed_server(&t, record, n);
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.server.recv_rc != E_AGAIN);
    assert_int_equal(t.server.recv_rc, E_TLS);
    assert_int_equal(t.server.got, 0);
    tls_pair_close(&t);
}

/* Fill the way to a server that does not read, until io_send() keeps bytes back. */
static void block_client(struct tls_pair *t)
{
    t->server.stop_reading_at = 0;
    t->client.to_send = 64 << 20;
    task_wake(&loop, &t->client.task);
    TURN_UNTIL(&loop, t->client.send_rc == E_AGAIN);
}

static void pending_ciphertext_is_bounded(void **state)
{
    struct tls_pair t;
    struct tls_io *client;

    (void)state;
    open_pair(&t, 4096);
    block_client(&t);
    client = CONTAINER_OF(t.client.io, struct tls_io, io);
    assert_true(chain_size(&client->out) > TLS_PENDING_MAX);
    assert_true(chain_size(&client->out) <= TLS_PENDING_MAX + 16384 + 22);
    tls_pair_close(&t);
}

static void nobody(struct task *task)
{
    (void)task;
}

/* io_send() has said 0; the owner has nothing more to do, and the rest must go all the same. */
static void layer_flushes_by_itself(void **state)
{
    struct task idle = {.run = nobody};
    struct tls_pair t;
    struct tls_io *client;

    (void)state;
    open_pair(&t, 4096);
    block_client(&t);
    client = CONTAINER_OF(t.client.io, struct tls_io, io);
    t.client.to_send = t.client.sent; /* what is in e->out and the layer is all there will be */
    t.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.client.send_rc == 0);
    assert_int_equal(chain_size(&t.client.out), 0);
    if (chain_size(&client->out) > 0) {
        io_set_owner(t.client.io, &idle); /* also while the layer is between */
    }
    TURN_UNTIL(&loop, t.server.got == t.client.sent);
    assert_int_equal(chain_size(&client->out), 0);
    io_set_owner(t.client.io, &t.client.task);
    /* Events reach the new owner again. */
    t.server.to_send = 7;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.client.got == 7);
    task_cancel(&idle);
    tls_pair_close(&t);
}

/* Hand over at most 64 KiB behind a blocked network; the layer takes them with 0. */
static uint64_t leave_some_pending(struct tls_pair *t)
{
    struct tls_io *client = CONTAINER_OF(t->client.io, struct tls_io, io);

    t->server.stop_reading_at = 0;
    while (chain_size(&client->out) == 0) {
        t->client.to_send += 8192;
        end_send(&t->client);
        assert_int_equal(t->client.send_rc, 0);
    }
    return t->client.sent;
}

static void shut_waits_for_what_is_pending(void **state)
{
    struct tls_pair t;
    uint64_t sent;

    (void)state;
    open_pair(&t, 4096);
    sent = leave_some_pending(&t);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    (void)loop_turn(&loop, 0);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    t.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.server.recv_rc == E_EOF);
    assert_int_equal(t.server.got, sent);
    assert_int_equal(io_shut(t.client.io), 0);
    tls_pair_close(&t);
}

static void close_after_shut_loses_nothing(void **state)
{
    struct tls_pair t;
    uint64_t sent;

    (void)state;
    open_pair(&t, 4096);
    sent = leave_some_pending(&t);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    end_close(&t.client);
    (void)loop_turn(&loop, 0);
    t.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.server.recv_rc == E_EOF);
    assert_int_equal(t.server.got, sent);
    tls_pair_close(&t);
}

/*
 * The owner may be run between the event that makes room and the layer's own task, and what it does
 * then writes the rest out: the layer has handed the descriptor back, and the FIN has yet to go.
 */
struct early {
    struct timer timer; /* timers run after the events were noted and before tasks */
    struct io *io;
};

static void read_and_close(struct timer *timer)
{
    struct early *early = CONTAINER_OF(timer, struct early, timer);
    struct chain c;
    size_t n;

    chain_init(&c);
    (void)io_recv(early->io, &c, 1000, &n);
    chain_clear(&c);
    if (chain_size(&CONTAINER_OF(early->io, struct tls_io, io)->out) > 0) {
        timer_arm_in(&loop, &early->timer, 0);
        return;
    }
    io_close(early->io);
    early->io = NULL;
}

static void close_between_event_and_flush_loses_nothing(void **state)
{
    struct early early = {.timer = {.run = read_and_close}};
    struct tls_pair t;
    uint64_t sent;

    (void)state;
    open_pair(&t, 4096);
    sent = leave_some_pending(&t);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    early.io = t.client.io;
    io_set_owner(t.client.io, NULL);
    t.client.io = NULL;
    t.server.stop_reading_at = UINT64_MAX;
    end_run(&t.server.task);
    timer_arm_in(&loop, &early.timer, 0);
    TURN_UNTIL(&loop, t.server.recv_rc == E_EOF);
    assert_null(early.io);
    assert_int_equal(t.server.got, sent);
    tls_pair_close(&t);
}

static void lingering_can_be_ended(void **state)
{
    struct tls_pair t;

    (void)state;
    open_pair(&t, 4096);
    (void)leave_some_pending(&t);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    end_close(&t.client);
    assert_true(loop.watch_count > 0 && loop.heap_count == 1);
    io_close_lingering(&loop);
    assert_int_equal(loop.heap_count, 0);
    tls_pair_close(&t); /* teardown asserts that nothing is left */
}

/* The time is for a peer that does not read: one that does, slowly, gets all. */
static void lingering_waits_for_a_peer_that_reads(void **state)
{
    struct tls_pair t;
    struct tls_io *client;
    uint64_t sent;
    unsigned looks = 0;

    (void)state;
    open_pair(&t, 4096);
    client = CONTAINER_OF(t.client.io, struct tls_io, io);
    sent = leave_some_pending(&t) + 24 * 8192;
    t.client.to_send = sent;
    end_send(&t.client);
    assert_int_equal(t.client.send_rc, 0);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    end_close(&t.client);
    for (uint64_t at = 49152; loop.heap_count > 0; at += 49152) { /* more than its layer reads ahead */
        t.server.stop_reading_at = at;
        task_wake(&loop, &t.server.task);
        TURN_UNTIL(&loop, t.server.got >= MIN(at, sent));
        if (loop.heap_count > 0) { /* it lingers */
            timer_arm_in(&loop, &client->timer, 0); /* as if the time had gone by */
            (void)loop_turn(&loop, 0);
            looks++;
        }
    }
    assert_true(looks > 1);
    t.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.server.recv_rc == E_EOF);
    assert_int_equal(t.server.got, sent);
    tls_pair_close(&t);
}

static void lingering_ends_when_the_peer_does_not_read(void **state)
{
    struct tls_pair t;
    struct tls_io *client;

    (void)state;
    open_pair(&t, 4096);
    client = CONTAINER_OF(t.client.io, struct tls_io, io);
    (void)leave_some_pending(&t);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    end_close(&t.client);
    timer_arm_in(&loop, &client->timer, 0);
    TURN_UNTIL(&loop, loop.heap_count == 0);
    tls_pair_close(&t);
}

static void lingering_ends_when_the_peer_goes(void **state)
{
    struct tls_pair t;

    (void)state;
    open_pair(&t, 4096);
    (void)leave_some_pending(&t);
    assert_int_equal(io_shut(t.client.io), E_AGAIN);
    end_close(&t.client);
    io_abort(t.server.io);
    t.server.io = NULL;
    TURN_UNTIL(&loop, loop.heap_count == 0);
    tls_pair_close(&t);
}

static void abort_resets_at_once(void **state)
{
    struct tls_pair t;

    (void)state;
    open_pair(&t, 4096);
    (void)leave_some_pending(&t);
    (void)io_shut(t.client.io);
    io_abort(t.client.io);
    t.client.io = NULL;
    assert_int_equal(loop.heap_count, 0);
    t.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.server.recv_rc != E_AGAIN);
    assert_true(t.server.recv_rc == -ECONNRESET || t.server.recv_rc == E_TLS);
    tls_pair_close(&t);
}

static void sending_survives_an_exhausted_pool(void **state)
{
    static struct chunk *all[PROBE_CHUNKS + 1];
    struct tls_pair t;
    size_t taken = 0;

    (void)state;
    open_pair(&t, 0);
    t.client.to_send = 100;
    end_fill(&t.client);
    while ((all[taken] = chunk_new(&loop.chunks)) != NULL) {
        taken++;
    }
    assert_int_equal(io_send(t.client.io, &t.client.out), E_AGAIN);
    assert_int_equal(chain_size(&t.client.out), 100);
    while (taken > 0) {
        chunk_free(all[--taken]);
    }
    TURN_UNTIL(&loop, t.server.got == 100); /* woken without an event of the descriptor */
    tls_pair_close(&t);
}

/* RFC 8446 4.6.3: a peer may ask for new keys at any time. */
static void key_updates_are_answered(void **state)
{
    struct tls_pair t;
    struct tls_io *client;

    (void)state;
    open_pair(&t, 0);
    client = CONTAINER_OF(t.client.io, struct tls_io, io);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(SSL_key_update(client->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        t.client.to_send = (uint64_t)i * 100000;
        t.server.to_send = (uint64_t)i * 50000;
        task_wake(&loop, &t.client.task);
        task_wake(&loop, &t.server.task);
        TURN_UNTIL(&loop,
                   t.server.got == (uint64_t)i * 100000 && t.client.got == (uint64_t)i * 50000);
    }
    tls_pair_close(&t);
}

/* Two writers that both wait for the other must still read. */
static void both_blocked_do_not_lock_up(void **state)
{
    struct tls_pair t;

    (void)state;
    open_pair(&t, 4096);
    t.client.stop_reading_at = t.server.stop_reading_at = 0;
    t.client.to_send = t.server.to_send = 2 << 20;
    t.client.shut_when_sent = t.server.shut_when_sent = true;
    task_wake(&loop, &t.client.task);
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.client.send_rc == E_AGAIN && t.server.send_rc == E_AGAIN);
    t.client.stop_reading_at = t.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &t.client.task);
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.client.recv_rc == E_EOF && t.server.recv_rc == E_EOF);
    assert_int_equal(t.client.got, 2 << 20);
    assert_int_equal(t.server.got, 2 << 20);
    tls_pair_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(half_close_leaves_the_other_way_open, setup, teardown),
        cmocka_unit_test_setup_teardown(bare_end_between_records_is_an_end, setup, teardown),
        cmocka_unit_test_setup_teardown(end_inside_a_record_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_record_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(pending_ciphertext_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(layer_flushes_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(shut_waits_for_what_is_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(close_after_shut_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(close_between_event_and_flush_loses_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lingering_can_be_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(lingering_waits_for_a_peer_that_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(lingering_ends_when_the_peer_does_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(lingering_ends_when_the_peer_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(abort_resets_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(sending_survives_an_exhausted_pool, setup, teardown),
        cmocka_unit_test_setup_teardown(key_updates_are_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(both_blocked_do_not_lock_up, setup, teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
