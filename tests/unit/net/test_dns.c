/* SPDX-License-Identifier: Apache-2.0 */
/* Name resolution against a small DNS server on loopback, in the same loop. */
#include "net_probe.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "net/dns.h"
#include "net/dns_message.h"

enum { REFUSED_TO_ANSWER = 2, NO_SUCH_NAME = 3 };

/* What the server knows. A name that is not here does not exist. */
struct rule {
    const char *name;
    enum dns_type type;
    const char *data; /* an address, or for SRV "port target"; NULL: `rcode` */
    uint32_t ttl_s;
    unsigned rcode;
};

struct server {
    struct watch udp;
    struct task udp_task;
    struct listener tcp;
    struct task tcp_task;
    struct watch tcp_conn;
    char tcp_in[512];
    size_t tcp_in_len;
    const struct rule *rules;
    size_t rule_count;
    bool truncate_udp; /* answer by UDP that the answer needs TCP */
    bool silent;
    unsigned questions, tcp_questions;
    struct addr at;
};

static struct loop loop;
static struct server server;
static struct dns *dns;

struct result {
    struct dns_query q;
    bool done;
    int err;
    struct addr addrs[256];
    size_t count;
    uint64_t ttl_ns;
};

/* --- the server --------------------------------------------------------------------------------- */

static size_t put16(char *to, size_t at, unsigned value)
{
    to[at] = (char)(value >> 8);
    to[at + 1] = (char)value;
    return at + 2;
}

static size_t put_name(char *to, size_t at, const char *name)
{
    while (*name != '\0') {
        size_t len = strcspn(name, ".");

        to[at++] = (char)len;
        memcpy(to + at, name, len);
        at += len;
        name += len + (name[len] == '.');
    }
    to[at++] = '\0';
    return at;
}

/* "name" of the question into text; returns the offset of its type. */
static size_t read_question(const char *q, size_t len, char name[256])
{
    size_t at = 12, used = 0;

    while (at < len && q[at] != 0) {
        size_t label = (unsigned char)q[at++];

        assert_true(at + label < len && used + label + 1 < 256);
        memcpy(name + used, q + at, label);
        used += label;
        name[used++] = '.';
        at += label;
    }
    name[used > 0 ? used - 1 : 0] = '\0';
    return at + 1;
}

static size_t put_record(char *to, size_t at, const struct rule *r)
{
    size_t len_at;

    at = put16(to, at, 0xc00c);
    at = put16(to, at, (unsigned)r->type);
    at = put16(to, at, 1);
    at = put16(to, at, r->ttl_s >> 16);
    at = put16(to, at, r->ttl_s & 0xffff);
    len_at = at;
    at += 2;
    if (r->type == DNS_SRV) {
        char *target;
        long port = strtol(r->data, &target, 10);

        at = put16(to, at, 0);
        at = put16(to, at, 10);
        at = put16(to, at, (unsigned)port);
        at = put_name(to, at, target + 1);
    } else {
        int family = r->type == DNS_A ? AF_INET : AF_INET6;

        assert_int_equal(inet_pton(family, r->data, to + at), 1);
        at += family == AF_INET ? 4 : 16;
    }
    (void)put16(to, len_at, (unsigned)(at - len_at - 2));
    return at;
}

static size_t make_answer(struct server *s, const char *q, size_t len, bool is_udp, char *to)
{
    unsigned answers = 0, rcode = NO_SUCH_NAME, type;
    char name[256];
    size_t at = read_question(q, len, name);

    type = (unsigned)(unsigned char)q[at + 1];
    at += 4;
    memcpy(to, q, at);
    s->questions++;
    for (size_t i = 0; i < s->rule_count; i++) {
        const struct rule *r = &s->rules[i];

        if (strcasecmp(r->name, name) != 0) {
            continue;
        }
        if (rcode == NO_SUCH_NAME) {
            rcode = 0; /* it exists, perhaps with nothing of this type */
        }
        if ((unsigned)r->type == type && r->data == NULL) {
            rcode = r->rcode;
        } else if ((unsigned)r->type == type && !(is_udp && s->truncate_udp)) {
            at = put_record(to, at, r);
            answers++;
        }
    }
    (void)put16(to, 2, 0x8180 | rcode | (is_udp && s->truncate_udp ? 0x0200 : 0));
    (void)put16(to, 6, answers);
    (void)put16(to, 8, 0);
    (void)put16(to, 10, 0);
    return at;
}

static void serve_udp(struct task *task)
{
    struct server *s = CONTAINER_OF(task, struct server, udp_task);
    char q[512], answer[16384];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t n;

    while ((n = recvfrom(s->udp.fd, q, sizeof(q), 0, (struct sockaddr *)&from, &from_len)) > 0) {
        if (s->silent) {
            s->questions++;
            continue;
        }
        size_t len = make_answer(s, q, (size_t)n, true, answer);

        assert_int_equal(sendto(s->udp.fd, answer, len, 0, (struct sockaddr *)&from, from_len),
                         len);
    }
}

