/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that do not read, do not finish or say nothing: what they hold is bounded. */
#include "tests/unit/http/grpc_probe.h"

static void ignore_closed(void *user UNUSED, int err UNUSED)
{
}

static void a_client_that_does_not_read_is_bounded(void **state UNUSED)
{
    struct probe *p = pair();
    struct head h = probe_request("POST", "/t.Echo/Call");
    struct arena arena;
    struct user *u;
    struct chain out;

    arena_init(&arena, 4096);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc")), 0);
    u = probe_open(p, &h, false);
    chain_init(&out);
    assert_int_equal(chain_append(&out, &p->loop.chunks, bytes_of("\0\0\0\0\005flood", 10)), 0);
    stream_send_data(u->s, &out);
    PROBE_UNTIL(p, u->head != NULL);
    probe_settle(p);
    assert_int_equal(service.done_count, 0); /* the status waits behind the messages */
    u->auto_credit = true;
    stream_credit(u->s, 65536);
    PROBE_UNTIL(p, u->ended);
    assert_true(u->received > 15 << 20);
    assert_bytes(fields_get(u->trailers, FIELD_GRPC_STATUS)->value, "8");
    PROBE_UNTIL(p, service.done_count == 1);
    arena_clear(&arena);
    pair_free(p);
}

/* One who asks for much and reads nothing, on a connection of his own, must not take what all share. */
static void a_client_that_does_not_read_is_shed_when_chunks_run_short(void **state UNUSED)
{
    struct probe *p = probe_new(256);
    struct head h = probe_request("POST", "/t.Echo/Call");
    static const struct http_client_events no_events = {.on_closed = ignore_closed};
    struct http_client *other;
    struct arena arena;
    struct user *u;
    struct chain out;
    struct caller c = {0};
    int fds[4];

    probe_sockets(fds);
    probe_sockets(fds + 2);
    service = (struct service){0};
    service.grpc = grpc_server_new(&p->loop, methods, ARRAY_LEN(methods), &service);
    grpc_server_accept(service.grpc, fds[0]);
    grpc_server_accept(service.grpc, fds[2]);
    p->client = http2_client_new(probe_io(p, fds[1]), NULL, &probe_client_events, p);
    other = http2_client_new(probe_io(p, fds[3]), NULL, &no_events, p);
    probe_settle(p);
    arena_init(&arena, 4096);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc")), 0);
    u = probe_open(p, &h, false);
    chain_init(&out);
    assert_int_equal(chain_append(&out, &p->loop.chunks, bytes_of("\0\0\0\0\005flood", 10)), 0);
    stream_send_data(u->s, &out);
    PROBE_UNTIL(p, service.count == 1 && service.calls[0].messages == 1);
    assert_int_equal(grpc_call_open(other, BYTES("echo:1"), "/t.Echo/Call", 0, NULL, &caller_events,
                                    &c, &c.call),
                     0);
    assert_int_equal(grpc_call_send(c.call, BYTES("hello")), 0);
    grpc_call_finish(c.call);
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_OK);
    PROBE_UNTIL(p, u->why != RESET_NONE);
    assert_int_equal(u->why, RESET_CALM);
    http_client_close(other, 0);
    arena_clear(&arena);
    pair_free(p);
}

