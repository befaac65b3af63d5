/* SPDX-License-Identifier: Apache-2.0 */
#include "http/grpc_private.h"
#include "tests/unit/http/h2_probe.h"

#define CALLS_MAX 256

/* --- a service that does what the first message says --------------------------------------------- */

struct served {
    struct service *service;
    struct grpc_server_call *call;
    unsigned messages;
    bool half_closed, done;
    char first[32];
};

struct service {
    struct grpc_server *grpc;
    struct served calls[CALLS_MAX];
    unsigned count, done_count;
    struct bytes metadata; /* of the last call's x-who */
};

static void serve_call(struct grpc_server_call *call, void *service)
{
    struct service *s = service;
    struct served *served = &s->calls[s->count++];
    const struct field *who = fields_find(grpc_server_call_metadata(call), BYTES("x-who"));

    served->service = s;
    served->call = call;
    grpc_server_call_set(call, served);
    s->metadata = who != NULL ? who->value : BYTES_NONE;
}

static void serve_message(struct grpc_server_call *call, void *user, struct bytes message)
{
    struct served *served = user;
    int rc = 0;

    if (served->messages++ == 0) {
        memcpy(served->first, message.at, MIN(message.len, sizeof(served->first) - 1));
    }
    if (bytes_eq(message, BYTES("fail"))) {
        grpc_finish(call, GRPC_NOT_FOUND, "no \xc3\xbc here: 100%");
    } else if (bytes_eq(message, BYTES("stream"))) {
        for (unsigned i = 0; i < 10 && rc == 0; i++) {
            rc = grpc_send(call, BYTES("piece"));
        }
        grpc_finish(call, GRPC_OK, NULL);
    } else if (bytes_eq(message, BYTES("flood"))) {
        char *large = mem_new(1 << 20);

        while (rc == 0) { /* until the client's slowness has filled the queue */
            rc = grpc_send(call, bytes_of(large, 1 << 20));
        }
        assert_int_equal(rc, E_LIMIT);
        assert_true(grpc_pending(call) <= GRPC_PENDING_MAX);
        mem_free(large);
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "too slow");
        assert_int_equal(grpc_send(call, message), E_CLOSED);
    } else if (!bytes_eq(message, BYTES("wait"))) {
        assert_int_equal(grpc_send(call, message), 0);
    }
}

static void serve_half_close(struct grpc_server_call *call, void *user)
{
    struct served *served = user;

    assert_false(served->half_closed);
    served->half_closed = true;
    if (strcmp(served->first, "wait") != 0) {
        grpc_finish(call, GRPC_OK, "");
    }
}

static void serve_done(struct grpc_server_call *call UNUSED, void *user)
{
    struct served *served = user;

    assert_false(served->done);
    served->done = true;
    served->service->done_count++;
}

static const struct grpc_method methods[] = {
    {"/t.Echo/Call", serve_call, serve_message, serve_half_close, serve_done},
};

/* --- the caller ---------------------------------------------------------------------------------- */

struct caller {
    struct grpc_call *call; /* NULL once over */
    unsigned messages;
    size_t bytes;
    bool ended, cancel_in_message;
    enum grpc_status status;
    char text[64];
    int err;
};

static void caller_on_message(void *user, struct bytes message)
{
    struct caller *c = user;

    c->messages++;
    c->bytes += message.len;
    if (c->cancel_in_message) {
        struct grpc_call *call = c->call;

        c->call = NULL;
        grpc_call_cancel(call);
        assert_int_equal(message.at[0], 'p'); /* still there */
    }
}

static void caller_on_end(void *user, enum grpc_status status, struct bytes message, int err)
{
    struct caller *c = user;

    assert_false(c->ended);
    c->ended = true;
    c->call = NULL;
    c->status = status;
    c->err = err;
    (void)snprintf(c->text, sizeof(c->text), BYTES_FMT, BYTES_ARG(message));
}

static const struct grpc_call_events caller_events = {caller_on_message, caller_on_end};

static struct service service;

static struct probe *pair(void)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    int fds[2];

    probe_sockets(fds);
    service = (struct service){0};
    service.grpc = grpc_server_new(&p->loop, methods, ARRAY_LEN(methods), &service);
    grpc_server_accept(service.grpc, fds[0]);
    p->client = http2_client_new(probe_io(p, fds[1]), NULL, &probe_client_events, p);
    return p;
}

static void pair_free(struct probe *p)
{
    grpc_server_free(service.grpc);
    assert_int_equal(service.done_count, service.count);
    probe_free(p);
}

static void call_open(struct probe *p, struct caller *c, const char *path, uint64_t timeout_ns)
{
    *c = (struct caller){0};
    assert_int_equal(grpc_call_open(p->client, BYTES("echo:1"), path, timeout_ns, NULL,
                                    &caller_events, c, &c->call),
                     0);
}

static void call_start(struct probe *p, struct caller *c, const char *message)
{
    call_open(p, c, "/t.Echo/Call", 0);
    assert_int_equal(grpc_call_send(c->call, bytes_str(message)), 0);
    grpc_call_finish(c->call);
}

