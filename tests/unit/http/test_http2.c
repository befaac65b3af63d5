/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http/h2_probe.h"

#define MIB ((size_t)1 << 20)

/* --- heads --------------------------------------------------------------------------------------- */

static void heads_cross_with_their_fields(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("GET", "/a?b=c"), answer = probe_answer(204);
    struct arena arena;
    struct user *u, *a;

    arena_init(&arena, 65536);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("cookie"), BYTES("a=1")), 0);
    assert_int_equal(fields_add(&h.fields, BYTES("cookie"), BYTES("b=2")), 0);
    assert_int_equal(fields_add(&h.fields, BYTES("te"), BYTES("gzip")), 0);
    assert_int_equal(fields_add(&h.fields, BYTES("te"), BYTES("trailers")), 0);
    assert_int_equal(fields_add(&h.fields, BYTES("connection"), BYTES("keep-alive")), 0);
    assert_int_equal(fields_add(&h.fields, BYTES("transfer-encoding"), BYTES("chunked")), 0);
    assert_int_equal(fields_add(&h.fields, BYTES("host"), BYTES("books")), 0);
    assert_int_equal(fields_add(&h.fields, BYTES("x-secret"), BYTES("s")), 0);
    h.fields.at[h.fields.count - 1].never_index = true;
    u = probe_open(p, &h, true);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    a = p->accepted[0];

    assert_bytes(a->head->method, "GET");
    assert_bytes(a->head->path, "/a?b=c");
    assert_bytes(a->head->scheme, "http");
    assert_bytes(a->head->authority, "books.default:80");
    assert_int_equal(a->head->version, HTTP_2);
    assert_int_equal(a->head->status, 0);
    assert_true(a->head->ends && a->head->content_length == -1 && !a->head->is_connect);
    assert_int_equal(a->head->fields.count,
                     5); /* RFC 9113 8.2.2: te: gzip, connection and kin are gone */
    assert_bytes(a->head->fields.at[0].value, "a=1");
    assert_bytes(a->head->fields.at[1].value, "b=2");
    assert_int_equal(a->head->fields.at[2].id, FIELD_TE);
    /* RFC 9112 3.2.2: not "books", which is somebody else. */
    assert_bytes(fields_get(&a->head->fields, FIELD_HOST)->value, "books.default:80");
    assert_true(a->head->fields.at[4].never_index);
    assert_true(a->s->got_end && !a->s->sent_end);

    fields_init(&answer.fields, &arena);
    answer.content_length = 0; /* RFC 9110 8.6: not said with a 204 */
    assert_int_equal(fields_add(&answer.fields, BYTES("location"), BYTES("/z")), 0);
    assert_int_equal(stream_send_head(a->s, &answer, true), 0);
    user_close(a, RESET_NONE);
    PROBE_UNTIL(p, u->head != NULL);
    assert_int_equal(u->head->status, 204);
    assert_null(fields_get(&u->head->fields, FIELD_CONTENT_LENGTH));
    assert_bytes(fields_get(&u->head->fields, FIELD_LOCATION)->value, "/z");
    assert_true(u->head->ends);
    user_close(u, RESET_NONE);
    PROBE_UNTIL(p, p->idle_count == 1);
    arena_clear(&arena);
    probe_free(p);
}

static void a_head_that_cannot_be_sent_is_refused_at_once(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("GET", "/");
    struct arena arena;
    struct stream *s = NULL;
    struct user *u;

    arena_init(&arena, 65536);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("x"), BYTES("a\r\nb")), 0);
    assert_int_equal(http_client_open(p->client, &h, true, &user_events, NULL, &s), E_SYNTAX);
    h.fields.at[0] = (struct field){.name = BYTES(":status"), .value = BYTES("1")};
    assert_int_equal(http_client_open(p->client, &h, true, &user_events, NULL, &s), E_SYNTAX);
    h.fields.count = 0;
    h.method = BYTES("G T");
    assert_int_equal(http_client_open(p->client, &h, true, &user_events, NULL, &s), E_SYNTAX);
    assert_null(s);
    assert_int_equal(http_client_streams(p->client), 0);

    u = probe_get(p, "/");
    PROBE_UNTIL(p, p->accepted_count == 1);
    h = probe_answer(101); /* RFC 9113 8.6 */
    assert_int_equal(stream_send_head(p->accepted[0]->s, &h, true), E_SYNTAX);
    user_answer(p->accepted[0], 200, true);
    PROBE_UNTIL(p, u->head != NULL);
    arena_clear(&arena);
    probe_free(p);
}

