/* SPDX-License-Identifier: Apache-2.0 */
/* Names and tokens of questions: what is read, what is refused (wire 3.2, 3.4). */
#include "tests/unit/unit.h"

#include "control/question.h"
#include "core/err.h"

#define DOMAIN "cluster.local"

static void assert_name(const char *text, const char *host, const char *name, const char *ns,
                        unsigned port)
{
    struct service_name n;

    assert_int_equal(service_name_parse(bytes_str(text), DOMAIN, &n), 0);
    assert_string_equal(n.host, host);
    assert_string_equal(n.name, name);
    assert_string_equal(n.ns, ns);
    assert_int_equal(n.port, port);
}

static void service_names(void **state)
{
    (void)state;
    assert_name("web.default.svc.cluster.local:8080", "", "web", "default", 8080);
    assert_name("web.default.svc.cluster.local", "", "web", "default", 80);
    assert_name("web.default.svc.cluster.local.:81", "", "web", "default", 81);
    assert_name("web-0.web.default.svc.cluster.local:1", "web-0", "web", "default", 1);
    assert_name("svc.svc.svc.cluster.local:65535", "", "svc", "svc", 65535);
}

static void service_names_refused(void **state)
{
    static const char *const bad[] = {
        "",
        ":80",
        "web",
        "web:80",
        "cluster.local",
        "svc.cluster.local",
        ".svc.cluster.local",
        "web.svc.cluster.local",
        ".default.svc.cluster.local",
        "web..svc.cluster.local",
        "a.b.c.d.svc.cluster.local",
        "web.default.svc.example.com",
        "web.default.pod.cluster.local",
        "web.default.svc.cluster.local:0",
        "web.default.svc.cluster.local:65536",
        "web.default.svc.cluster.local:",
        "web.default.svc.cluster.local:80:80",
        "web.default.svc.cluster.local..",
        "Web.default.svc.cluster.local",
        "-web.default.svc.cluster.local",
        "we b.default.svc.cluster.local",
        "web.default.svc.cluster.local:+80",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.default.svc.cluster."
        "local",
        "10.0.0.1:80",
        "xcluster.local",
        "web.default.svcxcluster.local",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct service_name n = {.port = 7};

        if (service_name_parse(bytes_str(bad[i]), DOMAIN, &n) != E_SYNTAX || n.port != 7) {
            fail_msg("\"%s\" is taken", bad[i]);
        }
    }
}

static void addresses(void **state)
{
    struct addr a;
    char text[ADDR_TEXT_BYTES];

    (void)state;
    assert_int_equal(address_parse(BYTES("10.0.0.1:8080"), &a), 0);
    assert_string_equal(addr_format(&a, text), "10.0.0.1:8080");
    assert_int_equal(address_parse(BYTES("10.0.0.1"), &a), 0);
    assert_string_equal(addr_format(&a, text), "10.0.0.1:80");
    assert_int_equal(address_parse(BYTES("[fd00::1]:443"), &a), 0);
    assert_string_equal(addr_format(&a, text), "[fd00::1]:443");
    assert_int_not_equal(address_parse(BYTES("10.0.0.256:80"), &a), 0);
    assert_int_not_equal(address_parse(BYTES("web:80"), &a), 0);
    assert_int_not_equal(address_parse(BYTES(""), &a), 0);
}

static void assert_client(const char *token, const char *ns, const char *node)
{
    struct client c;

    client_parse(bytes_str(token), &c);
    assert_string_equal(c.ns, ns);
    assert_string_equal(c.node, node);
}

static void context_tokens(void **state)
{
    char deep[TOKEN_TEXT_MAX];

    (void)state;
    assert_client("{\"ns\":\"a\",\"nodeName\":\"n.x\",\"pod\":\"p\"}\n", "a", "n.x");
    assert_client("ns:legacy", "legacy", "");
    assert_client("{\"nodeName\":\"n\"}", "", "n");
    assert_client("", "", "");
    assert_client("{", "", "");
    assert_client("[]", "", "");
    assert_client("{\"ns\":7,\"nodeName\":[]}", "", "");
    assert_client("ns:No Such", "", "");
    assert_client("{\"ns\":\"\\u0000a\"}", "", "");
    memset(deep, '[', sizeof(deep));
    memcpy(deep, "{\"ns\":", 6);
    deep[sizeof(deep) - 1] = '\0';
    assert_client(deep, "", "");
}

static void assert_workload(const char *token, const char *ns, const char *name, bool is_external)
{
    struct workload_name w;

    assert_int_equal(workload_name_parse(bytes_str(token), &w), 0);
    assert_string_equal(w.ns, ns);
    assert_string_equal(w.name, name);
    assert_int_equal(w.is_external, is_external);
}

static void workload_tokens(void **state)
{
    static const char *const bad[] = {
        "",
        "a",
        ":",
        "a:",
        ":b",
        "{}",
        "{\"ns\":\"a\"}",
        "{\"pod\":\"p\"}",
        "{\"ns\":\"a\",\"pod\":\"\"}",
        "{\"ns\":\"a\",\"pod\":7}",
        "{\"ns\":\"a b\",\"pod\":\"p\"}",
        "{\"ns\":\"a\",\"pod\":\"p\"",
        "a:b:c",
    };
    struct workload_name w;

    (void)state;
    assert_workload("{\"ns\":\"a\",\"pod\":\"p-1.x\"}\n", "a", "p-1.x", false);
    assert_workload("{\"ns\":\"a\",\"external_workload\":\"vm\"}", "a", "vm", true);
    assert_workload("a:p", "a", "p", false);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (workload_name_parse(bytes_str(bad[i]), &w) != E_SYNTAX) {
            fail_msg("\"%s\" is taken", bad[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(service_names),   cmocka_unit_test(service_names_refused),
        cmocka_unit_test(addresses),       cmocka_unit_test(context_tokens),
        cmocka_unit_test(workload_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