/* --- tests --------------------------------------------------------------------------------------- */

static void a_unary_call(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;

    call_start(p, &c, "hello");
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_OK);
    assert_int_equal(c.messages, 1);
    assert_int_equal(c.bytes, 5);
    assert_string_equal(c.text, "");
    PROBE_UNTIL(p, service.done_count == 1);
    assert_true(service.calls[0].half_closed);
    pair_free(p);
}

static void a_status_and_its_text(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;

    call_start(p, &c, "fail"); /* Trailers-Only */
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_NOT_FOUND);
    assert_string_equal(c.text, "no \xc3\xbc here: 100%");
    assert_int_equal(c.messages, 0);
    pair_free(p);
}

static void an_unknown_method(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;

    call_open(p, &c, "/t.Echo/Nothing", 0);
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_UNIMPLEMENTED);
    assert_int_equal(service.count, 0);
    pair_free(p);
}

static void server_streaming(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;

    call_start(p, &c, "stream");
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_OK);
    assert_int_equal(c.messages, 10);
    pair_free(p);
}

static void both_sides_stream(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;

    call_open(p, &c, "/t.Echo/Call", 0);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(grpc_call_send(c.call, BYTES("one")), 0);
        PROBE_UNTIL(p, c.messages == i + 1);
    }
    grpc_call_finish(c.call);
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_OK);
    pair_free(p);
}

static void large_messages_and_empty_ones(void **state UNUSED)
{
    struct probe *p = pair();
    size_t len = 3u << 20;
    char *large = mem_new(len);
    struct caller c;

    call_open(p, &c, "/t.Echo/Call", 0);
    assert_int_equal(grpc_call_send(c.call, bytes_of(large, len)), 0);
    assert_int_equal(grpc_call_send(c.call, BYTES_NONE), 0);
    assert_int_equal(grpc_call_send(c.call, bytes_of(large, GRPC_MESSAGE_MAX + 1)), E_LIMIT);
    grpc_call_finish(c.call);
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_OK);
    assert_int_equal(c.messages, 2);
    assert_int_equal(c.bytes, len);
    mem_free(large);
    pair_free(p);
}

static void metadata_is_sent(void **state UNUSED)
{
    struct probe *p = pair();
    struct arena arena;
    struct fields metadata;
    struct caller c = {0};

    arena_init(&arena, 4096);
    fields_init(&metadata, &arena);
    assert_int_equal(fields_add(&metadata, BYTES("x-who"), BYTES("web")), 0);
    assert_int_equal(grpc_call_open(p->client, BYTES("echo:1"), "/t.Echo/Call", 0, &metadata,
                                    &caller_events, &c, &c.call),
                     0);
    PROBE_UNTIL(p, service.count == 1);
    assert_bytes(service.metadata, "web");
    grpc_call_cancel(c.call);
    PROBE_UNTIL(p, service.done_count == 1);
    arena_clear(&arena);
    pair_free(p);
}

static void a_canceled_call_ends_at_the_server(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;

    call_start(p, &c, "wait");
    PROBE_UNTIL(p, service.count == 1 && service.calls[0].messages == 1);
    grpc_call_cancel(c.call);
    PROBE_UNTIL(p, service.done_count == 1);
    assert_false(c.ended);

    call_start(p, &c, "stream");
    c.cancel_in_message = true;
    PROBE_UNTIL(p, service.done_count == 2);
    probe_settle(p);
    assert_int_equal(c.messages, 1);
    assert_false(c.ended);
    pair_free(p);
}

static void deadlines_are_kept_by_both_sides(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;
    struct head h = probe_request("POST", "/t.Echo/Call");
    struct arena arena;
    struct user *u;

    call_open(p, &c, "/t.Echo/Call", 20 * NS_PER_MS);
    assert_int_equal(grpc_call_send(c.call, BYTES("wait")), 0);
    grpc_call_finish(c.call);
    PROBE_UNTIL(p, c.ended && service.done_count == 1);
    assert_int_equal(c.status, GRPC_DEADLINE_EXCEEDED);

    /* A caller that does not count for itself is told by the server. */
    arena_init(&arena, 4096);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc+proto")),
                     0);
    assert_int_equal(fields_add(&h.fields, BYTES("grpc-timeout"), BYTES("10m")), 0);
    u = probe_open(p, &h, true);
    PROBE_UNTIL(p, u->head != NULL);
    assert_true(u->head->ends);
    assert_bytes(fields_get(&u->head->fields, FIELD_GRPC_STATUS)->value,
                 "0"); /* half-closed: answered at once */
    user_close(u, RESET_NONE);

    u = probe_open(p, &h, false);
    PROBE_UNTIL(p, u->head != NULL);
    assert_bytes(fields_get(&u->head->fields, FIELD_GRPC_STATUS)->value, "4");
    user_close(u, RESET_NONE);

    h.fields.at[1].value = BYTES("soon");
    u = probe_open(p, &h, false);
    PROBE_UNTIL(p, u->head != NULL);
    assert_bytes(fields_get(&u->head->fields, FIELD_GRPC_STATUS)->value, "3");
    arena_clear(&arena);
    pair_free(p);
}

