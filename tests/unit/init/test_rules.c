/* SPDX-License-Identifier: Apache-2.0 */
/* The text of the redirect rules (wire 1.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "init/rules.h"

static char *written(const struct init_rules *r)
{
    struct text t;
    char *script = NULL;

    text_init(&t, INIT_SCRIPT_BYTES);
    rules_write(r, &t);
    assert_int_equal(text_finish(&t, &script), 0);
    return script;
}

static size_t position(const char *script, const char *what)
{
    struct bytes text = bytes_str(script);
    size_t offset = SIZE_MAX;

    if (!bytes_find(text, bytes_str(what), &offset)) {
        print_error("not found: %s\nin:\n%s\n", what, script);
    }
    assert_int_not_equal(offset, SIZE_MAX);
    return offset;
}

static void absent(const char *script, const char *what)
{
    assert_null(strstr(script, what));
}

static struct init_rules minimal(void)
{
    struct init_rules r = {.incoming_port = 4143, .outgoing_port = 4140, .ipv6 = true};

    return r;
}

static void everything_is_redirected_by_default(void **state)
{
    struct init_rules r = minimal();
    char *script = written(&r);

    (void)state;
    assert_string_equal(script,
                        "add table inet tulle_proxy_init\n"
                        "delete table inet tulle_proxy_init\n"
                        "table inet tulle_proxy_init {\n"
                        "    chain incoming {\n"
                        "        type nat hook prerouting priority -100; policy accept;\n"
                        "        iifname \"lo\" return comment \"proxy-init/ignore-loopback\"\n"
                        "        meta l4proto tcp redirect to :4143 comment "
                        "\"proxy-init/redirect-all-incoming-to-proxy-port\"\n"
                        "    }\n"
                        "    chain outgoing {\n"
                        "        type nat hook output priority -110; policy accept;\n"
                        "        oifname \"lo\" return comment \"proxy-init/ignore-loopback\"\n"
                        "        meta l4proto tcp redirect to :4140 comment "
                        "\"proxy-init/redirect-all-outgoing-to-proxy-port\"\n"
                        "    }\n"
                        "}\n");
    mem_free(script);
}

static void the_proxy_is_exempt_by_user_group_and_mark(void **state)
{
    struct init_rules r = minimal();
    char *script;

    (void)state;
    r.proxy_uid = 2102;
    r.proxy_gid = 2103;
    r.proxy_mark = 0x1539;
    script = written(&r);
    /* Each exemption stands before the rule that redirects. */
    size_t redirect = position(script, "redirect to :4140");
    assert_true(position(script, "meta skuid 2102 return") < redirect);
    assert_true(position(script, "meta skgid 2103 return") < redirect);
    assert_true(position(script, "meta mark 0x00001539 return") < redirect);
    assert_true(position(script, "oifname \"lo\" return") < redirect);
    mem_free(script);
}

static void skipped_ports_are_sorted_and_merged(void **state)
{
    struct init_rules r = minimal();
    char *script;

    (void)state;
    /* Repetitions and overlaps: nft refuses them in a set. */
    port_set_add(&r.skip_inbound, 4191);
    port_set_add(&r.skip_inbound, 4190);
    port_set_add(&r.skip_inbound, 4190);
    port_set_add(&r.skip_inbound, 25);
    port_set_add(&r.skip_outbound, 0);
    port_set_add(&r.skip_outbound, 65535);
    script = written(&r);
    size_t skip = position(script, "tcp dport { 25, 4190-4191 } return");
    assert_true(position(script, "chain incoming") < skip);
    assert_true(skip < position(script, "redirect to :4143"));
    assert_true(position(script, "tcp dport { 0, 65535 } return") <
                position(script, "redirect to :4140"));
    assert_true(position(script, "chain outgoing") < position(script, "tcp dport { 0, 65535 }"));
    mem_free(script);
}

static void only_listed_ports_are_redirected(void **state)
{
    struct init_rules r = minimal();
    char *script;

    (void)state;
    port_set_add(&r.redirect, 80);
    port_set_add(&r.redirect, 443);
    script = written(&r);
    (void)position(script, "tcp dport { 80, 443 } redirect to :4143");
    absent(script, "meta l4proto tcp redirect to :4143");
    /* Outgoing traffic is not concerned. */
    (void)position(script, "meta l4proto tcp redirect to :4140");
    mem_free(script);
}

static void ignored_subnets_are_sources_of_incoming_traffic(void **state)
{
    struct init_rules r = minimal();
    char *script;

    (void)state;
    r.subnets[0] = (struct subnet){.text = "10.0.0.0/8"};
    r.subnets[1] = (struct subnet){.text = "fd00::/8", .is_v6 = true};
    r.subnets_count = 2;
    script = written(&r);
    size_t end = position(script, "chain outgoing");
    assert_true(position(script, "ip saddr 10.0.0.0/8 return") < end);
    assert_true(position(script, "ip6 saddr fd00::/8 return") < end);
    mem_free(script);
}

static void ipv6_can_be_left_alone(void **state)
{
    struct init_rules r = minimal();
    char *script;

    (void)state;
    r.ipv6 = false;
    r.subnets[0] = (struct subnet){.text = "fd00::/8", .is_v6 = true};
    r.subnets_count = 1;
    script = written(&r);
    size_t in = position(script, "meta nfproto != ipv4 return");
    assert_true(in < position(script, "redirect to :4143"));
    size_t out = position(script + in + 1, "meta nfproto != ipv4 return") + in + 1;
    assert_true(position(script, "chain outgoing") < out);
    assert_true(out < position(script, "redirect to :4140"));
    absent(script, "ip6 saddr");
    mem_free(script);
}

static void the_largest_script_fits(void **state)
{
    struct init_rules r = minimal();
    char *script;

    (void)state;
    for (unsigned port = 0; port < INIT_PORTS; port += 2) {
        port_set_add(&r.redirect, (uint16_t)port);
        port_set_add(&r.skip_inbound, (uint16_t)port);
        port_set_add(&r.skip_outbound, (uint16_t)port);
    }
    r.subnets_count = INIT_SUBNETS_MAX;
    for (size_t i = 0; i < INIT_SUBNETS_MAX; i++) {
        snprintf(r.subnets[i].text, sizeof(r.subnets[i].text), "%s",
                 "2001:db8:1111:2222:3333:4444:5555:6666/128");
        r.subnets[i].is_v6 = true;
    }
    script = written(&r);
    (void)position(script, "65532, 65534 }");
    mem_free(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_redirected_by_default),
        cmocka_unit_test(the_proxy_is_exempt_by_user_group_and_mark),
        cmocka_unit_test(skipped_ports_are_sorted_and_merged),
        cmocka_unit_test(only_listed_ports_are_redirected),
        cmocka_unit_test(ignored_subnets_are_sources_of_incoming_traffic),
        cmocka_unit_test(ipv6_can_be_left_alone),
        cmocka_unit_test(the_largest_script_fits),
    };

    return cmocka_run_group_tests_name("init rules", tests, NULL, NULL);
}
