/* SPDX-License-Identifier: Apache-2.0 */
/* Every argument is checked before anything happens, and the sentence names flag and value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/err.h"
#include "init/validate.h"

static struct opt_list list_of(const char **items, size_t count)
{
    return (struct opt_list){.items = items, .count = count};
}

static void names(const struct problem *why, const char *flag, const char *value)
{
    if (strstr(why->text, flag) == NULL || strstr(why->text, value) == NULL) {
        print_error("neither %s nor %s in: %s\n", flag, value, why->text);
    }
    assert_non_null(strstr(why->text, flag));
    assert_non_null(strstr(why->text, value));
}

static void ports_are_whole_numbers_from_1_to_65535(void **state)
{
    const char *bad[] = {"0", "65536", "-1", "", "4143x", "0x10", "99999999999999999999", "4 143"};
    struct problem why;
    uint16_t port = 7;

    (void)state;
    assert_int_equal(validate_port("incoming-proxy-port", "4143", &port, &why), 0);
    assert_int_equal(port, 4143);
    assert_int_equal(validate_port("incoming-proxy-port", " 1 ", &port, &why), 0);
    assert_int_equal(port, 1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(validate_port("incoming-proxy-port", bad[i], &port, &why), E_CONFIG);
        names(&why, "--incoming-proxy-port", bad[i]);
        assert_int_equal(port, 1); /* untouched on failure */
    }
    assert_int_equal(validate_port("outgoing-proxy-port", NULL, &port, &why), E_CONFIG);
    names(&why, "--outgoing-proxy-port", "required");
}

static void port_lists_hold_ports_and_ranges(void **state)
{
    const char *good[] = {"4190", "8000-8002", " 443 ", "25-25"};
    const char *bad[] = {"a", "80-", "-80", "90-80", "70000", "1-70000", "80:90", "", "1-2-3"};
    const char *empty[] = {""};
    struct opt_list items = list_of(good, ARRAY_LEN(good));
    struct port_set ports = {.bits = {0}};
    struct problem why;

    (void)state;
    assert_int_equal(validate_ports("ports-to-redirect", &items, &ports, &why), 0);
    assert_true(port_set_has(&ports, 4190) && port_set_has(&ports, 443) &&
                port_set_has(&ports, 25));
    assert_true(port_set_has(&ports, 8000) && port_set_has(&ports, 8001) &&
                port_set_has(&ports, 8002));
    assert_false(port_set_has(&ports, 7999) || port_set_has(&ports, 8003) ||
                 port_set_has(&ports, 80));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *pair[] = {"80", bad[i]};

        items = list_of(pair, 2);
        assert_int_equal(validate_ports("ports-to-redirect", &items, &ports, &why), E_CONFIG);
        names(&why, "--ports-to-redirect", bad[i]);
        assert_true(port_set_has(&ports, 4190)); /* untouched on failure */
        assert_false(port_set_has(&ports, 80));
    }
    items = list_of(empty, 1);
    assert_int_equal(validate_ports("ports-to-redirect", &items, &ports, &why), 0);
    assert_true(port_set_is_empty(&ports));
}

static void subnets_lose_their_host_bits(void **state)
{
    static const struct {
        const char *given, *canonical;
        bool is_v6;
    } good[] = {
        {"10.1.2.3/8", "10.0.0.0/8", false},
        {" 192.168.0.0/16 ", "192.168.0.0/16", false},
        {"10.255.255.255/9", "10.128.0.0/9", false},
        {"1.2.3.4", "1.2.3.4/32", false},
        {"1.2.3.4/0", "0.0.0.0/0", false},
        {"fd00::1/8", "fd00::/8", true},
        {"2001:DB8::1", "2001:db8::1/128", true},
        {"2001:db8:ffff::/33", "2001:db8:8000::/33", true},
    };
    const char *bad[] = {"",
                         "10.0.0.0/33",
                         "10.0.0.0/",
                         "10.0.0/8",
                         "fd00::/129",
                         "localhost",
                         "10.0.0.0/8/8",
                         "10.0.0.0/-1",
                         "::g",
                         "/8",
                         "1.2.3.4;5",
                         "10.0.0.0/8 #x",
                         "1111:2222:3333:4444:5555:6666:7777:8888:9999/1"};
    struct subnet s;
    struct problem why;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(validate_subnet("subnets-to-ignore", good[i].given, &s, &why), 0);
        assert_string_equal(s.text, good[i].canonical);
        assert_int_equal(s.is_v6, good[i].is_v6);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(validate_subnet("subnets-to-ignore", bad[i], &s, &why), E_CONFIG);
        names(&why, "--subnets-to-ignore", bad[i]);
    }
}

