/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory ceiling (decision D9): at the limit of chunks the proxy sheds and waits, it never
 * aborts, and it recovers. The test takes the worker's chunks away, all but a few.
 */
#include "peers.h"

#include "proxy/proxy.h"
#include "proxy/shed.h"

#include <sys/mman.h>

#define GET "GET / HTTP/1.1\r\nHost: web\r\n\r\n"
#define POST                                                                                       \
    "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

#define ANSWER "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"

#define CHUNKS 64

static struct app app;
static struct chain hoard;

static int setup(void **state UNUSED)
{
    rig_open(CHUNKS);
    app_open(&app);
    chain_init(&hoard);
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    rig.target[INBOUND] = app.at;
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    return 0;
}

static void hoard_all_but(size_t left)
{
    struct chunk_pool *pool = &rig.l->chunks;

    while (pool->used_count + left < pool->used_max) {
        struct chunk *c = chunk_new(pool);

        assert_non_null(c);
        c->end = 1;
        chain_push(&hoard, c);
    }
}

static void give_back(void)
{
    chain_clear(&hoard);
}

static int teardown(void **state UNUSED)
{
    give_back();
    app_close(&app);
    rig_close();
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void serve(struct peer *client)
{
    struct peer *server = app_accept(&app);

    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    peer_close(server);
}

/* With a few chunks left for what is in progress, new requests are refused, and told why in the figures. */
static void new_requests_are_shed(void **state)
{
    struct peer *client = peer_dial(INBOUND);

    (void)state;
    hoard_all_but(3);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503 "));
    assert_true(peer_has(client, "connection: close"));
    assert_int_equal(rig_sum("inbound_http_errors_total", "error=\"loadshed\"", NULL), 1);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"memory\"", NULL), 1);
    give_back();
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    serve(client);
}

/* Without any, nothing is read: the client waits, and is served when there are some again. */
static void without_chunks_everybody_waits(void **state)
{
    struct peer *client = peer_dial(INBOUND);

    (void)state;
    hoard_all_but(0);
    peer_send(client, GET);
    rig_settle();
    assert_int_equal(client->in.len, 0);
    assert_int_equal(rig.w.conns_count, 1);
    give_back();
    serve(client);
}

/* A response whose end cannot be written is broken off: its client must not take it for the whole. */
static void the_end_of_a_response_that_cannot_be_written(void **state)
{
    struct peer *client = peer_dial(INBOUND), *server;

    (void)state;
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n");
    RIG_UNTIL(peer_has(client, "ok\r\n"));
    hoard_all_but(1);                /* to read the end with, and not to write it */
    peer_send(server, "0\r\n\r\nX"); /* a byte that keeps the chunk in use */
    RIG_UNTIL(client->eof || client->err != 0);
    assert_false(peer_has(client, "0\r\n\r\n"));
    rig_settle();
    assert_int_equal(rig_sum("response_total", "classification=\"failure\"", "error=\"loadshed\""),
                     1);
}

/* Whatever is left, and whatever is under way: nothing aborts, and all is well afterwards. */
static void sweep(enum direction side, const char *request)
{
    for (size_t left = 0; left <= 16; left++) {
        struct peer *client, *server = NULL;
        int fd = -1;

        hoard_all_but(left);
        client = peer_dial(side);
        assert_int_equal(send(client->fd, request, strlen(request), 0), strlen(request));
        for (unsigned i = 0; i < 20; i++) {
            rig_turn();
            if (server == NULL && (fd = accept4(app.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                server = peer_new(fd);
                (void)!send(fd, ANSWER, strlen(ANSWER), 0);
            }
        }
        give_back();
        rig_settle();
        peer_abort(client);
        if (server != NULL) {
            peer_abort(server);
        }
        while ((fd = accept4(app.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
            close(fd);
        }
        rig_settle();
    }
}

static void a_sweep_in_the_clear(void **state)
{
    struct peer *client;

    (void)state;
    set_nonblocking(app.fd);
    sweep(INBOUND, GET);
    sweep(INBOUND, POST);
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    serve(client);
}

static void a_sweep_through_the_mesh(void **state)
{
    struct endpoint *e = endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2);
    struct peer *client;

    (void)state;
    set_nonblocking(app.fd);
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, e, NULL));
    sweep(OUTBOUND, GET);
    sweep(OUTBOUND, POST);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    serve(client);
}

static void a_sweep_of_tunnels(void **state)
{
    struct endpoint *e = endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_OPAQUE);

    (void)state;
    set_nonblocking(app.fd);
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, true);
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_OPAQUE, e, NULL));
    sweep(OUTBOUND, "PING\r\n");
}

