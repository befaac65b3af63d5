/* SPDX-License-Identifier: Apache-2.0 */
#include "http/service.h"
#include "tests/unit/http/http_probe.h"

#define BODY_MAX 1000

static struct loop loop;
static struct service *service;
static struct service_request *waiting; /* held back by the handler */
static unsigned gone;

static unsigned pieces; /* of the long answer, made until now */

/* Three pieces, of which the second is late. */
static int more(struct service_request *r)
{
    if (pieces == 1 && waiting == NULL) {
        waiting = r;
        return E_AGAIN;
    }
    waiting = NULL;
    pieces++;
    for (unsigned i = 0; i < 10000; i++) {
        text_printf(&r->answer, "%09u\n", pieces);
    }
    return pieces < 3 ? 0 : bytes_eq(r->path, BYTES("/broken")) ? E_LIMIT : E_EOF;
}

static void handle(struct service_request *r, void *user)
{
    assert_ptr_equal(user, &loop);
    r->status = 200;
    r->content_type = "text/plain";
    if (bytes_eq(r->path, BYTES("/echo"))) {
        text_printf(&r->answer, BYTES_FMT " ?" BYTES_FMT " ", BYTES_ARG(r->head->method),
                    BYTES_ARG(r->query));
        text_add(&r->answer, r->body);
        text_printf(&r->answer, " %u", r->peer.port);
    } else if (bytes_eq(r->path, BYTES("/big"))) {
        for (unsigned i = 0; i < 100000; i++) {
            text_printf(&r->answer, "%09u\n", i);
        }
    } else if (bytes_eq(r->path, BYTES("/move"))) {
        r->status = 301;
        r->content_type = NULL;
        r->extra_name = "location";
        r->extra_value = "/there";
    } else if (bytes_eq(r->path, BYTES("/bad"))) {
        r->extra_name = "x";
        r->extra_value = "a\r\nb: c";
    } else if (bytes_eq(r->path, BYTES("/long")) || bytes_eq(r->path, BYTES("/broken"))) {
        r->more = more;
    } else {
        waiting = r;
        return;
    }
    service_answer(r);
}

static void on_gone(struct service_request *r, void *user)
{
    assert_ptr_equal(user, &loop);
    assert_true(waiting == NULL || r == waiting);
    waiting = NULL;
    gone++;
}

static void turns(void)
{
    for (unsigned i = 0; i < 12; i++) {
        (void)loop_turn(&loop, 0);
    }
}

static int setup(void **state UNUSED)
{
    waiting = NULL;
    gone = pieces = 0;
    assert_int_equal(loop_open(&loop, 1, PROBE_CHUNKS), 0);
    service = service_new(&loop, BODY_MAX, handle, on_gone, &loop);
    return 0;
}

static int teardown(void **state UNUSED)
{
    if (service != NULL) {
        service_free(service);
    }
    turns();
    loop_close(&loop);
    arena_cache_clear();
    return 0;
}

static int client_open(void)
{
    struct addr peer = addr_v4(0x7f000001, 1234);
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    service_accept(service, fds[1], &peer);
    turns();
    return fds[0];
}

static void client_send(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    turns();
}

/* All that comes now; "EOF" is written behind it. */
static void client_read(int fd, struct text *to)
{
    char block[65536];
    ssize_t n;

    text_reset(to);
    turns();
    while ((n = read(fd, block, sizeof(block))) > 0) {
        text_add(to, bytes_of(block, (size_t)n));
        turns();
    }
    text_str(to, n == 0 ? "EOF" : "");
}

#define assert_answer(fd, start, end_)                                                             \
    do {                                                                                           \
        struct text got_;                                                                          \
                                                                                                   \
        text_init(&got_, 64 << 20);                                                                \
        client_read((fd), &got_);                                                                  \
        if (!bytes_starts(text_bytes(&got_), BYTES(start)) ||                                      \
            !bytes_ends(text_bytes(&got_), BYTES(end_))) {                                         \
            fail_msg("%s", got_.at);                                                               \
        }                                                                                          \
        text_clear(&got_);                                                                         \
    } while (0)

static void whole_requests_get_whole_answers(void **state UNUSED)
{
    int fd = client_open();

    client_send(
        fd, "POST /echo?a=b HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxy\r\n");
    client_send(fd, "1\r\nz\r\n0\r\n\r\n");
    assert_answer(fd, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 18\r\ndate: ",
                  "\r\n\r\nPOST ?a=b xyz 1234");
    client_send(fd, "GET /move HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_answer(fd, "HTTP/1.1 301 Moved Permanently\r\nlocation: /there\r\ncontent-length: 0\r\n",
                  "\r\n\r\n");
    client_send(fd, "HEAD /echo HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_answer(fd, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n",
                  "\r\n\r\n");
    close(fd);
}

