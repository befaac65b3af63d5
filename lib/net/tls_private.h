/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_TLS_PRIVATE_H
#define NET_TLS_PRIVATE_H

/*
 * What the TLS files of this folder share.
 */
#include "net/tls.h"
#include "net/tls_library.h"

struct tls_creds {
    struct snapshot snapshot; /* first */
    EVP_PKEY *key;            /* NULL: can only verify others */
    X509 *leaf;
    STACK_OF(X509) * chain; /* intermediates, nearest the leaf first */
    STACK_OF(X509) * anchors;
    uint64_t not_before_ns, not_after_ns;
};

struct tls_ctx {
    SSL_CTX *ssl;
    struct tls_creds *creds;
    bool is_server;
};

#define TLS_CHAIN_MAX     8 /* certificates between leaf and anchor, ours and the peer's */
#define TLS_ANCHORS_MAX   256
#define TLS_CERT_BYTES    16384
#define TLS_PEER_ID_BYTES 2048 /* a SPIFFE ID is at most that long */

/* Set the library up once per process, without reading the machine's openssl.cnf. */
void tls_library_init(void);

/* The oldest queued error of the library as text, and an empty queue. Never NULL. */
const char *tls_library_error(char to[160]);

/* SSL_get_error() looks at the thread's queue, so it must be empty before each call. Emptying it costs
 * more than looking; on the data path it is empty. */
static inline void tls_forget_errors(void)
{
    if (UNLIKELY(ERR_peek_error() != 0)) {
        ERR_clear_error();
    }
}

uint64_t tls_time_ns(const ASN1_TIME *time);
X509 *
tls_cert_from_der(struct bytes der); /* NULL when it is not one certificate and nothing else */
/* All certificates of a PEM text, at most `max`; NULL when there is none or one is malformed. */
STACK_OF(X509) * tls_certs_from_pem(struct bytes pem, int max);
EVP_PKEY *tls_key_from_der(struct bytes der);
EVP_PKEY *tls_key_from_pem(struct bytes pem);
EVP_PKEY *tls_key_new(void); /* ECDSA P-256; NULL: the library failed */

/* Is `name` one of the certificate's DNS or URI SANs, byte for byte? */
bool tls_cert_has_name(const X509 *cert, struct bytes name);
/* The first DNS, else the first URI SAN as a copy (mem_free); NULL: it has none that is well
 * formed. */
char *tls_cert_first_name(const X509 *cert);

#endif
