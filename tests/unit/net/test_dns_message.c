/* SPDX-License-Identifier: Apache-2.0 */
/* Reading DNS answers: RFC 1035 4.1, RFC 2782, and names that carry an address. */
#include "net_probe.h"

#include "net/dns_message.h"

#define QUESTION               "\x01x\0\0\1\0\1"
#define HEADER(flags, answers) "\x12\x34\x81" flags "\0\1\0" answers "\0\0\0\0" QUESTION
#define X                      "\xc0\x0c" /* a pointer to the question's name */

static struct dns_record records[8];
static size_t count;

static int parse_type(const void *at, size_t len, enum dns_type type)
{
    count = 99;
    return dns_parse_answer(bytes_of(at, len), type, records, ARRAY_LEN(records), &count);
}

#define PARSE(type, literal) parse_type(literal, sizeof(literal) - 1, type)

static void addresses(void **state)
{
    char text[ADDR_TEXT_BYTES];

    (void)state;
    assert_int_equal(PARSE(DNS_A, HEADER("\x80", "\2") X "\0\1\0\1\0\0\0\x1e\0\4\x0a\1\2\3" X
                                                         "\0\1\0\1\0\0\0\x0a\0\4"
                                                         "\x0a\1\2\4"),
                     0);
    assert_int_equal(count, 2);
    assert_string_equal(addr_format_ip(&records[0].addr, text), "10.1.2.3");
    assert_int_equal(records[0].ttl_s, 30);
    assert_string_equal(addr_format_ip(&records[1].addr, text), "10.1.2.4");
    assert_int_equal(records[1].ttl_s, 10);
    assert_int_equal(PARSE(DNS_AAAA, HEADER("\x80", "\1") X
                           "\0\x1c\0\1\0\0\0\x1e\0\x10\0\0\0\0\0\0\0\0\0\0\xff\xff"
                           "\x0a\1\2\3"),
                     0);
    assert_string_equal(addr_format_ip(&records[0].addr, text), "10.1.2.3"); /* normalised */
}

static void service_records(void **state)
{
    (void)state;
    assert_int_equal(PARSE(DNS_SRV, HEADER("\x80", "\1") X
                           "\0\x21\0\1\0\0\0\x1e\0\x0d\0\7\0\x08\x1f\x96\x04pods" X),
                     0);
    assert_int_equal(count, 1);
    assert_string_equal(records[0].target, "pods.x");
    assert_int_equal(records[0].port, 8086);
    assert_int_equal(records[0].priority, 7);
    assert_int_equal(records[0].weight, 8);
    /* The root as target: decidedly no service. */
    assert_int_equal(
        PARSE(DNS_SRV, HEADER("\x80", "\1") X "\0\x21\0\1\0\0\0\x1e\0\7\0\0\0\0\0\0\0"), 0);
    assert_string_equal(records[0].target, "");
    /* A name that ends elsewhere than its record, and one with a control character. */
    assert_int_equal(
        PARSE(DNS_SRV, HEADER("\x80", "\1") X "\0\x21\0\1\0\0\0\x1e\0\x09\0\0\0\0\0\0\0\0\0"),
        E_SYNTAX);
    assert_int_equal(
        PARSE(DNS_SRV, HEADER("\x80", "\1") X "\0\x21\0\1\0\0\0\x1e\0\x09\0\0\0\0\0\0\1\n\0"),
        E_SYNTAX);
}

static void alias_shortens_the_life(void **state)
{
    (void)state;
    assert_int_equal(PARSE(DNS_A, HEADER("\x80", "\2") X "\0\5\0\1\0\0\0\5\0\3\1y\0"
                                                         "\1y\0\0\1\0\1\0\0\1\0\0\4\1\2\3\4"),
                     0);
    assert_int_equal(count, 1);
    assert_int_equal(records[0].ttl_s, 5);
}