/* --- levels ----------------------------------------------------------------------------------- */

#define MIB (UINT64_C(1) << 20)

static void levels(void **state)
{
    static const uint64_t limit = 100 * MIB;

    (void)state;
    assert_int_equal(shed_level_of(SHED_NONE, 54 * MIB, limit), SHED_NONE);
    assert_int_equal(shed_level_of(SHED_NONE, 56 * MIB, limit), SHED_IDLE);
    assert_int_equal(shed_level_of(SHED_NONE, 63 * MIB, limit), SHED_TAPS);
    assert_int_equal(shed_level_of(SHED_NONE, 70 * MIB, limit), SHED_STREAMS);
    assert_int_equal(shed_level_of(SHED_NONE, 76 * MIB, limit), SHED_CONNS);
    assert_int_equal(shed_level_of(SHED_NONE, 86 * MIB, limit), SHED_LAST);
    assert_int_equal(shed_level_of(SHED_NONE, 200 * MIB, limit), SHED_LAST);
    assert_int_equal(shed_level_of(SHED_STREAMS, 66 * MIB, limit), SHED_STREAMS); /* not yet over */
    assert_int_equal(shed_level_of(SHED_STREAMS, 63 * MIB, limit), SHED_TAPS);
    assert_int_equal(shed_level_of(SHED_LAST, 49 * MIB, limit), SHED_NONE);
    assert_int_equal(shed_level_of(SHED_NONE, 900 * MIB, 1000 * MIB), SHED_NONE); /* by amount */
    assert_int_equal(shed_level_of(SHED_NONE, 960 * MIB, 1000 * MIB), SHED_STREAMS);
    assert_int_equal(shed_level_of(SHED_NONE, 5 * MIB, UINT64_MAX), SHED_NONE);
}

static void each_level_gives_up_more(void **state)
{
    struct peer *client = peer_dial(INBOUND), *other, *server;

    (void)state;
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    shed_worker_set(&rig.w, SHED_IDLE); /* the kept connection to the application */
    RIG_UNTIL(server->eof);
    text_reset(&client->in);
    peer_send(client, GET);
    serve(client); /* on a new one */
    shed_worker_set(&rig.w, SHED_STREAMS);
    text_reset(&client->in);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503 "));
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"memory\"", NULL), 1);
    RIG_UNTIL(client->eof);
    peer_close(client);
    RIG_UNTIL(rig.w.conns_count == 0);
    other = peer_dial(INBOUND);
    RIG_UNTIL(rig.w.conns_count == 1);
    shed_worker_set(&rig.w, SHED_LAST); /* whoever is there */
    RIG_UNTIL(other->eof || other->err != 0);
    assert_int_equal(rig.w.conns_count, 0);
    other = peer_dial(INBOUND);
    RIG_UNTIL(other->eof || other->err != 0); /* and who comes */
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"memory\"", NULL), 3);
    shed_worker_set(&rig.w, SHED_NONE);
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    serve(client);
}

/* Heads that never end take chunks until they stand in others' way: then they go, and only they. */
static void stuck_clients_go_first(void **state)
{
    struct peer *stuck[4], *client = peer_dial(INBOUND);

    (void)state;
    peer_send(client, GET);
    serve(client);
    for (size_t i = 0; i < ARRAY_LEN(stuck); i++) {
        stuck[i] = peer_dial(INBOUND);
        peer_send(stuck[i], "GET / HTTP/1.1\r\nX: ");
    }
    rig_settle();
    assert_int_equal(rig.w.conns_count, 5);
    hoard_all_but(5); /* the alarm is at an eighth of the chunks */
    assert_true(timer_is_armed(&rig.w.shed_timer) || list_is_linked(&rig.w.shed_task.node));
    for (size_t i = 0; i < ARRAY_LEN(stuck); i++) {
        for (unsigned turn = 0; !stuck[i]->eof && stuck[i]->err == 0; turn++) {
            assert_true(turn < 20000);
            (void)loop_turn(rig.l, 1);
            rig_turn();
        }
    }
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"slow_client\"", NULL), 4);
    assert_int_equal(rig.w.conns_count, 1);
    give_back();
    text_reset(&client->in);
    peer_send(client, GET);
    serve(client);
}