static void what_is_no_grpc_is_refused(void **state UNUSED)
{
    struct probe *p = pair();
    struct user *get = probe_get(p, "/t.Echo/Call");
    struct head h = probe_request("POST", "/t.Echo/Call");
    struct arena arena;
    struct user *post;

    PROBE_UNTIL(p, get->head != NULL);
    assert_int_equal(get->head->status, 415);
    arena_init(&arena, 4096);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpcish")), 0);
    post = probe_open(p, &h, false);
    PROBE_UNTIL(p, post->head != NULL);
    assert_int_equal(post->head->status, 415);
    user_close(post, RESET_NONE);

    h.fields.at[0].value = BYTES("application/grpc");
    post = probe_open(p, &h, false);
    {
        struct chain out;

        chain_init(&out);
        assert_int_equal(chain_append(&out, &p->loop.chunks, bytes_of("\001\0\0\0\001x", 6)), 0);
        stream_send_data(post->s, &out);
    }
    PROBE_UNTIL(p, post->head != NULL);
    assert_bytes(fields_get(&post->head->fields, FIELD_GRPC_STATUS)->value, "12"); /* compressed */
    user_close(post, RESET_NONE);

    post = probe_open(p, &h, false);
    user_send(post, "\001\001"); /* half a prefix */
    stream_send_end(post->s, NULL);
    PROBE_UNTIL(p, post->head != NULL);
    assert_bytes(fields_get(&post->head->fields, FIELD_GRPC_STATUS)->value, "13");
    arena_clear(&arena);
    pair_free(p);
}

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

static void a_hundred_calls_at_once(void **state UNUSED)
{
    struct probe *p = pair();
    static struct caller callers[100];

    for (unsigned i = 0; i < ARRAY_LEN(callers); i++) {
        call_start(p, &callers[i], i % 3 == 0 ? "stream" : "hello");
    }
    for (unsigned i = 0; i < ARRAY_LEN(callers); i++) {
        PROBE_UNTIL(p, callers[i].ended);
        assert_int_equal(callers[i].status, GRPC_OK);
        assert_int_equal(callers[i].messages, i % 3 == 0 ? 10 : 1);
    }
    PROBE_UNTIL(p, service.done_count == 100);
    pair_free(p);
}

static void draining_lets_calls_finish(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller c;

    call_open(p, &c, "/t.Echo/Call", 0);
    assert_int_equal(grpc_call_send(c.call, BYTES("one")), 0);
    PROBE_UNTIL(p, c.messages == 1);
    grpc_server_drain(service.grpc);
    PROBE_UNTIL(p, p->client_closed);
    assert_int_equal(p->client_err, E_GOAWAY);
    assert_int_equal(grpc_call_send(c.call, BYTES("two")), 0);
    grpc_call_finish(c.call);
    PROBE_UNTIL(p, c.ended);
    assert_int_equal(c.status, GRPC_OK);
    assert_int_equal(c.messages, 2);
    pair_free(p);
}

static void the_servers_end_is_unavailable(void **state UNUSED)
{
    struct probe *p = pair();
    struct caller waits, streams;

    call_start(p, &waits, "wait");
    call_open(p, &streams, "/t.Echo/Call", 0);
    assert_int_equal(grpc_call_send(streams.call, BYTES("one")), 0);
    PROBE_UNTIL(p, service.count == 2 && streams.messages == 1);
    grpc_server_free(service.grpc);
    assert_int_equal(service.done_count, 2); /* from within */
    PROBE_UNTIL(p, waits.ended && streams.ended);
    assert_int_equal(waits.status, GRPC_UNAVAILABLE);
    assert_string_equal(waits.text, "shutting down");
    assert_int_equal(streams.status, GRPC_UNAVAILABLE);
    assert_string_equal(streams.text, "shutting down");
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unary_call),
        cmocka_unit_test(a_status_and_its_text),
        cmocka_unit_test(an_unknown_method),
        cmocka_unit_test(server_streaming),
        cmocka_unit_test(both_sides_stream),
        cmocka_unit_test(large_messages_and_empty_ones),
        cmocka_unit_test(metadata_is_sent),
        cmocka_unit_test(a_canceled_call_ends_at_the_server),
        cmocka_unit_test(deadlines_are_kept_by_both_sides),
        cmocka_unit_test(what_is_no_grpc_is_refused),
        cmocka_unit_test(a_client_that_does_not_read_is_bounded),
        cmocka_unit_test(a_client_that_does_not_read_is_shed_when_chunks_run_short),
        cmocka_unit_test(an_answer_that_nobody_reads_is_dropped),
        cmocka_unit_test(unfinished_messages_are_bounded_for_all_together),
        cmocka_unit_test(silent_connections_are_given_up),
        cmocka_unit_test(a_hundred_calls_at_once),
        cmocka_unit_test(draining_lets_calls_finish),
        cmocka_unit_test(the_servers_end_is_unavailable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
