/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_TLS_H
#define NET_TLS_H

/*
 * TLS 1.3 as the mesh uses it (wire 4.4), behind io.h. Only tls*.c name the TLS library: tls.c and
 * tls_stream.c (connections), tls_creds.c (credentials, contexts), tls_cert.c (keys, CSRs, names),
 * tls_issuer.c (signing).
 *
 * The layer never lets the library touch the descriptor: it feeds it whole records and writes out whole
 * batches, so that what one turn produced is one record and one write. An idle connection holds
 * no buffers, about 20 KiB in all. io.h says how a connection ends.
 *
 * A `struct tls_creds` is a snapshot: own key and chain, and the set of trust anchors. It may be
 * used by all threads. A context is made from it, per thread and role; see tls_ctx_new().
 */
#include "core/snapshot.h"
#include "net/io.h"

#define TLS_NAME_MAX 253

struct tls_creds; /* begins with struct snapshot */

/* A new P-256 key and a CSR for `name` (CN and the one DNS SAN), both DER; caller mem_free()s. */
int tls_make_csr(struct bytes name, void **out_key_der, size_t *out_key_len, void **out_csr_der,
                 size_t *out_csr_len) MUST_USE;

/*
 * Build credentials: key (PKCS#8 DER), leaf and intermediates (DER), anchors (PEM text, one or more).
 * Verifies that the key belongs to the leaf, the chain leads to the anchors, and the leaf has `name`
 * as a SAN; E_TLS or E_TLS_IDENTITY otherwise with a sentence in `problem`.
 * Without leaf (len 0): credentials that can only verify others (client without a certificate).
 */
int tls_creds_new(struct bytes name, struct bytes key_der, const struct bytes *chain_der, size_t chain_count,
                  struct bytes anchors_pem, struct tls_creds **out, char *problem,
                  size_t problem_bytes) MUST_USE;
void tls_creds_ref(struct tls_creds *c);
void tls_creds_unref(struct tls_creds *c);
uint64_t tls_creds_not_after_ns(const struct tls_creds *c); /* wall clock */
uint64_t tls_creds_not_before_ns(const struct tls_creds *c);

struct tls_ctx; /* per thread; holds a reference to its credentials */
struct tls_ctx *tls_ctx_new(struct tls_creds *c, bool is_server);
void tls_ctx_free(struct tls_ctx *c); /* connections made from it live on */

/* Client: SNI `server_name`, the peer must present `expected_id` (any DNS or URI SAN, exact). `alpn`
 * is one protocol or empty. Takes `below`. */
struct io *io_tls_client_new(struct tls_ctx *ctx, struct io *below, struct bytes server_name,
                             struct bytes expected_id, struct bytes alpn);
/* Server: asks for a client certificate, does not require one, an invalid one fails the handshake.
 * Selects `alpn` if the client offers it; empty: never selects. Takes `below`, whose first bytes are
 * the ClientHello. */
struct io *io_tls_server_new(struct tls_ctx *ctx, struct io *below, struct bytes alpn);

/* After the handshake, until close. */
/* The first DNS, else URI SAN; false: anonymous. */
bool io_tls_peer_id(const struct io *io, struct bytes *out_id);
bool io_tls_alpn_selected(const struct io *io);
const char *io_tls_problem(const struct io *io); /* why the handshake failed, for people; never NULL */

/*
 * Does the head of a connection hold a TLS ClientHello (wire 4.5)? Pure, over a prefix of the stream.
 * 0: yes, *out_sni is the server name (empty when absent) borrowed from `head`; E_AGAIN: needs more
 * bytes; E_SYNTAX: not TLS. At most TLS_HELLO_MAX bytes are looked at; beyond that E_SYNTAX.
 */
#define TLS_HELLO_MAX 8192
int tls_parse_client_hello(struct bytes head, struct bytes *out_sni) MUST_USE;

/* --- what the identity service needs (tls_cert.c) ---------------------------------------------- */

struct tls_csr_facts {
    char common_name[TLS_NAME_MAX + 1]; /* empty when absent */
    char dns_name[TLS_NAME_MAX + 1];    /* the first DNS SAN */
    unsigned dns_names, other_sans;     /* counts */
    bool is_ecdsa;
};
int tls_csr_parse(struct bytes csr_der, struct tls_csr_facts *out) MUST_USE; /* also checks its signature */

struct tls_issuer; /* a CA key and its chain */
int tls_issuer_new(struct bytes chain_pem, struct bytes key_pem, struct tls_issuer **out) MUST_USE;
void tls_issuer_free(struct tls_issuer *i);
uint64_t tls_issuer_not_after_ns(const struct tls_issuer *i); /* earliest in the chain */
/* Sign: DER leaf to *out_leaf (mem_free), NotAfter to *out_not_after_ns. Wire 4.3. */
int tls_issuer_sign(const struct tls_issuer *i, struct bytes csr_der, uint64_t lifetime_ns, uint64_t skew_ns,
                    void **out_leaf, size_t *out_leaf_len, uint64_t *out_not_after_ns) MUST_USE;
size_t tls_issuer_chain_count(const struct tls_issuer *i);
struct bytes tls_issuer_chain_der(const struct tls_issuer *i, size_t index); /* nearest issuer first */

/* A self-signed root (P-256, CN `name`, CA), PEM texts, caller mem_free()s. */
int tls_make_root(struct bytes name, uint64_t lifetime_ns, char **out_cert_pem, char **out_key_pem) MUST_USE;

/* What carries TLS here, for people who ask; all static. */
struct tls_description {
    const char *library; /* "AWS-LC 1.70.0", "OpenSSL 3.0.15 3 Sep 2024" */
    const char *suites, *groups; /* offered and accepted, in order of preference, between colons */
    bool is_fips;
};
void tls_describe(struct tls_description *out);

#endif
