/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys, certificates and signing requests: reading them, and the names in them.
 */
#include "net/tls_private.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <threads.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

static void init_once(void)
{
    /* The mesh's parameters are fixed; a machine-wide configuration must not change them, and a
     * sandboxed process could not read it. */
    int ok = OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);

    assert(ok == 1);
}

void tls_library_init(void)
{
    static once_flag once = ONCE_FLAG_INIT;

    call_once(&once, init_once);
}

const char *tls_library_error(char to[160])
{
    typeof(ERR_get_error()) code = ERR_get_error();
    const char *reason = ERR_reason_error_string(code);

    snprintf(to, 160, "%s", reason != NULL ? reason : "unknown reason");
    ERR_clear_error();
    return to;
}

uint64_t tls_time_ns(const ASN1_TIME *time)
{
    struct tm tm;
    time_t s;

    if (ASN1_TIME_to_tm(time, &tm) != 1) {
        return 0;
    }
    s = timegm(&tm);
    if (s < 0) {
        return 0;
    }
    return (uint64_t)s > UINT64_MAX / NS_PER_S ? UINT64_MAX : (uint64_t)s * NS_PER_S;
}

X509 *tls_cert_from_der(struct bytes der)
{
    const unsigned char *at = (const void *)der.at;
    X509 *cert;

    if (der.len == 0 || der.len > TLS_CERT_BYTES) {
        return NULL;
    }
    cert = d2i_X509(NULL, &at, (long)der.len);
    if (cert != NULL && (const char *)at != der.at + der.len) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

/* Never ask a terminal for a passphrase. */
static int no_passphrase(char *to, int bytes, int for_writing, void *user)
{
    (void)to, (void)bytes, (void)for_writing, (void)user;
    return -1;
}

static BIO *bio_over(struct bytes text)
{
    return text.len > 0 && text.len <= INT32_MAX ? BIO_new_mem_buf(text.at, (int)text.len) : NULL;
}

STACK_OF(X509) * tls_certs_from_pem(struct bytes pem, int max)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *bio = bio_over(pem);
    X509 *cert = NULL;
    bool ended_well = false;

    while (bio != NULL && (int)sk_X509_num(all) < max &&
           (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        sk_X509_push(all, cert);
    }
    if (bio != NULL && cert == NULL) {
        /* The end of the text is told as "no start line"; anything else is a broken certificate. */
        ended_well = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    }
    ERR_clear_error();
    BIO_free(bio);
    if (!ended_well || (int)sk_X509_num(all) == 0) {
        sk_X509_pop_free(all, X509_free);
        return NULL;
    }
    return all;
}

EVP_PKEY *tls_key_from_der(struct bytes der)
{
    const unsigned char *at = (const void *)der.at;
    PKCS8_PRIV_KEY_INFO *info;
    EVP_PKEY *key = NULL;

    if (der.len == 0 || der.len > TLS_CERT_BYTES) {
        return NULL;
    }
    info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)der.len);
    if (info != NULL) {
        key = EVP_PKCS82PKEY(info);
        PKCS8_PRIV_KEY_INFO_free(info);
    }
    ERR_clear_error();
    return key;
}

EVP_PKEY *tls_key_from_pem(struct bytes pem)
{
    BIO *bio = bio_over(pem);
    EVP_PKEY *key = NULL;

    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
        BIO_free(bio);
    }
    ERR_clear_error();
    return key;
}

EVP_PKEY *tls_key_new(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;

    if (ctx == NULL || EVP_PKEY_keygen_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_X9_62_prime256v1) != 1 ||
        EVP_PKEY_keygen(ctx, &key) != 1) {
        key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* --- names ------------------------------------------------------------------------------------ */

static struct bytes name_text(const GENERAL_NAME *name)
{
    const ASN1_IA5STRING *text = NULL;

    if (name->type == GEN_DNS) {
        text = name->d.dNSName;
    } else if (name->type == GEN_URI) {
        text = name->d.uniformResourceIdentifier;
    }
    if (text == NULL) {
        return BYTES_NONE;
    }
    return bytes_of(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
}

/* Identities end up in labels, headers and logs: visible ASCII only, RFC 5280 4.2.1.6 asks for no
 * more. */
static bool is_clean_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] <= ' ' || name.at[i] > '~') {
            return false;
        }
    }
    return name.len > 0 && name.len <= TLS_PEER_ID_BYTES;
}

static GENERAL_NAMES *cert_names(const X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    ERR_clear_error();
    return names;
}

bool tls_cert_has_name(const X509 *cert, struct bytes name)
{
    GENERAL_NAMES *names = cert_names(cert);
    bool found = false;

    for (int i = 0; name.len > 0 && i < (int)sk_GENERAL_NAME_num(names) && !found; i++) {
        found = bytes_eq(name_text(sk_GENERAL_NAME_value(names, i)), name);
    }
    GENERAL_NAMES_free(names);
    return found;
}

static char *first_name_of_type(const GENERAL_NAMES *names, int type)
{
    for (int i = 0; i < (int)sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == type && is_clean_name(name_text(name))) {
            return bytes_dup(name_text(name));
        }
    }
    return NULL;
}

char *tls_cert_first_name(const X509 *cert)
{
    GENERAL_NAMES *names = cert_names(cert);
    char *name = first_name_of_type(names, GEN_DNS);

    if (name == NULL) {
        name = first_name_of_type(names, GEN_URI);
    }
    GENERAL_NAMES_free(names);
    return name;
}

/* --- a request for a certificate
 * ------------------------------------------------------------------ */

