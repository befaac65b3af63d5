/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes through a TLS connection: chains of ciphertext on one side of the library, chains of
 * plaintext on the other.
 *
 * The library sees only whole records. So it never keeps half of one in a buffer of its own, which
 * it gives back after each record, and an end of the stream between two records can be told
 * from one inside a record.
 */
#include "net/tls_io.h"

#include <threads.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "net/io_private.h"

#define RECORD_HEADER_BYTES 5
#define RECORD_BODY_MAX     (16384 + 256) /* RFC 8446 5.2 */
#define RECORD_PLAIN_MAX    16384
#define RECORD_EXTRA        (RECORD_HEADER_BYTES + 1 + 16) /* of TLS 1.3 with AEAD tags of 16 bytes */
#define FETCH_BYTES_MAX     (256 * 1024)
#define TIGHT_BYTES_MAX     ((size_t)64 * 1024)
#define FETCHES_PER_CALL    16
#define CONTROL_PENDING_MAX (TLS_PENDING_MAX + 64 * 1024) /* our own data cannot fill it */
#define CHUNKS_PER_RECORD   3 /* a gathered record, and its ciphertext over a boundary */
#define RETRY_NS            (2 * NS_PER_MS)

/* --- the library's side ------------------------------------------------------------------------
 */

static struct tls_io *tls_of_bio(BIO *bio)
{
    struct tls_io *t = BIO_get_data(bio);

    assert(t->magic == TLS_IO_MAGIC);
    return t;
}

/*
 * How much of the record at the head of `in` may be handed out: all of it or, while it is
 * incomplete, nothing. What does not look like a record is handed out at once, to be refused.
 */
static size_t visible_record(const struct chain *in)
{
    unsigned char h[RECORD_HEADER_BYTES];
    size_t have = chain_peek(in, h, sizeof(h)), body;

    if (have >= 1 && (h[0] < 20 || h[0] > 24)) {
        return chain_size(in);
    }
    if (have < sizeof(h)) {
        return 0;
    }
    body = (size_t)h[3] << 8 | h[4];
    if (h[1] != 3 || body > RECORD_BODY_MAX) {
        return chain_size(in);
    }
    return chain_size(in) >= sizeof(h) + body ? sizeof(h) + body : 0;
}

static bool has_record(struct tls_io *t)
{
    if (t->record_bytes == 0) {
        t->record_bytes = visible_record(&t->in);
    }
    return t->record_bytes > 0;
}

static int bio_read(BIO *bio, char *to, int bytes)
{
    struct tls_io *t = tls_of_bio(bio);
    size_t n;

    BIO_clear_retry_flags(bio);
    if (bytes <= 0 || !has_record(t)) {
        BIO_set_retry_read(bio);
        return -1;
    }
    n = chain_peek(&t->in, to, MIN((size_t)bytes, t->record_bytes));
    chain_drop(&t->in, n);
    t->record_bytes -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *from, int bytes)
{
    struct tls_io *t = tls_of_bio(bio);

    BIO_clear_retry_flags(bio);
    if (bytes <= 0 ||
        chain_append(&t->out, &t->io.loop->chunks, bytes_of(from, (size_t)bytes)) != 0) {
        t->no_chunk = true;
        return -1;
    }
    return bytes;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0; /* tls_flush() does it, once for all records */
}

static BIO_METHOD *bio_method; /* written once, by make_bio_method() */

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tulle chain");
    assert(bio_method != NULL);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

BIO *tls_bio_new(struct tls_io *t)
{
    static once_flag once = ONCE_FLAG_INIT;
    BIO *bio;

    call_once(&once, make_bio_method);
    bio = BIO_new(bio_method);
    assert(bio != NULL);
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    return bio;
}

/* `most` bytes where memory is plenty, else what is needed for a few records. */
static size_t tls_bytes_max(const struct tls_io *t, size_t most)
{
    return chunk_pool_is_ample(&t->io.loop->chunks) ? most : TIGHT_BYTES_MAX;
}

