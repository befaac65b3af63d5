/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS responder's answers, read back by the C library's parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/err.h"
#include "dns_probe.h"
#include "local/dns.h"

#define TTL_S 5

struct fixture {
    struct dns_zone *zone;
    uint8_t answer[65535];
    size_t bytes;
    ns_msg msg;
};

static struct addr ip_of(const char *text)
{
    struct addr a = {.family = 0};

    assert_int_equal(addr_parse_ip(bytes_str(text), &a), 0);
    return a;
}

static void add(struct dns_zone *z, const char *name, const char *ip)
{
    struct addr a = ip_of(ip);

    dns_zone_add(z, name, &a, TTL_S);
}

static int setup(void **state)
{
    static struct fixture f;
    struct addr a = ip_of("10.42.0.2"), b = ip_of("fd42::2");
    char name[64], ip[32];

    memset(&f, 0, sizeof(f));
    f.zone = dns_zone_new("cluster.local");
    add(f.zone, "web.demo.svc.cluster.local", "10.43.0.2");
    add(f.zone, "web.demo.svc.cluster.local", "fd43::2");
    add(f.zone, "V4.demo.svc.cluster.local", "10.43.0.3");
    dns_zone_add_srv(f.zone, "_http._tcp.web.demo.svc.cluster.local", "web.demo.svc.cluster.local",
                     80, TTL_S);
    dns_zone_add_ptr(f.zone, &a, "10-42-0-2.demo.pod.cluster.local", TTL_S);
    dns_zone_add_ptr(f.zone, &b, "web-0.demo.pod.cluster.local", TTL_S);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "10-42-%u-%u.many.demo.svc.cluster.local", i / 250, i % 250);
        snprintf(ip, sizeof(ip), "10.42.%u.%u", i / 250, i % 250);
        add(f.zone, "many.demo.svc.cluster.local", ip);
        add(f.zone, name, ip);
        dns_zone_add_srv(f.zone, "_grpc._tcp.many.demo.svc.cluster.local", name, 8080, TTL_S);
    }
    for (unsigned i = 0; i < 30; i++) {
        snprintf(ip, sizeof(ip), "10.42.9.%u", i + 1);
        add(f.zone, "thirty.demo.svc.cluster.local", ip);
    }
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    dns_zone_free(f->zone);
    return 0;
}

static void ask_as(struct fixture *f, const char *name, unsigned type, uint16_t id, unsigned edns,
                   bool over_tcp)
{
    struct probe p = probe_make(name, type, id, edns);

    assert_int_equal(dns_answer(f->zone, bytes_of(p.at, p.len), over_tcp, f->answer,
                                sizeof(f->answer), &f->bytes),
                     0);
    assert_int_equal(probe_walk(f->answer, f->bytes, &f->msg), 0);
    assert_int_equal(ns_msg_id(f->msg), id);
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_qr), 1);
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_rd), 1);
}

static void ask(struct fixture *f, const char *name, unsigned type)
{
    ask_as(f, name, type, 0x1234, 0, false);
}

static int rcode(struct fixture *f)
{
    return ns_msg_getflag(f->msg, ns_f_rcode);
}

static int count(struct fixture *f, ns_sect section)
{
    return ns_msg_count(f->msg, section);
}

static ns_rr record(struct fixture *f, ns_sect section, int index)
{
    ns_rr rr;

    assert_int_equal(ns_parserr(&f->msg, section, index, &rr), 0);
    return rr;
}

static void has_soa(struct fixture *f, const char *zone)
{
    ns_rr rr;

    assert_int_equal(count(f, ns_s_an), 0);
    assert_int_equal(count(f, ns_s_ns), 1);
    rr = record(f, ns_s_ns, 0);
    assert_int_equal(ns_rr_type(rr), ns_t_soa);
    assert_string_equal(ns_rr_name(rr), zone);
}

static void addresses_of_both_families(void **state)
{
    struct fixture *f = *state;
    const uint8_t v4[] = {10, 43, 0, 2};
    const uint8_t v6[16] = {0xfd, 0x43, [15] = 2};
    ns_rr rr;

    ask(f, "web.demo.svc.cluster.local", ns_t_a);
    assert_int_equal(rcode(f), ns_r_noerror);
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_aa), 1);
    assert_int_equal(count(f, ns_s_an), 1);
    rr = record(f, ns_s_an, 0);
    assert_int_equal(ns_rr_type(rr), ns_t_a);
    assert_int_equal(ns_rr_ttl(rr), TTL_S);
    assert_string_equal(ns_rr_name(rr), "web.demo.svc.cluster.local");
    assert_memory_equal(ns_rr_rdata(rr), v4, 4);
    ask(f, "web.demo.svc.cluster.local", ns_t_aaaa);
    rr = record(f, ns_s_an, 0);
    assert_int_equal(ns_rr_rdlen(rr), 16);
    assert_memory_equal(ns_rr_rdata(rr), v6, 16);
}

