/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-over of listening sockets (decision D15): its messages, and a whole proxy as the one that
 * gives, and as the one that takes, with the test at the other end. What two real processes do is
 * shown end to end by tests/mesh/test_handover.py.
 */
#include "proxy/handover.h"

#include "core/alloc.h"
#include "core/err.h"
#include "net/sock.h"
#include "proxy/admin.h"
#include "tests/unit/net/tls_probe.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct proxy proxy;
static struct pki pki;
static char problem[512], at[64];

static void set(const char *name, const char *value)
{
    char full[128];

    (void)snprintf(full, sizeof(full), "LINKERD2_PROXY_%s", name);
    assert_int_equal(setenv(full, value, 1), 0);
}

static int setup(void **state UNUSED)
{
    static const char *const pairs[][2] = {
        {"IDENTITY_TOKEN_FILE", "/nowhere/token"}, {"IDENTITY_LOCAL_NAME", SERVER_ID},
        {"IDENTITY_SVC_ADDR", "localhost:1"},      {"DESTINATION_SVC_ADDR", "localhost:1"},
        {"POLICY_SVC_ADDR", "localhost:1"},        {"POLICY_WORKLOAD", "{}"},
        {"INBOUND_LISTEN_ADDR", "127.0.0.1:0"},    {"OUTBOUND_LISTEN_ADDR", "127.0.0.1:0"},
        {"ADMIN_LISTEN_ADDR", "127.0.0.1:0"},      {"CORES", "2"},
        {"SHUTDOWN_GRACE_PERIOD", "10s"},          {"LOG", "off"},
    };
    static unsigned count;

    pki_open(&pki, "identity.linkerd.cluster.local");
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        set(pairs[i][0], pairs[i][1]);
    }
    set("IDENTITY_TRUST_ANCHORS", pki.root_pem);
    (void)snprintf(at, sizeof(at), "@tulle-test-%d-%u", (int)getpid(), count++);
    assert_int_equal(setenv(ENV_PROXY_HANDOVER, at, 1), 0);
    memset(&proxy, 0, sizeof(proxy));
    problem[0] = '\0';
    return 0;
}

static int open_proxy(void)
{
    assert_int_equal(config_from_env(&proxy.config, problem, sizeof(problem)), 0);
    return proxy_open(&proxy, problem, sizeof(problem));
}