static void what_the_server_says(void **state)
{
    (void)state;
    assert_int_equal(PARSE(DNS_A, HEADER("\x80", "\0")), 0);
    assert_int_equal(count, 0);
    assert_int_equal(PARSE(DNS_A, HEADER("\x83", "\0")), E_DNS_NAME);
    assert_int_equal(PARSE(DNS_A, HEADER("\x82", "\0")), E_DNS_FAIL);
    assert_int_equal(PARSE(DNS_A, HEADER("\x85", "\0")), E_DNS_FAIL);
    assert_int_equal(PARSE(DNS_A, "\x12\x34\1\0\0\1\0\0\0\0\0\0" QUESTION),
                     E_SYNTAX); /* a question */
    assert_int_equal(count, 99);
}

static void every_truncation_is_refused(void **state)
{
    static const char whole[] =
        HEADER("\x80", "\1") X "\0\x21\0\1\0\0\0\x1e\0\x0d\0\7\0\x08\x1f\x96\x04pods" X;

    (void)state;
    for (size_t n = 0; n < sizeof(whole) - 1; n++) {
        assert_int_equal(parse_type(whole, n, DNS_SRV), E_SYNTAX);
    }
    assert_int_equal(parse_type(whole, sizeof(whole) - 1, DNS_SRV), 0);
}

/* RFC 1035 4.1.4: only backwards; otherwise a message could keep us reading for ever. */
static void pointers_only_lead_back(void **state)
{
    (void)state;
    assert_int_equal(PARSE(DNS_A, HEADER("\x80", "\1") "\xc0\x13\0\1\0\1\0\0\0\1\0\4\1\2\3\4"),
                     E_SYNTAX);
    assert_int_equal(PARSE(DNS_A, HEADER("\x80", "\1") "\xc0\x14\0\1\0\1\0\0\0\1\0\4\1\2\3\4"),
                     E_SYNTAX);
    assert_int_equal(PARSE(DNS_A, HEADER("\x80", "\1") "\xff\xff\0\1\0\1\0\0\0\1\0\4\1\2\3\4"),
                     E_SYNTAX);
    assert_int_equal(PARSE(DNS_A, HEADER("\x80", "\1") "\x40\0\0\1\0\1\0\0\0\1\0\4\1\2\3\4"),
                     E_SYNTAX);
}

static void no_more_records_than_asked_for(void **state)
{
    char message[12 + 8 + 20 * 16] = HEADER("\x80", "\x14");
    size_t len = sizeof(HEADER("\x80", "\x14")) - 1;

    (void)state;
    for (int i = 0; i < 20; i++) {
        memcpy(message + len, X "\0\1\0\1\0\0\0\1\0\4\1\2\3\4", 16);
        len += 16;
    }
    assert_int_equal(parse_type(message, len, DNS_A), 0);
    assert_int_equal(count, ARRAY_LEN(records));
}

static void dashed_names_are_addresses(void **state)
{
    static const char *const not [] = {
        "",          "10-1-2",      "10-1-2-256.x", "a-b-c-d",  "10-1-2-3-4.x",
        "10--1-2-3", "010-1-2-3.x", "web.x",        "10.1.2.3", "-10-1-2-3"};
    struct addr a;
    char text[ADDR_TEXT_BYTES];

    (void)state;
    assert_true(dns_dashed_ip(BYTES("10-42-0-17.linkerd-dst.svc"), &a));
    assert_string_equal(addr_format_ip(&a, text), "10.42.0.17");
    assert_true(dns_dashed_ip(BYTES("255-255-255-255"), &a));
    for (size_t i = 0; i < ARRAY_LEN(not ); i++) {
        if (dns_dashed_ip(bytes_str(not [i]), &a)) {
            fail_msg("taken for an address: %s", not [i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(service_records),
        cmocka_unit_test(alias_shortens_the_life),
        cmocka_unit_test(what_the_server_says),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(pointers_only_lead_back),
        cmocka_unit_test(no_more_records_than_asked_for),
        cmocka_unit_test(dashed_names_are_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
