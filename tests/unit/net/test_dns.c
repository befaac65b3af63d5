/* SPDX-License-Identifier: Apache-2.0 */
/* What names resolve to, against a small DNS server on loopback in the same loop. */
#include "dns_probe.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

static void literals_need_no_question(void **state)
{
    struct result r;

    (void)state;
    open_all(NULL, 0);
    ask_and_wait(&r, "10.1.2.3", 80, true);
    EXPECT(&r, "10.1.2.3:80");
    ask_and_wait(&r, "::1", 81, false);
    EXPECT(&r, "[::1]:81");
    ask_and_wait(&r, "[2001:db8::1]", 82, false);
    EXPECT(&r, "[2001:db8::1]:82");
    ask_and_wait(&r, "localhost.", 8086, true);
    EXPECT(&r, "127.0.0.1:8086");
    ask_and_wait(&r, "LOCALHOST", 1, false);
    EXPECT(&r, "127.0.0.1:1");
    assert_int_equal(server.questions, 0);
    close_all();
}

static void both_families_are_found(void **state)
{
    static const struct rule rules[] = {
        {"web.test", DNS_A, "10.0.0.1", 60, 0},
        {"web.test", DNS_A, "10.0.0.2", 40, 0},
        {"web.test", DNS_AAAA, "2001:db8::1", 50, 0},
        {"web.test", DNS_A, "10.0.0.1", 60, 0}, /* twice: one address */
    };
    struct result r;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask_and_wait(&r, "web.test.", 8080, false);
    EXPECT(&r, "10.0.0.1:8080", "10.0.0.2:8080", "[2001:db8::1]:8080");
    assert_int_equal(r.ttl_ns, 40 * NS_PER_S);
    assert_int_equal(server.questions, 2);
    close_all();
}

static void life_is_clamped(void **state)
{
    static const struct rule rules[] = {
        {"short.test", DNS_A, "10.0.0.1", 0, 0},
        {"long.test", DNS_A, "10.0.0.1", 1000000, 0},
    };
    struct result r;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask_and_wait(&r, "short.test.", 1, false);
    assert_int_equal(r.ttl_ns, NS_PER_S);
    ask_and_wait(&r, "long.test.", 1, false);
    assert_int_equal(r.ttl_ns, 300 * NS_PER_S);
    close_all();
}

/* Wire 2.1: how proxies find the control plane's pods. */
static void dashed_srv_targets_need_no_further_question(void **state)
{
    static const struct rule rules[] = {
        {"dst.linkerd.test", DNS_SRV, "8086 10-42-0-17.dst.linkerd.test", 30, 0},
        {"dst.linkerd.test", DNS_SRV, "8087 10-42-0-18.dst.linkerd.test", 5, 0},
    };
    struct result r;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask_and_wait(&r, "dst.linkerd.test.", 1, true);
    EXPECT(&r, "10.42.0.17:8086", "10.42.0.18:8087");
    assert_int_equal(r.ttl_ns, 5 * NS_PER_S);
    assert_int_equal(server.questions, 1);
    close_all();
}

static void named_srv_targets_are_looked_up(void **state)
{
    static const struct rule rules[] = {
        {"dst.test", DNS_SRV, "8086 a.test", 30, 0},    {"dst.test", DNS_SRV, "8087 b.test", 30, 0},
        {"dst.test", DNS_SRV, "8088 gone.test", 30, 0}, {"a.test", DNS_A, "10.0.0.1", 30, 0},
        {"b.test", DNS_A, "10.0.0.1", 30, 0},           {"b.test", DNS_AAAA, "2001:db8::2", 7, 0},
    };
    struct result r;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask_and_wait(&r, "dst.test.", 1, true);
    EXPECT(&r, "10.0.0.1:8086", "10.0.0.1:8087", "[2001:db8::2]:8087");
    assert_int_equal(r.ttl_ns, 7 * NS_PER_S);
    close_all();
}

static void without_srv_the_address_is_used(void **state)
{
    static const struct rule rules[] = {
        {"plain.test", DNS_A, "10.0.0.1", 30, 0},
        {"broken.test", DNS_SRV, NULL, 0, REFUSED_TO_ANSWER},
        {"broken.test", DNS_A, "10.0.0.2", 30, 0},
        {"useless.test", DNS_SRV, "80 gone.test", 30, 0},
        {"useless.test", DNS_A, "10.0.0.3", 30, 0},
        {"none.test", DNS_SRV, "0 ", 30, 0}, /* RFC 2782: "." says that there is no service */
        {"none.test", DNS_A, "10.0.0.4", 30, 0},
    };
    struct result r;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask_and_wait(&r, "plain.test.", 8090, true);
    EXPECT(&r, "10.0.0.1:8090");
    ask_and_wait(&r, "broken.test.", 8091, true);
    EXPECT(&r, "10.0.0.2:8091");
    ask_and_wait(&r, "useless.test.", 8092, true);
    EXPECT(&r, "10.0.0.3:8092");
    ask_and_wait(&r, "none.test.", 8093, true);
    EXPECT(&r, "10.0.0.4:8093");
    close_all();
}

