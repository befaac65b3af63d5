/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: what they carry, and how they end. */
#include "tests/unit/http/grpc_probe.h"

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
        cmocka_unit_test(a_hundred_calls_at_once),
        cmocka_unit_test(draining_lets_calls_finish),
        cmocka_unit_test(the_servers_end_is_unavailable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
