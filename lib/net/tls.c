/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a TLS connection: made, handshake, end.
 *
 * The library is called only from here and tls_stream.c, and its callbacks only record.
 */
#include "net/tls_io.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "net/io_private.h"

#define LINGER_NS         (5 * NS_PER_S) /* without a peer that reads */
#define LINGER_BYTES_MIN  4096           /* that it takes meanwhile, if it does */
#define LINGER_MAX_NS     (60 * NS_PER_S)
#define HANDSHAKE_FETCHES 16

/* Closed connections of this thread whose last bytes still wait for the network. */
static _Thread_local struct list lingering;

static const struct io_ops tls_ops;

static struct tls_io *tls_of(struct io *io)
{
    struct tls_io *t = CONTAINER_OF(io, struct tls_io, io);

    assert(io->ops == &tls_ops && t->magic == TLS_IO_MAGIC);
    return t;
}

static const struct tls_io *tls_of_const(const struct io *io)
{
    const struct tls_io *t = CONTAINER_OF_CONST(io, struct tls_io, io);

    assert(io->ops == &tls_ops && t->magic == TLS_IO_MAGIC);
    return t;
}

void tls_wake_owner(struct tls_io *t)
{
    if (t->io.owner != NULL) {
        task_wake(t->io.loop, t->io.owner);
    }
}

void tls_set_problem(struct tls_io *t, char *text)
{
    if (t->problem == NULL) {
        t->problem = text;
    } else {
        mem_free(text); /* what follows from the first failure says less */
    }
}

/* --- what the library tells us -------------------------------------------------------------------
 */

static char *wrong_id_text(const char *expected, const X509 *cert)
{
    char *found = tls_cert_first_name(cert);
    char *text = mem_printf("the peer does not present the identity %s; it presents %s", expected,
                            found != NULL ? found : "none");

    mem_free(found);
    return text;
}

/* Called for each certificate of the peer's chain, the leaf last. Refusing here, rather than after
 * the handshake, tells the peer with an alert and before it takes us for content. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_io *t = SSL_get_app_data(ssl);
    const X509 *cert = X509_STORE_CTX_get_current_cert(store);

    assert(t->magic == TLS_IO_MAGIC);
    if (ok == 0 || X509_STORE_CTX_get_error_depth(store) != 0 || t->expected_id == NULL) {
        return ok;
    }
    if (tls_cert_has_name(cert, bytes_str(t->expected_id))) {
        return 1;
    }
    t->wrong_id = true;
    tls_set_problem(t, wrong_id_text(t->expected_id, cert));
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* Wire 4.4: select what this port expects when it is offered, else go on without. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *user)
{
    struct tls_io *t = SSL_get_app_data(ssl);

    (void)user;
    assert(t->magic == TLS_IO_MAGIC);
    for (unsigned at = 0; t->alpn_len > 0 && at < in_len; at += 1U + in[at]) {
        if (in[at] < in_len - at && in[at] == t->alpn_len &&
            memcmp(in + at + 1, t->alpn + 1, t->alpn_len) == 0) {
            *out = t->alpn + 1;
            *out_len = t->alpn_len;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static bool is_not_tls(int reason)
{
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
           reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG ||
           reason == SSL_R_BAD_RECORD_TYPE || reason == SSL_R_ENCRYPTED_LENGTH_TOO_LONG;
}

int tls_fail(struct tls_io *t, const char *doing)
{
    typeof(ERR_peek_error()) code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    char text[160];

    if (t->no_chunk) {
        tls_set_problem(t, mem_printf("%s: out of buffers", doing));
        ERR_clear_error();
        return E_OVERLOAD;
    }
    if (t->wrong_id) {
        ERR_clear_error();
        return E_TLS_IDENTITY;
    }
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        snprintf(text, sizeof(text), "%s",
                 X509_verify_cert_error_string(SSL_get_verify_result(t->ssl)));
        tls_set_problem(t, mem_printf("the peer's certificate is refused: %s", text));
    } else if (!t->open && is_not_tls(reason)) {
        tls_set_problem(t, mem_printf("the peer does not speak TLS (%s)", tls_library_error(text)));
    } else if (reason >= SSL_AD_REASON_OFFSET && ERR_GET_LIB(code) == ERR_LIB_SSL) {
        tls_set_problem(t, mem_printf("%s: the peer sent an alert: %s", doing,
                                      SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET)));
    } else {
        tls_set_problem(t, mem_printf("%s: %s", doing, tls_library_error(text)));
    }
    ERR_clear_error();
    return E_TLS;
}

/* --- handshake
 * ------------------------------------------------------------------------------------ */

static void handshake_done(struct tls_io *t)
{
    const unsigned char *name;
    unsigned len = 0;
    X509 *cert = SSL_get_peer_certificate(t->ssl);

    t->open = true;
    SSL_get0_alpn_selected(t->ssl, &name, &len);
    t->alpn_selected = len > 0;
    if (cert != NULL) {
        t->peer_id = tls_cert_first_name(cert);
    }
    X509_free(cert);
}