/* RFC 5280 gives a CN 64 characters at most, a workload's name may be longer; so do Linkerd's own
 * requests. The library's convenience function would refuse, hence the string is put in by hand. */
static bool set_common_name(X509_NAME *subject, struct bytes name)
{
    X509_NAME_ENTRY *entry = X509_NAME_ENTRY_create_by_NID(NULL, NID_commonName, V_ASN1_UTF8STRING,
                                                           (const void *)name.at, (int)name.len);
    bool ok = entry != NULL && X509_NAME_add_entry(subject, entry, -1, 0) == 1;

    X509_NAME_ENTRY_free(entry);
    return ok;
}

static GENERAL_NAMES *dns_san(struct bytes name)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *dns = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();

    if (ASN1_STRING_set(text, name.at, (int)name.len) != 1) {
        abort(); /* out of memory */
    }
    GENERAL_NAME_set0_value(dns, GEN_DNS, text);
    sk_GENERAL_NAME_push(names, dns);
    return names;
}

static bool add_san(X509_REQ *req, struct bytes name)
{
    GENERAL_NAMES *names = dns_san(name);
    X509_EXTENSION *ext = X509V3_EXT_i2d(NID_subject_alt_name, 0, names);
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    bool ok;

    sk_X509_EXTENSION_push(exts, ext);
    ok = X509_REQ_add_extensions(req, exts) == 1;
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    GENERAL_NAMES_free(names);
    return ok;
}

/* Move a DER buffer of the library into memory of ours. */
static void take_der(unsigned char *der, int len, void **out, size_t *out_len)
{
    assert(len > 0);
    *out = mem_new((size_t)len);
    memcpy(*out, der, (size_t)len);
    *out_len = (size_t)len;
    OPENSSL_clear_free(der, (size_t)len);
}

int tls_make_csr(struct bytes name, void **out_key_der, size_t *out_key_len, void **out_csr_der,
                 size_t *out_csr_len)
{
    unsigned char *key_der = NULL, *csr_der = NULL;
    PKCS8_PRIV_KEY_INFO *info = NULL;
    X509_REQ *req = NULL;
    EVP_PKEY *key;
    int key_len, csr_len, rc = E_INTERNAL;

    if (name.len == 0 || name.len > TLS_NAME_MAX) {
        return E_CONFIG;
    }
    tls_library_init();
    key = tls_key_new();
    req = X509_REQ_new();
    if (key != NULL && X509_REQ_set_version(req, 0) == 1 &&
        set_common_name(X509_REQ_get_subject_name(req), name) && add_san(req, name) &&
        X509_REQ_set_pubkey(req, key) == 1 && X509_REQ_sign(req, key, EVP_sha256()) > 0 &&
        (info = EVP_PKEY2PKCS8(key)) != NULL) {
        key_len = i2d_PKCS8_PRIV_KEY_INFO(info, &key_der);
        csr_len = i2d_X509_REQ(req, &csr_der);
        take_der(key_der, key_len, out_key_der, out_key_len);
        take_der(csr_der, csr_len, out_csr_der, out_csr_len);
        rc = 0;
    }
    PKCS8_PRIV_KEY_INFO_free(info);
    X509_REQ_free(req);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rc;
}

static void csr_common_name(X509_REQ *req, struct tls_csr_facts *out)
{
    const X509_NAME *subject = X509_REQ_get_subject_name(req);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    struct bytes name;

    if (index < 0) {
        return;
    }
    name = bytes_of(
        ASN1_STRING_get0_data(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index))),
        (size_t)ASN1_STRING_length(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index))));
    if (name.len == 0) {
        return;
    }
    if (!is_clean_name(name) || name.len > TLS_NAME_MAX ||
        X509_NAME_get_index_by_NID(subject, NID_commonName, index) >= 0) {
        /* Present, but nothing that could equal an identity. */
        name = BYTES("?");
    }
    memcpy(out->common_name, name.at, name.len);
}

static void csr_names(X509_REQ *req, struct tls_csr_facts *out)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(req);
    GENERAL_NAMES *names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < (int)sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        struct bytes text = name_text(name);

        if (name->type != GEN_DNS || !is_clean_name(text) || text.len > TLS_NAME_MAX) {
            out->other_sans++;
            continue;
        }
        if (out->dns_names++ == 0) {
            memcpy(out->dns_name, text.at, text.len);
        }
    }
    /* An extension given twice, or one that cannot be read, counts as something unknown. */
    if (names == NULL && X509v3_get_ext_by_NID(exts, NID_subject_alt_name, -1) >= 0) {
        out->other_sans++;
    }
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
}

int tls_csr_parse(struct bytes csr_der, struct tls_csr_facts *out)
{
    const unsigned char *at = (const void *)csr_der.at;
    struct tls_csr_facts facts = {.dns_names = 0};
    EVP_PKEY *key;
    X509_REQ *req;
    int rc = E_SYNTAX;

    if (csr_der.len == 0 || csr_der.len > TLS_CERT_BYTES) {
        return E_SYNTAX;
    }
    tls_library_init();
    req = d2i_X509_REQ(NULL, &at, (long)csr_der.len);
    key = req != NULL ? X509_REQ_get0_pubkey(req) : NULL;
    if (key != NULL && (const char *)at == csr_der.at + csr_der.len &&
        X509_REQ_verify(req, key) == 1) {
        facts.is_ecdsa = EVP_PKEY_base_id(key) == EVP_PKEY_EC;
        csr_common_name(req, &facts);
        csr_names(req, &facts);
        *out = facts;
        rc = 0;
    }
    X509_REQ_free(req);
    ERR_clear_error();
    return rc;
}
