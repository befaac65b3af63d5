/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners, dials, options, and the original destination behind a real redirect. */
#include "net_probe.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct loop loop;

struct door {
    struct listener ln;
    int fds[256];
    unsigned count;
    struct addr last_peer;
    bool close_on_accept, is_finished;
};

static int setup(void **state)
{
    (void)state;
    probe_open(&loop);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    probe_close(&loop);
    return 0;
}

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct door *d = ln->user;

    assert_true(d->count < ARRAY_LEN(d->fds));
    d->fds[d->count++] = fd;
    d->last_peer = *peer;
    if (d->close_on_accept) {
        listener_close(ln);
    }
}

/* A door on a port of the kernel's choice; *out_at is where. */
static void door_open(struct door *d, struct addr *out_at)
{
    struct addr at = addr_v4(0x7f000001, 0);
    int fd;

    memset(d, 0, sizeof(*d));
    assert_int_equal(sock_listen(&at, false, 128, &fd), 0);
    assert_int_equal(sock_local(fd, out_at), 0);
    assert_int_not_equal(out_at->port, 0);
    assert_int_equal(listener_open(&d->ln, &loop, fd, on_accept, d), 0);
}

static void door_close(struct door *d)
{
    listener_close(&d->ln);
    listener_close(&d->ln); /* idempotent */
    for (unsigned i = 0; i < d->count; i++) {
        close(d->fds[i]);
    }
}

static int connect_to(const struct addr *at)
{
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(at, &sa);
    int fd = socket(at->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
    return fd;
}

/* The same of one that is not answered at once. */
static int connect_begin(const struct addr *at)
{
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(at, &sa);
    int fd = socket(at->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), -1);
    assert_int_equal(errno, EINPROGRESS);
    return fd;
}

static int int_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void dial_meets_listener(void **state)
{
    struct door d;
    struct addr at, local, peer;
    struct io *io = NULL;
    struct end e;

    (void)state;
    door_open(&d, &at);
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
    door_open(&d, &at);
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

static void many_wait_at_the_door(void **state)
{
    struct door d;
    struct addr at;
    int fds[100];

    (void)state;
    door_open(&d, &at);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_to(&at);
    }
    TURN_UNTIL(&loop, d.count == 100);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    door_close(&d);
}

static void paused_listener_leaves_them_in_the_backlog(void **state)
{
    struct door d;
    struct addr at;
    int fd;

    (void)state;
    door_open(&d, &at);
    (void)loop_turn(&loop, 0);
    listener_pause(&d.ln);
    fd = connect_to(&at);
    (void)loop_turn(&loop, 1000); /* the event comes ... */
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 0); /* ... and nobody is let in */
    listener_resume(&d.ln);
    TURN_UNTIL(&loop, d.count == 1);
    close(fd);
    door_close(&d);
}

/* Few in a turn, so that those who come do not hold up those who are there; and a queue that stands
 * is told from a burst. */
static void a_listener_falls_behind_and_catches_up(void **state)
{
    struct door d;
    struct addr at;
    int fds[40];
    uint64_t began_ns;

    (void)state;
    door_open(&d, &at);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_to(&at);
    }
    (void)loop_turn(&loop, 1000);
    assert_in_range(d.count, 1, 16); /* at its opening, and late in the turn */
    assert_false(listener_is_behind(&d.ln));
    began_ns = loop.now_ns;
    while (d.count < 200 && !listener_is_behind(&d.ln)) { /* one comes, one is let in */
        unsigned before = d.count;

        (void)loop_turn(&loop, 0);
        loop.now_ns = began_ns;
        for (; before < d.count; before++) {
            close(fds[before % ARRAY_LEN(fds)]);
            fds[before % ARRAY_LEN(fds)] = connect_to(&at);
        }
        d.ln.crowded_ns -= MIN(d.ln.crowded_ns, 50 * NS_PER_MS); /* as if so much time had gone by */
    }
    assert_true(listener_is_behind(&d.ln));
    TURN_UNTIL(&loop, d.ln.crowded_ns == 0);
    assert_true(listener_is_behind(&d.ln)); /* for a second more */
    d.ln.behind_ns = loop.now_ns;
    assert_false(listener_is_behind(&d.ln)); /* before anybody comes */
    d.ln.behind_ns = 1;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
        fds[i] = connect_to(&at);
    }
    (void)loop_turn(&loop, 1000);
    assert_int_not_equal(d.ln.crowded_ns, 0);
    assert_false(listener_is_behind(&d.ln)); /* it was long ago: this is a burst */
    TURN_UNTIL(&loop, d.ln.behind_ns == 0);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    door_close(&d);
}