/* An end or an error from below before the handshake was over, into words. */
static int handshake_cut(struct tls_io *t, int rc)
{
    if (rc == E_EOF) {
        tls_set_problem(t, mem_strdup("the peer closed the connection during the handshake"));
        return E_TLS;
    }
    tls_set_problem(t, mem_printf("during the handshake: %s", err_text(rc)));
    return rc;
}

/* One call of the library and what it says. 0: done. */
static int handshake_step(struct tls_io *t)
{
    int ok, why;

    tls_forget_errors();
    ok = SSL_do_handshake(t->ssl);
    why = ok == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, ok);
    if (ok == 1) {
        handshake_done(t);
        return 0;
    }
    return why == SSL_ERROR_WANT_READ ? E_AGAIN : tls_fail(t, "during the handshake");
}

static int handshake_run(struct tls_io *t)
{
    for (int i = 0; i < HANDSHAKE_FETCHES; i++) {
        int rc = handshake_step(t), sent = tls_flush(t);

        if (rc != E_AGAIN) {
            return rc; /* done, or failed and the alert is on its way */
        }
        if (sent != 0 && sent != E_AGAIN) {
            return handshake_cut(t, sent);
        }
        rc = tls_fetch(t, 0);
        if (rc == E_AGAIN || rc == E_LIMIT) {
            return rc;
        }
        if (rc != 0) {
            return handshake_cut(t, rc);
        }
    }
    tls_wake_owner(t); /* bytes that lead nowhere: others come first */
    return E_AGAIN;
}

static int tls_handshake(struct io *io)
{
    struct tls_io *t = tls_of(io);
    int rc;

    if (t->open || t->err_in != 0) {
        return t->open ? 0 : t->err_in;
    }
    rc = io_handshake(io->below);
    if (rc == E_AGAIN) {
        return rc;
    }
    if (rc != 0) {
        tls_set_problem(t, mem_printf("cannot connect: %s", err_text(rc)));
    } else {
        rc = handshake_run(t);
    }
    if (rc == E_LIMIT) {
        timer_arm_in(io->loop, &t->timer, 2 * NS_PER_MS); /* no chunk: ask again by ourselves */
        return E_AGAIN;
    }
    if (rc != 0 && rc != E_AGAIN) {
        t->err_in = rc;
        if (chain_size(&t->out) == 0) {
            (void)io_shut(io->below); /* the peer reads our alert, then an orderly end */
        }
    }
    return rc;
}

/* --- the end
 * ------------------------------------------------------------------------------------------ */

static int tls_shut(struct io *io)
{
    struct tls_io *t = tls_of(io);
    int rc;

    if (t->err_out != 0 || t->shut_done) {
        return t->err_out;
    }
    if (t->open && !t->shut_sent) {
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl); /* appends close_notify to `out`, behind all that waits there */
        ERR_clear_error();
    }
    t->shut_sent = true;
    rc = tls_flush(t);
    if (rc == 0) {
        rc = io_shut(io->below);
        t->shut_done = rc == 0;
        t->err_out = rc;
    }
    return rc;
}

static void tls_bury(struct grave *grave)
{
    struct tls_io *t = CONTAINER_OF(grave, struct tls_io, grave);

    mem_free(t->expected_id);
    mem_free(t->peer_id);
    mem_free(t->problem);
    mem_free(t);
}

static void tls_destroy(struct tls_io *t)
{
    list_unlink(&t->lingering);
    task_cancel(&t->task);
    timer_cancel(t->io.loop, &t->timer);
    chain_clear(&t->in);
    chain_clear(&t->out);
    SSL_free(t->ssl);
    t->ssl = NULL;
    io_close(t->io.below);
    t->io.below = NULL;
    loop_free_later(t->io.loop, &t->grave, tls_bury);
}

/* What the peer has not taken yet, here and with the kernel, which tells only in large steps of room. */
static size_t untaken_bytes(const struct tls_io *t)
{
    return chain_size(&t->out) + io_untaken(t->io.below);
}

static void tls_close(struct io *io)
{
    struct tls_io *t = tls_of(io);

    /* What was left of `out` may have gone with a read, and only the FIN be missing. */
    if (!t->shut_sent || t->shut_done || t->err_out != 0 || io->aborting ||
        tls_shut(io) != E_AGAIN) {
        tls_destroy(t);
        return;
    }
    /* Only the rest of `out` and the FIN are left to do; tls_task() does it. */
    assert(t->hooked);
    io->owner = NULL;
    chain_clear(&t->in);
    SSL_free(t->ssl);
    t->ssl = NULL;
    if (lingering.next == NULL) {
        list_init(&lingering);
    }
    list_append(&lingering, &t->lingering);
    t->linger_bytes = untaken_bytes(t);
    t->linger_until_ns = io->loop->now_ns + LINGER_MAX_NS;
    timer_arm_in(io->loop, &t->timer, LINGER_NS);
}

void io_close_lingering(struct loop *l)
{
    LIST_FOREACH(node, &lingering)
    {
        struct tls_io *t = LIST_ITEM(node, struct tls_io, lingering);

        if (t->io.loop == l) {
            tls_destroy(t);
        }
    }
}

