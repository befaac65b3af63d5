/* SPDX-License-Identifier: Apache-2.0 */
/* TLS handshakes as the mesh makes them (wire 4.4), and bytes through them. */
#include "loop_probe.h"
#include "tls_probe.h"

#include <openssl/ssl.h>

static struct pki pki, foreign;

static int group_setup(void **state)
{
    (void)state;
    pki_open(&pki, "root.linkerd.cluster.local");
    pki_open(&foreign, "root.somebody.else");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    pki_close(&pki);
    pki_close(&foreign);
    return 0;
}

/* A pair in which both ends belong to the same mesh. */
static void open_mesh_pair(struct tls_pair *t, const char *server_alpn, const char *client_alpn,
                           int buffers)
{
    struct tls_creds *server = pki_creds(&pki, SERVER_ID, pki.root_pem);
    struct tls_creds *client = pki_creds(&pki, CLIENT_ID, pki.root_pem);

    tls_pair_open(t, &loop, server, client, SERVER_ID, server_alpn, client_alpn, buffers);
    tls_creds_unref(server); /* the contexts hold them */
    tls_creds_unref(client);
}

static void both_learn_the_other_name(void **state)
{
    struct tls_pair t;
    struct bytes id;

    (void)state;
    open_mesh_pair(&t, "", "", 0);
    TURN_UNTIL(&loop, t.client.handshake_rc == 0 && t.server.handshake_rc == 0);
    assert_true(io_tls_peer_id(t.client.io, &id) && bytes_eq(id, BYTES(SERVER_ID)));
    assert_true(io_tls_peer_id(t.server.io, &id) && bytes_eq(id, BYTES(CLIENT_ID)));
    assert_false(io_tls_alpn_selected(t.client.io) || io_tls_alpn_selected(t.server.io));
    /* An idle connection holds no buffers. */
    TURN_UNTIL(&loop, t.client.recv_rc == E_AGAIN && t.server.recv_rc == E_AGAIN);
    assert_int_equal(loop.chunks.used_count, 0);
    tls_pair_close(&t);
}

static void connections_outlive_their_context(void **state)
{
    struct tls_pair t;

    (void)state;
    open_mesh_pair(&t, "", "", 0);
    tls_ctx_free(t.server_ctx);
    tls_ctx_free(t.client_ctx);
    t.server_ctx = t.client_ctx = NULL;
    t.client.to_send = 1000;
    t.client.shut_when_sent = true;
    TURN_UNTIL(&loop, t.server.recv_rc == E_EOF);
    assert_int_equal(t.server.got, 1000);
    tls_pair_close(&t);
}

static void wrong_server_is_refused_and_told(void **state)
{
    struct tls_creds *server = pki_creds(&pki, "impostor.ns.example", pki.root_pem);
    struct tls_creds *client = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    struct tls_pair t;

    (void)state;
    tls_pair_open(&t, &loop, server, client, SERVER_ID, "", "", 0);
    TURN_UNTIL(&loop, is_decided(t.client.handshake_rc) && is_decided(t.server.handshake_rc));
    assert_int_equal(t.client.handshake_rc, E_TLS_IDENTITY);
    assert_int_equal(err_category(t.client.handshake_rc), ERR_POLICY);
    assert_non_null(strstr(io_tls_problem(t.client.io), SERVER_ID));
    assert_non_null(strstr(io_tls_problem(t.client.io), "impostor.ns.example"));
    assert_int_equal(t.server.handshake_rc, E_TLS);
    assert_non_null(strstr(io_tls_problem(t.server.io), "alert"));
    tls_pair_close(&t);
    tls_creds_unref(server);
    tls_creds_unref(client);
}