static int teardown(void **state UNUSED)
{
    proxy_close(&proxy);
    pki_close(&pki);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        for (unsigned turn_ = 0; !(condition); turn_++) {                                          \
            if (turn_ > 20000) {                                                                   \
                fail_msg("never came: %s", #condition);                                            \
            }                                                                                      \
            (void)loop_turn(&proxy.loop, 1);                                                       \
        }                                                                                          \
    } while (0)

/* --- messages --------------------------------------------------------------------------------- */

static void messages(void **state)
{
    struct handover_message m;
    char raw[600] = "tulle-ho";
    uint16_t head[4] = {HANDOVER_VERSION, HANDOVER_HELLO, 7, 0};

    (void)state;
    memcpy(raw + 8, head, sizeof(head));
    memcpy(raw + 16, "0.1.0", 5);
    assert_int_equal(handover_parse(bytes_of(raw, 21), &m), 0);
    assert_int_equal(m.type, HANDOVER_HELLO);
    assert_int_equal(m.total, 7);
    assert_string_equal(m.text, "0.1.0");
    assert_int_equal(handover_parse(bytes_of(raw, 16), &m), 0);
    assert_string_equal(m.text, "");
    assert_int_equal(handover_parse(bytes_of(raw, 16 + HANDOVER_TEXT_MAX), &m), 0);
    assert_int_equal(strlen(m.text), 5);
    assert_int_equal(handover_parse(bytes_of(raw, 17 + HANDOVER_TEXT_MAX), &m), E_SYNTAX);
    assert_int_equal(handover_parse(bytes_of(raw, 15), &m), E_SYNTAX);
    assert_int_equal(handover_parse(BYTES_NONE, &m), E_SYNTAX);
    head[0] = 2; /* a refusal can be read whatever version it comes from */
    head[1] = HANDOVER_REFUSE;
    memcpy(raw + 8, head, sizeof(head));
    assert_int_equal(handover_parse(bytes_of(raw, 21), &m), E_UNSUPPORTED);
    assert_int_equal(m.version, 2);
    assert_int_equal(m.type, HANDOVER_REFUSE);
    assert_string_equal(m.text, "0.1.0");
    head[0] = HANDOVER_VERSION;
    head[1] = HANDOVER_ABORT + 1;
    memcpy(raw + 8, head, sizeof(head));
    assert_int_equal(handover_parse(bytes_of(raw, 21), &m), E_SYNTAX);
    raw[0] = 'T';
    assert_int_equal(handover_parse(bytes_of(raw, 21), &m), E_SYNTAX);
}

/* A path: only what nobody listens on is replaced, and only the owner's name is removed. */
static void a_path(void **state)
{
    char path[64];
    struct stat st;
    int one, other = -1;

    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/tulle-test-%d", (int)getpid());
    assert_int_equal(handover_listen(path, &one), 0);
    assert_true(handover_is_at(one, path));
    assert_false(handover_is_at(one, "/tmp/tulle-test"));
    assert_int_equal(handover_listen(path, &other), -EADDRINUSE);
    close(one);
    assert_int_equal(handover_connect(path, &other), -ECONNREFUSED);
    assert_int_equal(handover_listen(path, &one), 0);
    close(one);
    assert_int_equal(setenv(ENV_PROXY_HANDOVER, path, 1), 0);
    assert_int_equal(open_proxy(), 0);
    assert_int_equal(stat(path, &st), 0);
    proxy_drain(&proxy, "test");
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(handover_listen("@", &other), -ENAMETOOLONG);
}

/* --- a proxy that gives ----------------------------------------------------------------------- */

static int hello(struct handover_taken *t)
{
    struct handover_message m;
    int fd = -1;

    *t = (struct handover_taken){.link_fd = -1};
    assert_int_equal(handover_connect(at, &fd), 0);
    assert_true(handover_is_peer_allowed(fd));
    assert_int_equal(handover_send(fd, HANDOVER_HELLO, "9.9.9"), 0);
    for (unsigned i = 0; i < 100; i++) {
        (void)loop_turn(&proxy.loop, 1);
    }
    assert_int_equal(handover_recv(fd, &m), 0);
    if (m.type == HANDOVER_SOCKETS) {
        assert_int_equal(m.total, m.fds_count);
        t->fds = mem_resize(NULL, m.fds_count, sizeof(int));
        memcpy(t->fds, m.fds, m.fds_count * sizeof(int));
        t->count = m.fds_count;
    }
    t->link_fd = fd;
    t->is_heir = true;
    return m.type;
}

static bool has_come(int fd, enum handover_type type)
{
    struct handover_message m;
    int rc;

    (void)loop_turn(&proxy.loop, 1);
    rc = recv(fd, &m, 1, MSG_PEEK | MSG_DONTWAIT) < 0 ? E_AGAIN : handover_recv(fd, &m);
    if (rc == 0) {
        assert_int_equal(m.type, type);
    }
    return rc == 0;
}

static void all_sockets_go_over(void **state)
{
    struct handover_taken t, second;
    struct addr admin;

    (void)state;
    assert_int_equal(open_proxy(), 0);
    assert_int_equal(sock_local(proxy.admin->listener.watch.fd, &admin), 0);
    assert_int_equal(hello(&t), HANDOVER_SOCKETS);
    assert_int_equal(t.count, 2 + 2 + 1 + 1); /* a side and worker, admin, the name itself */
    assert_int_equal(hello(&second), HANDOVER_REFUSE); /* one at a time */
    handover_taken_clear(&second);
    assert_int_equal(handover_send(t.link_fd, HANDOVER_READY, NULL), 0);
    UNTIL(has_come(t.link_fd, HANDOVER_GO));
    assert_false(proxy.is_draining);
    assert_int_equal(handover_send(t.link_fd, HANDOVER_SERVING, NULL), 0);
    UNTIL(proxy.is_draining && proxy.drained == 2);
    assert_int_equal(handover_connect(at, &second.link_fd), 0); /* for we still have it */
    close(second.link_fd);
    close(handover_claim(&t, &admin));
    assert_int_equal(handover_claim(&t, &admin), -1);
    handover_taken_clear(&t);
    assert_int_equal(handover_connect(at, &second.link_fd), -ECONNREFUSED);
}

static void a_successor_that_goes_or_is_confused(void **state)
{
    struct handover_taken t;

    (void)state;
    assert_int_equal(open_proxy(), 0);
    for (unsigned step = 0; step < 4; step++) {
        assert_int_equal(hello(&t), HANDOVER_SOCKETS);
        if (step == 1) {
            assert_int_equal(handover_send(t.link_fd, HANDOVER_SERVING, NULL), 0);
            UNTIL(has_come(t.link_fd, HANDOVER_ABORT));
        } else if (step == 2) {
            assert_int_equal(handover_send(t.link_fd, HANDOVER_READY, NULL), 0);
        } else if (step == 3) {
            assert_int_equal(handover_send(t.link_fd, HANDOVER_READY, NULL), 0);
            UNTIL(has_come(t.link_fd, HANDOVER_GO));
        }
        handover_taken_clear(&t);
        for (unsigned i = 0; i < 50; i++) {
            (void)loop_turn(&proxy.loop, 1);
        }
        assert_false(proxy.is_draining);
    }
    assert_int_equal(hello(&t), HANDOVER_SOCKETS);
    proxy_drain(&proxy, "test"); /* while a successor is at it: that one goes on alone */
    UNTIL(proxy.drained == 2);
    assert_int_equal(recv(t.link_fd, problem, 1, 0), 0);
    handover_taken_clear(&t);
}

/* --- a proxy that takes ----------------------------------------------------------------------- */

struct ancestor { /* played by a thread, for taking blocks */
    pthread_t thread;
    int listen_fd, fds[4], link_fd;
    unsigned version; /* of the answer to HELLO; 0: none, it hangs up */
};
static struct ancestor ancestor;

static void *play(void *user)
{
    struct ancestor *a = user;
    struct handover_message m;
    char raw[22] = "tulle-ho\2\0\0\0\0\0\0\0no way";

    a->link_fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (a->link_fd < 0 && errno == EAGAIN) {
        struct pollfd p = {.fd = a->listen_fd, .events = POLLIN};

        (void)poll(&p, 1, 10000);
        a->link_fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    }
    if (handover_recv(a->link_fd, &m) != 0 || m.type != HANDOVER_HELLO) {
        return NULL;
    }
    if (a->version == HANDOVER_VERSION) {
        (void)!handover_send_sockets(a->link_fd, a->fds, ARRAY_LEN(a->fds));
    } else if (a->version != 0) {
        (void)!send(a->link_fd, raw, sizeof(raw), 0);
    } else {
        close(a->link_fd);
        a->link_fd = -1;
    }
    return NULL;
}

static void listen_for(const char *name, int *out_fd)
{
    struct addr any = addr_v4(0x7f000001, 0);
    char text[ADDR_TEXT_BYTES];

    assert_int_equal(sock_listen(&any, strcmp(name, "ADMIN_LISTEN_ADDR") != 0, 16, out_fd), 0);
    assert_int_equal(sock_local(*out_fd, &any), 0);
    set(name, addr_format(&any, text));
}

static int open_heir(unsigned version)
{
    int rc;

    ancestor = (struct ancestor){.version = version, .link_fd = -1};
    assert_int_equal(handover_listen(at, &ancestor.listen_fd), 0);
    listen_for("INBOUND_LISTEN_ADDR", &ancestor.fds[0]);
    listen_for("OUTBOUND_LISTEN_ADDR", &ancestor.fds[1]);
    listen_for("ADMIN_LISTEN_ADDR", &ancestor.fds[2]);
    ancestor.fds[3] = dup(ancestor.listen_fd);
    assert_int_equal(pthread_create(&ancestor.thread, NULL, play, &ancestor), 0);
    rc = open_proxy();
    assert_int_equal(pthread_join(ancestor.thread, NULL), 0);
    close(ancestor.listen_fd);
    for (size_t i = 0; i < ARRAY_LEN(ancestor.fds); i++) {
        close(ancestor.fds[i]);
    }
    return rc;
}

static void it_serves_when_it_is_told_to(void **state)
{
    (void)state;
    assert_int_equal(open_heir(HANDOVER_VERSION), 0);
    assert_true(handover_is_pending(proxy.handover));
    assert_null(proxy.admin);
    handover_ready(proxy.handover);
    handover_ready(proxy.handover);
    UNTIL(has_come(ancestor.link_fd, HANDOVER_READY));
    assert_false(proxy.is_serving);
    assert_int_equal(handover_send(ancestor.link_fd, HANDOVER_GO, NULL), 0);
    UNTIL(has_come(ancestor.link_fd, HANDOVER_SERVING));
    assert_true(proxy.is_serving);
    assert_non_null(proxy.admin);
    assert_int_equal(recv(ancestor.link_fd, problem, 1, 0), 0);
    close(ancestor.link_fd);
}

static void it_goes_on_alone(void **state)
{
    (void)state;
    assert_int_equal(open_heir(HANDOVER_VERSION), 0);
    close(ancestor.link_fd);
    UNTIL(proxy.admin != NULL && !handover_is_pending(proxy.handover));
    assert_false(proxy.is_serving); /* it has no certificate */
    assert_false(proxy.has_failed);
    UNTIL(proxy.order_left == 0);
}

static void it_goes_on_alone_when_it_was_ready(void **state)
{
    (void)state;
    assert_int_equal(open_heir(HANDOVER_VERSION), 0);
    handover_ready(proxy.handover);
    close(ancestor.link_fd);
    UNTIL(proxy.is_serving);
}

static void it_gives_way(void **state)
{
    (void)state;
    assert_int_equal(open_heir(HANDOVER_VERSION), 0);
    assert_int_equal(handover_send(ancestor.link_fd, HANDOVER_ABORT, "changed my mind"), 0);
    UNTIL(proxy.has_failed && proxy.loop.stopping);
    close(ancestor.link_fd);
}

static void it_is_refused(void **state)
{
    (void)state;
    assert_true(open_heir(2) != 0);
    assert_non_null(strstr(problem, "the running proxy does not hand over"));
    assert_non_null(strstr(problem, "no way"));
    close(ancestor.link_fd);
}

static void it_gets_nothing(void **state)
{
    (void)state;
    assert_int_equal(open_heir(0), E_EOF);
    assert_non_null(strstr(problem, ENV_PROXY_HANDOVER));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),
        TEST(a_path),
        TEST(all_sockets_go_over),
        TEST(a_successor_that_goes_or_is_confused),
        TEST(it_serves_when_it_is_told_to),
        TEST(it_goes_on_alone),
        TEST(it_goes_on_alone_when_it_was_ready),
        TEST(it_gives_way),
        TEST(it_is_refused),
        TEST(it_gets_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