static void failures_are_told_apart(void **state)
{
    static const struct rule rules[] = {
        {"broken.test", DNS_A, NULL, 0, REFUSED_TO_ANSWER},
        {"broken.test", DNS_AAAA, NULL, 0, REFUSED_TO_ANSWER},
        {"half.test", DNS_A, NULL, 0, REFUSED_TO_ANSWER},
        {"half.test", DNS_AAAA, "2001:db8::1", 9, 0},
    };
    struct result r;
    char *too_long = mem_printf("%0254d.", 0);

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask_and_wait(&r, "absent.test.", 80, true);
    assert_int_equal(r.err, E_DNS_NAME);
    ask_and_wait(&r, "broken.test.", 80, false);
    assert_int_equal(r.err, E_DNS_FAIL);
    ask_and_wait(&r, "half.test.", 80, false);
    EXPECT(&r, "[2001:db8::1]:80");
    ask_and_wait(&r, too_long, 80, false);
    assert_int_equal(r.err, E_SYNTAX);
    ask_and_wait(&r, "", 80, false);
    assert_int_equal(r.err, E_SYNTAX);
    ask_and_wait(&r, ".", 80, false);
    assert_int_equal(r.err, E_SYNTAX);
    mem_free(too_long);
    close_all();
}

/* resolv.conf(5): few dots, search list first; many dots, the name first; a last dot, only the name. */
static void search_list_is_honoured(void **state)
{
    static const struct rule rules[] = {
        {"web.ns.svc.test", DNS_A, "10.0.0.1", 30, 0},    {"web", DNS_A, "10.0.0.9", 30, 0},
        {"web.other.svc.test", DNS_A, "10.0.0.2", 30, 0}, {"a.b.c", DNS_A, "10.0.0.3", 30, 0},
        {"x.y.z.svc.test", DNS_A, "10.0.0.4", 30, 0},
    };
    struct result r;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask_and_wait(&r, "web", 1, false);
    EXPECT(&r, "10.0.0.1:1");
    assert_int_equal(server.questions, 2);
    ask_and_wait(&r, "web.other", 1, false);
    EXPECT(&r, "10.0.0.2:1");
    ask_and_wait(&r, "web.", 1, false);
    EXPECT(&r, "10.0.0.9:1");
    server.questions = 0;
    ask_and_wait(&r, "a.b.c", 1, false);
    EXPECT(&r, "10.0.0.3:1");
    assert_int_equal(server.questions, 2);
    ask_and_wait(&r, "x.y.z", 1, false);
    EXPECT(&r, "10.0.0.4:1");
    server.questions = 0;
    ask_and_wait(&r, "x.y.z.", 1, false);
    assert_int_equal(r.err, E_DNS_NAME);
    assert_int_equal(server.questions, 2);
    close_all();
}

static void long_answers_come_by_tcp(void **state)
{
    static struct rule rules[200];
    static char texts[200][16];
    struct result r;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
        snprintf(texts[i], sizeof(texts[i]), "10.0.1.%u", i);
        rules[i] = (struct rule){"many.test", DNS_A, texts[i], 30, 0};
    }
    open_all(rules, ARRAY_LEN(rules));
    server.truncate_udp = true;
    ask_and_wait(&r, "many.test.", 1, false);
    assert_int_equal(r.err, 0);
    assert_int_equal(r.count, 200);
    assert_int_equal(server.tcp_questions, 2);
    close_all();
}

/* --- the hosts file, in a mount namespace of its own -------------------------------------------------- */

#define CHILD_SKIP 77

static int check_hosts_file(void)
{
    char path[] = "/tmp/tulle-hosts-XXXXXX";
    static const char text[] = "192.0.2.1 inhosts.test inhosts\n2001:db8::5 inhosts.test\n";
    struct result r;
    int fd = mkstemp(path), rc;

    if (fd < 0 || write(fd, text, sizeof(text) - 1) != sizeof(text) - 1) {
        return CHILD_SKIP;
    }
    close(fd);
    rc = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                 mount(path, "/etc/hosts", NULL, MS_BIND, NULL) == 0
             ? 0
             : CHILD_SKIP;
    unlink(path);
    if (rc != 0) {
        return rc;
    }
    (void)dns_setup(NULL);
    open_all(NULL, 0);
    ask_and_wait(&r, "inhosts.test.", 80, false);
    EXPECT(&r, "192.0.2.1:80", "[2001:db8::5]:80");
    ask_and_wait(&r, "inhosts", 80, false);
    EXPECT(&r, "192.0.2.1:80");
    assert_int_equal(server.questions, 0);
    close_all();
    (void)teardown(NULL);
    return 0;
}

static void hosts_file_comes_first(void **state)
{
    pid_t child;
    int status;

    (void)state;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        _exit(check_hosts_file());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CHILD_SKIP) {
        skip(); /* needs root */
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(literals_need_no_question),
        TEST(both_families_are_found),
        TEST(life_is_clamped),
        TEST(dashed_srv_targets_need_no_further_question),
        TEST(named_srv_targets_are_looked_up),
        TEST(without_srv_the_address_is_used),
        TEST(failures_are_told_apart),
        TEST(search_list_is_honoured),
        TEST(long_answers_come_by_tcp),
        cmocka_unit_test(hosts_file_comes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
