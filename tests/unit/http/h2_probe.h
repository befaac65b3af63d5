/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_H2_PROBE_H
#define HTTP_H2_PROBE_H

/*
 * Both ends of an HTTP/2 connection on one loop over a socket pair, and users of streams that write down what
 * they are told.
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/text.h"
#include "http/conn.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <sys/socket.h>

#define PROBE_STREAMS_MAX 8192
#define PROBE_CHUNKS_MAX  4096

struct probe;

/* The user of one stream. `log` gets a letter an event: I interim, H head, D data, R room (both once in a
 * row), E end, X reset. */
struct user {
    struct probe *probe;
    struct stream *s; /* NULL once closed */
    bool is_accepted;
    char log[64];
    unsigned log_len;
    struct head *head; /* the final one; valid until the stream is closed */
    unsigned interim_status;
    bool head_ends, ended;
    struct fields *trailers; /* as head */
    enum reset why;
    int err;
    size_t received, sum; /* bytes, and their sum as a checksum */
    bool auto_credit;     /* credit again what came */
    size_t to_send, sent; /* bytes of body still to be sent as room allows, and sent */
    bool end_after;       /* then the end */
    void (*on_event)(struct user *u, char event); /* may be NULL */
};

struct probe {
    struct loop loop;
    struct http_server *server; /* NULL once closed */
    struct http_client *client;
    int raw_fd; /* one end, when the other is spoken to by hand; else -1 */
    struct user *accepted[PROBE_STREAMS_MAX], *dialed[PROBE_STREAMS_MAX];
    unsigned accepted_count, dialed_count;
    int server_err, client_err;
    bool server_closed, client_closed;
    unsigned idle_count, capacity_count;
    void (*on_accepted)(struct user *u);                   /* may be NULL */
    void (*on_accepted_event)(struct user *u, char event); /* copied into accepted users */
};

static void user_pump(struct user *u);

static void user_note(struct user *u, char event)
{
    bool repeats = u->log_len > 0 && u->log[u->log_len - 1] == event;

    if (!(repeats && (event == 'D' || event == 'R')) && u->log_len < sizeof(u->log) - 1) {
        u->log[u->log_len++] = event;
    }
    if (u->on_event != NULL) {
        u->on_event(u, event);
    }
}

static void user_on_head(void *user, struct head *head)
{
    struct user *u = user;

    if (head->status >= 100 && head->status < 200) {
        u->interim_status = head->status;
        user_note(u, 'I');
        return;
    }
    assert_null(u->head);
    u->head = head;
    u->head_ends = head->ends;
    user_note(u, 'H');
}

static void user_on_data(void *user, struct chain *bytes)
{
    struct user *u = user;
    size_t n = chain_size(bytes);

    assert_true(n > 0 && u->head != NULL && !u->ended);
    while (chain_size(bytes) > 0) {
        struct bytes part = chain_head(bytes);

        for (size_t i = 0; i < part.len; i++) {
            u->sum += (unsigned char)part.at[i] * (1 + u->received % 7);
            u->received++;
        }
        chain_drop(bytes, part.len);
    }
    if (u->auto_credit) {
        stream_credit(u->s, n);
    }
    user_note(u, 'D');
}

static void user_on_room(void *user, size_t bytes)
{
    struct user *u = user;

    assert_true(bytes > 0 && u->s->room >= bytes);
    user_pump(u);
    user_note(u, 'R');
}

static void user_on_end(void *user, struct fields *trailers)
{
    struct user *u = user;

    assert_false(u->ended);
    u->ended = true;
    u->trailers = trailers;
    user_note(u, 'E');
}

static void user_on_reset(void *user, enum reset why, int err)
{
    struct user *u = user;

    assert_int_equal(u->why, RESET_NONE);
    u->why = why;
    u->err = err;
    user_note(u, 'X');
}

static const struct stream_events user_events = {
    .on_head = user_on_head,
    .on_data = user_on_data,
    .on_room = user_on_room,
    .on_end = user_on_end,
    .on_reset = user_on_reset,
};

static inline void user_close(struct user *u, enum reset why)
{
    struct stream *s = u->s;

    u->s = NULL;
    u->head = NULL;
    stream_close(s, why);
}

static unsigned char body_byte(size_t at)
{
    return (unsigned char)(at * 31 + at / 251);
}

static inline size_t body_sum(size_t bytes)
{
    size_t sum = 0;

    for (size_t i = 0; i < bytes; i++) {
        sum += body_byte(i) * (1 + i % 7);
    }
    return sum;
}

/* Send what is to be sent, as far as there is room. */
static void user_pump(struct user *u)
{
    if (u->s == NULL || !u->s->sent_head || u->s->sent_end) {
        return;
    }
    while (u->to_send > 0 && u->s->room > 0) {
        size_t n = MIN(MIN(u->to_send, u->s->room), (size_t)CHUNK_BYTES);
        struct chain out;
        struct chunk *chunk = chunk_new(&u->s->loop->chunks);

        assert_non_null(chunk);
        chain_init(&out);
        for (size_t i = 0; i < n; i++) {
            chunk->data[i] = (char)body_byte(u->sent + i);
        }
        chunk->end = (unsigned)n;
        chain_push(&out, chunk);
        u->sent += n;
        u->to_send -= n;
        stream_send_data(u->s, &out);
    }
    if (u->to_send == 0 && u->end_after) {
        stream_send_end(u->s, NULL);
    }
}

/* --- the two ends -------------------------------------------------------------------------------- */

