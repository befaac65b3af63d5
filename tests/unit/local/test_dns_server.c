/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS server's sockets: UDP, TCP, pipelining, and what it does to clients that misbehave. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/loop.h"
#include "dns_probe.h"
#include "local/dns.h"
#include "net/addr.h"

#define TURNS_MAX 2000 /* of up to 10 ms each: far beyond what anything here takes */

struct fixture {
    struct loop loop;
    struct dns_server *server;
    struct addr at;
};

static struct dns_zone *zone_with(const char *ip)
{
    struct dns_zone *z = dns_zone_new("cluster.local");
    struct addr a;

    assert_int_equal(addr_parse_ip(bytes_str(ip), &a), 0);
    dns_zone_add(z, "web.demo.svc.cluster.local", &a, 5);
    for (uint32_t i = 0; i < 100; i++) {
        struct addr pod = addr_v4(0x0a2a0001 + i, 0);

        dns_zone_add(z, "many.demo.svc.cluster.local", &pod, 5);
    }
    return z;
}

static int setup(void **state)
{
    static struct fixture f;
    struct addr at = addr_v4(INADDR_LOOPBACK, 0);

    memset(&f, 0, sizeof(f));
    assert_int_equal(loop_open(&f.loop, 0, 1024), 0);
    /* The kernel picks a port for UDP; somebody else may hold it for TCP. */
    for (int tries = 0; tries < 20 && f.server == NULL; tries++) {
        int rc = dns_server_open(&f.loop, &at, &f.server);

        assert_true(rc == 0 || rc == -EADDRINUSE);
    }
    assert_non_null(f.server);
    dns_server_set_zone(f.server, zone_with("10.43.0.2"));
    f.at = addr_v4(INADDR_LOOPBACK, dns_server_port(f.server));
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    dns_server_close(f->server);
    (void)loop_turn(&f->loop, 0);
    loop_close(&f->loop);
    return 0;
}

static int dial(struct fixture *f, int type)
{
    struct sockaddr_storage sa;
    socklen_t bytes = addr_to_sockaddr(&f->at, &sa);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, bytes), 0);
    return fd;
}

/* Turn the loop until something can be read (or the peer closed): the count, 0 at the end. */
static size_t receive(struct fixture *f, int fd, void *to, size_t bytes)
{
    for (unsigned i = 0; i < TURNS_MAX; i++) {
        ssize_t n = recv(fd, to, bytes, MSG_DONTWAIT);

        if (n >= 0) {
            return (size_t)n;
        }
        assert_true(errno == EAGAIN || errno == ECONNRESET);
        if (errno == ECONNRESET) {
            return 0;
        }
        (void)loop_turn(&f->loop, 10);
    }
    fail_msg("no answer");
    return 0;
}

static void receive_all(struct fixture *f, int fd, uint8_t *to, size_t bytes)
{
    while (bytes > 0) {
        size_t n = receive(f, fd, to, bytes);

        assert_true(n > 0);
        to += n;
        bytes -= n;
    }
}

static size_t receive_message(struct fixture *f, int fd, uint8_t *to)
{
    size_t length;

    receive_all(f, fd, to, 2);
    length = (size_t)(to[0] << 8 | to[1]);
    receive_all(f, fd, to, length);
    return length;
}

/* With the length that TCP wants before it (RFC 1035 4.2.2). */
static struct probe over_tcp(struct probe p)
{
    struct probe t = {.len = 0};

    probe_u16(&t, (unsigned)p.len);
    memcpy(t.at + t.len, p.at, p.len);
    t.len += p.len;
    return t;
}

static void has_address(const uint8_t *answer, size_t bytes, uint16_t id, const char *ip)
{
    struct addr wanted;
    ns_msg msg;
    ns_rr rr;

    assert_int_equal(addr_parse_ip(bytes_str(ip), &wanted), 0);
    assert_int_equal(probe_walk(answer, bytes, &msg), 0);
    assert_int_equal(ns_msg_id(msg), id);
    assert_int_equal(ns_msg_count(msg, ns_s_an), 1);
    assert_int_equal(ns_parserr(&msg, ns_s_an, 0, &rr), 0);
    assert_memory_equal(ns_rr_rdata(rr), wanted.ip, 4);
}

static void answers_over_udp(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f, SOCK_DGRAM);
    uint8_t answer[2048];

    for (uint16_t id = 1; id < 200; id++) { /* more than one turn serves */
        struct probe p = probe_make("web.demo.svc.cluster.local", ns_t_a, id, 0);

        assert_int_equal(send(fd, p.at, p.len, 0), p.len);
    }
    for (uint16_t id = 1; id < 200; id++) {
        has_address(answer, receive(f, fd, answer, sizeof(answer)), id, "10.43.0.2");
    }
    close(fd);
}

static void answers_over_tcp_in_order(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f, SOCK_STREAM);
    uint8_t answer[65536];

    for (uint16_t id = 1; id < 50; id++) { /* sent ahead, RFC 7766 6.2.1.1 */
        struct probe p = over_tcp(probe_make("web.demo.svc.cluster.local", ns_t_a, id, 0));

        assert_int_equal(send(fd, p.at, p.len, 0), p.len);
    }
    for (uint16_t id = 1; id < 50; id++) {
        has_address(answer, receive_message(f, fd, answer), id, "10.43.0.2");
    }
    close(fd);
}

