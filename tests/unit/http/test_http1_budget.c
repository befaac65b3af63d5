/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an exchange over kept-alive connections may cost (design 4): a read and a write a side, and
 * no call of the general heap. The calls are counted where they are made, by the linker's --wrap.
 */
#include "net/sock.h"
#include "tests/unit/http/http_probe.h"

#define WARM_UP   8
#define EXCHANGES 100

static unsigned reads, writes, allocations;

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
void *__real_mem_new(size_t bytes);
void *__wrap_mem_new(size_t bytes);
void *__real_mem_resize(void *old, size_t count, size_t bytes);
void *__wrap_mem_resize(void *old, size_t count, size_t bytes);

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    reads++;
    return __real_recvmsg(fd, message, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    writes++;
    return __real_sendmsg(fd, message, flags);
}

void *__wrap_mem_new(size_t bytes)
{
    allocations++;
    return __real_mem_new(bytes);
}

void *__wrap_mem_resize(void *old, size_t count, size_t bytes)
{
    allocations++;
    return __real_mem_resize(old, count, bytes);
}

/* --- two ends that only count -------------------------------------------------------------------- */

static struct loop loop;
static struct http_server *server;
static struct http_client *client;
static struct stream *accepted, *dialed;
static unsigned closed;
static bool is_done;

static void drop_data(void *user UNUSED, struct chain *bytes)
{
    chain_clear(bytes);
}

static void no_room(void *user UNUSED, size_t bytes UNUSED)
{
}

static void unexpected(void *user UNUSED, enum reset why UNUSED, int err UNUSED)
{
    fail();
}

static void body(struct stream *s, size_t bytes)
{
    static const char block[4096];
    struct chain data;

    chain_init(&data);
    assert_int_equal(chain_append(&data, &loop.chunks, bytes_of(block, bytes)), 0);
    stream_send_data(s, &data);
    stream_send_end(s, NULL);
}

static void answer(void)
{
    struct head h = {.status = 200, .content_length = 200, .version = HTTP_11};

    fields_init(&h.fields, &accepted->arena);
    assert_int_equal(fields_add(&h.fields, BYTES("content-type"), BYTES("text/plain")), 0);
    assert_int_equal(stream_send_head(accepted, &h, false), 0);
    body(accepted, 200);
    stream_close(accepted, RESET_NONE);
}

static void on_request(void *user UNUSED, struct head *h)
{
    stream_credit(accepted, 1 << 20);
    if (h->ends) {
        answer();
    }
}

static void on_request_end(void *user UNUSED, struct fields *trailers UNUSED)
{
    answer();
}

static const struct stream_events accepted_events = {
    .on_head = on_request,
    .on_data = drop_data,
    .on_room = no_room,
    .on_end = on_request_end,
    .on_reset = unexpected,
};

static void on_stream(void *user UNUSED, struct stream *s)
{
    accepted = s;
    stream_set_user(s, &accepted_events, NULL);
}

static void on_closed(void *user UNUSED, int err UNUSED)
{
    closed++;
}

static const struct http_server_events server_events = {.on_stream = on_stream,
                                                        .on_closed = on_closed};
static const struct http_client_events client_events = {.on_closed = on_closed};

static void on_response(void *user UNUSED, struct head *h UNUSED)
{
    stream_credit(dialed, 1 << 20);
}

static void on_response_end(void *user UNUSED, struct fields *trailers UNUSED)
{
    stream_close(dialed, RESET_NONE);
    is_done = true;
}

static const struct stream_events dialed_events = {
    .on_head = on_response,
    .on_data = drop_data,
    .on_room = no_room,
    .on_end = on_response_end,
    .on_reset = unexpected,
};

static void exchange(const char *method, int64_t length)
{
    struct head h = {.method = bytes_str(method),
                     .path = BYTES("/some/path?with=query"),
                     .authority = BYTES("web.demo.svc.cluster.local:8080"),
                     .content_length = length,
                     .version = HTTP_11};

    is_done = false;
    assert_int_equal(http_client_open(client, &h, length < 0, &dialed_events, NULL, &dialed), 0);
    if (length >= 0) {
        body(dialed, (size_t)length);
    }
    while (!is_done || http_client_capacity(client) == 0) {
        assert_true(loop_turn(&loop, 1000));
    }
}

static void check_budget(const char *method, int64_t length)
{
    for (unsigned i = 0; i < WARM_UP; i++) {
        exchange(method, length);
    }
    reads = writes = allocations = 0;
    for (unsigned i = 0; i < EXCHANGES; i++) {
        exchange(method, length);
    }
    assert_int_equal(reads, 2 * EXCHANGES);
    assert_int_equal(writes, 2 * EXCHANGES);
    assert_int_equal(allocations, 0);
    assert_int_equal(loop.chunks.used_count, 0);
}

/* Over TCP: only there does the kernel say with the bytes that no more are waiting. */
static void connect_pair(int fds[2])
{
    struct addr at = addr_v4(0x7f000001, 0);
    struct sockaddr_storage to;
    int listener = -1;

    assert_int_equal(sock_listen(&at, false, 1, &listener), 0);
    assert_int_equal(sock_local(listener, &at), 0);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fds[1] >= 0);
    assert_int_equal(connect(fds[1], (struct sockaddr *)&to, addr_to_sockaddr(&at, &to)), 0);
    while ((fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0) {
        assert_int_equal(errno, EAGAIN);
    }
    assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    close(listener);
}

static void an_exchange_keeps_to_the_budget(void **state UNUSED)
{
    int fds[2];

    assert_int_equal(loop_open(&loop, 1, PROBE_CHUNKS), 0);
    connect_pair(fds);
    server = http1_server_new(io_tcp_new(&loop, fds[0], NULL), NULL, NULL, &server_events, NULL);
    client = http1_client_new(io_tcp_new(&loop, fds[1], NULL), NULL, &client_events, NULL);
    check_budget("GET", -1);
    check_budget("POST", 300);
    http_client_close(client, 0);
    while (closed == 0) {
        assert_true(loop_turn(&loop, 1000));
    }
    loop_close(&loop);
    arena_cache_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exchange_keeps_to_the_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
