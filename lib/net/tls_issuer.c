/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signing: the identity service's issuer, and a root of one's own.
 */
#include "net/tls_private.h"

#include <openssl/pem.h>
#include <openssl/rand.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

struct der {
    char *at;
    size_t len;
};

struct tls_issuer {
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* the issuer's certificate first, then what its file holds */
    struct der *chain_der;  /* the same, encoded */
    uint64_t not_after_ns;
};

/* RFC 5280 4.1.2.2: positive, at most 20 octets, and unpredictable; 127 random bits and never 0. */
static bool set_random_serial(X509 *cert)
{
    unsigned char random[16];
    BIGNUM *number = NULL;
    bool ok = false;

    if (RAND_bytes(random, sizeof(random)) == 1) {
        random[0] = (unsigned char)((random[0] & 0x7f) | 0x40);
        number = BN_bin2bn(random, sizeof(random), NULL);
        ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    }
    BN_free(number);
    return ok;
}

static bool set_validity(X509 *cert, uint64_t not_before_ns, uint64_t not_after_ns)
{
    return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)(not_before_ns / NS_PER_S)) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(not_after_ns / NS_PER_S)) != NULL;
}

/* `value` is in the library's configuration syntax and a constant of this file. */
static bool add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

/* --- the issuer
 * ----------------------------------------------------------------------------------- */

static void keep_chain_der(struct tls_issuer *i)
{
    size_t count = tls_issuer_chain_count(i);

    i->chain_der = mem_new_array(count, sizeof(*i->chain_der));
    i->not_after_ns = UINT64_MAX;
    for (size_t n = 0; n < count; n++) {
        X509 *cert = sk_X509_value(i->chain, (int)n);
        unsigned char *der = NULL;
        int len = i2d_X509(cert, &der);
        char *copy;

        assert(len > 0);
        copy = mem_new((size_t)len);
        memcpy(copy, der, (size_t)len);
        OPENSSL_free(der);
        i->chain_der[n] = (struct der){.at = copy, .len = (size_t)len};
        i->not_after_ns = MIN(i->not_after_ns, tls_time_ns(X509_get0_notAfter(cert)));
    }
}

int tls_issuer_new(struct bytes chain_pem, struct bytes key_pem, struct tls_issuer **out)
{
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
    struct tls_issuer *i;

    tls_library_init();
    chain = tls_certs_from_pem(chain_pem, TLS_CHAIN_MAX);
    key = tls_key_from_pem(key_pem);
    /* X509_check_ca() is 1 for a certificate that says so in its basic constraints. */
    if (chain == NULL || key == NULL || X509_check_private_key(sk_X509_value(chain, 0), key) != 1 ||
        X509_check_ca(sk_X509_value(chain, 0)) != 1) {
        sk_X509_pop_free(chain, X509_free);
        EVP_PKEY_free(key);
        ERR_clear_error();
        return E_TLS;
    }
    i = mem_new(sizeof(*i));
    i->key = key;
    i->chain = chain;
    keep_chain_der(i);
    *out = i;
    return 0;
}

void tls_issuer_free(struct tls_issuer *i)
{
    if (i == NULL) {
        return;
    }
    for (size_t n = 0; n < tls_issuer_chain_count(i); n++) {
        mem_free(i->chain_der[n].at);
    }
    mem_free(i->chain_der);
    sk_X509_pop_free(i->chain, X509_free);
    EVP_PKEY_free(i->key);
    mem_free(i);
}

uint64_t tls_issuer_not_after_ns(const struct tls_issuer *i)
{
    return i->not_after_ns;
}

size_t tls_issuer_chain_count(const struct tls_issuer *i)
{
    return (size_t)(int)sk_X509_num(i->chain);
}

struct bytes tls_issuer_chain_der(const struct tls_issuer *i, size_t index)
{
    assert(index < tls_issuer_chain_count(i));
    return bytes_of(i->chain_der[index].at, i->chain_der[index].len);
}

/* Of all that a request asks for only the names are taken over: a workload must not be able to ask
 * for, say, a CA certificate. RFC 5280 4.2.1.6: critical when the subject is empty. */
static bool copy_san(X509 *leaf, X509_REQ *req)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(req);
    GENERAL_NAMES *names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
    int critical = X509_NAME_entry_count(X509_REQ_get_subject_name(req)) == 0;
    bool ok =
        names != NULL && (int)sk_GENERAL_NAME_num(names) > 0 &&
        X509_add1_ext_i2d(leaf, NID_subject_alt_name, names, critical, X509V3_ADD_DEFAULT) == 1;

    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    return ok;
}

