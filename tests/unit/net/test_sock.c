/* SPDX-License-Identifier: Apache-2.0 */
/* Dials, options, and the original destination behind a real redirect. */
#include "door_probe.h"
#include "loop_probe.h"

#include <netinet/tcp.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void dial_meets_listener(void **state)
{
    struct door d;
    struct addr at, local, peer;
    struct io *io = NULL;
    struct end e;

    (void)state;
    door_open(&d, &loop, &at);
    end_init(&e, &loop, NULL);
    assert_int_equal(sock_dial(&loop, &at, NULL, &e.task, &io), 0);
    e.io = io;
    TURN_UNTIL(&loop, e.handshake_rc == 0 && d.count == 1);
    assert_int_equal(sock_local(io_fd(io), &local), 0);
    assert_true(addr_eq(&local, &d.last_peer));
    assert_int_equal(sock_peer(io_fd(io), &peer), 0);
    assert_true(addr_eq(&peer, &at));
    assert_int_equal(int_option(io_fd(io), IPPROTO_TCP, TCP_NODELAY), 1);
    assert_true((fcntl(d.fds[0], F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(d.fds[0], F_GETFD) & FD_CLOEXEC) != 0);
    end_close(&e);
    door_close(&d);
}

static void options_reach_the_socket(void **state)
{
    struct sock_opts o = {.keepalive_ms = 10500, .user_timeout_ms = 30000};
    struct door d;
    struct addr at, local;
    struct io *io;

    (void)state;
    door_open(&d, &loop, &at);
    o.source = addr_v4(0x7f000042, 0);
    assert_int_equal(sock_dial(&loop, &at, &o, NULL, &io), 0);
    TURN_UNTIL(&loop, d.count == 1);
    assert_int_equal(int_option(io_fd(io), SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(int_option(io_fd(io), IPPROTO_TCP, TCP_KEEPIDLE), 11);
    assert_int_equal(int_option(io_fd(io), IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
    assert_int_equal(sock_local(io_fd(io), &local), 0);
    assert_true(addr_ip_eq(&local, &o.source));
    io_close(io);
    door_close(&d);
}

static void an_accepted_connection_has_the_options_of_its_listener(void **state)
{
    static const char *const places[] = {"127.0.0.1:0", "[::]:0"};
    struct sock_opts o = {.keepalive_ms = 10500, .user_timeout_ms = 30000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct addr at, loopback = addr_v4(0x7f000001, 0);
        struct chain c;
        struct io *io;
        struct door d = {0};
        size_t n = 0;
        int fd, client;

        assert_int_equal(addr_parse(bytes_str(places[i]), &at), 0);
        if (sock_listen(&at, false, 8, &fd) != 0) {
            continue; /* this kernel has no IPv6 */
        }
        assert_int_equal(sock_set_accept_opts(fd, &o), 0);
        assert_int_equal(sock_local(fd, &at), 0);
        loopback.port = at.port;
        assert_int_equal(listener_open(&d.ln, &loop, fd, door_accept, &d), 0);
        client = connect_to(&loopback);
        TURN_UNTIL(&loop, d.count == 1);
        assert_int_equal(int_option(d.fds[0], IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(int_option(d.fds[0], SOL_SOCKET, SO_KEEPALIVE), 1);
        assert_int_equal(int_option(d.fds[0], IPPROTO_TCP, TCP_KEEPIDLE), 11);
        assert_int_equal(int_option(d.fds[0], IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
        assert_int_equal(write(client, "hello", 5), 5);
        io = io_tcp_accepted(&loop, d.fds[0], NULL);
        assert_non_null(io);
        chain_init(&c);
        (void)loop_turn(&loop, 1000);
        assert_int_equal(io_recv(io, &c, 100, &n), 0);
        assert_int_equal(n, 5);
        assert_false(io->readable); /* it told with the bytes that no more wait */
        chain_clear(&c);
        io_close(io);
        d.count = 0;
        close(client);
        door_close(&d);
    }
}

static void ports_are_shared_only_on_request(void **state)
{
    struct addr at = addr_v4(0x7f000001, 0);
    int a, b, c = -1;

    (void)state;
    assert_int_equal(sock_listen(&at, true, 8, &a), 0);
    assert_int_equal(sock_local(a, &at), 0);
    assert_int_equal(sock_listen(&at, true, 8, &b), 0);
    assert_int_equal(sock_listen(&at, false, 8, &c), -EADDRINUSE);
    assert_int_equal(c, -1);
    close(a);
    close(b);
}

static void ipv6_any_takes_both_families(void **state)
{
    struct addr any, at, loopback = addr_v4(0x7f000001, 0);
    struct door d;
    int fd, client;

    (void)state;
    memset(&d, 0, sizeof(d));
    assert_int_equal(addr_parse(BYTES("[::]:0"), &any), 0);
    if (sock_listen(&any, false, 8, &fd) != 0) {
        skip(); /* this kernel has no IPv6 */
    }
    assert_int_equal(sock_local(fd, &at), 0);
    assert_int_equal(listener_open(&d.ln, &loop, fd, door_accept, &d), 0);
    loopback.port = at.port;
    client = connect_to(&loopback);
    TURN_UNTIL(&loop, d.count == 1);
    assert_int_equal(d.last_peer.family, AF_INET); /* normalised */
    assert_int_equal(sock_original_dst(d.fds[0], AF_INET, &at), 0);
    assert_true(addr_eq(&at, &loopback));
    close(client);
    door_close(&d);

    assert_int_equal(addr_parse(BYTES("[::1]:0"), &any), 0);
    if (sock_listen(&any, false, 8, &fd) == 0) {
        assert_int_equal(int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
        close(fd);
    }
}

static void unix_socket_replaces_a_dead_file_only(void **state)
{
    char dir[] = "/tmp/tulle-sock-XXXXXX", path[64];
    struct addr none;
    int a, b;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    assert_int_equal(sock_listen_unix(path, SOCK_STREAM, 8, &a), 0);
    assert_int_equal(sock_original_dst(a, AF_UNSPEC, &none), 0);
    assert_true(addr_is_none(&none));
    assert_int_equal(sock_listen_unix(path, SOCK_STREAM, 8, &b), -EADDRINUSE); /* alive */
    close(a);
    assert_int_equal(sock_listen_unix(path, SOCK_STREAM, 8, &b), 0); /* dead */
    close(b);
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(sock_listen_unix(path, SOCK_STREAM, 8, &b), -EADDRINUSE); /* not ours to remove */
    unlink(path);
    rmdir(dir);
    char long_path[200];

    memset(long_path, 'x', sizeof(long_path));
    long_path[199] = '\0';
    assert_int_equal(sock_listen_unix(long_path, SOCK_STREAM, 8, &b), -ENAMETOOLONG);
}

static void unix_socket_with_an_abstract_name(void **state)
{
    char name[64];
    int a, b;

    (void)state;
    snprintf(name, sizeof(name), "@tulle-test-sock-%d", (int)getpid());
    assert_int_equal(sock_listen_unix(name, SOCK_SEQPACKET, 8, &a), 0);
    assert_int_equal(sock_listen_unix(name, SOCK_SEQPACKET, 8, &b), -EADDRINUSE);
    close(a);
    assert_int_equal(sock_listen_unix(name, SOCK_SEQPACKET, 8, &b), 0);
    close(b);
    assert_int_equal(sock_listen_unix("@", SOCK_SEQPACKET, 8, &b), -ENAMETOOLONG);
}

static void unredirected_connection_has_its_local_address(void **state)
{
    struct door d;
    struct addr at, dst;
    int fd;

    (void)state;
    door_open(&d, &loop, &at);
    fd = connect_to(&at);
    TURN_UNTIL(&loop, d.count == 1);
    assert_int_equal(sock_original_dst(d.fds[0], AF_INET, &dst), 0);
    assert_true(addr_eq(&dst, &at));
    assert_int_equal(sock_original_dst(d.fds[0], AF_UNSPEC, &dst), 0);
    assert_true(addr_eq(&dst, &at));
    close(fd);
    door_close(&d);
}

/* --- behind a redirect, in a network namespace of its own ---------------------------------------- */

#define REDIRECT_SKIP 77

static int run(const char *command)
{
    int status = system(command);

    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* In the child. Exits 0 when a connection to 192.0.2.7:80 arrives with that as original destination. */
static int check_redirect(const char *table, const char *rule, const char *target,
                          const char *listen_at)
{
    struct addr at, dst, again, expected;
    struct sockaddr_storage sa;
    socklen_t len;
    char command[512], name[ADDR_TEXT_BYTES];
    int fd, client, accepted;

    if (unshare(CLONE_NEWNET) != 0 || run("ip link set lo up 2>/dev/null") != 0) {
        return REDIRECT_SKIP;
    }
    if (addr_parse(bytes_str(listen_at), &at) != 0 || sock_listen(&at, false, 8, &fd) != 0 ||
        sock_local(fd, &at) != 0 || addr_parse(bytes_str(target), &expected) != 0) {
        return REDIRECT_SKIP;
    }
    snprintf(command, sizeof(command),
             "ip %s route add local %s dev lo 2>/dev/null && "
             "nft 'add table %s t; add chain %s t o { type nat hook output priority -100; }; "
             "add rule %s t o %s redirect to :%u' 2>/dev/null",
             expected.family == AF_INET6 ? "-6" : "-4", addr_format_ip(&expected, name), table,
             table, table, rule, at.port);
    if (run(command) != 0) {
        return REDIRECT_SKIP;
    }
    client = socket(expected.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    len = addr_to_sockaddr(&expected, &sa);
    if (connect(client, (struct sockaddr *)&sa, len) != 0) {
        return 2;
    }
    do {
        accepted = accept(fd, NULL, NULL);
    } while (accepted < 0 && errno == EAGAIN);
    if (accepted < 0 || sock_original_dst(accepted, expected.family, &dst) != 0 ||
        sock_original_dst(accepted, AF_UNSPEC, &again) != 0 || !addr_eq(&dst, &again)) {
        return 3;
    }
    return addr_eq(&dst, &expected) ? 0 : 4;
}

static void redirect(const char *table, const char *rule, const char *target, const char *listen_at)
{
    pid_t child;
    int status;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(check_redirect(table, rule, target, listen_at));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == REDIRECT_SKIP) {
        skip(); /* needs root, nft and connection tracking */
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void redirected_ipv4(void **state)
{
    (void)state;
    redirect("ip", "tcp dport 80", "192.0.2.7:80", "127.0.0.1:0");
}

/* An IPv4 connection on an IPv6 socket is in the IPv4 table. */
static void redirected_ipv4_on_an_ipv6_socket(void **state)
{
    (void)state;
    redirect("ip", "tcp dport 80", "192.0.2.7:80", "[::]:0");
}

static void redirected_ipv6(void **state)
{
    (void)state;
    redirect("ip6", "tcp dport 80", "[2001:db8::7]:80", "[::1]:0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dial_meets_listener, setup, teardown),
        cmocka_unit_test_setup_teardown(options_reach_the_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(an_accepted_connection_has_the_options_of_its_listener,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(ports_are_shared_only_on_request, setup, teardown),
        cmocka_unit_test_setup_teardown(ipv6_any_takes_both_families, setup, teardown),
        cmocka_unit_test_setup_teardown(unredirected_connection_has_its_local_address, setup,
                                        teardown),
        cmocka_unit_test(unix_socket_replaces_a_dead_file_only),
        cmocka_unit_test(unix_socket_with_an_abstract_name),
        cmocka_unit_test(redirected_ipv4),
        cmocka_unit_test(redirected_ipv4_on_an_ipv6_socket),
        cmocka_unit_test(redirected_ipv6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
