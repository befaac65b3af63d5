/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers http1_server_new() and http1_client_new(), what is below them, and the parsers as they use them: all
 * the bytes of a connection. The first byte chooses the side and, for a client, the method that it asked
 * with; the second how the bytes are cut.
 *
 * Properties: cuts change nothing of what the user is told or the peer is answered; a server tells of just
 * the requests that the parsers, one after the other over the whole input, find in it; streams keep the order
 * of events of http/stream.h; when the connection is over nothing is left.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"
#include "http/conn.h"
#include "http/http1.h"

#define CREDIT_BYTES ((size_t)3000)
#define TURNS_MAX    400
#define CUTS_MAX     32 /* of one input; each costs turns of the loop */
#define TEXT_MAX     ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* What there is to tell of a connection's messages, in one form whoever tells it. */
struct story {
    struct text told;
    size_t body_len;
    uint64_t body_hash; /* FNV-1a */
};

static void tell_fields(struct story *st, const struct fields *f)
{
    for (unsigned i = 0; f != NULL && i < f->count; i++) {
        require(http_is_token(f->at[i].name) && http_is_field_value(f->at[i].value));
        text_add(&st->told, f->at[i].name);
        text_str(&st->told, "=");
        text_add(&st->told, f->at[i].value);
        text_str(&st->told, "\n");
    }
}

static void tell_head(struct story *st, const struct head *h)
{
    text_printf(&st->told, "head %u %d %d %d %d %" PRId64 " ", h->status, (int)h->version, h->ends,
                h->is_absolute, h->is_upgrade, h->content_length);
    text_add(&st->told, h->method);
    text_str(&st->told, " ");
    text_add(&st->told, h->authority);
    text_str(&st->told, " ");
    text_add(&st->told, h->path);
    text_str(&st->told, "\n");
    tell_fields(st, &h->fields);
    st->body_len = 0;
    st->body_hash = UINT64_C(14695981039346656037);
}

static void tell_body(struct story *st, struct bytes b)
{
    st->body_len += b.len;
    for (size_t i = 0; i < b.len; i++) {
        st->body_hash = (st->body_hash ^ (unsigned char)b.at[i]) * UINT64_C(1099511628211);
    }
}

static void tell_end(struct story *st, const struct fields *trailers)
{
    text_printf(&st->told, "end %zu %016" PRIx64 "\n", st->body_len, st->body_hash);
    tell_fields(st, trailers);
}

/* --- a connection -------------------------------------------------------------------------------- */

struct run {
    struct loop loop;
    struct story story;
    struct text answered;
    int fd;
    struct stream *s; /* open, or NULL */
    size_t credit;
    bool got_head, got_end, closed;
    struct http_client *client;
};

static void run_credit(struct run *r)
{
    stream_credit(r->s, CREDIT_BYTES - r->credit);
    r->credit = CREDIT_BYTES;
}

/* A request is answered when it is complete, so that nothing depends on when its bytes came. */
static void run_over(struct run *r)
{
    struct stream *s = r->s;

    r->s = NULL;
    if (r->client == NULL) {
        struct head answer = {.status = 403, .content_length = 2};
        struct chain body;
        int rc = stream_send_head(s, &answer, false);

        require(rc == 0);
        chain_init(&body);
        rc = chain_append(&body, &r->loop.chunks, BYTES("no"));
        require(rc == 0);
        stream_send_data(s, &body);
        stream_send_end(s, NULL);
    }
    stream_close(s, RESET_NONE);
}

static void on_head(void *user, struct head *h)
{
    struct run *r = user;

    require(!r->got_head && h->fields.count <= HTTP_FIELDS_MAX);
    require((r->client != NULL) == (h->status != 0));
    tell_head(&r->story, h);
    if (h->status != 0 && h->status < 200 && h->status != 101) {
        return;
    }
    r->got_head = true;
    r->got_end = h->ends;
    if (h->ends) {
        run_over(r);
    } else {
        run_credit(r);
    }
}

static void on_data(void *user, struct chain *bytes)
{
    struct run *r = user;

    require(r->got_head && !r->got_end && chain_size(bytes) > 0 && chain_size(bytes) <= r->credit);
    r->credit -= chain_size(bytes);
    while (chain_size(bytes) > 0) {
        struct bytes part = chain_head(bytes);

        tell_body(&r->story, part);
        chain_drop(bytes, part.len);
    }
    if (r->credit < CREDIT_BYTES / 2) {
        run_credit(r);
    }
}

