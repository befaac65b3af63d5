/* SPDX-License-Identifier: Apache-2.0 */
/* Upgrades and CONNECT: the connection is handed over. */
#include "tests/unit/http/http1_server_probe.h"

static void take(const char *unread)
{
    struct io *io = NULL;
    struct chain out, in;
    char text[64] = "";

    assert_int_equal(stream_take(p.s, &io, &out, &in), 0);
    p.s = NULL;
    assert_int_equal(chain_peek(&in, text, sizeof(text) - 1), strlen(unread));
    assert_string_equal(text, unread);
    assert_int_equal(io_send(io, &out), 0);
    chain_clear(&out);
    chain_clear(&in);
    probe_settle(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_err, 0);
    assert_int_equal(chain_append(&out, &p.loop.chunks, BYTES("tunnel")), 0);
    assert_int_equal(io_send(io, &out), 0);
    io_close(io);
}

static void an_upgrade_hands_the_connection_over(void **state UNUSED)
{
    struct head h = response(101, -1);

    probe_send(
        &p, "GET /a HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nearly");
    fields_init(&h.fields, &p.s->arena);
    assert_int_equal(fields_add(&h.fields, BYTES("upgrade"), BYTES("websocket")), 0);
    assert_int_equal(stream_send_head(p.s, &h, true), 0);
    take("early");
    probe_settle(&p);
    assert_received(&p, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
                        "connection: upgrade\r\n\r\ntunnel");
}

static void connect_hands_the_connection_over(void **state UNUSED)
{
    struct io *io = NULL;
    struct chain out, in;

    probe_send(&p, "CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\nearly");
    assert_log(&p, "head CONNECT a:1 ends;");
    assert_int_equal(stream_take(p.s, &io, &out, &in), E_UNSUPPORTED); /* not yet agreed to */
    send_head(200, -1, false);
    take("early");
    assert_answer("HTTP/1.1 200 OK\r\n\r\ntunnel", 1); /* RFC 9110 9.3.6: no length */
}

static void an_upgrade_that_is_not_taken_closes(void **state UNUSED)
{
    probe_send(&p, "CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n");
    send_head(200, -1, true);
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.peer_eof);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_upgrade_hands_the_connection_over),
        TEST(connect_hands_the_connection_over),
        TEST(an_upgrade_that_is_not_taken_closes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