/* Names are compared byte for byte: no wildcard, no prefix, no case folding. */
static void names_are_compared_exactly(void **state)
{
    static const char *const expected[] = {"*.ns.example", "a.ns.example.", "A.ns.example",
                                           "a.ns.exampl", "b.a.ns.example"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct tls_creds *server = pki_creds(&pki, "a.ns.example", pki.root_pem);
        struct tls_pair t;

        tls_pair_open(&t, &loop, server, server, expected[i], "", "", 0);
        TURN_UNTIL(&loop, is_decided(t.client.handshake_rc));
        assert_int_equal(t.client.handshake_rc, E_TLS_IDENTITY);
        tls_pair_close(&t);
        tls_creds_unref(server);
    }
}

static void anonymous_client_is_served(void **state)
{
    struct tls_creds *server = pki_creds(&pki, SERVER_ID, pki.root_pem);
    struct tls_creds *client = anonymous_creds(pki.root_pem);
    struct tls_pair t;
    struct bytes id;

    (void)state;
    tls_pair_open(&t, &loop, server, client, SERVER_ID, "", "", 0);
    t.client.to_send = 10;
    TURN_UNTIL(&loop, t.server.got == 10);
    assert_false(io_tls_peer_id(t.server.io, &id));
    tls_pair_close(&t);
    tls_creds_unref(server);
    tls_creds_unref(client);
}

static void client_of_another_root_is_refused(void **state)
{
    char *both = mem_printf("%s%s", pki.root_pem, foreign.root_pem);
    struct tls_creds *server = pki_creds(&pki, SERVER_ID, pki.root_pem);
    struct tls_creds *client = pki_creds(&foreign, CLIENT_ID, both);
    struct tls_pair t;

    (void)state;
    tls_pair_open(&t, &loop, server, client, SERVER_ID, "", "", 0);
    TURN_UNTIL(&loop, is_decided(t.server.handshake_rc) && is_decided(t.client.recv_rc));
    assert_int_equal(t.server.handshake_rc, E_TLS);
    assert_non_null(strstr(io_tls_problem(t.server.io), "certificate is refused"));
    /* TLS 1.3: the client was done before the server saw its certificate; it learns by the alert.
     */
    assert_int_equal(t.client.recv_rc, E_TLS);
    assert_non_null(strstr(io_tls_problem(t.client.io), "alert"));
    tls_pair_close(&t);
    tls_creds_unref(server);
    tls_creds_unref(client);
    mem_free(both);
}

static void server_of_another_root_is_refused(void **state)
{
    char *both = mem_printf("%s%s", pki.root_pem, foreign.root_pem);
    struct tls_creds *server = pki_creds(&foreign, SERVER_ID, both);
    struct tls_creds *client = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    struct tls_pair t;

    (void)state;
    tls_pair_open(&t, &loop, server, client, SERVER_ID, "", "", 0);
    TURN_UNTIL(&loop, is_decided(t.client.handshake_rc));
    assert_int_equal(t.client.handshake_rc, E_TLS);
    assert_non_null(strstr(io_tls_problem(t.client.io), "certificate is refused"));
    tls_pair_close(&t);
    tls_creds_unref(server);
    tls_creds_unref(client);
    mem_free(both);
}

/* A set of anchors: while a root is rotated both generations are trusted. */
static void two_roots_may_be_trusted_at_once(void **state)
{
    char *both = mem_printf("%s%s", pki.root_pem, foreign.root_pem);
    struct tls_creds *server = pki_creds(&foreign, SERVER_ID, both);
    struct tls_creds *client = pki_creds(&pki, CLIENT_ID, both);
    struct tls_pair t;

    (void)state;
    tls_pair_open(&t, &loop, server, client, SERVER_ID, "", "", 0);
    TURN_UNTIL(&loop, t.client.handshake_rc == 0 && t.server.handshake_rc == 0);
    tls_pair_close(&t);
    tls_creds_unref(server);
    tls_creds_unref(client);
    mem_free(both);
}

