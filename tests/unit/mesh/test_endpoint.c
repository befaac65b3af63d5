/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "mesh/decode.h"

#define ID "web.app.serviceaccount.identity.linkerd.cluster.local"

/* Decode a destination.WeightedAddrSet of one address, with its set's labels. */
static struct endpoint *decode(struct bytes set_message)
{
    Io__Linkerd__Proxy__Destination__WeightedAddrSet *set =
        io__linkerd__proxy__destination__weighted_addr_set__unpack(NULL, set_message.len,
                                                                   (const uint8_t *)set_message.at);
    struct endpoint *e;

    assert_non_null(set);
    assert_int_equal(set->n_addrs, 1);
    e = endpoint_new(set->addrs[0], set->metric_labels, set->n_metric_labels);
    io__linkerd__proxy__destination__weighted_addr_set__free_unpacked(set, NULL);
    return e;
}

#define DNS_ID(name) MSG(5, MSG(1, STR(1, name)))

static void everything_is_carried(void **state)
{
    char at[ADDR_TEXT_BYTES];
    struct endpoint *e =
        decode(CAT(MSG(1, TCP4(1, 10, 1, 2, 3, 8080), NUM(3, 10000), ENTRY(4, "pod", "web-0"),
                       ENTRY(4, "zone_locality", "local"),
                       MSG(5, MSG(1, STR(1, ID)), MSG(4, STR(1, "web.sni"))),
                       MSG(6, MSG(1, NONE), MSG(2, NUM(1, 4143))), MSG(7, STR(1, "web.remote:80")),
                       MSG(8, MSG(2, MS(1, 10000), MS(2, 3000), NUM(3, 1)))),
                   ENTRY(2, "service", "web"), ENTRY(2, "namespace", "app")));

    (void)state;
    assert_non_null(e);
    assert_string_equal(addr_format(&e->addr, at), "10.1.2.3:8080");
    assert_int_equal(e->weight, 10000);
    assert_string_equal(e->labels, "dst_namespace=\"app\",dst_pod=\"web-0\",dst_service=\"web\","
                                   "dst_zone_locality=\"local\"");
    assert_int_equal(e->zone_locality, 'l');
    assert_string_equal(e->identity, ID);
    assert_string_equal(e->server_name, "web.sni");
    assert_int_equal(e->hint, ENDPOINT_HINT_H2);
    assert_int_equal(e->transport_port, 4143);
    assert_string_equal(e->authority_override, "web.remote:80");
    assert_true(e->ping_interval_ns == 10 * NS_PER_S && e->ping_timeout_ns == 3 * NS_PER_S);
    assert_true(e->ping_while_idle);
    endpoint_unref(e);
}

static void little_is_enough(void **state)
{
    struct endpoint *e = decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80)));

    (void)state;
    assert_non_null(e);
    assert_null(e->identity);
    assert_null(e->server_name);
    assert_null(e->authority_override);
    assert_string_equal(e->labels, "");
    assert_int_equal(e->hint, ENDPOINT_HINT_NONE);
    assert_int_equal(e->zone_locality, 0);
    endpoint_unref(e);
}

static void addresses_of_both_families(void **state)
{
    static const struct {
        uint64_t first, last;
        const char *want;
    } cases[] = {
        {0x20010db800000000, 1, "[2001:db8::1]:80"},
        {0, 0x0000ffff0a010203, "10.1.2.3:80"}, /* mapped: peers must compare equal */
    };
    char at[ADDR_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct endpoint *e =
            decode(MSG(1, MSG(1, MSG(1, MSG(2, FIX64(1, cases[i].first), FIX64(2, cases[i].last))),
                              NUM(2, 80))));

        assert_non_null(e);
        assert_string_equal(addr_format(&e->addr, at), cases[i].want);
        endpoint_unref(e);
    }
}

static void addresses_survive_the_way_back(void **state)
{
    static const char *const cases[] = {"10.96.0.1:80", "[2001:db8::17]:65535",
                                        "255.255.255.255:1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct addr before, after;
        pb_addr wire;
        pb_ip ip;
        Io__Linkerd__Proxy__Net__IPv6 v6;

        assert_int_equal(addr_parse(bytes_str(cases[i]), &before), 0);
        io__linkerd__proxy__net__tcp_address__init(&wire);
        addr_encode_ip(&before, &ip, &v6);
        wire.ip = &ip;
        wire.port = before.port;
        assert_int_equal(addr_decode(&wire, &after), 0);
        assert_true(addr_eq(&before, &after));
        /* Wire 3.1: 10.96.0.1 is the number 174063617. */
        assert_true(i != 0 || ip.ipv4 == 174063617);
    }
}