static struct init_flags complete(void)
{
    return (struct init_flags){.incoming_port = "4143", .outgoing_port = "4140", .ipv6 = true};
}

static void all_flags_reach_the_rules(void **state)
{
    static struct init_config c;
    const char *subnets[] = {"10.0.0.0/8", "fd00::/8"};
    struct init_flags f = complete();
    struct problem why;

    (void)state;
    f.proxy_uid = "2102";
    f.proxy_gid = "-1";
    f.proxy_mark = "0x1539";
    f.subnets = list_of(subnets, 2);
    f.close_wait = "3600";
    f.netns = "/proc/1/ns/net";
    f.iptables_mode = "nft";
    assert_int_equal(validate_flags(&f, &c, &why), 0);
    assert_int_equal(c.rules.incoming_port, 4143);
    assert_int_equal(c.rules.outgoing_port, 4140);
    assert_int_equal(c.rules.proxy_uid, 2102);
    assert_int_equal(c.rules.proxy_gid, 0);
    assert_int_equal(c.rules.proxy_mark, 0x1539);
    assert_int_equal(c.rules.subnets_count, 2);
    assert_true(c.rules.ipv6);
    assert_int_equal(c.close_wait_s, 3600);
    assert_string_equal(c.netns, "/proc/1/ns/net");
    assert_string_equal(c.firewall_bin, "nft");
    f.proxy_mark = "5433";
    assert_int_equal(validate_flags(&f, &c, &why), 0);
    assert_int_equal(c.rules.proxy_mark, 0x1539);
}

static void bad_values_name_their_flag(void **state)
{
    static struct init_config c;
    static const struct {
        size_t offset;
        const char *flag, *value;
    } cases[] = {
        {offsetof(struct init_flags, proxy_uid), "--proxy-uid", "root"},
        {offsetof(struct init_flags, proxy_uid), "--proxy-uid", "-2"},
        {offsetof(struct init_flags, proxy_gid), "--proxy-gid", "4294967295"},
        {offsetof(struct init_flags, proxy_mark), "--proxy-mark", "0x"},
        {offsetof(struct init_flags, proxy_mark), "--proxy-mark", "0x123456789"},
        {offsetof(struct init_flags, proxy_mark), "--proxy-mark", "0"},
        {offsetof(struct init_flags, proxy_mark), "--proxy-mark", "x1"},
        {offsetof(struct init_flags, close_wait), "--timeout-close-wait-secs", "1h"},
        {offsetof(struct init_flags, iptables_mode), "--iptables-mode", "bpf"},
        {offsetof(struct init_flags, log_format), "--log-format", "xml"},
        {offsetof(struct init_flags, log_level), "--log-level", "loud"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct init_flags f = complete();
        struct problem why;
        char *slot = (char *)&f + cases[i].offset;

        memcpy(slot, &cases[i].value, sizeof(cases[i].value));
        assert_int_equal(validate_flags(&f, &c, &why), E_CONFIG);
        names(&why, cases[i].flag, cases[i].value);
    }
}

static void too_many_subnets_are_refused(void **state)
{
    static struct init_config c;
    const char *subnets[INIT_SUBNETS_MAX + 1];
    struct init_flags f = complete();
    struct problem why;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(subnets); i++) {
        subnets[i] = "10.0.0.0/8";
    }
    f.subnets = list_of(subnets, INIT_SUBNETS_MAX);
    assert_int_equal(validate_flags(&f, &c, &why), 0);
    f.subnets = list_of(subnets, INIT_SUBNETS_MAX + 1);
    assert_int_equal(validate_flags(&f, &c, &why), E_CONFIG);
    names(&why, "--subnets-to-ignore", "256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_are_whole_numbers_from_1_to_65535),
        cmocka_unit_test(port_lists_hold_ports_and_ranges),
        cmocka_unit_test(subnets_lose_their_host_bits),
        cmocka_unit_test(all_flags_reach_the_rules),
        cmocka_unit_test(bad_values_name_their_flag),
        cmocka_unit_test(too_many_subnets_are_refused),
    };

    return cmocka_run_group_tests_name("init validate", tests, NULL, NULL);
}
