/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/file.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

/*
 * The certificates of a local home: identity/anchors.pem, whom every proxy trusts, and
 * identity/issuer/crt.pem, which signs the proxies'.
 */
#define PEM_BYTES_MAX (1u << 20)
#define CERTS_MAX     64
#define LEFT_DAYS_MIN 60

struct certs {
    X509 *at[CERTS_MAX];
    size_t count;
};

static void certs_clear(struct certs *k)
{
    for (size_t i = 0; i < k->count; i++) {
        X509_free(k->at[i]);
    }
    k->count = 0;
}

static int certs_read(const struct checker *c, const char *name, struct certs *out, char *problem,
                      size_t problem_bytes)
{
    char path[HOME_PATH_MAX + 64];
    AUTOFREE char *pem = NULL;
    size_t bytes = 0;
    BIO *bio;
    int rc;

    (void)snprintf(path, sizeof(path), "%s/identity/%s", c->home, name);
    rc = file_read(path, PEM_BYTES_MAX, &pem, &bytes);
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "%.800s cannot be read: %s", path, err_text(rc));
        return rc;
    }
    bio = BIO_new_mem_buf(pem, (int)bytes);
    assert(bio != NULL);
    while (out->count < CERTS_MAX) {
        X509 *one = PEM_read_bio_X509(bio, NULL, NULL, NULL);

        if (one == NULL) {
            break;
        }
        out->at[out->count++] = one;
    }
    BIO_free(bio);
    if (out->count == 0) {
        (void)snprintf(problem, problem_bytes, "%.800s holds no certificate in PEM", path);
        return E_CONFIG;
    }
    return 0;
}

static void name_of(X509 *cert, char *to, size_t bytes)
{
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, to, (int)bytes) <
        0) {
        (void)snprintf(to, bytes, "a certificate without a name");
    }
}

/* In validity now, by a key of a kind that proxies accept. */
static int cert_check(X509 *cert, char *problem, size_t problem_bytes)
{
    int kind = EVP_PKEY_base_id(X509_get0_pubkey(cert));
    char name[128];

    name_of(cert, name, sizeof(name));
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0) {
        (void)snprintf(problem, problem_bytes, "%s is not valid yet; is the clock right?", name);
        return E_CONFIG;
    }
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0) {
        (void)snprintf(problem, problem_bytes, "%s has expired", name);
        return E_CONFIG;
    }
    if (kind != EVP_PKEY_EC && kind != EVP_PKEY_RSA) {
        (void)snprintf(problem, problem_bytes, "%s has a key that is neither ECDSA nor RSA", name);
        return E_CONFIG;
    }
    return 0;
}

static int cert_check_left(X509 *cert, char *problem, size_t problem_bytes)
{
    int days = 0, seconds = 0;
    char name[128];

    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1 ||
        days < LEFT_DAYS_MIN) {
        name_of(cert, name, sizeof(name));
        (void)snprintf(problem, problem_bytes, "%s expires in %d days", name, days);
        return E_CONFIG;
    }
    return 0;
}

static int check_each(const struct checker *c, const char *name,
                      int (*check)(X509 *cert, char *problem, size_t problem_bytes), char *problem,
                      size_t problem_bytes)
{
    struct certs k = {0};
    int rc = certs_read(c, name, &k, problem, problem_bytes);

    for (size_t i = 0; i < k.count && rc == 0; i++) {
        rc = check(k.at[i], problem, problem_bytes);
    }
    certs_clear(&k);
    return rc;
}

int check_anchors_valid(struct checker *c, char *problem, size_t problem_bytes)
{
    return check_each(c, "anchors.pem", cert_check, problem, problem_bytes);
}

int check_anchors_last(struct checker *c, char *problem, size_t problem_bytes)
{
    return check_each(c, "anchors.pem", cert_check_left, problem, problem_bytes);
}

int check_issuer_valid(struct checker *c, char *problem, size_t problem_bytes)
{
    return check_each(c, "issuer/crt.pem", cert_check, problem, problem_bytes);
}

int check_issuer_last(struct checker *c, char *problem, size_t problem_bytes)
{
    return check_each(c, "issuer/crt.pem", cert_check_left, problem, problem_bytes);
}

/* RFC 5280 6.1, from the issuer's own certificate over what stands behind it to an anchor. */
static int verify(const struct certs *anchors, const struct certs *chain, char *problem,
                  size_t problem_bytes)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *between = sk_X509_new_null();
    int rc = E_CONFIG;

    assert(store != NULL && ctx != NULL && between != NULL);
    for (size_t i = 0; i < anchors->count; i++) {
        (void)X509_STORE_add_cert(store, anchors->at[i]);
    }
    for (size_t i = 1; i < chain->count; i++) {
        (void)sk_X509_push(between, chain->at[i]);
    }
    if (X509_STORE_CTX_init(ctx, store, chain->at[0], between) == 1) {
        X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_PARTIAL_CHAIN); /* an anchor need not be a root */
        if (X509_verify_cert(ctx) == 1) {
            rc = 0;
        } else {
            (void)snprintf(problem, problem_bytes, "%s",
                           X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        }
    }
    sk_X509_free(between);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return rc;
}

int check_issuer_signed(struct checker *c, char *problem, size_t problem_bytes)
{
    struct certs anchors = {0}, chain = {0};
    int rc = certs_read(c, "anchors.pem", &anchors, problem, problem_bytes);

    if (rc == 0) {
        rc = certs_read(c, "issuer/crt.pem", &chain, problem, problem_bytes);
    }
    if (rc == 0) {
        rc = verify(&anchors, &chain, problem, problem_bytes);
    }
    certs_clear(&anchors);
    certs_clear(&chain);
    return rc;
}
