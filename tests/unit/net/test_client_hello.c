/* SPDX-License-Identifier: Apache-2.0 */
/* Telling TLS from cleartext by the first bytes (wire 4.5), and early enough. */
#include "net_probe.h"

#include <openssl/ssl.h>

#include "net/tls.h"

/* A real ClientHello of the library. `alpn_bytes` of filler make it long. */
static size_t real_hello(const char *sni, size_t alpn_bytes, uint16_t version, char *to, size_t bytes)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;
    BIO *out = BIO_new(BIO_s_mem());
    char *at;
    long len;

    SSL_CTX_set_max_proto_version(ctx, version);
    ssl = SSL_new(ctx);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    if (sni != NULL) {
        SSL_set_tlsext_host_name(ssl, sni);
    }
    if (alpn_bytes > 0) {
        unsigned char *alpn = calloc(1, alpn_bytes);
        size_t used = 0;

        while (used + 101 <= alpn_bytes) {
            alpn[used] = 100;
            memset(alpn + used + 1, 'p', 100);
            used += 101;
        }
        assert_int_equal(SSL_set_alpn_protos(ssl, alpn, (unsigned)used), 0);
        free(alpn);
    }
    (void)SSL_connect(ssl);
    len = BIO_get_mem_data(out, &at);
    assert_true(len > 0 && (size_t)len <= bytes);
    memcpy(to, at, (size_t)len);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return (size_t)len;
}

/* Every prefix of a real hello is undecided, the whole is decided, and more does not change it. */
static void check_hello(const char *hello, size_t len, struct bytes sni)
{
    struct bytes got = BYTES("untouched");
    char longer[TLS_HELLO_MAX + 16];

    for (size_t n = 0; n < len; n++) {
        assert_int_equal(tls_parse_client_hello(bytes_of(hello, n), &got), E_AGAIN);
        assert_true(bytes_eq(got, BYTES("untouched")));
    }
    assert_int_equal(tls_parse_client_hello(bytes_of(hello, len), &got), 0);
    assert_true(bytes_eq(got, sni));
    memcpy(longer, hello, len);
    memset(longer + len, 'x', 16);
    assert_int_equal(tls_parse_client_hello(bytes_of(longer, len + 16), &got), 0);
    assert_true(bytes_eq(got, sni));
}

static void real_hellos_are_recognised(void **state)
{
    char hello[TLS_HELLO_MAX];
    size_t len;

    (void)state;
    len = real_hello("web.ns.svc.cluster.local", 0, TLS1_3_VERSION, hello, sizeof(hello));
    check_hello(hello, len, BYTES("web.ns.svc.cluster.local"));
    len = real_hello(NULL, 0, TLS1_3_VERSION, hello, sizeof(hello));
    check_hello(hello, len, BYTES_NONE);
    len = real_hello("web.ns", 0, TLS1_2_VERSION, hello, sizeof(hello));
    check_hello(hello, len, BYTES("web.ns"));
    len = real_hello("web.ns", 3000, TLS1_3_VERSION, hello, sizeof(hello));
    assert_true(len > 3000); /* two segments at least */
    check_hello(hello, len, BYTES("web.ns"));
}

