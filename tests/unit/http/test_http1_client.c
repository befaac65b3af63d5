/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http/http_probe.h"

static struct probe p;
static struct http_client *client;

static void on_idle(void *user)
{
    struct probe *probe = user;

    assert_int_equal(http_client_capacity(client), 1);
    text_str(&probe->log, "idle;");
}

static void on_capacity(void *user)
{
    struct probe *probe = user;

    text_str(&probe->log, "capacity;");
}

static const struct http_client_events events = {
    .on_idle = on_idle,
    .on_capacity = on_capacity,
    .on_closed = probe_on_closed,
};

static int setup(void **state UNUSED)
{
    struct io *io = NULL;

    probe_open(&p, &io);
    p.credit_at_once = 1 << 20;
    client = http1_client_new(io, NULL, &events, &p);
    probe_turns(&p);
    assert_int_equal(http_client_capacity(client), 1);
    assert_log(&p, "");
    return 0;
}

static int teardown(void **state UNUSED)
{
    if (!p.closed && client != NULL) {
        http_client_close(client, E_CANCELED);
        probe_turns(&p);
    }
    if (p.s != NULL) {
        probe_stream_close(&p, RESET_CANCEL);
    }
    probe_close(&p);
    return 0;
}

static struct head request(const char *method, int64_t length)
{
    return (struct head){.method = bytes_str(method),
                         .path = BYTES("/a"),
                         .authority = BYTES("h"),
                         .content_length = length,
                         .version = HTTP_11};
}

static void open_head(const struct head *h, bool ends)
{
    assert_int_equal(http_client_open(client, h, ends, &probe_events, &p, &p.s), 0);
    assert_int_equal(http_client_capacity(client), 0);
    assert_int_equal(http_client_streams(client), 1);
    probe_settle(&p);
}

static void open_request(const char *method, bool ends)
{
    struct head h = request(method, -1);

    open_head(&h, ends);
}

static void get(void)
{
    open_request("GET", true);
    assert_received(&p, "GET /a HTTP/1.1\r\nhost: h\r\n\r\n");
}

/* --- exchanges ----------------------------------------------------------------------------------- */

static void a_connection_is_used_again(void **state UNUSED)
{
    for (unsigned i = 0; i < 3; i++) {
        get();
        probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxy");
        assert_log(&p, "head 200;data xy;end;");
        probe_stream_close(&p, RESET_NONE);
        assert_log(&p, "capacity;idle;");
    }
    assert_int_equal(p.loop.chunks.used_count, 0);
    probe_peer_close(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_err, 0);
}

static void every_split_of_a_response_is_the_same_response(void **state UNUSED)
{
    static const char text[] =
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n"
        "transfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n";

    for (size_t split = 1; split < sizeof(text) - 1; split++) {
        char log[256];
        char *again;

        get();
        probe_send_bytes(&p, bytes_of(text, split));
        probe_send_bytes(&p, bytes_of(text + split, sizeof(text) - 1 - split));
        (void)snprintf(log, sizeof(log), "%s", p.log.at);
        again = strstr(log, ";data ");
        again = again != NULL ? strstr(again + 6, ";data ") : NULL;
        if (again != NULL) { /* join the two pieces */
            memmove(again, again + 6, strlen(again + 6) + 1);
        }
        assert_string_equal(log, "head 103 ends;head 200;data hello;end t=1;");
        text_reset(&p.log);
        probe_stream_close(&p, RESET_NONE);
        assert_log(&p, "capacity;idle;");
    }
}

