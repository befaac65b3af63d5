/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, signing and credentials (wire 4.1, 4.3). */
#include "tls_probe.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "net/tls_private.h"

static struct pki pki, foreign;

static int group_setup(void **state)
{
    (void)state;
    pki_open(&pki, "root.linkerd.cluster.local");
    pki_open(&foreign, "another.root");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    pki_close(&pki);
    pki_close(&foreign);
    return 0;
}

struct request {
    void *key, *csr;
    size_t key_len, csr_len;
};

static struct request make_request(const char *name)
{
    struct request r;

    assert_int_equal(tls_make_csr(bytes_str(name), &r.key, &r.key_len, &r.csr, &r.csr_len), 0);
    return r;
}

static void free_request(struct request *r)
{
    mem_free(r->key);
    mem_free(r->csr);
}

static EVP_PKEY *key_by(int type, int curve)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(type, NULL);
    EVP_PKEY *key = NULL;

    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    assert_int_equal(type == EVP_PKEY_RSA
                         ? EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 2048)
                         : EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, curve),
                     1);
    assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static EVP_PKEY *key_of(const char *curve)
{
    return strcmp(curve, "RSA") == 0 ? key_by(EVP_PKEY_RSA, 0)
                                     : key_by(EVP_PKEY_EC, EC_curve_nist2nid(curve));
}

/* A request made with the library directly: SANs in its own notation, key by curve or "RSA". */
static struct request foreign_request(const char *cn, const char *san, const char *curve,
                                      const char *extra_ca)
{
    struct request r = {.key = NULL};
    EVP_PKEY *key = key_of(curve);
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    unsigned char *der = NULL;
    int len;

    if (cn != NULL) {
        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_UTF8,
                                   (const void *)cn, -1, -1, 0);
    }
    if (san != NULL) {
        sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san));
    }
    if (extra_ca != NULL) {
        sk_X509_EXTENSION_push(exts,
                               X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, extra_ca));
    }
    X509_REQ_add_extensions(req, exts);
    X509_REQ_set_pubkey(req, key);
    assert_true(X509_REQ_sign(req, key, EVP_sha256()) > 0);
    len = i2d_X509_REQ(req, &der);
    r.csr = mem_new((size_t)len);
    r.csr_len = (size_t)len;
    memcpy(r.csr, der, r.csr_len);
    OPENSSL_free(der);
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
    unsigned char *key_der = NULL;

    len = i2d_PKCS8_PRIV_KEY_INFO(info, &key_der);
    r.key = mem_new((size_t)len);
    r.key_len = (size_t)len;
    memcpy(r.key, key_der, r.key_len);
    OPENSSL_free(key_der);
    PKCS8_PRIV_KEY_INFO_free(info);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_free(req);
    EVP_PKEY_free(key);
    return r;
}

static struct tls_csr_facts facts_of(const struct request *r)
{
    struct tls_csr_facts f;

    assert_int_equal(tls_csr_parse(bytes_of(r->csr, r->csr_len), &f), 0);
    return f;
}

static void request_names_the_workload_once(void **state)
{
    struct request r = make_request(CLIENT_ID);
    struct tls_csr_facts f = facts_of(&r);

    (void)state;
    assert_string_equal(f.common_name, CLIENT_ID);
    assert_string_equal(f.dns_name, CLIENT_ID);
    assert_int_equal(f.dns_names, 1);
    assert_int_equal(f.other_sans, 0);
    assert_true(f.is_ecdsa);
    free_request(&r);
}

/* Identities are longer than the 64 characters that RFC 5280 gives a CN. */
static void longest_name_works(void **state)
{
    char name[TLS_NAME_MAX + 2];
    struct tls_creds *creds;
    struct request r;

    (void)state;
    for (size_t i = 0; i < TLS_NAME_MAX; i++) {
        name[i] = i % 60 == 59 ? '.' : 'a';
    }
    name[TLS_NAME_MAX] = '\0';
    r = make_request(name);
    assert_string_equal(facts_of(&r).common_name, name);
    free_request(&r);
    creds = pki_creds(&pki, name, pki.root_pem);
    tls_creds_unref(creds);
    name[TLS_NAME_MAX] = 'a';
    name[TLS_NAME_MAX + 1] = '\0';
    assert_int_equal(tls_make_csr(bytes_str(name), &r.key, &r.key_len, &r.csr, &r.csr_len),
                     E_CONFIG);
    assert_int_equal(tls_make_csr(BYTES_NONE, &r.key, &r.key_len, &r.csr, &r.csr_len), E_CONFIG);
}