static void interim_responses_and_trailers(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct arena arena;
    struct fields trailers;
    struct user *u = probe_open(p, &h, false), *a;

    arena_init(&arena, 65536);
    fields_init(&trailers, &arena);
    assert_int_equal(fields_add(&trailers, BYTES("x-sum"), BYTES("17")), 0);
    user_send(u, "ping");
    stream_send_end(u->s, &trailers);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    a = p->accepted[0];
    stream_credit(a->s, 100);
    PROBE_UNTIL(p, a->ended);
    assert_string_equal(a->log, "HDE");
    assert_int_equal(a->received, 4);
    assert_non_null(a->trailers);
    assert_bytes(a->trailers->at[0].name, "x-sum");
    assert_bytes(a->trailers->at[0].value, "17");

    user_answer(a, 103, false);
    user_answer(a, 200, false);
    trailers.at[0].value = BYTES("18");
    stream_send_end(a->s, &trailers); /* no DATA at all */
    trailers.at[0].value = BYTES("gone");
    user_close(a, RESET_NONE);
    PROBE_UNTIL(p, u->ended);
    assert_string_equal(u->log, "IHE");
    assert_int_equal(u->interim_status, 103);
    assert_bytes(u->trailers->at[0].value, "18");
    arena_clear(&arena);
    probe_free(p);
}

static void connect_is_a_stream_that_cannot_be_taken(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("CONNECT", "");
    struct io *io = NULL;
    struct user *u;

    h.is_connect = true;
    u = probe_open(p, &h, false);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    assert_true(p->accepted[0]->head->is_connect && !p->accepted[0]->head->is_upgrade);
    assert_bytes(p->accepted[0]->head->authority, "books.default:80");
    assert_int_equal(stream_take(p->accepted[0]->s, &io, NULL, NULL), E_UNSUPPORTED);
    assert_null(io);
    user_answer(p->accepted[0], 501, true);
    user_close(p->accepted[0], RESET_NONE);
    PROBE_UNTIL(p, u->head != NULL && u->head->status == 501);
    probe_free(p);
}

/* --- bodies and back-pressure -------------------------------------------------------------------- */

static void echo_event(struct user *u, char event)
{
    if (event == 'H') {
        u->auto_credit = true;
        stream_credit(u->s, 65536);
        user_answer(u, 200, false);
        u->to_send = 3 * MIB;
        u->end_after = true;
        user_pump(u);
    }
    if (u->ended && u->s != NULL && u->s->sent_end) {
        user_close(u, RESET_NONE);
    }
}

static void bodies_cross_both_ways_unharmed(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u;

    p->on_accepted_event = echo_event;
    h.content_length = (int64_t)(2 * MIB);
    u = probe_open(p, &h, false);
    u->auto_credit = true;
    u->to_send = 2 * MIB;
    u->end_after = true;
    stream_credit(u->s, 65536);
    user_pump(u);
    PROBE_UNTIL(p, u->ended && p->accepted[0]->ended);
    assert_int_equal(p->accepted[0]->received, 2 * MIB);
    assert_int_equal(p->accepted[0]->sum, body_sum(2 * MIB));
    assert_int_equal(u->received, 3 * MIB);
    assert_int_equal(u->sum, body_sum(3 * MIB));
    probe_free(p);
}