static void requests_are_framed(void **state UNUSED)
{
    struct head h = request("POST", 3);

    open_head(&h, false);
    probe_send_data(&p, 'x', 3);
    stream_send_end(p.s, NULL);
    probe_settle(&p);
    assert_received(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nxxx");
    probe_send(&p, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_log(&p, "head 204 ends;");
    probe_stream_close(&p, RESET_NONE);
    open_request("POST", false);
    probe_send_data(&p, 'x', 3);
    stream_send_end(p.s, NULL);
    probe_settle(&p);
    assert_received(&p, "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
                        "3\r\nxxx\r\n0\r\n\r\n");
}

static void what_cannot_be_sent_is_not_opened(void **state UNUSED)
{
    struct head h = request("G T", -1);

    assert_int_equal(http_client_open(client, &h, true, &probe_events, &p, &p.s), E_SYNTAX);
    assert_int_equal(http_client_capacity(client), 1);
    get();
    h = request("GET", -1);
    assert_int_equal(http_client_open(client, &h, true, &probe_events, &p, &p.s), E_LIMIT);
}

static void head_and_bodyless_responses_end_with_the_head(void **state UNUSED) /* RFC 9112 6.3 */
{
    open_request("HEAD", true);
    assert_received(&p, "HEAD /a HTTP/1.1\r\nhost: h\r\n\r\n");
    probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    assert_log(&p, "head 200 ends;");
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "capacity;idle;");
    get();
    probe_send(&p, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n");
    assert_log(&p, "head 304 ends;");
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "capacity;idle;");
}

static void a_body_waits_for_credit(void **state UNUSED)
{
    static char block[1 << 16];
    size_t sent = 0;
    ssize_t n;

    p.credit_at_once = 0;
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n");
    memset(block, 'x', sizeof(block));
    while ((n = send(p.peer, block, sizeof(block), MSG_NOSIGNAL)) > 0) {
        sent += (size_t)n;
        probe_turns(&p);
        assert_true(sent < 4u << 20);
    }
    assert_true(p.loop.chunks.used_count * CHUNK_BYTES <= 4u * 65536);
    assert_log(&p, "head 200;");
    stream_credit(p.s, 3);
    probe_turns(&p);
    assert_log(&p, "data xxx;");
}

static void a_large_body_passes_in_bounded_memory(void **state UNUSED)
{
    static char block[1 << 16];

    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 6553600\r\n\r\n");
    memset(block, 'x', sizeof(block));
    for (unsigned i = 0; i < 100; i++) {
        probe_send_bytes(&p, bytes_of(block, sizeof(block)));
        assert_true(p.loop.chunks.used_count * CHUNK_BYTES <= 4u * 65536);
        if (i < 99) {
            text_reset(&p.log);
        }
    }
    assert_true(bytes_ends(text_bytes(&p.log), BYTES(";end;")));
}

static void uploads_are_bounded_by_room(void **state UNUSED)
{
    size_t sent = 0;

    open_request("POST", false);
    while (p.s->room > 0) {
        size_t n = p.s->room;

        probe_send_data(&p, 'x', n);
        sent += n;
        probe_turns(&p);
        assert_true(sent < 4u << 20);
    }
    assert_true(p.loop.chunks.used_count * CHUNK_BYTES <= 2u * 65536);
    probe_settle(&p);
    assert_int_equal(p.s->room, HTTP_OUTPUT_HIGH_BYTES);
}

/* --- ends ---------------------------------------------------------------------------------------- */

static void connection_close_is_the_end(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx");
    assert_log(&p, "head 200;data x;end;");
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "");
    assert_true(p.closed && p.peer_eof);
    assert_int_equal(p.close_err, 0);
}

static void a_body_may_last_until_the_close(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\n\r\nabc");
    probe_send(&p, "def");
    assert_log(&p, "head 200;data abc;data def;");
    probe_peer_shut(&p);
    assert_log(&p, "end;");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed);
}

static void a_truncated_body_is_told(void **state UNUSED) /* RFC 9112 8 */
{
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc");
    probe_peer_shut(&p);
    assert_log(&p, "head 200;data abc;reset truncated h1_truncated;");
    assert_true(p.closed);
}

static void a_truncated_chunked_body_is_told(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    probe_peer_shut(&p);
    assert_log(&p, "head 200;data abc;reset truncated h1_truncated;");
}

static void truncated_trailers_are_told(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n");
    probe_peer_shut(&p);
    assert_log(&p, "head 200;reset truncated h1_truncated;");
}

static void a_close_before_the_head_can_be_told_from_others(void **state UNUSED)
{
    get();
    probe_peer_shut(&p);
    assert_log(&p, "reset connection eof;");
    assert_true(p.closed);
}

static void a_close_within_the_head_is_truncation(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 2");
    probe_peer_shut(&p);
    assert_log(&p, "reset truncated h1_truncated;");
}

static void a_close_behind_an_interim_head_is_truncation(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 103 Early Hints\r\n\r\n");
    probe_peer_shut(&p);
    assert_log(&p, "head 103 ends;reset truncated h1_truncated;");
}