static void who_has_gone_is_told(void **state)
{
    struct door d;
    struct addr at;
    int fd;

    (void)state;
    door_open(&d, &at);
    fd = connect_to(&at);
    TURN_UNTIL(&loop, d.count == 1);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    assert_false(sock_is_deserted(d.fds[0]));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    TURN_UNTIL(&loop, sock_is_deserted(d.fds[0])); /* though there is something to read */
    close(fd);
    door_close(&d);
}

static void on_finished(struct listener *ln)
{
    struct door *d = ln->user;

    assert_int_equal(ln->watch.fd, -1);
    d->is_finished = true;
}

/* Who has connected is accepted, though the listener was paused; who connects then is not reset by the close,
 * but refused. */
static void a_listener_that_finishes_resets_nobody(void **state)
{
    static const struct addr *at_both[2];
    struct addr v4 = addr_v4(0x7f000001, 0), v6 = {.family = AF_INET6, .ip[15] = 1};

    (void)state;
    at_both[0] = &v4;
    at_both[1] = &v6;
    for (size_t i = 0; i < ARRAY_LEN(at_both); i++) {
        struct door d = {.count = 0};
        struct addr at;
        int fds[100], late, fd;
        char byte;

        assert_int_equal(sock_listen(at_both[i], true, 128, &fd), 0);
        assert_int_equal(sock_local(fd, &at), 0);
        assert_int_equal(listener_open(&d.ln, &loop, fd, on_accept, &d), 0);
        listener_pause(&d.ln);
        for (size_t k = 0; k < ARRAY_LEN(fds); k++) {
            fds[k] = connect_to(&at);
            assert_int_equal(send(fds[k], "x", 1, 0), 1);
        }
        listener_finish(&d.ln, on_finished);
        late = connect_begin(&at);
        TURN_UNTIL(&loop, d.is_finished);
        assert_int_equal(d.count, ARRAY_LEN(fds));
        for (size_t k = 0; k < ARRAY_LEN(fds); k++) { /* each end still works both ways */
            assert_int_equal(recv(d.fds[k], &byte, 1, 0), 1);
            assert_int_equal(send(d.fds[k], "y", 1, 0), 1);
            assert_int_equal(recv(fds[k], &byte, 1, 0), 1);
            close(fds[k]);
        }
        assert_int_equal(poll(&(struct pollfd){.fd = late, .events = POLLOUT}, 1, 60000), 1);
        assert_int_equal(int_option(late, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
        close(late);
        door_close(&d);
    }
}

static void listener_may_be_closed_while_accepting(void **state)
{
    struct door d;
    struct addr at;
    int first, second;

    (void)state;
    door_open(&d, &at);
    d.close_on_accept = true;
    first = connect_to(&at);
    second = connect_to(&at);
    TURN_UNTIL(&loop, d.count == 1);
    (void)loop_turn(&loop, 0);
    assert_int_equal(d.count, 1);
    close(first);
    close(second);
    door_close(&d);
}

/* Out of descriptors: pause, do not spin, and go on by itself. */
static void exhausted_descriptors_pause_the_listener(void **state)
{
    struct rlimit before, none;
    struct door d;
    struct addr at;
    int fd, highest;

    (void)state;
    door_open(&d, &at);
    fd = connect_to(&at);
    highest = dup(fd); /* all below are taken */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)highest;
    close(highest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    TURN_UNTIL(&loop, timer_is_armed(&d.ln.pause));
    assert_int_equal(d.count, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    TURN_UNTIL(&loop, d.count == 1);
    close(fd);
    door_close(&d);
}

/* So that a connection costs no call for each of them. */
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
        assert_int_equal(listener_open(&d.ln, &loop, fd, on_accept, &d), 0);
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
    assert_int_equal(listener_open(&d.ln, &loop, fd, on_accept, &d), 0);
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
    door_open(&d, &at);
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
        cmocka_unit_test_setup_teardown(many_wait_at_the_door, setup, teardown),
        cmocka_unit_test_setup_teardown(paused_listener_leaves_them_in_the_backlog, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_listener_falls_behind_and_catches_up, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_gone_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listener_that_finishes_resets_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(listener_may_be_closed_while_accepting, setup, teardown),
        cmocka_unit_test_setup_teardown(exhausted_descriptors_pause_the_listener, setup, teardown),
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
