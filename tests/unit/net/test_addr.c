/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and networks: what is accepted, refused, normalised, and what equals what. */
#include "net_probe.h"

static struct addr parsed(const char *text)
{
    struct addr a;

    memset(&a, 0, sizeof(a));
    assert_int_equal(addr_parse(bytes_str(text), &a), 0);
    return a;
}

static void print_gives_what_was_parsed(void **state)
{
    static const char *const same[] = {"1.2.3.4:80", "0.0.0.0:0",        "255.255.255.255:65535",
                                       "[::1]:443",  "[fe80::1234:5]:1", "[::]:65535"};
    char text[ADDR_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        struct addr a = parsed(same[i]);

        assert_string_equal(addr_format(&a, text), same[i]);
    }
}

static void longest_address_fits(void **state)
{
    struct addr a = parsed("[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
    char text[ADDR_TEXT_BYTES];

    (void)state;
    assert_string_equal(addr_format(&a, text), "[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
}

static void malformed_is_refused_and_out_untouched(void **state)
{
    static const char *const bad[] = {
        "",           "1.2.3.4",      "1.2.3.4:",    ":80",         "1.2.3.4:65536",
        "1.2.3:80",   "1.2.3.4:8x",   "::1:80",      "[::1]",       "[::1]:",
        "[]:80",      "[1.2.3.4]:80", "01.2.3.4:80", "1.2.3.4 :80", "[::1%lo]:8",
        "1.2.3.4:-1", "localhost:80", "1.2.3.256:1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct addr a = addr_v4(0x01020304, 5);

        if (addr_parse(bytes_str(bad[i]), &a) != E_SYNTAX) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(a.port, 5);
    }
    struct addr a;

    assert_int_equal(addr_parse_ip(bytes_of("1.2.3.4\0", 8), &a), E_SYNTAX);
}

static void mapped_is_ipv4(void **state)
{
    struct addr v4 = parsed("10.1.2.3:80"), mapped = parsed("[::ffff:10.1.2.3]:80"), from_kernel;
    struct sockaddr_storage sa;
    struct sockaddr_in6 *v6 = (void *)&sa;

    (void)state;
    assert_true(addr_eq(&v4, &mapped));
    assert_int_equal(mapped.family, AF_INET);
    assert_true(bytes_eq(addr_key(&v4), addr_key(&mapped)));
    assert_int_equal(addr_cmp(&v4, &mapped), 0);

    memset(&sa, 0, sizeof(sa));
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(80);
    assert_int_equal(inet_pton(AF_INET6, "::ffff:10.1.2.3", &v6->sin6_addr), 1);
    addr_from_sockaddr(&sa, &from_kernel);
    assert_true(addr_eq(&v4, &from_kernel));
    /* RFC 4291 2.5.5.1: "compatible" addresses are something else. */
    mapped = parsed("[::10.1.2.3]:80");
    assert_false(addr_eq(&v4, &mapped));
}

static void sockaddr_there_and_back(void **state)
{
    static const char *const texts[] = {"1.2.3.4:80", "[2001:db8::7]:8080"};
    struct sockaddr_storage sa;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct addr a = parsed(texts[i]), b;

        assert_true(addr_to_sockaddr(&a, &sa) > 0);
        addr_from_sockaddr(&sa, &b);
        assert_true(addr_eq(&a, &b));
    }
    memset(&sa, 0, sizeof(sa));
    sa.ss_family = AF_UNIX;
    struct addr none = addr_v4(1, 1);

    addr_from_sockaddr(&sa, &none);
    assert_true(addr_is_none(&none));
    assert_int_equal(addr_to_sockaddr(&none, &sa), 0);
}

static void order_and_equality(void **state)
{
    struct addr a = parsed("1.2.3.4:80"), b = parsed("1.2.3.4:81"), c = parsed("1.2.3.5:1"),
                d = parsed("[::1]:1");

    (void)state;
    assert_false(addr_eq(&a, &b));
    assert_true(addr_ip_eq(&a, &b));
    assert_true(addr_cmp(&a, &b) < 0 && addr_cmp(&b, &a) > 0);
    assert_true(addr_cmp(&b, &c) < 0);
    assert_true(addr_cmp(&c, &d) < 0 && addr_cmp(&d, &c) > 0);
    assert_false(bytes_eq(addr_key(&a), addr_key(&b)));
}

static void loopback(void **state)
{
    struct addr a = parsed("127.0.0.1:1"), b = parsed("127.255.0.9:1"), c = parsed("128.0.0.1:1"),
                d = parsed("[::1]:1"), e = parsed("[::ffff:127.0.0.1]:1"), f = parsed("[::2]:1");

    (void)state;
    assert_true(addr_is_loopback(&a) && addr_is_loopback(&b) && addr_is_loopback(&d));
    assert_true(addr_is_loopback(&e));
    assert_false(addr_is_loopback(&c) || addr_is_loopback(&f));
}

static bool contains(const char *network, const char *ip)
{
    struct cidr c;
    struct addr a;

    assert_int_equal(cidr_parse(bytes_str(network), &c), 0);
    assert_int_equal(addr_parse_ip(bytes_str(ip), &a), 0);
    return cidr_contains(&c, &a);
}

static void networks_at_their_edges(void **state)
{
    (void)state;
    assert_true(contains("10.0.0.0/8", "10.0.0.0") && contains("10.0.0.0/8", "10.255.255.255"));
    assert_false(contains("10.0.0.0/8", "11.0.0.0") || contains("10.0.0.0/8", "9.255.255.255"));
    assert_true(contains("100.64.0.0/10", "100.127.255.255"));
    assert_false(contains("100.64.0.0/10", "100.128.0.0"));
    assert_true(contains("1.2.3.4/31", "1.2.3.5"));
    assert_false(contains("1.2.3.4/31", "1.2.3.6"));
    assert_true(contains("0.0.0.0/0", "255.255.255.255"));
    assert_false(contains("0.0.0.0/0", "::1"));
    assert_true(contains("::/0", "ffff::1"));
    assert_false(contains("::/0", "1.2.3.4"));
    assert_true(contains("1.2.3.4", "1.2.3.4"));
    assert_false(contains("1.2.3.4/32", "1.2.3.5"));
    assert_true(contains("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(contains("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(contains("::1/128", "::1"));
    assert_true(contains("10.0.0.0/8", "::ffff:10.9.9.9"));
    assert_true(contains("::ffff:10.0.0.0/104", "10.9.9.9"));
    assert_true(contains("::ffff:0:0/96", "8.8.8.8"));
}

static void host_bits_are_cleared(void **state)
{
    struct cidr c;
    char text[ADDR_TEXT_BYTES];

    (void)state;
    assert_int_equal(cidr_parse(BYTES("10.1.2.255/25"), &c), 0);
    assert_string_equal(cidr_format(&c, text), "10.1.2.128/25");
    assert_int_equal(cidr_parse(BYTES("2001:db8::ffff/127"), &c), 0);
    assert_string_equal(cidr_format(&c, text), "2001:db8::fffe/127");
    assert_int_equal(cidr_parse(BYTES("10.1.2.3"), &c), 0);
    assert_string_equal(cidr_format(&c, text), "10.1.2.3/32");
}

static void malformed_networks(void **state)
{
    static const char *const bad[] = {
        "",     "/8",          "10.0.0.0/",    "10.0.0.0/33",   "10.0.0.0/-1", "::/129",
        "10/8", "1.2.3.4/8/8", "1.2.3.4:80/8", "::ffff:0:0/95", "1.2.3.4/ 8"};
    struct cidr c;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (cidr_parse(bytes_str(bad[i]), &c) != E_SYNTAX) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(print_gives_what_was_parsed),
        cmocka_unit_test(longest_address_fits),
        cmocka_unit_test(malformed_is_refused_and_out_untouched),
        cmocka_unit_test(mapped_is_ipv4),
        cmocka_unit_test(sockaddr_there_and_back),
        cmocka_unit_test(order_and_equality),
        cmocka_unit_test(loopback),
        cmocka_unit_test(networks_at_their_edges),
        cmocka_unit_test(host_bits_are_cleared),
        cmocka_unit_test(malformed_networks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