static void serve_tcp(struct task *task)
{
    struct server *s = CONTAINER_OF(task, struct server, tcp_task);
    static char answer[65536];
    ssize_t n = -1;

    while (s->tcp_conn.fd >= 0 && (n = read(s->tcp_conn.fd, s->tcp_in + s->tcp_in_len,
                                            sizeof(s->tcp_in) - s->tcp_in_len)) > 0) {
        size_t want;

        s->tcp_in_len += (size_t)n;
        while (s->tcp_in_len >= 2 &&
               s->tcp_in_len >= (want = 2 + ((size_t)(unsigned char)s->tcp_in[0] << 8 |
                                             (unsigned char)s->tcp_in[1]))) {
            size_t len = make_answer(s, s->tcp_in + 2, want - 2, false, answer + 2);

            s->tcp_questions++;
            (void)put16(answer, 0, (unsigned)len);
            assert_int_equal(write(s->tcp_conn.fd, answer, len + 2), len + 2);
            memmove(s->tcp_in, s->tcp_in + want, s->tcp_in_len - want);
            s->tcp_in_len -= want;
        }
    }
    if (s->tcp_conn.fd >= 0 && n == 0) {
        watch_close(&s->tcp_conn);
    }
}

static void on_tcp(struct listener *ln, int fd, const struct addr *peer)
{
    struct server *s = ln->user;

    (void)peer;
    watch_close(&s->tcp_conn);
    s->tcp_in_len = 0;
    assert_int_equal(watch_open(&s->tcp_conn, &loop, fd, &s->tcp_task), 0);
}

static void server_open(const struct rule *rules, size_t rule_count)
{
    struct addr at = addr_v4(0x7f000001, 0);
    struct sockaddr_storage sa;
    socklen_t len;
    int fd, listener;

    memset(&server, 0, sizeof(server));
    server.rules = rules;
    server.rule_count = rule_count;
    server.udp_task.run = serve_udp;
    server.tcp_task.run = serve_tcp;
    server.tcp_conn.fd = -1;
    assert_int_equal(sock_listen(&at, false, 8, &listener), 0);
    assert_int_equal(sock_local(listener, &server.at), 0);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    len = addr_to_sockaddr(&server.at, &sa);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(watch_open(&server.udp, &loop, fd, &server.udp_task), 0);
    assert_int_equal(listener_open(&server.tcp, &loop, listener, on_tcp, &server), 0);
}

static void server_close(void)
{
    task_cancel(&server.udp_task);
    task_cancel(&server.tcp_task);
    watch_close(&server.udp);
    watch_close(&server.tcp_conn);
    listener_close(&server.tcp);
}

/* --- set-up ------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    /* resolv.conf(5) of this machine must not matter. */
    setenv("LOCALDOMAIN", "ns.svc.test svc.test", 1);
    setenv("RES_OPTIONS", "ndots:2", 1);
    probe_open(&loop);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    probe_close(&loop);
    return 0;
}

static void open_all(const struct rule *rules, size_t rule_count)
{
    char at[ADDR_TEXT_BYTES];

    server_open(rules, rule_count);
    assert_int_equal(dns_open_at(&loop, addr_format(&server.at, at), &dns), 0);
}

static void close_all(void)
{
    dns_close(dns);
    dns = NULL;
    server_close();
}

static void on_answer(struct dns_query *q, int err, const struct dns_answer *answer)
{
    struct result *r = q->user;

    assert_false(r->done); /* once */
    assert_null(q->pending);
    assert_true((err == 0) == (answer != NULL));
    r->done = true;
    r->err = err;
    if (err == 0) {
        assert_true(answer->count > 0 && answer->count <= ARRAY_LEN(r->addrs));
        memcpy(r->addrs, answer->addrs, answer->count * sizeof(r->addrs[0]));
        r->count = answer->count;
        r->ttl_ns = answer->ttl_ns;
    }
}

static void ask(struct result *r, const char *host, uint16_t port, bool srv)
{
    memset(r, 0, sizeof(*r));
    r->q.on_answer = on_answer;
    r->q.user = r;
    dns_resolve(dns, &r->q, bytes_str(host), port, srv);
    assert_false(r->done); /* never from inside */
}

static void ask_and_wait(struct result *r, const char *host, uint16_t port, bool srv)
{
    ask(r, host, port, srv);
    TURN_UNTIL(&loop, r->done);
}