static void no_more_is_delivered_than_credited_and_the_sender_stalls(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u = probe_open(p, &h, false), *a;

    u->to_send = MIB;
    u->end_after = true;
    user_pump(u);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    a = p->accepted[0];
    probe_settle(p);
    assert_int_equal(a->received, 0);
    assert_true(u->sent <= 65535 && u->s->room == 0);

    stream_credit(a->s, 1000);
    PROBE_UNTIL(p, a->received == 1000);
    probe_settle(p);
    assert_int_equal(a->received, 1000);
    while (a->received < MIB) {
        size_t before = a->received;

        stream_credit(a->s, 10007);
        PROBE_UNTIL(p, a->received == MIN(before + 10007, MIB));
        /* What was sent is never more than one window ahead of what was taken. */
        assert_true(u->sent <= a->received + 65535);
    }
    PROBE_UNTIL(p, a->ended);
    assert_int_equal(a->sum, body_sum(MIB));
    probe_free(p);
}

static void a_slow_stream_holds_up_nobody(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *slow[20], *fast;

    for (unsigned i = 0; i < ARRAY_LEN(slow);
         i++) { /* together more than the connection's window */
        slow[i] = probe_open(p, &h, false);
        slow[i]->to_send = MIB;
        user_pump(slow[i]);
    }
    PROBE_UNTIL(p, p->accepted_count == ARRAY_LEN(slow));
    probe_settle(p);
    fast = probe_open(p, &h, false);
    fast->to_send = 4 * MIB;
    fast->end_after = true;
    user_pump(fast);
    PROBE_UNTIL(p, p->accepted_count == ARRAY_LEN(slow) + 1);
    p->accepted[ARRAY_LEN(slow)]->auto_credit = true;
    stream_credit(p->accepted[ARRAY_LEN(slow)]->s, 65536);
    PROBE_UNTIL(p, p->accepted[ARRAY_LEN(slow)]->ended);
    assert_int_equal(p->accepted[ARRAY_LEN(slow)]->sum, body_sum(4 * MIB));
    for (unsigned i = 0; i < ARRAY_LEN(slow); i++) {
        assert_true(slow[i]->sent <= 65535);
        assert_int_equal(p->accepted[i]->received, 0);
    }
    probe_free(p);
}

static void the_high_mark_bounds_room_when_windows_are_large(void **state UNUSED)
{
    const struct http_limits wide = {.stream_window = 1 << 24, .connection_window = 1 << 24};
    const struct http_limits low = {.output_high_bytes = 20000};
    struct probe *p = probe_pair(&wide, &low);
    struct head h = probe_request("POST", "/");
    struct user *u, *a;

    probe_settle(p); /* the server's SETTINGS */
    u = probe_open(p, &h, false);
    assert_int_equal(u->s->room, 20000);
    u->to_send = 8 * MIB;
    u->end_after = true;
    user_pump(u);
    assert_int_equal(u->s->room, 0);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    a = p->accepted[0];
    a->auto_credit = true;
    stream_credit(a->s, MIB);
    PROBE_UNTIL(p, a->ended);
    assert_int_equal(a->sum, body_sum(8 * MIB));
    probe_free(p);
}

/* --- ends ---------------------------------------------------------------------------------------- */

static void reset_codes_pass_through(void **state UNUSED)
{
    static const struct {
        enum reset sent, seen;
    } cases[] = {
        {RESET_CANCEL, RESET_CANCEL},       {RESET_REFUSED, RESET_REFUSED},
        {RESET_PROTOCOL, RESET_PROTOCOL},   {RESET_INTERNAL, RESET_INTERNAL},
        {RESET_CALM, RESET_CALM},           {RESET_TIMEOUT, RESET_CANCEL},
        {RESET_GOAWAY, RESET_REFUSED},      {RESET_NONE, RESET_CANCEL},
        {RESET_CONNECTION, RESET_INTERNAL},
    };
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct user *u = probe_open(p, &h, false), *a;

        PROBE_UNTIL(p, p->accepted_count == i + 1 && p->accepted[i]->head != NULL);
        a = p->accepted[i];
        if (i % 2 == 0) {
            user_close(u, cases[i].sent);
            PROBE_UNTIL(p, a->why != RESET_NONE);
            assert_int_equal(a->why, cases[i].seen);
            user_close(a, RESET_NONE);
        } else {
            user_answer(a, 200, false);
            user_close(a, cases[i].sent);
            PROBE_UNTIL(p, u->why != RESET_NONE);
            assert_int_equal(u->why, cases[i].seen);
            user_close(u, RESET_NONE);
        }
    }
    probe_settle(p);
    assert_false(p->client_closed || p->server_closed);
    probe_free(p);
}