static void on_room(void *user UNUSED, size_t bytes)
{
    require(bytes > 0);
}

static void on_end(void *user, struct fields *trailers)
{
    struct run *r = user;

    require(r->got_head && !r->got_end);
    r->got_end = true;
    tell_end(&r->story, trailers);
    run_over(r);
}

static void on_reset(void *user, enum reset why, int err)
{
    struct run *r = user;
    struct stream *s = r->s;

    require(!r->got_end && why != RESET_NONE && err != 0);
    text_str(&r->story.told, "reset\n");
    r->s = NULL;
    stream_close(s, RESET_CANCEL);
}

static const struct stream_events stream_events = {on_head, on_data, on_room, on_end, on_reset};

static void on_stream(void *user, struct stream *s)
{
    struct run *r = user;

    require(r->s == NULL && !r->closed);
    r->s = s;
    r->got_head = r->got_end = false;
    r->credit = 0;
    stream_set_user(s, &stream_events, r);
}

static void on_closed(void *user, int err UNUSED)
{
    struct run *r = user;

    require(!r->closed);
    r->closed = true;
}

static const struct http_server_events server_events = {on_stream, on_closed};
static const struct http_client_events client_events = {NULL, NULL, on_closed};

static void run_read(struct run *r)
{
    char block[4096];
    ssize_t n;

    while ((n = read(r->fd, block, sizeof(block))) > 0) {
        text_add(&r->answered, bytes_of(block, (size_t)n));
    }
}

static void run_feed(struct run *r, struct bytes b)
{
    for (unsigned turn = 0; b.len > 0; turn++) {
        ssize_t n = write(r->fd, b.at, b.len);

        require(turn < TURNS_MAX + b.len);
        if (n < 0 && errno != EAGAIN) {
            return; /* it has closed */
        }
        if (n > 0) {
            b = bytes_from(b, (size_t)n);
        }
        (void)loop_turn(&r->loop, 0);
        run_read(r);
    }
}

static void run_open(struct run *r, bool is_client, struct bytes method)
{
    int fds[2], rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
    struct head h = {.method = method, .path = BYTES("/"), .authority = BYTES("a:1"), .version = HTTP_11,
                     .content_length = -1, .is_connect = bytes_eq(method, BYTES("CONNECT"))};
    struct io *io;

    require(rc == 0);
    rc = loop_open(&r->loop, 0, 256);
    require(rc == 0);
    r->fd = fds[0];
    text_init(&r->story.told, TEXT_MAX);
    text_init(&r->answered, TEXT_MAX);
    io = io_tcp_new(&r->loop, fds[1], NULL);
    require(io != NULL);
    if (!is_client) {
        (void)http1_server_new(io, NULL, NULL, &server_events, r);
        return;
    }
    r->client = http1_client_new(io, NULL, &client_events, r);
    rc = http_client_open(r->client, &h, true, &stream_events, r, &r->s);
    require(rc == 0);
}

/* Two runs need not fall into the same second. */
static void forget_dates(struct text *t)
{
    static const char name[] = "\r\ndate: ", form[] = "Sun, 06 Nov 1994 08:49:37 GMT";
    char *at = t->at;

    while (at != NULL && (at = strstr(at, name)) != NULL) {
        at += sizeof(name) - 1;
        require(strlen(at) > sizeof(form));
        memcpy(at, form, sizeof(form) - 1);
    }
}

static void run_all(struct run *r, bool is_client, struct bytes method, struct bytes in, size_t step)
{
    *r = (struct run){.fd = -1};
    run_open(r, is_client, method);
    for (size_t at = 0; at < in.len; at += step) {
        run_feed(r, bytes_first(bytes_from(in, at), MIN(step, in.len - at)));
    }
    (void)shutdown(r->fd, SHUT_WR);
    for (unsigned turn = 0; !r->closed || r->s != NULL; turn++) {
        require(turn < TURNS_MAX);
        (void)loop_turn(&r->loop, turn < TURNS_MAX / 2 ? 0 : 10);
        run_read(r);
    }
    (void)loop_turn(&r->loop, 0);
    run_read(r);
    (void)close(r->fd);
    io_close_lingering(&r->loop);
    require(r->loop.chunks.used_count == 0);
    loop_close(&r->loop);
    arena_cache_clear();
    require(r->story.told.err == 0 && r->answered.err == 0);
    forget_dates(&r->answered);
}