static void probe_on_stream(void *user, struct stream *s)
{
    struct probe *p = user;
    struct user *u = mem_new(sizeof(*u));

    assert_true(p->accepted_count < PROBE_STREAMS_MAX);
    *u = (struct user){.probe = p, .s = s, .is_accepted = true, .on_event = p->on_accepted_event};
    p->accepted[p->accepted_count++] = u;
    stream_set_user(s, &user_events, u);
    if (p->on_accepted != NULL) {
        p->on_accepted(u);
    }
}

static void probe_server_closed(void *user, int err)
{
    struct probe *p = user;

    assert_false(p->server_closed);
    p->server_closed = true;
    p->server = NULL;
    p->server_err = err;
}

static void probe_client_closed(void *user, int err)
{
    struct probe *p = user;

    assert_false(p->client_closed);
    p->client_closed = true;
    p->client = NULL;
    p->client_err = err;
}

static void probe_idle(void *user)
{
    ((struct probe *)user)->idle_count++;
}

static void probe_capacity(void *user)
{
    ((struct probe *)user)->capacity_count++;
}

static const struct http_server_events probe_server_events = {probe_on_stream, probe_server_closed};
static const struct http_client_events probe_client_events = {probe_idle, probe_capacity,
                                                              probe_client_closed};

static struct io *probe_io(struct probe *p, int fd)
{
    struct io *io = io_tcp_new(&p->loop, fd, NULL);

    assert_non_null(io);
    return io;
}

static inline struct probe *probe_new(size_t chunks_max)
{
    struct probe *p = mem_new(sizeof(*p));

    p->raw_fd = -1;
    assert_int_equal(loop_open(&p->loop, 0, chunks_max), 0);
    return p;
}

static inline void probe_sockets(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static inline struct probe *probe_pair(const struct http_limits *server,
                                       const struct http_limits *client)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    int fds[2];

    probe_sockets(fds);
    p->server = http2_server_new(probe_io(p, fds[0]), NULL, server, &probe_server_events, p);
    p->client = http2_client_new(probe_io(p, fds[1]), client, &probe_client_events, p);
    return p;
}

static inline void probe_turn(struct probe *p)
{
    (void)loop_turn(&p->loop, 1000);
}

#define PROBE_UNTIL(p, condition)                                                                  \
    do {                                                                                           \
        for (unsigned turn_ = 0; !(condition); turn_++) {                                          \
            if (turn_ > 20000) {                                                                   \
                fail_msg("never came: %s", #condition);                                            \
            }                                                                                      \
            probe_turn(p);                                                                         \
        }                                                                                          \
    } while (0)

/* Let everything that is under way arrive: turns until there were several without news. */
static inline void probe_settle(struct probe *p)
{
    for (unsigned i = 0; i < 20; i++) {
        (void)loop_turn(&p->loop, 0);
    }
}

static inline void probe_free(struct probe *p)
{
    for (unsigned i = 0; i < p->accepted_count + p->dialed_count; i++) {
        struct user *u = i < p->accepted_count ? p->accepted[i] : p->dialed[i - p->accepted_count];

        if (u->s != NULL) {
            user_close(u, RESET_CANCEL);
        }
    }
    if (p->client != NULL) {
        http_client_close(p->client, 0);
        p->client = NULL;
    }
    if (p->server != NULL) {
        http_server_close(p->server, 0);
        PROBE_UNTIL(p, p->server == NULL);
    }
    if (p->raw_fd >= 0) {
        (void)close(p->raw_fd);
    }
    probe_settle(p);
    io_close_lingering(&p->loop);
    for (unsigned i = 0; i < p->accepted_count; i++) {
        mem_free(p->accepted[i]);
    }
    for (unsigned i = 0; i < p->dialed_count; i++) {
        mem_free(p->dialed[i]);
    }
    assert_int_equal(p->loop.chunks.used_count, 0);
    loop_close(&p->loop);
    arena_cache_clear();
    mem_free(p);
}

/* --- messages ------------------------------------------------------------------------------------ */

static inline struct head probe_request(const char *method, const char *path)
{
    return (struct head){
        .method = bytes_str(method),
        .scheme = BYTES("http"),
        .authority = BYTES("books.default:80"),
        .path = bytes_str(path),
        .content_length = -1,
        .version = HTTP_2,
    };
}

static inline struct head probe_answer(unsigned status)
{
    return (struct head){.status = status, .content_length = -1, .version = HTTP_2};
}

static inline struct user *probe_open(struct probe *p, const struct head *h, bool ends)
{
    struct user *u = mem_new(sizeof(*u));

    assert_true(p->dialed_count < PROBE_STREAMS_MAX);
    u->probe = p;
    p->dialed[p->dialed_count++] = u;
    assert_int_equal(http_client_open(p->client, h, ends, &user_events, u, &u->s), 0);
    return u;
}

static inline struct user *probe_get(struct probe *p, const char *path)
{
    struct head h = probe_request("GET", path);

    return probe_open(p, &h, true);
}

static inline void user_answer(struct user *u, unsigned status, bool ends)
{
    struct head h = probe_answer(status);

    assert_int_equal(stream_send_head(u->s, &h, ends), 0);
}

static inline void user_send(struct user *u, const char *text)
{
    struct chain out;

    chain_init(&out);
    assert_int_equal(chain_append(&out, &u->s->loop->chunks, bytes_str(text)), 0);
    stream_send_data(u->s, &out);
}

#endif