static void cleartext_is_told_by_its_first_byte(void **state)
{
    struct bytes sni;

    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char first = (char)c;

        assert_int_equal(tls_parse_client_hello(bytes_of(&first, 1), &sni),
                         c == 22 ? E_AGAIN : E_SYNTAX);
    }
    assert_int_equal(tls_parse_client_hello(BYTES_NONE, &sni), E_AGAIN);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x02"), &sni), E_SYNTAX);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x02"), &sni), E_SYNTAX);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x04"), &sni), E_SYNTAX);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x01"), &sni), E_AGAIN);
    /* A record that could never be read here is refused by its header alone. */
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x01\x1f\xfc"), &sni), E_SYNTAX);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x01\x1f\xfb"), &sni), E_AGAIN);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x01\x00\x03"), &sni), E_SYNTAX);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x01\x02\x00\x02"), &sni),
                     E_SYNTAX); /* ServerHello */
    /* The message and its record must end together. */
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfb"), &sni),
                     E_SYNTAX);
    assert_int_equal(tls_parse_client_hello(BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"), &sni),
                     E_AGAIN);
    assert_int_equal(
        tls_parse_client_hello(BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x01"), &sni),
        E_SYNTAX);
}

/* --- made by hand, to break one rule at a time ------------------------------------------------------ */

struct maker {
    unsigned char at[1024];
    size_t len;
};

static void put(struct maker *m, const void *at, size_t len)
{
    memcpy(m->at + m->len, at, len);
    m->len += len;
}

static void put16(struct maker *m, size_t value)
{
    put(m, (unsigned char[]){(unsigned char)(value >> 8), (unsigned char)value}, 2);
}

/* A hello around these extension bytes (NULL: none at all). */
static struct maker hello_with(const void *extensions, size_t len)
{
    static const unsigned char fixed[] = {0, 0, 2, 0x13, 1, 1, 0};
    struct maker m = {.len = 0};
    size_t body = 2 + 32 + sizeof(fixed) + 1 + (extensions != NULL ? 2 + len : 0) - 1;

    put(&m, "\x16\x03\x01", 3);
    put16(&m, body + 4);
    put(&m, "\x01\x00", 2);
    put16(&m, body);
    put(&m, "\x03\x03", 2);
    m.len += 32;
    put(&m, fixed, sizeof(fixed));
    if (extensions != NULL) {
        put16(&m, len);
        put(&m, extensions, len);
    }
    return m;
}

static int parse(const struct maker *m, struct bytes *out_sni)
{
    return tls_parse_client_hello(bytes_of(m->at, m->len), out_sni);
}

static int parse_extensions(const void *extensions, size_t len)
{
    struct maker m = hello_with(extensions, len);
    struct bytes sni;

    return parse(&m, &sni);
}

#define PARSE(literal) parse_extensions(literal, sizeof(literal) - 1)

static void extensions_are_read_strictly(void **state)
{
    struct maker m = hello_with(NULL, 0);
    struct bytes sni = BYTES("x");

    (void)state;
    assert_int_equal(parse(&m, &sni), 0); /* none at all, as before TLS 1.3 */
    assert_int_equal(sni.len, 0);
    assert_int_equal(PARSE(""), 0);
    assert_int_equal(PARSE("\0\0\0\6\0\4\0\0\1a"), 0);
    /* RFC 6066 3: the list fills the extension, a name is not empty, one of a kind. */
    assert_int_equal(PARSE("\0\0\0\6\0\5\0\0\1a"), E_SYNTAX);
    assert_int_equal(PARSE("\0\0\0\6\0\3\0\0\1a"), E_SYNTAX);
    assert_int_equal(PARSE("\0\0\0\5\0\3\0\0\0"), E_SYNTAX);
    assert_int_equal(PARSE("\0\0\0\2\0\0"), E_SYNTAX);
    assert_int_equal(PARSE("\0\0\0\0"), E_SYNTAX);
    assert_int_equal(PARSE("\0\0\0\12\0\10\0\0\1a\0\0\1b"), E_SYNTAX);
    assert_int_equal(PARSE("\0\0\0\6\0\4\0\0\1\0"), E_SYNTAX);
    assert_int_equal(PARSE("\0\0\0\12\0\10\7\0\1x\0\0\1b"),
                     0); /* another type of name is passed over */
    /* RFC 8446 4.2: no extension twice. */
    assert_int_equal(PARSE("\0\0\0\6\0\4\0\0\1a\0\0\0\6\0\4\0\0\1a"), E_SYNTAX);
    /* An extension must not reach beyond the list. */
    assert_int_equal(PARSE("\0\5\0\1"), E_SYNTAX);
    assert_int_equal(PARSE("\0\5\0"), E_SYNTAX);
    assert_int_equal(PARSE("\0\5\0\1x"), 0);
    assert_int_equal(PARSE("\0\0\0\7\0\5\0\0\2a"), E_SYNTAX);
}

static void vectors_before_the_extensions(void **state)
{
    struct maker m = hello_with("", 0);
    struct bytes sni;

    (void)state;
    m.at[43] = 33; /* session id of more than 32 bytes */
    assert_int_equal(parse(&m, &sni), E_SYNTAX);
    m = hello_with("", 0);
    m.at[45] = 3; /* an odd number of cipher suite bytes */
    assert_int_equal(parse(&m, &sni), E_SYNTAX);
    m = hello_with("", 0);
    m.at[45] = 0;
    assert_int_equal(parse(&m, &sni), E_SYNTAX);
    m = hello_with("", 0);
    m.at[48] = 0; /* no compression method */
    assert_int_equal(parse(&m, &sni), E_SYNTAX);
    m = hello_with("", 0);
    m.at[51] = 1; /* extensions longer than the message */
    assert_int_equal(parse(&m, &sni), E_SYNTAX);
}

static void longest_name(void **state)
{
    struct maker e = {.len = 0}, m;
    struct bytes sni;
    char name[256];

    (void)state;
    memset(name, 'n', sizeof(name));
    for (size_t len = 255; len <= 256; len++) {
        e.len = 0;
        put16(&e, 0);
        put16(&e, len + 5);
        put16(&e, len + 3);
        put(&e, "", 1);
        put16(&e, len);
        put(&e, name, len);
        m = hello_with(e.at, e.len);
        assert_int_equal(parse(&m, &sni), len == 255 ? 0 : E_SYNTAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_hellos_are_recognised),
        cmocka_unit_test(cleartext_is_told_by_its_first_byte),
        cmocka_unit_test(extensions_are_read_strictly),
        cmocka_unit_test(vectors_before_the_extensions),
        cmocka_unit_test(longest_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