static void malformed_requests_are_refused(void **state)
{
    struct request r = make_request(CLIENT_ID);
    struct tls_csr_facts f;
    unsigned char *bytes = r.csr;

    (void)state;
    for (size_t n = 0; n < r.csr_len; n++) {
        assert_int_equal(tls_csr_parse(bytes_of(r.csr, n), &f), E_SYNTAX);
    }
    /* Any changed bit breaks the syntax or the signature, but for the padding of the last. */
    for (size_t n = 0; n < r.csr_len; n += 3) {
        bytes[n] ^= 0x10;
        assert_int_equal(tls_csr_parse(bytes_of(r.csr, r.csr_len), &f), E_SYNTAX);
        bytes[n] ^= 0x10;
    }
    assert_int_equal(tls_csr_parse(bytes_of(r.csr, r.csr_len), &f), 0);
    free_request(&r);
}

static void facts_count_every_kind_of_name(void **state)
{
    struct request r = foreign_request(
        "x.example", "DNS:a.example,DNS:b.example,URI:spiffe://td/x,email:a@b.c,IP:1.2.3.4",
        "P-256", NULL);
    struct tls_csr_facts f = facts_of(&r);

    (void)state;
    assert_string_equal(f.common_name, "x.example");
    assert_string_equal(f.dns_name, "a.example");
    assert_int_equal(f.dns_names, 2);
    assert_int_equal(f.other_sans, 3);
    free_request(&r);

    r = foreign_request(NULL, NULL, "RSA", NULL);
    f = facts_of(&r);
    assert_string_equal(f.common_name, "");
    assert_int_equal(f.dns_names + f.other_sans, 0);
    assert_false(f.is_ecdsa);
    free_request(&r);
}

static X509 *sign(const struct request *r, uint64_t lifetime_ns, uint64_t skew_ns,
                  uint64_t *out_not_after)
{
    void *leaf;
    size_t len;
    X509 *cert;

    assert_int_equal(tls_issuer_sign(pki.issuer, bytes_of(r->csr, r->csr_len), lifetime_ns, skew_ns,
                                     &leaf, &len, out_not_after),
                     0);
    cert = tls_cert_from_der(bytes_of(leaf, len));
    assert_non_null(cert);
    mem_free(leaf);
    return cert;
}

/* Wire 4.3. */
static void leaf_is_as_the_mesh_expects(void **state)
{
    struct request r = make_request(CLIENT_ID);
    uint64_t not_after, now = clock_wall_ns();
    X509 *a = sign(&r, 3600 * NS_PER_S, 20 * NS_PER_S, &not_after),
         *b = sign(&r, 3600 * NS_PER_S, 20 * NS_PER_S, &not_after);

    (void)state;
    assert_true(tls_cert_has_name(a, BYTES(CLIENT_ID)));
    assert_int_equal(X509_get_key_usage(a), KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT);
    assert_int_equal(X509_get_extended_key_usage(a), XKU_SSL_SERVER | XKU_SSL_CLIENT);
    assert_int_equal(X509_check_ca(a), 0);
    assert_int_equal(X509_get_signature_nid(a), NID_ecdsa_with_SHA256);
    assert_true(tls_time_ns(X509_get0_notBefore(a)) <= now - 19 * NS_PER_S);
    assert_true(tls_time_ns(X509_get0_notBefore(a)) >= now - 60 * NS_PER_S);
    assert_int_equal(tls_time_ns(X509_get0_notAfter(a)), not_after);
    assert_true(not_after >= now + 3600 * NS_PER_S);
    assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(a), X509_get0_serialNumber(b)), 0);
    assert_true(ASN1_STRING_length(X509_get0_serialNumber(a)) == 16);
    X509_free(a);
    X509_free(b);
    free_request(&r);
}