static void descriptors_that_run_out(void **state)
{
    struct peer *client = peer_dial(INBOUND), *late;
    int fds_max = rig.w.fds_max;

    (void)state;
    peer_send(client, GET);
    serve(client);
    rig.w.fds_max = 0;
    late = peer_dial(INBOUND);
    RIG_UNTIL(late->eof || late->err != 0);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"descriptors\"", NULL), 1);
    text_reset(&client->in);
    peer_send(client, GET);
    serve(client);
    rig.w.fds_max = fds_max;
}

/* While connections come faster than they are accepted, who has given up costs no more than that. */
static void who_gave_up_waiting(void **state)
{
    struct peer *client;
    int gone[3];

    (void)state;
    rig_turn(); /* the listeners are open */
    for (size_t i = 0; i < rig.w.listen_count; i++) {
        rig.w.listeners[i].listener.queue.behind_ns = UINT64_MAX;
    }
    for (size_t i = 0; i < ARRAY_LEN(gone); i++) {
        gone[i] = dial_fd(&rig.at[INBOUND]);
        assert_int_equal(send(gone[i], GET, sizeof(GET) - 1, 0), sizeof(GET) - 1);
        close(gone[i]);
    }
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    serve(client);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"backlog\"", NULL), 3);
    assert_int_equal(rig_sum("inbound_tcp_errors_total", "error=\"loadshed\"", NULL), 3);
    assert_int_equal(rig_sum("inbound_http_errors_total", NULL, NULL), 0);
    for (size_t i = 0; i < rig.w.listen_count; i++) {
        rig.w.listeners[i].listener.queue.behind_ns = 0;
    }
    client = peer_dial(INBOUND); /* in quiet times a half that is closed is no reason */
    peer_send(client, GET);
    assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
    serve(client);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"backlog\"", NULL), 3);
}

/* --- what does not count ---------------------------------------------------------------------- */

static int file_with(int fd, const char *text)
{
    fd = fd >= 0 ? fd : memfd_create("group", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
    return fd;
}

static void look_never(struct timer *t)
{
    (void)t;
}

/* What others use is spared while it is theirs: once it is gone, workers count all again. */
static void what_was_others_is_forgotten(void **state)
{
    static struct proxy p;
    static struct shed s;

    (void)state;
    assert_int_equal(loop_open(&p.loop, 0, CHUNKS), 0);
    s.proxy = &p;
    s.timer.run = look_never;
    s.limit = 1;
    s.statm_fd = -1; /* nothing of it is ours */
    s.group = (struct cgroup_memory){
        .is_v2 = true,
        .limit_fd = file_with(-1, "104857600\n"),
        .usage_fd = file_with(-1, "94371840\n"),
        .stat_fd = file_with(-1, "anon 94371840\ninactive_file 0\n"),
    };
    shed_look(&s);
    assert_int_equal(s.level, SHED_NONE);
    assert_int_equal(shed_peek(&s, SHED_NONE, 0), SHED_NONE);
    assert_true(s.timer.at_ns - p.loop.now_ns <= 50 * NS_PER_MS); /* it may be ours soon */
    (void)file_with(s.group.usage_fd, "10485760\n");
    s.looked_ns = 0;
    shed_look(&s);
    (void)file_with(s.group.usage_fd, "94371840\n");
    assert_int_equal(shed_peek(&s, SHED_NONE, 0), SHED_LAST);
    timer_cancel(&p.loop, &s.timer);
    cgroup_memory_close(&s.group);
    loop_close(&p.loop);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(new_requests_are_shed),
        TEST(without_chunks_everybody_waits),
        TEST(the_end_of_a_response_that_cannot_be_written),
        TEST(a_sweep_in_the_clear),
        TEST(a_sweep_through_the_mesh),
        TEST(a_sweep_of_tunnels),
        TEST(levels),
        TEST(what_was_others_is_forgotten),
        TEST(each_level_gives_up_more),
        TEST(stuck_clients_go_first),
        TEST(descriptors_that_run_out),
        TEST(who_gave_up_waiting),
    };

    return rig_run(tests, argc, argv);
}