static void questions_may_come_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    struct probe p = over_tcp(probe_make("web.demo.svc.cluster.local", ns_t_a, 7, 0));
    int fd = dial(f, SOCK_STREAM);
    uint8_t answer[65536];

    for (size_t i = 0; i < p.len; i++) {
        assert_int_equal(send(fd, p.at + i, 1, 0), 1);
        (void)loop_turn(&f->loop, 0);
    }
    has_address(answer, receive_message(f, fd, answer), 7, "10.43.0.2");
    /* A client that is done writing still gets what it asked for. */
    assert_int_equal(send(fd, p.at, p.len, 0), p.len);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    has_address(answer, receive_message(f, fd, answer), 7, "10.43.0.2");
    assert_int_equal(receive(f, fd, answer, 1), 0);
    close(fd);
}

static void truncated_answers_are_whole_over_tcp(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make("many.demo.svc.cluster.local", ns_t_a, 9, 0), t = over_tcp(p);
    int udp = dial(f, SOCK_DGRAM), tcp = dial(f, SOCK_STREAM);
    uint8_t answer[65536];
    size_t bytes;
    ns_msg msg;

    assert_int_equal(send(udp, p.at, p.len, 0), p.len);
    bytes = receive(f, udp, answer, sizeof(answer));
    assert_int_equal(probe_walk(answer, bytes, &msg), 0);
    assert_int_equal(ns_msg_getflag(msg, ns_f_tc), 1);
    assert_int_equal(send(tcp, t.at, t.len, 0), t.len);
    bytes = receive_message(f, tcp, answer);
    assert_int_equal(probe_walk(answer, bytes, &msg), 0);
    assert_int_equal(ns_msg_count(msg, ns_s_an), 100);
    close(udp);
    close(tcp);
}

static void a_new_zone_replaces_the_old(void **state)
{
    struct fixture *f = *state;
    struct probe p = probe_make("web.demo.svc.cluster.local", ns_t_a, 3, 0);
    int fd = dial(f, SOCK_DGRAM);
    uint8_t answer[2048];

    dns_server_set_zone(f->server, zone_with("10.43.0.99"));
    assert_int_equal(send(fd, p.at, p.len, 0), p.len);
    has_address(answer, receive(f, fd, answer, sizeof(answer)), 3, "10.43.0.99");
    close(fd);
}

static void garbage_ends_a_connection(void **state)
{
    struct fixture *f = *state;
    const uint8_t too_long[] = {0xff, 0xff, 1}, no_question[] = {0, 3, 1, 2, 3};
    int one = dial(f, SOCK_STREAM), two = dial(f, SOCK_STREAM);
    uint8_t byte;

    assert_int_equal(send(one, too_long, sizeof(too_long), 0), sizeof(too_long));
    assert_int_equal(receive(f, one, &byte, 1), 0);
    assert_int_equal(send(two, no_question, sizeof(no_question), 0), sizeof(no_question));
    assert_int_equal(receive(f, two, &byte, 1), 0);
    close(one);
    close(two);
}

static void the_65th_connection_is_closed(void **state)
{
    struct fixture *f = *state;
    struct probe p = over_tcp(probe_make("web.demo.svc.cluster.local", ns_t_a, 3, 0));
    uint8_t answer[65536];
    int fds[65];

    for (size_t i = 0; i < 64; i++) {
        fds[i] = dial(f, SOCK_STREAM);
        assert_int_equal(send(fds[i], p.at, p.len, 0), p.len);
        (void)receive_message(f, fds[i], answer);
    }
    fds[64] = dial(f, SOCK_STREAM);
    assert_int_equal(receive(f, fds[64], answer, 1), 0);
    for (size_t i = 0; i < 65; i++) {
        close(fds[i]);
    }
}

/* A client that never reads its answers is held back, not buffered for. */
static void answers_are_not_hoarded(void **state)
{
    struct fixture *f = *state;
    struct probe p = over_tcp(probe_make("many.demo.svc.cluster.local", ns_t_a, 3, 0));
    int fd = dial(f, SOCK_STREAM);
    size_t sent = 0, stuck = 0;

    /* An answer is 1.6 KB; were they kept, 64 MiB of questions would hold gigabytes. */
    while (stuck < 50 && sent < (size_t)64 * 1024 * 1024) {
        ssize_t n = send(fd, p.at, p.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        stuck = n > 0 ? 0 : stuck + 1;
        sent += n > 0 ? (size_t)n : 0;
        (void)loop_turn(&f->loop, 0);
        assert_true(f->loop.chunks.used_count < 64);
    }
    assert_int_equal(stuck, 50);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_over_udp, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_over_tcp_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(questions_may_come_byte_by_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(truncated_answers_are_whole_over_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_zone_replaces_the_old, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_ends_a_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(the_65th_connection_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_are_not_hoarded, setup, teardown),
    };

    return cmocka_run_group_tests_name("dns server", tests, NULL, NULL);
}