/* An event of the descriptor while `out` waits. */
static void tls_task(struct task *task)
{
    struct tls_io *t = CONTAINER_OF(task, struct tls_io, task);
    int rc = t->shut_sent ? tls_shut(&t->io) : tls_flush(t);

    if (list_is_linked(&t->lingering) && rc != E_AGAIN) {
        tls_destroy(t);
        return;
    }
    tls_wake_owner(t); /* the event may have been for reading, too */
}

/* A peer that is slow gets it all, while memory is plenty; one that does not read is not waited for. */
static void linger_on(struct tls_io *t)
{
    struct loop *l = t->io.loop;
    size_t left = untaken_bytes(t);

    if (left + LINGER_BYTES_MIN <= t->linger_bytes && l->now_ns < t->linger_until_ns &&
        chunk_pool_is_ample(&l->chunks)) {
        t->linger_bytes = left;
        timer_arm_in(l, &t->timer, LINGER_NS);
    } else {
        tls_destroy(t);
    }
}

static void tls_timer(struct timer *timer)
{
    struct tls_io *t = CONTAINER_OF(timer, struct tls_io, timer);

    if (list_is_linked(&t->lingering)) {
        linger_on(t);
    } else {
        tls_wake_owner(t);
    }
}

static int tls_fd(const struct io *io)
{
    return io_fd(io->below);
}

static void tls_set_owner(struct io *io, struct task *owner)
{
    struct tls_io *t = tls_of(io);

    io->owner = owner;
    if (!t->hooked) {
        io_set_owner(io->below, owner);
    }
}

static const struct io_ops tls_ops = {
    .name = "tls",
    .handshake = tls_handshake,
    .recv = tls_recv,
    .send = tls_send,
    .shut = tls_shut,
    .close = tls_close,
    .fd = tls_fd,
    .set_owner = tls_set_owner,
    .has_end = true,
};

/* --- making
 * ---------------------------------------------------------------------------------------------- */

static struct tls_io *tls_new(struct tls_ctx *ctx, struct io *below, struct bytes alpn)
{
    struct tls_io *t = mem_new(sizeof(*t));
    BIO *bio;

    assert(alpn.len <= TLS_ALPN_MAX);
    t->io =
        (struct io){.ops = &tls_ops, .below = below, .loop = below->loop, .owner = below->owner};
    t->magic = TLS_IO_MAGIC;
    t->task.run = tls_task;
    t->timer.run = tls_timer;
    t->is_server = ctx->is_server;
    chain_init(&t->in);
    chain_init(&t->out);
    t->alpn_len = (unsigned char)alpn.len;
    t->alpn[0] = t->alpn_len;
    if (alpn.len > 0) {
        memcpy(t->alpn + 1, alpn.at, alpn.len);
    }
    t->ssl = SSL_new(ctx->ssl);
    assert(t->ssl != NULL);
    SSL_set_app_data(t->ssl, t);
    /* The server asks for a certificate and goes on without one; a bad one fails. */
    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, on_verify);
    bio = tls_bio_new(t);
    SSL_set_bio(t->ssl, bio, bio);
    return t;
}

struct io *io_tls_client_new(struct tls_ctx *ctx, struct io *below, struct bytes server_name,
                             struct bytes expected_id, struct bytes alpn)
{
    struct tls_io *t = tls_new(ctx, below, alpn);
    char sni[TLS_NAME_MAX + 1];

    assert(!ctx->is_server && expected_id.len > 0);
    t->expected_id = bytes_dup(expected_id);
    SSL_set_connect_state(t->ssl);
    if (server_name.len > 0 && server_name.len <= TLS_NAME_MAX) {
        memcpy(sni, server_name.at, server_name.len);
        sni[server_name.len] = '\0';
        (void)SSL_set_tlsext_host_name(t->ssl, sni); /* fails only for what is longer than a name */
    }
    if (alpn.len > 0) {
        int failed = SSL_set_alpn_protos(t->ssl, t->alpn, t->alpn_len + 1U);

        assert(failed == 0);
    }
    return &t->io;
}

struct io *io_tls_server_new(struct tls_ctx *ctx, struct io *below, struct bytes alpn)
{
    struct tls_io *t = tls_new(ctx, below, alpn);

    assert(ctx->is_server);
    SSL_CTX_set_alpn_select_cb(ctx->ssl, on_alpn, NULL);
    SSL_set_accept_state(t->ssl);
    return &t->io;
}

bool io_tls_peer_id(const struct io *io, struct bytes *out_id)
{
    const struct tls_io *t = tls_of_const(io);

    if (t->peer_id == NULL) {
        return false;
    }
    *out_id = bytes_str(t->peer_id);
    return true;
}

bool io_tls_alpn_selected(const struct io *io)
{
    return tls_of_const(io)->alpn_selected;
}

const char *io_tls_problem(const struct io *io)
{
    const struct tls_io *t = tls_of_const(io);

    return t->problem != NULL ? t->problem : "no failure";
}