static void a_body_that_belies_its_length(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u;

    h.content_length = 10;
    u = probe_open(p, &h, false);
    user_send(u, "short");
    stream_send_end(u->s, NULL);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->why != RESET_NONE);
    assert_int_equal(p->accepted[0]->why, RESET_TRUNCATED); /* RFC 9113 8.1.1 */
    PROBE_UNTIL(p, u->why == RESET_PROTOCOL);
    u = probe_open(p, &h, false);
    user_send(u, "more than ten bytes");
    PROBE_UNTIL(p, p->accepted_count == 2 && p->accepted[1]->why != RESET_NONE);
    assert_int_equal(p->accepted[1]->why, RESET_PROTOCOL);
    PROBE_UNTIL(p, u->why == RESET_PROTOCOL);
    assert_false(p->client_closed || p->server_closed);
    probe_free(p);
}

static void an_early_answer_is_no_failure(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u = probe_open(p, &h, false);

    u->to_send = MIB;
    u->end_after = true;
    user_pump(u);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    user_answer(p->accepted[0], 413, false);
    user_send(p->accepted[0], "too much");
    stream_send_end(p->accepted[0]->s, NULL);
    user_close(p->accepted[0],
               RESET_NONE); /* RFC 9113 8.1: RST_STREAM with NO_ERROR behind the answer */
    stream_credit(u->s, 1000);
    /* The answer arrives whole; the rest of the request is taken and forgotten. */
    PROBE_UNTIL(p, u->ended && u->to_send == 0);
    assert_int_equal(u->head->status, 413);
    assert_int_equal(u->received, 8);
    assert_int_equal(u->why, RESET_NONE);
    assert_true(u->s->sent_end);
    user_close(u, RESET_NONE);
    PROBE_UNTIL(p, p->idle_count == 1);
    probe_free(p);
}

static void a_cancel_drops_what_waits_for_credit(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u = probe_open(p, &h, false), *a;

    user_send(u, "never looked at");
    stream_send_end(u->s, NULL);
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    a = p->accepted[0];
    probe_settle(p);
    user_close(u, RESET_CANCEL);
    PROBE_UNTIL(p, a->why == RESET_CANCEL);
    assert_string_equal(a->log, "HX");
    /* Until it is closed, calls go nowhere and do no harm. */
    user_answer(a, 200, false);
    user_send(a, "x");
    stream_send_end(a->s, NULL);
    stream_credit(a->s, 100);
    probe_settle(p);
    assert_string_equal(a->log, "HX");
    probe_free(p);
}

static void a_request_reset_in_the_same_breath_is_never_shown(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u = probe_get(p, "/warm"), *v;

    PROBE_UNTIL(p, p->accepted_count == 1);
    u = probe_open(p, &h, false);
    user_close(u, RESET_CANCEL); /* never leaves this end */
    v = probe_get(p, "/after");
    PROBE_UNTIL(p, p->accepted_count == 2);
    PROBE_UNTIL(p, p->accepted[1]->head != NULL);
    assert_bytes(p->accepted[1]->head->path, "/after");
    assert_non_null(v->s);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_cross_with_their_fields),
        cmocka_unit_test(a_head_that_cannot_be_sent_is_refused_at_once),
        cmocka_unit_test(interim_responses_and_trailers),
        cmocka_unit_test(connect_is_a_stream_that_cannot_be_taken),
        cmocka_unit_test(bodies_cross_both_ways_unharmed),
        cmocka_unit_test(no_more_is_delivered_than_credited_and_the_sender_stalls),
        cmocka_unit_test(a_slow_stream_holds_up_nobody),
        cmocka_unit_test(the_high_mark_bounds_room_when_windows_are_large),
        cmocka_unit_test(reset_codes_pass_through),
        cmocka_unit_test(a_body_that_belies_its_length),
        cmocka_unit_test(an_early_answer_is_no_failure),
        cmocka_unit_test(a_cancel_drops_what_waits_for_credit),
        cmocka_unit_test(a_request_reset_in_the_same_breath_is_never_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