/* RFC 4343 3: names match without regard to case, and the question comes back as it was written. */
static void case_is_ignored_and_kept(void **state)
{
    struct fixture *f = *state;

    ask(f, "WeB.Demo.SVC.cluster.LOCAL", ns_t_a);
    assert_int_equal(count(f, ns_s_an), 1);
    assert_string_equal(ns_rr_name(record(f, ns_s_qd, 0)), "WeB.Demo.SVC.cluster.LOCAL");
    ask(f, "v4.demo.svc.cluster.local", ns_t_a);
    assert_int_equal(count(f, ns_s_an), 1);
}

/* RFC 2308 2: a "no" carries the zone's SOA, whose minimum says how long it may be kept. */
static void missing_names_and_missing_types(void **state)
{
    struct fixture *f = *state;

    ask(f, "nobody.demo.svc.cluster.local", ns_t_a);
    assert_int_equal(rcode(f), ns_r_nxdomain);
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_aa), 1);
    has_soa(f, "cluster.local");
    ask(f, "v4.demo.svc.cluster.local", ns_t_aaaa);
    assert_int_equal(rcode(f), ns_r_noerror);
    has_soa(f, "cluster.local");
    ask(f, "web.demo.svc.cluster.local", ns_t_txt);
    assert_int_equal(rcode(f), ns_r_noerror);
    has_soa(f, "cluster.local");
}

/* RFC 8020 2: a name exists when one below it does. */
static void names_above_a_name_exist(void **state)
{
    struct fixture *f = *state;
    const char *above[] = {"demo.svc.cluster.local", "svc.cluster.local", "cluster.local",
                           "_tcp.web.demo.svc.cluster.local"};

    for (size_t i = 0; i < ARRAY_LEN(above); i++) {
        ask(f, above[i], ns_t_a);
        assert_int_equal(rcode(f), ns_r_noerror);
        has_soa(f, "cluster.local");
    }
}

static void other_zones_are_refused(void **state)
{
    struct fixture *f = *state;
    const char *others[] = {"example.com", "local", "", "notcluster.local", "xcluster.local"};

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        ask(f, others[i], ns_t_a);
        assert_int_equal(rcode(f), ns_r_refused);
        assert_int_equal(ns_msg_getflag(f->msg, ns_f_aa), 0);
        assert_int_equal(count(f, ns_s_an) + count(f, ns_s_ns), 0);
    }
    ask(f, "cluster.local", 252); /* AXFR */
    assert_int_equal(rcode(f), ns_r_refused);
}

static void soa_of_the_zone(void **state)
{
    struct fixture *f = *state;

    ask(f, "cluster.local", ns_t_soa);
    assert_int_equal(count(f, ns_s_an), 1);
    assert_int_equal(ns_rr_type(record(f, ns_s_an, 0)), ns_t_soa);
    ask(f, "svc.cluster.local", ns_t_soa);
    has_soa(f, "cluster.local");
}

static void srv_with_the_addresses_of_its_target(void **state)
{
    struct fixture *f = *state;
    char target[NS_MAXDNAME];
    ns_rr rr;

    ask(f, "_http._tcp.web.demo.svc.cluster.local", ns_t_srv);
    assert_int_equal(count(f, ns_s_an), 1);
    rr = record(f, ns_s_an, 0);
    assert_int_equal(ns_get16(ns_rr_rdata(rr) + 4), 80);
    assert_true(ns_name_uncompress(ns_msg_base(f->msg), ns_msg_end(f->msg), ns_rr_rdata(rr) + 6,
                                   target, sizeof(target)) > 0);
    assert_string_equal(target, "web.demo.svc.cluster.local");
    assert_int_equal(count(f, ns_s_ar), 2);
    rr = record(f, ns_s_ar, 0);
    assert_string_equal(ns_rr_name(rr), "web.demo.svc.cluster.local");
    assert_int_equal(ns_rr_type(rr), ns_t_a);
    assert_int_equal(ns_rr_type(record(f, ns_s_ar, 1)), ns_t_aaaa);
}