/* --- to and from the layer below ----------------------------------------------------------------
 */

static void set_hook(struct tls_io *t, bool on)
{
    if (t->hooked != on) {
        t->hooked = on;
        io_set_owner(t->io.below, on ? &t->task : t->io.owner);
    }
}

int tls_flush(struct tls_io *t)
{
    int rc;

    if (t->err_out != 0) {
        return t->err_out;
    }
    if (chain_size(&t->out) == 0) {
        set_hook(t, false);
        return 0;
    }
    rc = io_send(t->io.below, &t->out);
    set_hook(t, rc == E_AGAIN);
    if (rc != 0 && rc != E_AGAIN) {
        t->err_out = rc;
        chain_clear(&t->out);
    }
    return rc;
}

int tls_fetch(struct tls_io *t, size_t bytes_wanted)
{
    size_t n;
    int rc;

    /* Data of ours cannot fill this: only answers to a peer that asks for key updates and does not
     * read. It gets no more of our memory. */
    if (chain_size(&t->out) > CONTROL_PENDING_MAX) {
        tls_set_problem(t, mem_strdup("the peer sends requests and does not read the answers"));
        return E_TLS;
    }
    bytes_wanted = MIN(MAX(bytes_wanted, (size_t)CHUNK_BYTES), tls_bytes_max(t, FETCH_BYTES_MAX));
    rc = io_recv(t->io.below, &t->in, bytes_wanted, &n);
    if (rc == E_EOF && chain_size(&t->in) > 0) {
        tls_set_problem(t, mem_strdup("the connection ended inside a TLS record"));
        return E_TLS;
    }
    return rc;
}

/* --- plaintext
 * ------------------------------------------------------------------------------------ */

/* Of the record at the head of `in`: does it need more than `bytes` of room? */
static bool is_longer(struct tls_io *t, size_t bytes)
{
    return SSL_pending(t->ssl) == 0 && has_record(t) && bytes + RECORD_EXTRA < t->record_bytes;
}

/*
 * One call into the library, into the free end of `to` or a new chunk. A record that does not fit is not cut
 * while chunks can be had: what a peer sent as one frame shall lie in one piece. So two chunks hold more than
 * one chunk's bytes.
 */
static int decrypt_some(struct tls_io *t, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    struct chunk *last = chain_last(to), *c = last;
    size_t room = chunk_room(last), n = 0;
    int ok, why;

    if (SSL_pending(t->ssl) == 0 && !has_record(t)) {
        return E_AGAIN;
    }
    if (room == 0 || is_longer(t, room)) {
        c = chunk_new(&t->io.loop->chunks);
        if (c == NULL && room == 0) {
            return E_LIMIT;
        }
        c = c != NULL ? c : last;
    }
    tls_forget_errors();
    ok = SSL_read_ex(t->ssl, c->data + c->end, MIN(chunk_room(c), bytes_max), &n);
    why = ok == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, ok);
    if (ok == 1 && c == last) {
        chain_grew(to, c, n);
    } else if (ok == 1) {
        c->end += (unsigned)n;
        chain_push(to, c);
    } else if (c != last) {
        chunk_free(c);
    }
    if (ok == 1) {
        *out_bytes = n;
        return 0;
    }
    if (why == SSL_ERROR_WANT_READ) {
        return E_AGAIN; /* the records held nothing for us, or none is complete */
    }
    return why == SSL_ERROR_ZERO_RETURN ? E_EOF : tls_fail(t, "receiving");
}