static void check_alpn(const char *server, const char *client, bool selected)
{
    struct tls_pair t;

    open_mesh_pair(&t, server, client, 0);
    TURN_UNTIL(&loop, t.client.handshake_rc == 0 && t.server.handshake_rc == 0);
    assert_int_equal(io_tls_alpn_selected(t.client.io), selected);
    assert_int_equal(io_tls_alpn_selected(t.server.io), selected);
    tls_pair_close(&t);
}

static void alpn_is_selected_only_where_both_want_it(void **state)
{
    (void)state;
    check_alpn("transport.l5d.io/v1", "transport.l5d.io/v1", true);
    check_alpn("transport.l5d.io/v1", "", false);
    check_alpn("", "transport.l5d.io/v1", false);
    check_alpn("transport.l5d.io/v1", "h2", false);
}

static void plaintext_server_is_recognised(void **state)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    struct tls_creds *creds = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    struct tls_ctx *ctx = tls_ctx_new(creds, false);
    struct end e;
    int fds[2];

    (void)state;
    tcp_pair(fds, 0);
    end_init(&e, &loop,
             io_tls_client_new(ctx, tcp_io(&loop, fds[0]), BYTES(SERVER_ID), BYTES(SERVER_ID),
                               BYTES_NONE));
    assert_int_equal(write(fds[1], answer, sizeof(answer) - 1), sizeof(answer) - 1);
    TURN_UNTIL(&loop, is_decided(e.handshake_rc));
    assert_int_equal(e.handshake_rc, E_TLS);
    assert_non_null(strstr(io_tls_problem(e.io), "does not speak TLS"));
    assert_int_equal(io_handshake(e.io), E_TLS); /* stays so */
    end_close(&e);
    close(fds[1]);
    tls_ctx_free(ctx);
    tls_creds_unref(creds);
}

static void plaintext_client_is_recognised(void **state)
{
    static const char *const requests[] = {"GET / HTTP/1.1\r\n\r\n",
                                           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                           "\x16\x05"
                                           "garbage"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct tls_creds *creds = pki_creds(&pki, SERVER_ID, pki.root_pem);
        struct tls_ctx *ctx = tls_ctx_new(creds, true);
        struct end e;
        int fds[2];

        tcp_pair(fds, 0);
        end_init(&e, &loop, io_tls_server_new(ctx, tcp_io(&loop, fds[0]), BYTES_NONE));
        assert_true(write(fds[1], requests[i], strlen(requests[i])) > 0);
        TURN_UNTIL(&loop, is_decided(e.handshake_rc));
        assert_int_equal(e.handshake_rc, E_TLS);
        assert_non_null(strstr(io_tls_problem(e.io), "does not speak TLS"));
        end_close(&e);
        close(fds[1]);
        tls_ctx_free(ctx);
        tls_creds_unref(creds);
    }
}

static void peer_that_leaves_during_the_handshake(void **state)
{
    struct tls_creds *creds = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    struct tls_ctx *ctx = tls_ctx_new(creds, false);
    struct end e;
    int fds[2];

    (void)state;
    tcp_pair(fds, 0);
    end_init(&e, &loop,
             io_tls_client_new(ctx, tcp_io(&loop, fds[0]), BYTES(SERVER_ID), BYTES(SERVER_ID),
                               BYTES_NONE));
    assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
    TURN_UNTIL(&loop, is_decided(e.handshake_rc));
    assert_int_equal(e.handshake_rc, E_TLS);
    assert_non_null(strstr(io_tls_problem(e.io), "closed the connection during the handshake"));
    end_close(&e);
    close(fds[1]);
    tls_ctx_free(ctx);
    tls_creds_unref(creds);
}