static void expect(const struct result *r, size_t count, const char *const *texts)
{
    char text[ADDR_TEXT_BYTES];

    assert_int_equal(r->err, 0);
    assert_int_equal(r->count, count);
    for (size_t i = 0; i < count; i++) {
        bool found = false;

        for (size_t k = 0; k < count; k++) {
            found = found || strcmp(addr_format(&r->addrs[i], text), texts[k]) == 0;
        }
        if (!found) {
            fail_msg("unexpected: %s", text);
        }
    }
}

#define EXPECT(r, ...)                                                                             \
    expect(r, ARRAY_LEN(((const char *const[]){__VA_ARGS__})), (const char *const[]){__VA_ARGS__})

/* --- tests ---------------------------------------------------------------------------------------- */

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

static void canceled_query_is_not_answered(void **state)
{
    static const struct rule rules[] = {{"web.test", DNS_A, "10.0.0.1", 30, 0}};
    struct result canceled, other;

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    ask(&canceled, "web.test.", 1, false);
    ask(&other, "web.test.", 2, false);
    dns_cancel(&canceled.q);
    dns_cancel(&canceled.q); /* idempotent */
    TURN_UNTIL(&loop, other.done);
    assert_false(canceled.done);
    ask(&canceled, "10.0.0.9", 1, false); /* also an answer that is only waiting to be given */
    dns_cancel(&canceled.q);
    ask_and_wait(&other, "web.test.", 2, false);
    assert_false(canceled.done);
    close_all();
}

static void close_ends_what_is_pending(void **state)
{
    struct result waiting, fresh, canceled;

    (void)state;
    open_all(NULL, 0);
    server.silent = true;
    ask(&waiting, "web.test.", 1, true);
    ask(&canceled, "web.test.", 1, true);
    TURN_UNTIL(&loop, server.questions >= 2);
    dns_cancel(&canceled.q);
    ask(&fresh, "web2.test.", 1, true);
    dns_close(dns);
    assert_false(waiting.done || fresh.done);
    TURN_UNTIL(&loop, waiting.done && fresh.done);
    assert_int_equal(waiting.err, E_CANCELED);
    assert_int_equal(fresh.err, E_CANCELED);
    assert_false(canceled.done);
    server_close();
    dns_close(NULL);
}

static void questions_under_way_are_bounded(void **state)
{
    static struct result r[1001];
    unsigned limited = 0;

    (void)state;
    open_all(NULL, 0);
    server.silent = true;
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        ask(&r[i], "web.test.", 1, true);
    }
    TURN_UNTIL(&loop, r[1000].done);
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        limited += r[i].done && r[i].err == E_LIMIT;
    }
    assert_int_equal(limited, 1);
    close_all();
    TURN_UNTIL(&loop, r[999].done);
}

static void server_that_is_not_there_fails(void **state)
{
    struct result r;
    char at[ADDR_TEXT_BYTES];

    (void)state;
    server_open(NULL, 0);
    assert_int_equal(dns_open_at(&loop, addr_format(&server.at, at), &dns), 0);
    server_close(); /* the kernel answers for it: connection refused */
    ask_and_wait(&r, "web.test.", 1, false);
    assert_int_equal(r.err, E_DNS_FAIL);
    dns_close(dns);
    assert_int_equal(dns_open_at(&loop, "not an address", &dns), E_CONFIG);
}

static struct result second;

static void ask_again(struct dns_query *q, int err, const struct dns_answer *answer)
{
    assert_int_equal(err, 0);
    assert_int_equal(answer->count, 1);
    memset(&second, 0, sizeof(second));
    q->on_answer = on_answer;
    q->user = &second;
    dns_resolve(dns, q, BYTES("web.test."), 2, false);
}

static void query_may_be_used_again_from_its_answer(void **state)
{
    static const struct rule rules[] = {{"web.test", DNS_A, "10.0.0.1", 30, 0}};
    struct dns_query q = {.on_answer = ask_again};

    (void)state;
    open_all(rules, ARRAY_LEN(rules));
    memset(&second, 0, sizeof(second));
    dns_resolve(dns, &q, BYTES("web.test."), 1, false);
    TURN_UNTIL(&loop, second.done);
    EXPECT(&second, "10.0.0.1:2");
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
    (void)setup(NULL);
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
        cmocka_unit_test_setup_teardown(literals_need_no_question, setup, teardown),
        cmocka_unit_test_setup_teardown(both_families_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(life_is_clamped, setup, teardown),
        cmocka_unit_test_setup_teardown(dashed_srv_targets_need_no_further_question, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(named_srv_targets_are_looked_up, setup, teardown),
        cmocka_unit_test_setup_teardown(without_srv_the_address_is_used, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(search_list_is_honoured, setup, teardown),
        cmocka_unit_test_setup_teardown(long_answers_come_by_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(canceled_query_is_not_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(close_ends_what_is_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(questions_under_way_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(server_that_is_not_there_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(query_may_be_used_again_from_its_answer, setup, teardown),
        cmocka_unit_test(hosts_file_comes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