static void leaf_never_outlives_its_issuer(void **state)
{
    struct request r = make_request(CLIENT_ID);
    uint64_t not_after;
    X509 *leaf = sign(&r, UINT64_MAX, 20 * NS_PER_S, &not_after);

    (void)state;
    assert_int_equal(not_after, tls_issuer_not_after_ns(pki.issuer));
    X509_free(leaf);
    free_request(&r);
}

/* A workload must not become a CA by asking. */
static void only_names_are_taken_from_a_request(void **state)
{
    struct request r = foreign_request("x", "DNS:x.example", "P-256", "critical,CA:TRUE");
    uint64_t not_after;
    X509 *leaf = sign(&r, 3600 * NS_PER_S, 0, &not_after);

    (void)state;
    assert_int_equal(X509_check_ca(leaf), 0);
    X509_free(leaf);
    free_request(&r);
}

static void rsa_keys_are_not_signed(void **state)
{
    struct request r = foreign_request("x", "DNS:x.example", "RSA", NULL);
    uint64_t not_after;
    size_t len;
    void *leaf;

    (void)state;
    assert_int_equal(tls_issuer_sign(pki.issuer, bytes_of(r.csr, r.csr_len), NS_PER_S, 0, &leaf,
                                     &len, &not_after),
                     E_UNSUPPORTED);
    free_request(&r);
}

static void issuer_is_checked(void **state)
{
    struct tls_issuer *i = NULL;
    char *broken = mem_strndup(pki.root_pem, strlen(pki.root_pem) / 2);

    (void)state;
    assert_int_equal(tls_issuer_new(bytes_str(pki.root_pem), bytes_str(foreign.key_pem), &i),
                     E_TLS);
    assert_int_equal(tls_issuer_new(bytes_str(broken), bytes_str(pki.key_pem), &i), E_TLS);
    assert_int_equal(tls_issuer_new(BYTES_NONE, bytes_str(pki.key_pem), &i), E_TLS);
    assert_int_equal(tls_issuer_new(bytes_str(pki.root_pem), BYTES("-----BEGIN"), &i), E_TLS);
    assert_null(i);
    mem_free(broken);
    assert_int_equal(tls_issuer_chain_count(pki.issuer), 1);
    X509 *cert = tls_cert_from_der(tls_issuer_chain_der(pki.issuer, 0));

    assert_int_equal(X509_check_ca(cert), 1);
    X509_free(cert);
}

/* --- credentials -------------------------------------------------------------------------------- */

static int load(const char *name, struct bytes key, struct bytes leaf, const char *anchors,
                char problem[256])
{
    struct tls_creds *creds = NULL;
    int rc =
        tls_creds_new(bytes_str(name), key, &leaf, 1, bytes_str(anchors), &creds, problem, 256);

    assert_true((rc == 0) == (creds != NULL));
    tls_creds_unref(creds);
    return rc;
}