static void refused_connect_shows_through_tls(void **state)
{
    struct tls_creds *creds = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    struct tls_ctx *ctx = tls_ctx_new(creds, false);
    struct addr at = addr_v4(0x7f000001, 0);
    struct io *io = NULL;
    struct end e;
    int fd;

    (void)state;
    assert_int_equal(sock_listen(&at, false, 1, &fd), 0);
    assert_int_equal(sock_local(fd, &at), 0);
    close(fd);
    if (sock_dial(&loop, &at, NULL, NULL, &io) == 0) {
        end_init(&e, &loop,
                 io_tls_client_new(ctx, io, BYTES(SERVER_ID), BYTES(SERVER_ID), BYTES_NONE));
        TURN_UNTIL(&loop, is_decided(e.handshake_rc));
        assert_int_equal(e.handshake_rc, -ECONNREFUSED);
        assert_non_null(strstr(io_tls_problem(e.io), "cannot connect"));
        end_close(&e);
    }
    tls_ctx_free(ctx);
    tls_creds_unref(creds);
}

/* Wire 4.4: an older client is answered with the alert protocol_version (70), RFC 8446 6.2. */
static void older_version_is_refused_with_its_alert(void **state)
{
    static const unsigned char alert[] = {21, 3, 3, 0, 2, 2, 70};
    struct tls_creds *creds = pki_creds(&pki, SERVER_ID, pki.root_pem);
    struct tls_ctx *ctx = tls_ctx_new(creds, true);
    SSL_CTX *old = SSL_CTX_new(TLS_client_method());
    SSL *ssl;
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    struct end e;
    char *hello, got[64];
    long hello_len;
    int fds[2];

    (void)state;
    assert_int_equal(SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION), 1);
    ssl = SSL_new(old);
    SSL_set_bio(ssl, in, out);
    assert_int_equal(SSL_connect(ssl), -1);
    hello_len = BIO_get_mem_data(out, &hello);
    assert_true(hello_len > 0);
    tcp_pair(fds, 0);
    end_init(&e, &loop, io_tls_server_new(ctx, tcp_io(&loop, fds[0]), BYTES_NONE));
    assert_int_equal(write(fds[1], hello, (size_t)hello_len), hello_len);
    TURN_UNTIL(&loop, is_decided(e.handshake_rc));
    assert_int_equal(e.handshake_rc, E_TLS);
    end_close(&e);
    assert_int_equal(recv(fds[1], got, sizeof(got), 0), sizeof(alert));
    got[2] = alert[2]; /* the record's version says nothing, RFC 8446 5.1 */
    assert_memory_equal(got, alert, sizeof(alert));
    assert_int_equal(recv(fds[1], got, sizeof(got), 0), 0); /* an orderly end, not a reset */
    close(fds[1]);
    SSL_free(ssl);
    SSL_CTX_free(old);
    tls_ctx_free(ctx);
    tls_creds_unref(creds);
}

/* The ClientHello was already read to find out that it is one. */
static void hello_that_was_peeked_is_used(void **state)
{
    struct tls_creds *creds = pki_creds(&pki, SERVER_ID, pki.root_pem);
    struct tls_ctx *server_ctx = tls_ctx_new(creds, true), *client_ctx = tls_ctx_new(creds, false);
    struct end client, server;
    struct io *below;
    struct chain head;
    struct bytes sni;
    int fds[2], rc;
    size_t n;

    (void)state;
    tcp_pair(fds, 0);
    chain_init(&head);
    below = tcp_io(&loop, fds[1]);
    end_init(&client, &loop,
             io_tls_client_new(client_ctx, tcp_io(&loop, fds[0]), BYTES("sni.example"),
                               BYTES(SERVER_ID), BYTES_NONE));
    do {
        (void)loop_turn(&loop, 1000);
        rc = io_recv(below, &head, 512, &n);
        assert_true(rc == 0 || rc == E_AGAIN);
        rc = tls_parse_client_hello(chain_head(&head), &sni);
    } while (rc == E_AGAIN);
    assert_int_equal(rc, 0);
    assert_true(bytes_eq(sni, BYTES("sni.example")));
    end_init(&server, &loop,
             io_tls_server_new(server_ctx, io_peeked_new(below, &head), BYTES_NONE));
    TURN_UNTIL(&loop, client.handshake_rc == 0 && server.handshake_rc == 0);
    end_close(&client);
    end_close(&server);
    tls_ctx_free(client_ctx);
    tls_ctx_free(server_ctx);
    tls_creds_unref(creds);
}