static void reverse_names(void **state)
{
    struct fixture *f = *state;
    char name[NS_MAXDNAME];
    ns_rr rr;

    ask(f, "2.0.42.10.in-addr.arpa", ns_t_ptr);
    rr = record(f, ns_s_an, 0);
    assert_true(ns_name_uncompress(ns_msg_base(f->msg), ns_msg_end(f->msg), ns_rr_rdata(rr), name,
                                   sizeof(name)) > 0);
    assert_string_equal(name, "10-42-0-2.demo.pod.cluster.local");
    ask(f, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4.d.f.ip6.arpa", ns_t_ptr);
    assert_int_equal(count(f, ns_s_an), 1);
    ask(f, "8.8.8.8.in-addr.arpa", ns_t_ptr);
    assert_int_equal(rcode(f), ns_r_nxdomain);
    has_soa(f, "in-addr.arpa");
}

/* RFC 1035 4.2.1 and RFC 6891 6.2.5: the size of an answer over UDP is the client's to say. */
static void large_answers_are_truncated_over_udp_only(void **state)
{
    struct fixture *f = *state;

    ask(f, "thirty.demo.svc.cluster.local", ns_t_a); /* 30 records of 16 bytes and 46 of question */
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_tc), 1);
    assert_int_equal(count(f, ns_s_an), 0);
    assert_true(f->bytes <= 512);
    ask_as(f, "thirty.demo.svc.cluster.local", ns_t_a, 1, 1232, false);
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_tc), 0);
    assert_int_equal(count(f, ns_s_an), 30);
    assert_int_equal(count(f, ns_s_ar), 1); /* our OPT record */
    ask_as(f, "many.demo.svc.cluster.local", ns_t_a, 1, 65535, false);
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_tc), 1);
    assert_true(f->bytes <= 1232);
    ask_as(f, "many.demo.svc.cluster.local", ns_t_a, 1, 0, true);
    assert_int_equal(ns_msg_getflag(f->msg, ns_f_tc), 0);
    assert_int_equal(count(f, ns_s_an), 1000);
    ask_as(f, "_grpc._tcp.many.demo.svc.cluster.local", ns_t_srv, 1, 4096, true);
    assert_true(count(f, ns_s_an) > 900); /* all that 65535 bytes hold */
    assert_true(f->bytes <= 65535);
}

static void clients_spread_over_all_addresses(void **state)
{
    struct fixture *f = *state;
    bool seen[31] = {false};
    size_t distinct = 0;

    for (uint16_t id = 0; id < 300; id++) {
        uint8_t last;

        ask_as(f, "thirty.demo.svc.cluster.local", ns_t_a, id, 1232, false);
        last = ns_rr_rdata(record(f, ns_s_an, 0))[3];
        assert_true(last >= 1 && last <= 30);
        distinct += !seen[last];
        seen[last] = true;
    }
    assert_int_equal(distinct, 30);
}

/* RFC 6891 6.1.3: an unknown version gets BADVERS, whose upper bits are in the OPT record. */
static void unknown_edns_version(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make("web.demo.svc.cluster.local", ns_t_a, 9, 1232);
    ns_rr rr;

    p.at[p.len - 5] = 1;
    assert_int_equal(
        dns_answer(f->zone, bytes_of(p.at, p.len), false, f->answer, sizeof(f->answer), &f->bytes),
        0);
    assert_int_equal(probe_walk(f->answer, f->bytes, &f->msg), 0);
    assert_int_equal(rcode(f), 0);
    assert_int_equal(count(f, ns_s_an), 0);
    rr = record(f, ns_s_ar, 0);
    assert_int_equal(ns_rr_ttl(rr) >> 24, 1);
}

static int answer_raw(struct fixture *f, const void *at, size_t len)
{
    int err =
        dns_answer(f->zone, bytes_of(at, len), false, f->answer, sizeof(f->answer), &f->bytes);

    if (err == 0) {
        assert_int_equal(probe_walk(f->answer, f->bytes, &f->msg), 0);
    }
    return err;
}

static void what_is_no_question_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make("web.demo.svc.cluster.local", ns_t_a, 9, 0);

    for (size_t len = 0; len < 12; len++) {
        assert_int_equal(answer_raw(f, p.at, len), E_SYNTAX);
    }
    p.at[2] |= 0x80; /* an answer: two servers could play ball for ever */
    assert_int_equal(answer_raw(f, p.at, p.len), E_SYNTAX);
}

