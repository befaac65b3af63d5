/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a TLS library costs by itself, without sockets: two ends of TLS 1.3 with client certificates
 * (ECDSA P-256) talk through memory. Built against one library after the other by bench/tlslib.sh.
 *
 *   tlslib GROUPS      prints `name value` lines: CPU per handshake, per record of 350 bytes, per GB
 *                      in records of 16 KiB (both ends together), heap of one idle end
 */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "tlslib: line %d failed: %s\n", __LINE__, #what);                      \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct pair {
    SSL *client, *server;
};

static SSL_CTX *client_ctx, *server_ctx;

static double cpu_s(void)
{
    struct timespec t;

    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static EVP_PKEY *make_key(void)
{
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();

    CHECK(ec != NULL && key != NULL && EC_KEY_generate_key(ec) == 1);
    CHECK(EVP_PKEY_assign_EC_KEY(key, ec) == 1);
    return key;
}

static X509 *make_cert(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_NAME_new();

    CHECK(cert != NULL && subject != NULL);
    CHECK(X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC,
                                     (const unsigned char *)name, -1, -1, 0) == 1);
    CHECK(X509_set_version(cert, 2) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(cert), issuer == NULL ? 1 : 2) == 1);
    CHECK(X509_set_subject_name(cert, subject) == 1 && X509_set_pubkey(cert, key) == 1);
    CHECK(X509_set_issuer_name(cert, issuer == NULL ? subject : X509_get_subject_name(issuer)) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(cert), -60) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(cert), 86400) != NULL);
    if (issuer == NULL) {
        X509_EXTENSION *ca =
            X509V3_EXT_nconf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

        CHECK(ca != NULL && X509_add_ext(cert, ca, -1) == 1);
        X509_EXTENSION_free(ca);
    }
    CHECK(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
    X509_NAME_free(subject);
    return cert;
}

static SSL_CTX *make_ctx(EVP_PKEY *key, X509 *cert, X509 *root, const char *groups)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());

    CHECK(ctx != NULL && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1);
    CHECK(SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
    CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root) == 1);
    CHECK(SSL_CTX_set1_groups_list(ctx, groups) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

static struct pair pair_open(void)
{
    struct pair p = {.client = SSL_new(client_ctx), .server = SSL_new(server_ctx)};
    BIO *a, *b;

    CHECK(p.client != NULL && p.server != NULL);
    CHECK(BIO_new_bio_pair(&a, 64 << 10, &b, 64 << 10) == 1);
    SSL_set_bio(p.client, a, a);
    SSL_set_bio(p.server, b, b);
    SSL_set_connect_state(p.client);
    SSL_set_accept_state(p.server);
    for (int turns = 0; !SSL_is_init_finished(p.client) || !SSL_is_init_finished(p.server); turns++) {
        CHECK(turns < 10);
        (void)SSL_do_handshake(p.client);
        (void)SSL_do_handshake(p.server);
    }
    return p;
}

static void pair_close(struct pair *p)
{
    SSL_free(p->client);
    SSL_free(p->server);
}

static void carry(struct pair *p, size_t bytes, unsigned times)
{
    static char out[16384], in[16384];

    for (unsigned i = 0; i < times; i++) {
        CHECK(SSL_write(p->client, out, (int)bytes) == (int)bytes);
        for (size_t got = 0; got < bytes;) {
            int n = SSL_read(p->server, in, sizeof(in));

            CHECK(n > 0);
            got += (size_t)n;
        }
    }
}

static double per(double start_s, unsigned times)
{
    return (cpu_s() - start_s) / times;
}

int main(int argc, char **argv)
{
    enum { HANDSHAKES = 2000, RECORDS = 400000, BULK = 65536, IDLE = 500 };
    static struct pair idle[IDLE];
    EVP_PKEY *root_key = make_key(), *key = make_key();
    X509 *root = make_cert(root_key, "root", NULL, root_key);
    X509 *cert = make_cert(key, "leaf", root, root_key);
    const char *groups = argc > 1 ? argv[1] : "X25519";
    struct pair p;
    size_t before;
    double start_s;

    client_ctx = make_ctx(key, cert, root, groups);
    server_ctx = make_ctx(key, cert, root, groups);
    p = pair_open();
    carry(&p, 350, 1000);

    start_s = cpu_s();
    for (unsigned i = 0; i < HANDSHAKES; i++) {
        struct pair one = pair_open();

        pair_close(&one);
    }
    printf("handshake_us %.1f\n", per(start_s, HANDSHAKES) * 1e6);
    start_s = cpu_s();
    carry(&p, 350, RECORDS);
    printf("record_350_us %.3f\n", per(start_s, RECORDS) * 1e6);
    start_s = cpu_s();
    carry(&p, 16384, BULK);
    printf("gb_s %.3f\n", per(start_s, BULK) / 16384 * 1e9);

    before = mallinfo2().uordblks;
    for (unsigned i = 0; i < IDLE; i++) {
        idle[i] = pair_open();
        carry(&idle[i], 350, 2);
    }
    /* the pair's two buffers are the bench's own */
    printf("idle_end_kib %.1f\n",
           ((double)(mallinfo2().uordblks - before) / IDLE / 2 - (64 << 10)) / 1024);
    for (unsigned i = 0; i < IDLE; i++) {
        pair_close(&idle[i]);
    }
    pair_close(&p);
    return 0;
}