static void malformed_responses_reset(void **state UNUSED)
{
    static const char *const bad[][2] = {
        {"SSH-2.0-x", "reset protocol h1_bad_head;"},
        {"HTTP/1.1 200 OK\r\nx : y\r\n\r\n", "reset protocol h1_bad_head;"},
        {"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
         "reset protocol h1_bad_length;"},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz",
         "head 200;reset protocol h1_bad_chunk;"},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n",
         "reset protocol h1_bad_head;"}, /* not asked for */
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        get();
        probe_send(&p, bad[i][0]);
        assert_log(&p, bad[i][1]);
        assert_true(p.closed);
        assert_int_equal(teardown(NULL), 0);
        assert_int_equal(setup(NULL), 0);
    }
}

static void interim_heads_are_limited(void **state UNUSED)
{
    get();
    for (unsigned i = 0; i < 100; i++) {
        probe_send(&p, "HTTP/1.1 102 Processing\r\n\r\n");
    }
    assert_true(bytes_ends(text_bytes(&p.log), BYTES("reset protocol limit;")));
}

static void bytes_without_a_request_close(void **state UNUSED) /* RFC 9112 9.2 */
{
    probe_send(&p, "HTTP/1.1 200 OK\r\n\r\n");
    assert_true(p.closed && p.peer_eof);
    assert_log(&p, "");
}

static void bytes_behind_a_response_close(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n");
    assert_log(&p, "head 200;data x;end;");
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "");
    assert_true(p.closed);
}

static void an_abandoned_stream_ends_the_connection(void **state UNUSED)
{
    get();
    probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nx");
    probe_stream_close(&p, RESET_CANCEL);
    assert_true(p.closed && p.peer_eof);
}