static void credentials_are_checked(void **state)
{
    struct request r = make_request(CLIENT_ID), other = make_request(CLIENT_ID);
    char problem[256], *junk = mem_printf("%sjunk", pki.root_pem);
    uint64_t not_after;
    size_t len;
    void *der;
    struct bytes leaf, key = bytes_of(r.key, r.key_len);

    (void)state;
    assert_int_equal(tls_issuer_sign(pki.issuer, bytes_of(r.csr, r.csr_len), 3600 * NS_PER_S, 0,
                                     &der, &len, &not_after),
                     0);
    leaf = bytes_of(der, len);
    assert_int_equal(load(CLIENT_ID, key, leaf, pki.root_pem, problem), 0);
    assert_int_equal(load(CLIENT_ID, key, leaf, junk, problem),
                     0); /* text round the certificates is fine */
    assert_int_equal(load("else", key, leaf, pki.root_pem, problem), E_TLS_IDENTITY);
    assert_non_null(strstr(problem, "else"));
    assert_int_equal(load(CLIENT_ID, key, leaf, foreign.root_pem, problem), E_TLS);
    assert_non_null(strstr(problem, "trust anchors"));
    assert_int_equal(
        load(CLIENT_ID, bytes_of(other.key, other.key_len), leaf, pki.root_pem, problem), E_TLS);
    assert_non_null(strstr(problem, "does not belong"));
    assert_int_equal(load(CLIENT_ID, BYTES("nonsense"), leaf, pki.root_pem, problem), E_TLS);
    assert_int_equal(load(CLIENT_ID, key, bytes_first(leaf, len - 1), pki.root_pem, problem),
                     E_TLS);
    assert_int_equal(load(CLIENT_ID, key, leaf, "", problem), E_TLS);
    assert_int_equal(load(CLIENT_ID, key, leaf,
                          "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                          problem),
                     E_TLS);
    mem_free(der);
    mem_free(junk);
    free_request(&r);
    free_request(&other);
}

static void lifetime_is_told(void **state)
{
    struct tls_creds *creds = pki_creds(&pki, CLIENT_ID, pki.root_pem);
    uint64_t now = clock_wall_ns();

    (void)state;
    assert_true(tls_creds_not_before_ns(creds) <= now);
    assert_true(tls_creds_not_after_ns(creds) > now + 3500 * NS_PER_S);
    assert_true(tls_creds_not_after_ns(creds) < now + 3700 * NS_PER_S);
    tls_creds_ref(creds);
    tls_creds_unref(creds);
    tls_creds_unref(creds);
    tls_creds_unref(NULL);
}

/* --- names in certificates ------------------------------------------------------------------------ */

static void first_dns_name_wins_over_uri(void **state)
{
    static const struct {
        const char *san, *first;
    } cases[] = {
        {"URI:spiffe://td/ns/a,DNS:a.example,DNS:b.example", "a.example"},
        {"email:a@b.c,URI:spiffe://td/ns/a", "spiffe://td/ns/a"},
        {"IP:1.2.3.4", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct request r = foreign_request("x", cases[i].san, "P-256", NULL);
        uint64_t not_after;
        X509 *leaf = sign(&r, 3600 * NS_PER_S, 0, &not_after);
        char *first = tls_cert_first_name(leaf);

        if (cases[i].first == NULL) {
            assert_null(first);
        } else {
            assert_string_equal(first, cases[i].first);
            assert_true(tls_cert_has_name(leaf, bytes_str(cases[i].first)));
        }
        mem_free(first);
        X509_free(leaf);
        free_request(&r);
    }
}

/* An identity by URI (SPIFFE) is met exactly, and told as the peer's name. */
static void uri_identity_through_a_handshake(void **state)
{
    struct request r = foreign_request("x", "URI:spiffe://td/workload", "P-256", NULL);
    struct loop loop;
    struct tls_creds *creds = NULL;
    struct tls_pair t;
    char problem[256];
    uint64_t not_after;
    size_t len;
    void *der;
    struct bytes leaf, id;

    (void)state;
    probe_open(&loop);
    assert_int_equal(tls_issuer_sign(pki.issuer, bytes_of(r.csr, r.csr_len), 3600 * NS_PER_S,
                                     20 * NS_PER_S, &der, &len, &not_after),
                     0);
    leaf = bytes_of(der, len);
    assert_int_equal(tls_creds_new(BYTES("spiffe://td/workload"), bytes_of(r.key, r.key_len), &leaf,
                                   1, bytes_str(pki.root_pem), &creds, problem, sizeof(problem)),
                     0);
    tls_pair_open(&t, &loop, creds, creds, "spiffe://td/workload", "", "", 0);
    TURN_UNTIL(&loop, t.client.handshake_rc == 0 && t.server.handshake_rc == 0);
    assert_true(io_tls_peer_id(t.server.io, &id) && bytes_eq(id, BYTES("spiffe://td/workload")));
    tls_pair_close(&t);
    probe_close(&loop);
    tls_creds_unref(creds);
    mem_free(der);
    free_request(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_names_the_workload_once),
        cmocka_unit_test(longest_name_works),
        cmocka_unit_test(malformed_requests_are_refused),
        cmocka_unit_test(facts_count_every_kind_of_name),
        cmocka_unit_test(leaf_is_as_the_mesh_expects),
        cmocka_unit_test(leaf_never_outlives_its_issuer),
        cmocka_unit_test(only_names_are_taken_from_a_request),
        cmocka_unit_test(rsa_keys_are_not_signed),
        cmocka_unit_test(issuer_is_checked),
        cmocka_unit_test(credentials_are_checked),
        cmocka_unit_test(lifetime_is_told),
        cmocka_unit_test(first_dns_name_wins_over_uri),
        cmocka_unit_test(uri_identity_through_a_handshake),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
