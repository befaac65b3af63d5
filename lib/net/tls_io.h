/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_TLS_IO_H
#define NET_TLS_IO_H

/*
 * One TLS connection, shared by tls.c (its making, handshake and end) and tls_stream.c (bytes).
 */
#include "net/tls_private.h"

#define TLS_IO_MAGIC    0x746c7369U
#define TLS_ALPN_MAX    31
/* Ciphertext that io_send() may leave behind and return 0, while chunks are plenty; else 64 KiB. What a codec
 * gives at once (four high marks and the heads of its frames) fits with the records' overhead, so that it
 * leaves in one write. */
#define TLS_PENDING_MAX (264 * 1024)

struct tls_io {
    struct io io;
    unsigned magic;      /* checked when the library hands us back as a void pointer */
    SSL *ssl;            /* NULL once closed */
    struct chain in;     /* ciphertext that was read and not yet decrypted */
    struct chain out;    /* ciphertext that the layer below has not taken yet */
    size_t record_bytes; /* of the record at the head of `in`, what the library may still have */
    struct task task;    /* owns the layers below while `out` waits; see tls_flush() */
    struct timer timer;  /* out of chunks: try again; after close: give up */
    struct grave grave;
    struct list lingering; /* linked after close while `out` waits */
    size_t linger_bytes;   /* that the peer had not taken when that was looked at */
    uint64_t linger_until_ns;
    int err_in, err_out;   /* final result of a direction, 0 while it is well */
    bool open;             /* the handshake is done */
    bool hooked;           /* events go to `task` and from there to the owner */
    bool shut_sent;        /* close_notify is in `out` or beyond */
    bool shut_done;        /* ... and the FIN is below */
    bool no_chunk;         /* a write of the library found no memory */
    bool is_server, wrong_id, alpn_selected;
    unsigned char alpn_len;
    unsigned char alpn[TLS_ALPN_MAX + 1]; /* as on the wire: length, name */
    char *expected_id;                    /* client: whom we must meet */
    char *peer_id;                        /* NULL: anonymous */
    char *problem;                        /* NULL: none */
};

/* --- tls_stream.c -------------------------------------------------------------------------------
 */

/* The library's end of the connection: a BIO over `in` and `out`. */
BIO *tls_bio_new(struct tls_io *t);

/* Read ciphertext from below: at most `bytes_wanted`, or a chunk's bytes when less is wanted, or 64 KiB while
 * chunks are not plenty. 0: some came; E_AGAIN, E_LIMIT; E_EOF: a clean end; E_TLS: one inside a record. */
int tls_fetch(struct tls_io *t, size_t bytes_wanted);

/*
 * Write `out` below. 0: all went; E_AGAIN: some is left, and the layer has put its own task between
 * the descriptor and the owner until it is gone, so that it goes even if the owner does nothing
 * more.
 */
int tls_flush(struct tls_io *t);

int tls_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes);
int tls_send(struct io *io, struct chain *from);

/* --- tls.c
 * ---------------------------------------------------------------------------------------- */

void tls_wake_owner(struct tls_io *t);

/* Say once, in words, why the connection failed. Takes the text. */
void tls_set_problem(struct tls_io *t, char *text);
/* What the library reports after a failed call, into words; returns the code. */
int tls_fail(struct tls_io *t, const char *doing);

#endif