static void a_request_of_http_10_is_the_only_one(void **state UNUSED) /* wire 5.4 */
{
    struct head h = request("GET", -1);

    h.version = HTTP_10;
    open_head(&h, true);
    assert_received(&p, "GET /a HTTP/1.0\r\nhost: h\r\n\r\n");
    probe_send(&p, "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed);
}

static void closing_resets_the_stream_and_says_nothing_else(void **state UNUSED)
{
    get();
    http_client_close(client, E_TIMEOUT);
    client = NULL;
    assert_log(&p, "");
    probe_settle(&p);
    assert_log(&p, "reset connection timeout;");
    probe_stream_close(&p, RESET_NONE);
    assert_false(p.closed);
    assert_true(p.peer_eof);
}

static void an_idle_client_closes_silently(void **state UNUSED)
{
    http_client_close(client, 0);
    client = NULL;
    probe_settle(&p);
    assert_false(p.closed);
    assert_true(p.peer_eof);
}

/* --- responses before the request's end ---------------------------------------------------------- */

static void a_request_goes_on_behind_its_response(void **state UNUSED) /* RFC 9112 9.5 */
{
    open_request("POST", false);
    probe_send_data(&p, 'x', 3);
    probe_send(&p, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
    assert_log(&p, "head 413 ends;");
    probe_send_data(&p, 'y', 3);
    stream_send_end(p.s, NULL);
    probe_settle(&p);
    assert_received(&p, "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
                        "3\r\nxxx\r\n3\r\nyyy\r\n0\r\n\r\n");
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "capacity;idle;");
}

static void a_request_may_be_given_up_behind_its_response(void **state UNUSED)
{
    open_request("POST", false);
    probe_send_data(&p, 'x', 3);
    probe_send(&p, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed);
}

static void a_response_then_a_close_ends_the_request_without_failure(void **state UNUSED)
{
    open_request("POST", false);
    probe_send_data(&p, 'x', 3);
    probe_send(&p, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
    assert_log(&p, "head 413 ends;");
    probe_peer_close(&p);
    assert_log(&p, "reset none closed;");
    probe_send_data(&p, 'x', 3); /* into the void */
    probe_stream_close(&p, RESET_CANCEL);
    assert_true(p.closed);
}

static void a_response_is_read_although_sending_failed(void **state UNUSED)
{
    open_request("POST", false);
    assert_int_equal(send(p.peer, "HTTP/1.1 413 x\r\ncontent-length: 0\r\n\r\n", 37, 0), 37);
    probe_peer_read(&p);
    close(p.peer);
    p.peer = -1;
    probe_send_data(&p, 'x', 3); /* fails before the response was looked at */
    probe_turns(&p);
    assert_log(&p, "head 413 ends;reset none closed;");
}

static void a_failed_upload_without_response_resets(void **state UNUSED)
{
    open_request("POST", false);
    probe_peer_read(&p);
    probe_peer_close(&p);
    probe_turns(&p);
    assert_log(&p, "reset connection eof;");
}

static void a_request_cut_short_by_its_maker_is_not_ended(void **state UNUSED)
{
    struct head h = request("POST", 3);

    open_head(&h, false);
    probe_send_data(&p, 'x', 2);
    stream_send_end(p.s, NULL);
    probe_settle(&p);
    assert_log(&p, "reset connection h1_truncated;");
    assert_true(p.peer_eof);
}

/* --- upgrades ------------------------------------------------------------------------------------ */

static void take_and_check(void)
{
    struct io *io = NULL;
    struct chain out, in;
    char text[16] = "";

    assert_int_equal(stream_take(p.s, &io, &out, &in), 0);
    p.s = NULL;
    assert_int_equal(chain_size(&out), 0);
    assert_int_equal(chain_peek(&in, text, sizeof(text) - 1), 5);
    assert_string_equal(text, "early");
    chain_clear(&in);
    probe_settle(&p);
    assert_true(p.closed);
    assert_int_equal(chain_append(&out, &p.loop.chunks, BYTES("tunnel")), 0);
    assert_int_equal(io_send(io, &out), 0);
    probe_settle(&p);
    assert_received(&p, "tunnel");
    io_close(io);
}

static void an_upgrade_hands_the_connection_over(void **state UNUSED)
{
    struct head h = request("GET", -1);
    struct arena arena;

    arena_init(&arena, 10000);
    fields_init(&h.fields, &arena);
    assert_int_equal(fields_add(&h.fields, BYTES("upgrade"), BYTES("websocket")), 0);
    h.is_upgrade = true;
    open_head(&h, true);
    arena_clear(&arena);
    assert_received(
        &p, "GET /a HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
    probe_send(&p, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nearly");
    assert_log(&p, "head 101 ends;");
    take_and_check();
}

static void connect_hands_the_connection_over(void **state UNUSED)
{
    struct head h = request("CONNECT", -1);

    h.is_connect = h.is_upgrade = true;
    h.authority = BYTES("a:1");
    open_head(&h, true);
    assert_received(&p, "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    probe_send(&p, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nearly"); /* RFC 9110 9.3.6 */
    assert_log(&p, "head 200 ends;");
    take_and_check();
}

static void a_refused_upgrade_is_an_ordinary_response(void **state UNUSED)
{
    struct head h = request("GET", -1);
    struct io *io = NULL;
    struct chain out, in;

    h.is_upgrade = true;
    open_head(&h, true);
    probe_send(&p, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    assert_log(&p, "head 400 ends;");
    assert_int_equal(stream_take(p.s, &io, &out, &in), E_UNSUPPORTED);
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "capacity;idle;");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_connection_is_used_again),
        TEST(every_split_of_a_response_is_the_same_response),
        TEST(requests_are_framed),
        TEST(what_cannot_be_sent_is_not_opened),
        TEST(head_and_bodyless_responses_end_with_the_head),
        TEST(a_body_waits_for_credit),
        TEST(a_large_body_passes_in_bounded_memory),
        TEST(uploads_are_bounded_by_room),
        TEST(connection_close_is_the_end),
        TEST(a_body_may_last_until_the_close),
        TEST(a_truncated_body_is_told),
        TEST(a_truncated_chunked_body_is_told),
        TEST(truncated_trailers_are_told),
        TEST(a_close_before_the_head_can_be_told_from_others),
        TEST(a_close_within_the_head_is_truncation),
        TEST(a_close_behind_an_interim_head_is_truncation),
        TEST(malformed_responses_reset),
        TEST(interim_heads_are_limited),
        TEST(bytes_without_a_request_close),
        TEST(bytes_behind_a_response_close),
        TEST(an_abandoned_stream_ends_the_connection),
        TEST(a_request_of_http_10_is_the_only_one),
        TEST(closing_resets_the_stream_and_says_nothing_else),
        TEST(an_idle_client_closes_silently),
        TEST(a_request_goes_on_behind_its_response),
        TEST(a_request_may_be_given_up_behind_its_response),
        TEST(a_response_then_a_close_ends_the_request_without_failure),
        TEST(a_response_is_read_although_sending_failed),
        TEST(a_failed_upload_without_response_resets),
        TEST(a_request_cut_short_by_its_maker_is_not_ended),
        TEST(an_upgrade_hands_the_connection_over),
        TEST(connect_hands_the_connection_over),
        TEST(a_refused_upgrade_is_an_ordinary_response),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