static void run_clear(struct run *r)
{
    text_clear(&r->story.told);
    text_clear(&r->answered);
}

/* --- the same by the parsers alone --------------------------------------------------------------- */

/* The body at the start of `in`. 0, its size and the trailers; else it is bad or incomplete. */
static int parse_body(struct story *st, const struct head *h, struct arena *arena, char *in, size_t len,
                      struct fields *trailers, size_t *out_consumed)
{
    struct http1_chunks chunks;
    size_t at = 0, scanned = 0, consumed = 0;
    int rc = 0;

    fields_init(trailers, arena);
    *out_consumed = 0;
    if (http1_framing_of(h) == HTTP1_LENGTH) {
        *out_consumed = (size_t)MIN((uint64_t)h->content_length, (uint64_t)len);
        tell_body(st, bytes_of(in, *out_consumed));
        return *out_consumed == (uint64_t)h->content_length ? 0 : E_AGAIN;
    }
    require(http1_framing_of(h) == HTTP1_CHUNKED);
    http1_chunks_init(&chunks);
    while (rc == 0) {
        size_t data = 0, data_len = 0;

        rc = http1_chunks_feed(&chunks, in + at, len - at, &consumed, &data, &data_len);
        if (rc == 0 || rc == E_EOF) {
            tell_body(st, bytes_of(in + at + data, data_len));
            at += consumed;
        }
    }
    if (rc != E_EOF) {
        return rc;
    }
    TRY(http1_parse_trailers(in + at, len - at, &scanned, trailers, &consumed));
    *out_consumed = at + consumed;
    return 0;
}

static void tell_requests(struct story *st, char *in, size_t len)
{
    bool goes_on = true;

    while (goes_on && len > 0) {
        struct arena arena;
        struct fields trailers;
        struct head h;
        size_t scanned = 0, consumed = 0;
        int rc;

        arena_init(&arena, 1u << 20);
        rc = http1_parse_request(in, len, &scanned, &arena, &h, &consumed);
        if (rc == 0) {
            in += consumed;
            len -= consumed;
            tell_head(st, &h);
        }
        goes_on = rc == 0 && h.keep_alive;
        if (rc == 0 && !h.ends) {
            rc = parse_body(st, &h, &arena, in, len, &trailers, &consumed);
            if (rc == 0) {
                in += consumed;
                len -= consumed;
                tell_end(st, &trailers);
            } else {
                text_str(&st->told, "reset\n");
                goes_on = false;
            }
        }
        arena_clear(&arena);
    }
    arena_cache_clear();
}

static void check_requests(const struct run *r, struct bytes in)
{
    struct story st = {.body_len = 0};
    char *copy = malloc(in.len + 1);

    require(copy != NULL);
    memcpy(copy, in.at, in.len);
    text_init(&st.told, TEXT_MAX);
    tell_requests(&st, copy, in.len);
    require(bytes_eq(bytes_of(st.told.at, st.told.len), bytes_of(r->story.told.at, r->story.told.len)));
    text_clear(&st.told);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct bytes methods[] = {BYTES("GET"), BYTES("HEAD"), BYTES("CONNECT"), BYTES("POST")};
    struct run whole, cut;
    struct bytes in, method;
    bool is_client;

    if (size < 3 || size > 100000) {
        return 0;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    is_client = (data[0] & 1) != 0;
    method = methods[data[0] >> 1 & 3];
    in = bytes_of((const char *)data + 2, size - 2);
    run_all(&whole, is_client, method, in, in.len);
    run_all(&cut, is_client, method, in, MAX((size_t)data[1] + 1, in.len / CUTS_MAX));
    require(bytes_eq(bytes_of(whole.story.told.at, whole.story.told.len),
                     bytes_of(cut.story.told.at, cut.story.told.len)));
    if (!is_client) { /* whose request may not have left when the answer is bad already */
        require(bytes_eq(bytes_of(whole.answered.at, whole.answered.len),
                         bytes_of(cut.answered.at, cut.answered.len)));
        check_requests(&whole, in);
    }
    run_clear(&whole);
    run_clear(&cut);
    return 0;
}