/* Many messages that are begun and never ended: each within its limit, all together not. */
static void unfinished_messages_are_bounded_for_all_together(void **state UNUSED)
{
    struct probe *p = pair();
    struct head h = probe_request("POST", "/t.Echo/Call");
    struct user *users[24];
    unsigned refused = 0, sent = 0;
    struct arena arena;
    struct caller c;

    arena_init(&arena, 4096);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc")), 0);
    for (unsigned i = 0; i < ARRAY_LEN(users); i++) {
        struct chain out;

        users[i] = probe_open(p, &h, false);
        chain_init(&out);
        assert_int_equal(chain_append(&out, &p->loop.chunks, bytes_of("\0\0\x40\0\0", 5)), 0);
        stream_send_data(users[i]->s, &out);
        users[i]->to_send = GRPC_MESSAGE_MAX - 1;
        user_pump(users[i]);
    }
    for (unsigned turn = 0; sent < ARRAY_LEN(users); turn++) {
        assert_true(turn < 20000);
        probe_turn(p);
        sent = 0;
        for (unsigned i = 0; i < ARRAY_LEN(users); i++) {
            sent += users[i]->to_send == 0;
        }
    }
    probe_settle(p);
    for (unsigned i = 0; i < ARRAY_LEN(users); i++) {
        if (users[i]->head != NULL) {
            assert_bytes(fields_get(&users[i]->head->fields, FIELD_GRPC_STATUS)->value, "8");
            refused++;
        }
    }
    assert_int_equal(refused, ARRAY_LEN(users) - GRPC_UNFINISHED_MAX / GRPC_MESSAGE_MAX + 1);
    call_start(p, &c, "hello"); /* one that comes whole is served */
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_OK);
    arena_clear(&arena);
    pair_free(p);
}

/* As if so much time had passed since the last turn. */
static void time_passes(struct probe *p, uint64_t ns)
{
    struct loop *l = &p->loop;

    l->now_ns = clock_mono_ns() + ns;
    while (l->heap_count > 0 && l->heap[1]->at_ns <= l->now_ns) {
        struct timer *t = l->heap[1];

        timer_cancel(l, t);
        t->run(t);
    }
    probe_settle(p);
}

static bool is_closed(int fd)
{
    char sink[256];
    ssize_t n;

    while ((n = read(fd, sink, sizeof(sink))) > 0) {
    }
    return n == 0;
}

/* What is finished and not read holds its memory for a while, not for ever. */
static void an_answer_that_nobody_reads_is_dropped(void **state UNUSED)
{
    struct probe *p = pair();
    struct head h = probe_request("POST", "/t.Echo/Call");
    struct arena arena;
    struct user *u;
    struct chain out;

    arena_init(&arena, 4096);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc")), 0);
    u = probe_open(p, &h, false);
    chain_init(&out);
    assert_int_equal(chain_append(&out, &p->loop.chunks, bytes_of("\0\0\0\0\005flood", 10)), 0);
    stream_send_data(u->s, &out);
    PROBE_UNTIL(p, u->head != NULL);
    time_passes(p, 55 * NS_PER_S);
    assert_int_equal(service.done_count, 0);
    time_passes(p, 65 * NS_PER_S);
    PROBE_UNTIL(p, u->why != RESET_NONE);
    assert_int_equal(service.done_count, 1);
    arena_clear(&arena);
    pair_free(p);
}

/* A descriptor each for who connects and says nothing, or is gone without a word, adds up. */
static void silent_connections_are_given_up(void **state UNUSED)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct probe *p = pair();
    int mute[2], idle[2];

    probe_sockets(mute);
    probe_sockets(idle);
    grpc_server_accept(service.grpc, mute[0]);
    grpc_server_accept(service.grpc, idle[0]);
    assert_int_equal(write(idle[1], hello, sizeof(hello) - 1), sizeof(hello) - 1);
    probe_settle(p);
    assert_false(is_closed(mute[1]));
    time_passes(p, 31 * NS_PER_S);
    assert_true(is_closed(mute[1]));
    assert_false(is_closed(idle[1]));
    time_passes(p, 65 * NS_PER_S); /* asks whether it is there */
    assert_false(is_closed(idle[1]));
    time_passes(p, 90 * NS_PER_S);
    assert_true(is_closed(idle[1]));
    close(mute[1]);
    close(idle[1]);
    pair_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_does_not_read_is_bounded),
        cmocka_unit_test(a_client_that_does_not_read_is_shed_when_chunks_run_short),
        cmocka_unit_test(an_answer_that_nobody_reads_is_dropped),
        cmocka_unit_test(unfinished_messages_are_bounded_for_all_together),
        cmocka_unit_test(silent_connections_are_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
