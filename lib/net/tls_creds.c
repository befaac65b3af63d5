/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials, checked once when they are made, and the contexts that threads make from them.
 */
#include "net/tls_private.h"

#include <openssl/x509_vfy.h>

#include "core/alloc.h"
#include "core/err.h"

#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SIGALGS "ECDSA+SHA256:ECDSA+SHA384"

static void creds_free(struct snapshot *s)
{
    struct tls_creds *c = CONTAINER_OF(s, struct tls_creds, snapshot);

    EVP_PKEY_free(c->key);
    X509_free(c->leaf);
    sk_X509_pop_free(c->chain, X509_free);
    sk_X509_pop_free(c->anchors, X509_free);
    mem_free(c);
}

static X509_STORE *store_of(STACK_OF(X509) * anchors)
{
    X509_STORE *store = X509_STORE_new();

    assert(store != NULL);
    for (int i = 0; i < (int)sk_X509_num(anchors); i++) {
        int ok = X509_STORE_add_cert(store, sk_X509_value(anchors, i));

        assert(ok == 1);
    }
    /* An anchor need not be self-signed: an intermediate may be trusted by itself, RFC 5280 6.1.1
     * (d). */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    return store;
}

static int verify_own_chain(struct tls_creds *c, char *problem, size_t problem_bytes)
{
    X509_STORE *store = store_of(c->anchors);
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int rc = 0;

    if (X509_STORE_CTX_init(ctx, store, c->leaf, c->chain) != 1) {
        rc = E_INTERNAL;
    } else if (X509_verify_cert(ctx) != 1) {
        snprintf(problem, problem_bytes, "the certificate does not lead to the trust anchors: %s",
                 X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        rc = E_TLS;
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return rc;
}

static int refuse(char *problem, size_t problem_bytes, const char *sentence)
{
    snprintf(problem, problem_bytes, "%s", sentence);
    return E_TLS;
}

static int load_own(struct tls_creds *c, struct bytes key_der, const struct bytes *chain_der,
                    size_t chain_count, char *problem, size_t problem_bytes)
{
    c->key = tls_key_from_der(key_der);
    if (c->key == NULL) {
        return refuse(problem, problem_bytes, "the private key is not PKCS#8 DER");
    }
    if (chain_count > TLS_CHAIN_MAX) {
        return refuse(problem, problem_bytes, "too many certificates in the chain");
    }
    c->leaf = tls_cert_from_der(chain_der[0]);
    for (size_t i = 1; c->leaf != NULL && i < chain_count; i++) {
        X509 *cert = tls_cert_from_der(chain_der[i]);

        if (cert == NULL) {
            return refuse(problem, problem_bytes, "an intermediate certificate is malformed");
        }
        sk_X509_push(c->chain, cert);
    }
    if (c->leaf == NULL) {
        return refuse(problem, problem_bytes, "the certificate is malformed");
    }
    if (X509_check_private_key(c->leaf, c->key) != 1) {
        return refuse(problem, problem_bytes, "the private key does not belong to the certificate");
    }
    c->not_before_ns = tls_time_ns(X509_get0_notBefore(c->leaf));
    c->not_after_ns = tls_time_ns(X509_get0_notAfter(c->leaf));
    return 0;
}

int tls_creds_new(struct bytes name, struct bytes key_der, const struct bytes *chain_der,
                  size_t chain_count, struct bytes anchors_pem, struct tls_creds **out,
                  char *problem, size_t problem_bytes)
{
    struct tls_creds *c;
    int rc = 0;

    tls_library_init();
    c = mem_new(sizeof(*c));
    snapshot_init(&c->snapshot, creds_free);
    c->chain = sk_X509_new_null();
    c->not_after_ns = UINT64_MAX;
    c->anchors = tls_certs_from_pem(anchors_pem, TLS_ANCHORS_MAX);
    if (c->anchors == NULL) {
        rc = refuse(problem, problem_bytes,
                    "the trust anchors hold no certificate or a malformed one");
    } else if (chain_count > 0 && chain_der[0].len > 0) {
        rc = load_own(c, key_der, chain_der, chain_count, problem, problem_bytes);
        if (rc == 0) {
            rc = verify_own_chain(c, problem, problem_bytes);
        }
        if (rc == 0 && !tls_cert_has_name(c->leaf, name)) {
            snprintf(problem, problem_bytes, "the certificate does not name " BYTES_FMT,
                     BYTES_ARG(name));
            rc = E_TLS_IDENTITY;
        }
    }
    ERR_clear_error();
    if (rc != 0) {
        tls_creds_unref(c);
        return rc;
    }
    *out = c;
    return 0;
}

void tls_creds_ref(struct tls_creds *c)
{
    snapshot_ref(&c->snapshot);
}

void tls_creds_unref(struct tls_creds *c)
{
    if (c != NULL) {
        snapshot_unref(&c->snapshot);
    }
}

uint64_t tls_creds_not_after_ns(const struct tls_creds *c)
{
    return c->not_after_ns;
}

uint64_t tls_creds_not_before_ns(const struct tls_creds *c)
{
    return c->not_before_ns;
}

/* --- contexts
 * ---------------------------------------------------------------------------------------- */

/* Wire 4.4. */
static void set_parameters(SSL_CTX *ssl)
{
    int ok = SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
             SSL_CTX_set_ciphersuites(ssl, CIPHERS) == 1 &&
             SSL_CTX_set1_groups_list(ssl, TLS_GROUPS) == 1 &&
             SSL_CTX_set1_sigalgs_list(ssl, SIGALGS) == 1 &&
             SSL_CTX_set1_client_sigalgs_list(ssl, SIGALGS) == 1;

    assert(ok);
    /* Our first suite is the cheapest one with AES instructions; there are no middle boxes that
     * need dummy ChangeCipherSpec records inside a cluster. */
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_NO_TICKET);
    SSL_CTX_clear_options(ssl, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 0);
    SSL_CTX_set_max_cert_list(ssl, 4 * TLS_CERT_BYTES);
    SSL_CTX_set_verify_depth(ssl, TLS_CHAIN_MAX);
}

struct tls_ctx *tls_ctx_new(struct tls_creds *c, bool is_server)
{
    struct tls_ctx *ctx = mem_new(sizeof(*ctx));
    int ok;

    assert(!is_server || c->leaf != NULL);
    ctx->ssl = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    assert(ctx->ssl != NULL);
    ctx->is_server = is_server;
    ctx->creds = c;
    tls_creds_ref(c);
    set_parameters(ctx->ssl);
    /* A store for each context: threads must not meet at its lock. */
    SSL_CTX_set_cert_store(ctx->ssl, store_of(c->anchors));
    if (c->leaf != NULL) {
        ok = SSL_CTX_use_certificate(ctx->ssl, c->leaf) == 1 &&
             SSL_CTX_use_PrivateKey(ctx->ssl, c->key) == 1 &&
             SSL_CTX_set1_chain(ctx->ssl, c->chain) == 1;
        assert(ok); /* tls_creds_new() has checked that they fit together */
    }
    return ctx;
}

void tls_ctx_free(struct tls_ctx *c)
{
    if (c != NULL) {
        SSL_CTX_free(c->ssl);
        tls_creds_unref(c->creds);
        mem_free(c);
    }
}

void tls_describe(struct tls_description *out)
{
    *out = (struct tls_description){
        .library = TLS_LIBRARY,
        .suites = CIPHERS,
        .groups = TLS_GROUPS,
        .is_fips = TLS_IS_FIPS,
    };
}