int tls_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    struct tls_io *t = CONTAINER_OF(io, struct tls_io, io);
    size_t total = 0, n = 0;
    unsigned fetches = 0;
    int rc = t->err_in;

    assert(bytes_max > 0 && (t->open || rc != 0));
    bytes_max = MIN(bytes_max, tls_bytes_max(t, bytes_max));
    while (rc == 0 && total < bytes_max && (total == 0 || !is_longer(t, bytes_max - total))) {
        rc = decrypt_some(t, to, bytes_max - total, &n);
        if (rc == 0) {
            total += n;
        } else if (rc == E_AGAIN && fetches++ < FETCHES_PER_CALL) {
            rc = tls_fetch(t, bytes_max - total);
        } else if (rc == E_AGAIN) {
            /* The peer keeps us busy with records that hold nothing: others come first. */
            tls_wake_owner(t);
        }
    }
    if (t->open) {
        (void)tls_flush(t); /* answers of the library; a failure is told by the next send */
    }
    if (rc != 0 && rc != E_AGAIN && rc != E_LIMIT) {
        t->err_in = rc;
    }
    if (total == 0) {
        io->readable = false;
        return rc;
    }
    io->bytes_in += total;
    io->readable = rc != E_AGAIN;
    *out_bytes = total;
    return 0;
}

/*
 * Encrypt one record from the head of `from`. Small pieces are gathered first: one record costs less than
 * two and a copy. A piece that does not fit whole is left to the next record, uncopied.
 */
static int encrypt_one(struct tls_io *t, struct chain *from)
{
    size_t whole = chain_whole(from, RECORD_PLAIN_MAX), n = 0;
    struct bytes head = chain_head(from);
    struct chunk *scratch = NULL;
    int ok;

    head.len = MIN(head.len, (size_t)RECORD_PLAIN_MAX);
    if (head.len < RECORD_PLAIN_MAX / 2 && whole > head.len) {
        scratch = chunk_new(&t->io.loop->chunks);
        assert(scratch != NULL); /* has_chunks() */
        head = bytes_of(scratch->data, chain_peek(from, scratch->data, whole));
    }
    tls_forget_errors();
    ok = SSL_write_ex(t->ssl, head.at, head.len, &n);
    if (scratch != NULL) {
        chunk_free(scratch);
    }
    if (ok != 1) {
        t->err_out = tls_fail(t, "sending");
        return t->err_out;
    }
    assert(n == head.len); /* the BIO takes all or fails */
    chain_drop(from, n);
    return 0;
}

static bool has_chunks(const struct tls_io *t)
{
    const struct chunk_pool *p = &t->io.loop->chunks;

    return p->used_count + CHUNKS_PER_RECORD <= p->used_max;
}

/* Make room in `out` for another record. E_AGAIN: not now, and the owner will be woken. */
static int make_room(struct tls_io *t)
{
    int rc = tls_flush(t);

    if (rc != 0 && rc != E_AGAIN) {
        return rc;
    }
    if (chain_size(&t->out) > tls_bytes_max(t, TLS_PENDING_MAX)) {
        return E_AGAIN;
    }
    if (!has_chunks(t)) {
        /* No event of this connection tells when others give chunks back. */
        timer_arm_in(t->io.loop, &t->timer, RETRY_NS);
        return E_AGAIN;
    }
    return 0;
}

int tls_send(struct io *io, struct chain *from)
{
    struct tls_io *t = CONTAINER_OF(io, struct tls_io, io);
    size_t before = chain_size(from);
    int rc = t->err_out;

    assert(t->open || t->err_in != 0 || rc != 0);
    assert(!t->shut_sent || before == 0);
    if (rc == 0 && !t->open) {
        rc = t->err_in; /* the handshake failed */
    }
    while (rc == 0 && chain_size(from) > 0) {
        if (chain_size(&t->out) > tls_bytes_max(t, TLS_PENDING_MAX) || !has_chunks(t)) {
            rc = make_room(t);
        }
        if (rc == 0) {
            rc = encrypt_one(t, from);
        }
    }
    io->bytes_out += before - chain_size(from);
    if (rc == 0) {
        rc = tls_flush(t);
        return rc == E_AGAIN ? 0 : rc;
    }
    return rc;
}