/* A piece a turn, and none before there is room for it. */
static void a_long_answer_comes_in_pieces(void **state UNUSED)
{
    int fd = client_open();

    client_send(fd, "GET /long HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_int_equal(pieces, 1);
    assert_answer(fd, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked",
                  "000000001\n\r\n");
    assert_non_null(waiting); /* it has nothing for now */
    service_resume(waiting);
    service_resume(waiting);
    assert_answer(fd, "", "000000003\n\r\n0\r\n\r\n");
    client_send(fd, "GET /echo HTTP/1.1\r\nhost: h\r\n\r\n"); /* the connection goes on */
    assert_answer(fd, "HTTP/1.1 200 OK", "GET ?  1234");
    assert_int_equal(gone, 0);
    close(fd);
}

static void a_long_answer_ends_early(void **state UNUSED)
{
    int fd = client_open();

    client_send(fd, "HEAD /long HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_answer(fd, "HTTP/1.1 200 OK", "\r\n\r\n");
    assert_int_equal(pieces, 0);
    assert_int_equal(gone, 1);
    client_send(fd, "GET /long HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_non_null(waiting);
    close(fd); /* it is at the second piece */
    turns();
    assert_int_equal(gone, 2);
    assert_null(waiting);
    fd = client_open();
    pieces = 2;
    client_send(fd, "GET /broken HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_answer(fd, "HTTP/1.1 200 OK", "EOF"); /* and no last chunk */
    assert_int_equal(gone, 2);
    close(fd);
}

static void a_large_answer_goes_as_the_client_reads(void **state UNUSED)
{
    int fd = client_open();

    client_send(fd, "GET /big HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_answer(fd, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000000\r\n",
                  "\n000099999\n");
    close(fd);
}

static void a_handler_may_answer_later(void **state UNUSED)
{
    int fd = client_open();

    client_send(fd, "GET /later HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_non_null(waiting);
    assert_answer(fd, "", "");
    waiting->status = 404;
    text_str(&waiting->answer, "late");
    service_answer(waiting);
    assert_answer(fd, "HTTP/1.1 404 Not Found\r\n", "\r\n\r\nlate");
    close(fd);
    turns();
    assert_int_equal(gone, 0);
}

static void a_client_that_goes_is_told(void **state UNUSED)
{
    int fd = client_open();

    client_send(fd, "GET /move HTTP/1.1\r\nhost: h\r\n\r\nGET /later HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_non_null(waiting);
    close(fd); /* with an unread answer: a reset */
    turns();
    assert_int_equal(gone, 1);
    assert_null(waiting);
}

static void large_bodies_are_refused(void **state UNUSED)
{
    char block[BODY_MAX + 2];
    int fd = client_open();

    client_send(fd, "POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 1001\r\n\r\n");
    assert_answer(fd, "HTTP/1.1 413 Content Too Large\r\n", "connection: close\r\n\r\nEOF");
    close(fd);
    fd = client_open();
    client_send(fd, "POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n");
    memset(block, 'x', sizeof(block));
    block[BODY_MAX + 1] = '\0';
    client_send(fd, block);
    assert_answer(fd, "HTTP/1.1 413 Content Too Large\r\n", "connection: close\r\n\r\nEOF");
    close(fd);
    fd = client_open();
    client_send(fd, "POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\n");
    block[BODY_MAX] = '\0';
    client_send(fd, block);
    assert_answer(fd, "HTTP/1.1 200 OK\r\n", "x 1234");
    close(fd);
}

static void an_answer_that_cannot_be_sent_ends_the_connection(void **state UNUSED)
{
    int fd = client_open();

    client_send(fd, "GET /bad HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_answer(fd, "", "");
    assert_int_equal(read(fd, &(char){0}, 1), 0);
    close(fd);
}

static void other_protocols_get_400(void **state UNUSED)
{
    int fd = client_open();

    client_send(fd, "\x16\x03\x01\x02\x00\x01\x00\x01");
    assert_answer(fd, "HTTP/1.1 400 Bad Request\r\n", "EOF");
    close(fd);
    fd = client_open();
    client_send(fd, "GE");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_answer(fd, "", "EOF");
    close(fd);
    fd = client_open();
    close(fd);
    turns();
}

static void the_oldest_idle_connection_makes_room(void **state UNUSED)
{
    int fds[258];
    char c;

    for (size_t i = 0; i < 256; i++) {
        fds[i] = client_open();
    }
    client_send(fds[0], "GET /later HTTP/1.1\r\nhost: h\r\n\r\n"); /* busy */
    client_send(fds[1], "GET /move HTTP/1.1\r\nhost: h\r\n\r\n");  /* used just now */
    fds[256] = client_open();
    fds[257] = client_open();
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        ssize_t n = recv(fds[i], &c, 1, MSG_PEEK);

        assert_int_equal(n == 0, i == 2 || i == 3);
        if (i > 0) {
            close(fds[i]);
        }
    }
    assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
    turns();
    assert_non_null(waiting); /* a client that only finished sending gets its answer */
    waiting->status = 200;
    service_answer(waiting);
    close(fds[0]);
}

/* RFC 9110 15.5.9, and what is known as slow loris: half a request, or an answer that nobody reads,
 * must not keep everybody else out. */
static void connections_that_make_no_progress_give_way(void **state UNUSED)
{
    int fds[256], late;
    char c;

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = client_open();
        if (i == 0) {
            client_send(fds[i], "GET /later HTTP/1.1\r\nhost: h\r\n\r\n"); /* we are at it */
        } else if (i % 2 == 0) {
            client_send(fds[i], "POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nx");
        } else {
            client_send(fds[i], "GET /big HTTP/1.1\r\nhost: h\r\n\r\n");
        }
    }
    late = client_open();
    client_send(late, "GET /echo HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_answer(late, "HTTP/1.1 200 OK\r\n", " 1234");
    assert_non_null(waiting);
    assert_true(recv(fds[0], &c, 1, MSG_PEEK) < 0 && errno == EAGAIN);
    waiting->status = 200;
    service_answer(waiting);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    close(late);
}

static void freeing_ends_what_waits(void **state UNUSED)
{
    int fds[4];

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = client_open();
    }
    client_send(fds[0], "GET /later HTTP/1.1\r\nhost: h\r\n\r\n");
    client_send(fds[1], "GET /move HTTP/1.1\r\nhost: h\r\n\r\n");
    client_send(fds[2], "POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nx");
    service_free(service);
    service = NULL;
    assert_int_equal(gone, 1);
    turns();
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        struct text got;
        ssize_t n;

        text_init(&got, 1 << 20);
        client_read(fds[i], &got);
        n = read(fds[i], &(char){0}, 1);
        assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
        text_clear(&got);
        close(fds[i]);
    }
}

/* --- HTTP/2 -------------------------------------------------------------------------------------- */

static void h2_closed(void *user UNUSED, int err UNUSED)
{
}

static void http2_is_served_on_the_same_port(void **state UNUSED)
{
    static const struct http_client_events events = {.on_closed = h2_closed};
    struct probe p = {.peer = -1, .credit_at_once = 1 << 20};
    struct head h = {.method = BYTES("POST"),
                     .scheme = BYTES("http"),
                     .authority = BYTES("h"),
                     .path = BYTES("/echo?q"),
                     .content_length = -1,
                     .version = HTTP_2};
    struct http_client *client;
    struct io *io = io_tcp_new(&loop, client_open(), NULL);

    text_init(&p.log, 10000);
    client = http2_client_new(io, NULL, &events, &p);
    turns();
    assert_int_equal(http_client_open(client, &h, true, &probe_events, &p, &p.s), 0);
    turns();
    assert_log(&p, "head 200;data POST ?q  1234;end;");
    stream_close(p.s, RESET_NONE);
    http_client_close(client, 0);
    turns();
    text_clear(&p.log);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(whole_requests_get_whole_answers),
        TEST(a_large_answer_goes_as_the_client_reads),
        TEST(a_long_answer_comes_in_pieces),
        TEST(a_long_answer_ends_early),
        TEST(a_handler_may_answer_later),
        TEST(a_client_that_goes_is_told),
        TEST(large_bodies_are_refused),
        TEST(an_answer_that_cannot_be_sent_ends_the_connection),
        TEST(other_protocols_get_400),
        TEST(the_oldest_idle_connection_makes_room),
        TEST(connections_that_make_no_progress_give_way),
        TEST(freeing_ends_what_waits),
        TEST(http2_is_served_on_the_same_port),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
