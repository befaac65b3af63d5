/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_NET_DNS_PROBE_H
#define UNIT_NET_DNS_PROBE_H

/*
 * A small DNS server on loopback, in the loop of the test, and who resolves names with it.
 */
#include "loop_probe.h"

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

static struct server server;
static struct dns *dns;

/* --- the server --------------------------------------------------------------------------------- */

static inline size_t put16(char *to, size_t at, unsigned value)
{
    to[at] = (char)(value >> 8);
    to[at + 1] = (char)value;
    return at + 2;
}

static inline size_t put_name(char *to, size_t at, const char *name)
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
static inline size_t read_question(const char *q, size_t len, char name[256])
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

static inline size_t put_record(char *to, size_t at, const struct rule *r)
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

static inline size_t make_answer(struct server *s, const char *q, size_t len, bool is_udp, char *to)
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

static inline void serve_udp(struct task *task)
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

static inline void serve_tcp(struct task *task)
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

static inline void on_tcp(struct listener *ln, int fd, const struct addr *peer)
{
    struct server *s = ln->user;

    (void)peer;
    watch_close(&s->tcp_conn);
    s->tcp_in_len = 0;
    assert_int_equal(watch_open(&s->tcp_conn, &loop, fd, &s->tcp_task), 0);
}

static inline void server_open(const struct rule *rules, size_t rule_count)
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

static inline void server_close(void)
{
    task_cancel(&server.udp_task);
    task_cancel(&server.tcp_task);
    watch_close(&server.udp);
    watch_close(&server.tcp_conn);
    listener_close(&server.tcp);
}

/* --- who asks ----------------------------------------------------------------------------------- */

struct result {
    struct dns_query q;
    bool done;
    int err;
    struct addr addrs[256];
    size_t count;
    uint64_t ttl_ns;
};

static inline int dns_setup(void **state)
{
    /* resolv.conf(5) of this machine must not matter. */
    setenv("LOCALDOMAIN", "ns.svc.test svc.test", 1);
    setenv("RES_OPTIONS", "ndots:2", 1);
    return setup(state);
}

static inline void open_all(const struct rule *rules, size_t rule_count)
{
    char at[ADDR_TEXT_BYTES];

    server_open(rules, rule_count);
    assert_int_equal(dns_open_at(&loop, addr_format(&server.at, at), &dns), 0);
}

static inline void close_all(void)
{
    dns_close(dns);
    dns = NULL;
    server_close();
}

static inline void on_answer(struct dns_query *q, int err, const struct dns_answer *answer)
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

static inline void ask(struct result *r, const char *host, uint16_t port, bool srv)
{
    memset(r, 0, sizeof(*r));
    r->q.on_answer = on_answer;
    r->q.user = r;
    dns_resolve(dns, &r->q, bytes_str(host), port, srv);
    assert_false(r->done); /* never from inside */
}

static inline void ask_and_wait(struct result *r, const char *host, uint16_t port, bool srv)
{
    ask(r, host, port, srv);
    TURN_UNTIL(&loop, r->done);
}

static inline void expect(const struct result *r, size_t count, const char *const *texts)
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, dns_setup, teardown)

#endif