/* Wire 3.2: a DNS-like name doubles as SNI; a URI needs a server name. */
static void identities(void **state)
{
    struct endpoint *e;
    char long_name[300];

    (void)state;
    memset(long_name, 'a', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    e = decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), DNS_ID(ID)));
    assert_string_equal(e->server_name, ID);
    endpoint_unref(e);
    e = decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80),
                   MSG(5, MSG(3, STR(1, "spiffe://td/x")), MSG(4, STR(1, "sni")))));
    assert_string_equal(e->identity, "spiffe://td/x");
    assert_string_equal(e->server_name, "sni");
    endpoint_unref(e);
    e = decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), MSG(5, NONE)));
    assert_null(e->identity);
    endpoint_unref(e);
    /* An identity that cannot be used must not become plain TCP. */
    assert_null(decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), MSG(5, MSG(3, STR(1, "spiffe://td/x"))))));
    assert_null(decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), DNS_ID(""))));
    assert_null(decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), DNS_ID(long_name))));
    assert_null(decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), MSG(5, MSG(1, STR(1, ID)), MSG(4, NONE)))));
}

static void bad_addresses_are_refused(void **state)
{
    (void)state;
    assert_null(decode(MSG(1, NUM(3, 1))));
    assert_null(decode(MSG(1, MSG(1, NUM(2, 80)))));
    assert_null(decode(MSG(1, MSG(1, MSG(1, NONE), NUM(2, 80)))));
    assert_null(decode(MSG(1, TCP4(1, 10, 1, 2, 3, 65536))));
}

static void hints(void **state)
{
    struct endpoint *e =
        decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), MSG(6, MSG(3, NONE), MSG(2, NUM(1, 65535)))));

    (void)state;
    assert_int_equal(e->hint, ENDPOINT_HINT_OPAQUE);
    assert_int_equal(e->transport_port, 0); /* wire 3.2: 1 to 65534 */
    endpoint_unref(e);
}

/* Labels come from a peer and end in metrics: sorted, an address' own win, names are made fit. */
static void labels_are_bounded_and_clean(void **state)
{
    struct bytes many = NONE;
    char value[200], key[16];
    struct endpoint *e =
        decode(CAT(MSG(1, TCP4(1, 10, 1, 2, 3, 80), ENTRY(4, "a", "own"),
                       ENTRY(4, "b/c d", "x\"y\\z\n"), ENTRY(4, "zone_locality", "remote")),
                   ENTRY(2, "a", "set")));

    (void)state;
    assert_string_equal(e->labels,
                        "dst_a=\"own\",dst_b_c_d=\"x\\\"y\\\\z\\n\",dst_zone_locality=\"remote\"");
    assert_int_equal(e->zone_locality, 'r');
    endpoint_unref(e);
    e = decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), ENTRY(4, "x y", "1"), ENTRY(4, "x_y", "2")));
    assert_string_equal(e->labels, "dst_x_y=\"2\""); /* one name, so one label */
    endpoint_unref(e);
    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof(key), "k%02u", i);
        many = CAT(many, ENTRY(4, key, value));
    }
    e = decode(MSG(1, TCP4(1, 10, 1, 2, 3, 80), many));
    assert_true(strlen(e->labels) <= 2048 && strlen(e->labels) > 1500);
    assert_int_equal(e->labels[strlen(e->labels) - 1], '"'); /* none is cut in two */
    endpoint_unref(e);
}

static void sameness_looks_at_every_field(void **state)
{
    struct addr a = addr_v4(0x0a010203, 80);
    struct endpoint *one = endpoint_new_plain(&a);

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct endpoint *two = endpoint_new_plain(&a);

        assert_true(endpoint_same(one, two));
        switch (i) {
        case 0:
            two->addr.port = 81;
            break;
        case 1:
            two->weight = 1;
            break;
        case 2:
            two->labels = mem_strdup("x");
            break;
        case 3:
            two->identity = mem_strdup("x");
            break;
        case 4:
            two->server_name = mem_strdup("x");
            break;
        case 5:
            two->hint = ENDPOINT_HINT_H2;
            break;
        case 6:
            two->transport_port = 1;
            break;
        case 7:
            two->authority_override = mem_strdup("x");
            break;
        case 8:
            two->zone_locality = 'l';
            break;
        case 9:
            two->ping_interval_ns = 1;
            break;
        case 10:
            two->ping_timeout_ns = 1;
            break;
        default:
            two->ping_while_idle = true;
            break;
        }
        assert_false(endpoint_same(one, two));
        endpoint_unref(two);
    }
    endpoint_unref(one);
    endpoint_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_TEST(everything_is_carried),
        WIRE_TEST(little_is_enough),
        WIRE_TEST(addresses_of_both_families),
        WIRE_TEST(addresses_survive_the_way_back),
        WIRE_TEST(identities),
        WIRE_TEST(bad_addresses_are_refused),
        WIRE_TEST(hints),
        WIRE_TEST(labels_are_bounded_and_clean),
        WIRE_TEST(sameness_looks_at_every_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