static void many_bytes_both_ways_through_tiny_buffers(void **state)
{
    struct tls_pair t;

    (void)state;
    open_mesh_pair(&t, "", "", 4096);
    t.client.to_send = t.server.to_send = 8 << 20;
    t.client.shut_when_sent = t.server.shut_when_sent = true;
    TURN_UNTIL(&loop, t.client.recv_rc == E_EOF && t.server.recv_rc == E_EOF);
    assert_int_equal(t.client.got, 8 << 20);
    assert_int_equal(t.server.got, 8 << 20);
    assert_int_equal(t.client.io->bytes_in, 8 << 20);
    assert_int_equal(t.client.io->bytes_out, 8 << 20);
    TURN_UNTIL(&loop, t.client.shut_rc == 0 && t.server.shut_rc == 0);
    assert_int_equal(loop.chunks.used_count, 0);
    tls_pair_close(&t);
}

/* A reader may take bytes in any portions, smaller than a record too. */
static void odd_portions(void **state)
{
    struct tls_pair t;

    (void)state;
    open_mesh_pair(&t, "", "", 0);
    t.client.to_send = 300000;
    t.client.shut_when_sent = true;
    t.server.read_max = 1009;
    TURN_UNTIL(&loop, t.server.recv_rc == E_EOF);
    assert_int_equal(t.server.got, 300000);
    tls_pair_close(&t);
}

/* Design 4, rule 1: what one turn produced leaves as one record (5 + 1 + 16 bytes more) and one
 * write. */
static void small_pieces_leave_as_one_record(void **state)
{
    struct tls_pair t;
    struct chain c, more;
    uint64_t before;

    (void)state;
    open_mesh_pair(&t, "", "", 0);
    TURN_UNTIL(&loop, t.client.handshake_rc == 0 && t.server.handshake_rc == 0);
    before = t.client.io->below->bytes_out;
    chain_init(&c);
    for (int i = 0; i < 5; i++) {
        char piece[100];

        for (int k = 0; k < 100; k++) {
            piece[k] = (char)pattern_at((uint64_t)(i * 100 + k));
        }
        chain_init(&more);
        assert_int_equal(chain_append(&more, &loop.chunks, bytes_of(piece, 100)), 0);
        chain_move_all(&c, &more); /* each in a chunk of its own */
    }
    assert_int_equal(io_send(t.client.io, &c), 0);
    assert_int_equal(t.client.io->below->bytes_out - before, 500 + 22);
    TURN_UNTIL(&loop, t.server.got == 500);
    tls_pair_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_learn_the_other_name, setup, teardown),
        cmocka_unit_test_setup_teardown(connections_outlive_their_context, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_server_is_refused_and_told, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_compared_exactly, setup, teardown),
        cmocka_unit_test_setup_teardown(anonymous_client_is_served, setup, teardown),
        cmocka_unit_test_setup_teardown(client_of_another_root_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(server_of_another_root_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(two_roots_may_be_trusted_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(alpn_is_selected_only_where_both_want_it, setup, teardown),
        cmocka_unit_test_setup_teardown(plaintext_server_is_recognised, setup, teardown),
        cmocka_unit_test_setup_teardown(plaintext_client_is_recognised, setup, teardown),
        cmocka_unit_test_setup_teardown(peer_that_leaves_during_the_handshake, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_connect_shows_through_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(older_version_is_refused_with_its_alert, setup, teardown),
        cmocka_unit_test_setup_teardown(hello_that_was_peeked_is_used, setup, teardown),
        cmocka_unit_test_setup_teardown(many_bytes_both_ways_through_tiny_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_portions, setup, teardown),
        cmocka_unit_test_setup_teardown(small_pieces_leave_as_one_record, setup, teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