/* Wire 4.3. */
static bool fill_leaf(const struct tls_issuer *i, X509 *leaf, X509_REQ *req, uint64_t not_before_ns,
                      uint64_t not_after_ns)
{
    X509 *issuer = sk_X509_value(i->chain, 0);

    return X509_set_version(leaf, X509_VERSION_3) == 1 && set_random_serial(leaf) &&
           X509_set_issuer_name(leaf, X509_get_subject_name(issuer)) == 1 &&
           X509_set_subject_name(leaf, X509_REQ_get_subject_name(req)) == 1 &&
           X509_set_pubkey(leaf, X509_REQ_get0_pubkey(req)) == 1 &&
           set_validity(leaf, not_before_ns, not_after_ns) && copy_san(leaf, req) &&
           add_ext(leaf, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
           add_ext(leaf, issuer, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
           add_ext(leaf, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
           /* RFC 5280 4.2.1.1: only as far as the issuer has a key identifier itself. */
           (X509_get0_subject_key_id(issuer) == NULL ||
            add_ext(leaf, issuer, NID_authority_key_identifier, "keyid")) &&
           X509_sign(leaf, i->key, EVP_sha256()) > 0;
}

static uint64_t add_clamped(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

int tls_issuer_sign(const struct tls_issuer *i, struct bytes csr_der, uint64_t lifetime_ns,
                    uint64_t skew_ns, void **out_leaf, size_t *out_leaf_len,
                    uint64_t *out_not_after_ns)
{
    const unsigned char *at = (const void *)csr_der.at;
    uint64_t now = clock_wall_ns();
    uint64_t not_after = MIN(add_clamped(add_clamped(now, lifetime_ns), skew_ns), i->not_after_ns);
    struct tls_csr_facts facts;
    unsigned char *der = NULL;
    X509_REQ *req;
    X509 *leaf;
    int len, rc = E_TLS;

    TRY(tls_csr_parse(csr_der, &facts));
    if (!facts.is_ecdsa) {
        return E_UNSUPPORTED;
    }
    not_after -= not_after % NS_PER_S; /* certificates count whole seconds */
    req = d2i_X509_REQ(NULL, &at, (long)csr_der.len);
    leaf = X509_new();
    if (not_after > now && fill_leaf(i, leaf, req, now > skew_ns ? now - skew_ns : 0, not_after) &&
        (len = i2d_X509(leaf, &der)) > 0) {
        *out_leaf = mem_new((size_t)len);
        memcpy(*out_leaf, der, (size_t)len);
        *out_leaf_len = (size_t)len;
        *out_not_after_ns = not_after;
        rc = 0;
    }
    OPENSSL_free(der);
    X509_free(leaf);
    X509_REQ_free(req);
    ERR_clear_error();
    return rc;
}

/* --- a root of one's own
 * --------------------------------------------------------------------------- */

static char *bio_text(BIO *bio)
{
    char *at = NULL;
    long len = BIO_get_mem_data(bio, &at);

    return mem_strndup(at, (size_t)len);
}

static bool fill_root(X509 *root, EVP_PKEY *key, struct bytes name, uint64_t lifetime_ns)
{
    X509_NAME *subject = X509_get_subject_name(root);
    uint64_t now = clock_wall_ns();

    return X509_set_version(root, X509_VERSION_3) == 1 && set_random_serial(root) &&
           X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, (const void *)name.at,
                                      (int)name.len, -1, 0) == 1 &&
           X509_set_issuer_name(root, subject) == 1 && X509_set_pubkey(root, key) == 1 &&
           set_validity(root, now - 20 * NS_PER_S, add_clamped(now, lifetime_ns)) &&
           add_ext(root, root, NID_basic_constraints, "critical,CA:TRUE") &&
           add_ext(root, root, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           add_ext(root, root, NID_subject_key_identifier, "hash") &&
           X509_sign(root, key, EVP_sha256()) > 0;
}

int tls_make_root(struct bytes name, uint64_t lifetime_ns, char **out_cert_pem, char **out_key_pem)
{
    BIO *cert_bio, *key_bio;
    EVP_PKEY *key;
    X509 *root;
    int rc = E_CONFIG;

    if (name.len == 0 || name.len > 64) { /* RFC 5280 A.1: ub-common-name */
        return E_CONFIG;
    }
    tls_library_init();
    cert_bio = BIO_new(BIO_s_mem());
    key_bio = BIO_new(BIO_s_secmem());
    key = tls_key_new();
    root = X509_new();
    if (key != NULL && fill_root(root, key, name, lifetime_ns) &&
        PEM_write_bio_X509(cert_bio, root) == 1 &&
        PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        *out_cert_pem = bio_text(cert_bio);
        *out_key_pem = bio_text(key_bio);
        rc = 0;
    }
    BIO_free(cert_bio);
    BIO_free(key_bio);
    X509_free(root);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rc;
}
