/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client's connection that carries one request may cost, after warm-up: calls of the kernel,
 * and of the heap. Calls of the proxies alone are counted: those within a turn of their loop.
 */
#include "peers.h"

#include <poll.h>
#include <sys/epoll.h>

#define WARM_UP     10
#define CONNECTIONS 40

#define GET                                                                                        \
    "GET /a HTTP/1.1\r\nHost: web\r\nUser-Agent: test\r\nAccept: */*\r\nConnection: close\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

#define CALLS(X)                                                                                   \
    X(accept4)                                                                                     \
    X(close)                                                                                       \
    X(epoll_ctl)                                                                                   \
    X(getpeername)                                                                                 \
    X(getsockname)                                                                                 \
    X(getsockopt)                                                                                  \
    X(poll)                                                                                        \
    X(recvmsg)                                                                                     \
    X(sendmsg)                                                                                     \
    X(setsockopt)                                                                                  \
    X(shutdown)                                                                                    \
    X(mem_new)                                                                                     \
    X(mem_resize)

static struct counts {
#define X(name) unsigned long name;
    CALLS(X)
#undef X
} counts;
static bool is_measuring, is_inside;
static struct app app;

#define WRAP(type, name, parameters, arguments)                                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        counts.name += is_inside;                                                                  \
        return __real_##name arguments;                                                            \
    }

WRAP(int, accept4, (int fd, struct sockaddr *at, socklen_t *len, int flags), (fd, at, len, flags))
WRAP(int, close, (int fd), (fd))
WRAP(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *e), (epfd, op, fd, e))
WRAP(int, getpeername, (int fd, struct sockaddr *at, socklen_t *len), (fd, at, len))
WRAP(int, getsockname, (int fd, struct sockaddr *at, socklen_t *len), (fd, at, len))
WRAP(int, getsockopt, (int fd, int level, int name, void *to, socklen_t *len),
     (fd, level, name, to, len))
WRAP(int, poll, (struct pollfd *at, nfds_t count, int ms), (at, count, ms))
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
WRAP(int, setsockopt, (int fd, int level, int name, const void *from, socklen_t len),
     (fd, level, name, from, len))
WRAP(int, shutdown, (int fd, int how), (fd, how))
WRAP(void *, mem_new, (size_t bytes), (bytes))
WRAP(void *, mem_resize, (void *old, size_t count, size_t bytes), (old, count, bytes))

bool __real_loop_turn(struct loop *l, int wait_ms);
bool __wrap_loop_turn(struct loop *l, int wait_ms);
bool __wrap_loop_turn(struct loop *l, int wait_ms)
{
    bool goes_on;

    is_inside = is_measuring;
    goes_on = __real_loop_turn(l, wait_ms);
    is_inside = false;
    return goes_on;
}

static int setup(void **state)
{
    rig_setup(state);
    app_open(&app);
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    return 0;
}

static int teardown(void **state)
{
    app_close(&app);
    return rig_teardown(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void connect_once(enum direction side, struct peer **server)
{
    struct peer *client = peer_dial(side);

    assert_int_equal(send(client->fd, GET, strlen(GET), 0), strlen(GET));
    if (*server == NULL) {
        *server = app_accept(&app);
    }
    RIG_UNTIL(peer_has(*server, "\r\n\r\n"));
    text_reset(&(*server)->in);
    assert_int_equal(send((*server)->fd, OK, strlen(OK), 0), strlen(OK));
    RIG_UNTIL(client->eof);
    assert_true(peer_has(client, "\r\n\r\nok"));
    peer_close(client);
    RIG_UNTIL(rig.w.conns_count == (side == OUTBOUND)); /* the mesh's own */
}

static void measure(enum direction side, const struct counts *each)
{
    struct peer *server = NULL;

    for (unsigned i = 0; i < WARM_UP; i++) {
        connect_once(side, &server);
    }
    counts = (struct counts){0};
    is_measuring = true;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        connect_once(side, &server);
    }
    is_measuring = false;
#define X(name)                                                                                    \
    if (counts.name != each->name * CONNECTIONS) {                                                 \
        fail_msg("%s: %lu for %d connections", #name, counts.name, CONNECTIONS);                   \
    }
    CALLS(X)
#undef X
}

/* Two proxies, and between them a connection that is there already. The client's proxy does all
 * that is counted but for half of what is sent and received. */
static void through_a_mesh(void **state)
{
    static const struct counts each = {
        .accept4 = 1,
        .close = 1,
        .epoll_ctl = 1,
        .getsockname = 1, /* by the redirect of the test */
        .poll = 1, /* is there another one to be accepted? */
        .recvmsg = 4,
        .sendmsg = 4,
        .mem_new = 4, /* connection, socket, meter, codec */
    };
    struct endpoint *at = endpoint_meshed(&app.at, "dst_pod=\"web-1\"", ENDPOINT_HINT_H2);

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_target(&rig.target[OUTBOUND],
                    policy_to(PROTOCOL_DETECT, NULL, "web.app.svc.cluster.local:80"));
    rig_know_endpoints("web.app.svc.cluster.local:80", &at, 1);
    measure(OUTBOUND, &each);
}

/* To the application, from a client that is not in the mesh. */
static void into_the_pod(void **state)
{
    static const struct counts each = {
        .accept4 = 1,
        .close = 1,
        .epoll_ctl = 1,
        .getsockname = 1,
        .poll = 1,
        .recvmsg = 2,
        .sendmsg = 2,
        .mem_new = 5, /* one of the endpoint that the application is */
    };

    (void)state;
    rig.target[INBOUND] = app.at;
    measure(INBOUND, &each);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(through_a_mesh),
        TEST(into_the_pod),
    };

    return rig_run(tests, argc, argv);
}