static void malformed_questions_get_formerr(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make("web.demo.svc.cluster.local", ns_t_a, 9, 1232), broken;

    for (size_t len = 12; len < p.len; len++) { /* cut off anywhere, also in the OPT record */
        assert_int_equal(answer_raw(f, p.at, len), 0);
        assert_int_equal(rcode(f), ns_r_formerr);
        assert_int_equal(ns_msg_id(f->msg), 9);
    }
    broken = p;
    broken.at[12] = 0xc0; /* a pointer in the question */
    assert_int_equal(answer_raw(f, broken.at, broken.len), 0);
    assert_int_equal(rcode(f), ns_r_formerr);
    broken = p;
    broken.at[5] = 2; /* two questions */
    assert_int_equal(answer_raw(f, broken.at, broken.len), 0);
    assert_int_equal(rcode(f), ns_r_formerr);
    broken = p;
    broken.at[2] |= 0x10; /* opcode STATUS */
    assert_int_equal(answer_raw(f, broken.at, broken.len), 0);
    assert_int_equal(rcode(f), ns_r_notimpl);
    broken = p;
    broken.at[11] = 2; /* a second OPT record: RFC 6891 6.1.1 */
    memcpy(broken.at + broken.len, p.at + p.len - 11, 11);
    broken.len += 11;
    assert_int_equal(answer_raw(f, broken.at, broken.len), 0);
    assert_int_equal(rcode(f), ns_r_formerr);
}

static void names_of_the_greatest_length(void **state)
{
    struct fixture *f = *state;
    char name[300], label[64];
    size_t left;

    memset(label, 'a', 63);
    label[63] = '\0';
    /* 253 characters are a name, 254 are not (RFC 1035 2.3.4). */
    left = 253 - 3 * 64 - strlen(".cluster.local");
    snprintf(name, sizeof(name), "%s.%s.%s.%.*s.cluster.local", label, label, label, (int)left,
             label);
    assert_int_equal(strlen(name), 253);
    ask(f, name, ns_t_a);
    assert_int_equal(rcode(f), ns_r_nxdomain);
    struct probe p;
    snprintf(name, sizeof(name), "%s.%s.%s.%.*s.cluster.local", label, label, label, (int)left + 1,
             label);
    p = probe_make(name, ns_t_a, 9, 0);
    assert_int_equal(answer_raw(f, p.at, p.len), 0);
    assert_int_equal(rcode(f), ns_r_formerr);
}

/* A dot inside a label is not the dot between labels. */
static void a_dot_in_a_label_is_no_separator(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make("web.demo.svc.cluster.local", ns_t_a, 9, 0);

    p.at[12] = 8; /* "web" and "demo" become one label */
    p.at[16] = '.';
    assert_int_equal(answer_raw(f, p.at, p.len), 0);
    assert_int_equal(rcode(f), ns_r_nxdomain);
}

static void small_buffers_are_never_overrun(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make("_http._tcp.web.demo.svc.cluster.local", ns_t_srv, 9, 1232);

    for (size_t room = 0; room < 400; room++) {
        size_t bytes = 0;
        uint8_t *to = test_malloc(room + 1);
        int err = dns_answer(f->zone, bytes_of(p.at, p.len), false, to, room, &bytes);

        assert_true(err == 0 || err == E_LIMIT);
        assert_true(err == 0 || room < 282);
        assert_true(bytes <= room);
        assert_int_equal(err == 0 ? probe_walk(to, bytes, &f->msg) : 0, 0);
        test_free(to);
    }
}

static void invalid_names_are_left_out(void **state)
{
    struct fixture *f = *state;
    char longer[300];

    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    add(f->zone, "a..cluster.local", "10.1.1.1");
    add(f->zone, "", "10.1.1.1");
    add(f->zone, longer, "10.1.1.1");
    dns_zone_add_srv(f->zone, "_x._tcp.cluster.local", ".", 1, 1);
    ask(f, "_x._tcp.cluster.local", ns_t_srv);
    assert_int_equal(rcode(f), ns_r_nxdomain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_of_both_families),
        cmocka_unit_test(case_is_ignored_and_kept),
        cmocka_unit_test(missing_names_and_missing_types),
        cmocka_unit_test(names_above_a_name_exist),
        cmocka_unit_test(other_zones_are_refused),
        cmocka_unit_test(soa_of_the_zone),
        cmocka_unit_test(srv_with_the_addresses_of_its_target),
        cmocka_unit_test(reverse_names),
        cmocka_unit_test(large_answers_are_truncated_over_udp_only),
        cmocka_unit_test(clients_spread_over_all_addresses),
        cmocka_unit_test(unknown_edns_version),
        cmocka_unit_test(what_is_no_question_is_dropped),
        cmocka_unit_test(malformed_questions_get_formerr),
        cmocka_unit_test(names_of_the_greatest_length),
        cmocka_unit_test(a_dot_in_a_label_is_no_separator),
        cmocka_unit_test(small_buffers_are_never_overrun),
        cmocka_unit_test(invalid_names_are_left_out),
    };

    return cmocka_run_group_tests_name("dns answer", tests, setup, teardown);
}
