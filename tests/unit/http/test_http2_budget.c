/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What exchanges on one connection may cost (design 4): those of one turn share a read and a write a
 * side, and there is no call of the general heap. Nor is a byte of a large body copied. Seen where it is
 * done, by the linker's --wrap.
 */
#include "tests/unit/http/h2_probe.h"

#define WARM_UP    20
#define ROUNDS     100
#define CONCURRENT 20

static unsigned reads, writes, allocations;
static struct iovec written[256]; /* what the writes were given */
static unsigned written_count;

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
    ssize_t n = __real_recvmsg(fd, message, flags);

    reads += n > 0;
    return n;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    writes++;
    for (size_t i = 0; i < message->msg_iovlen && written_count < ARRAY_LEN(written); i++) {
        written[written_count++] = message->msg_iov[i];
    }
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

/* --- users that keep nothing --------------------------------------------------------------------- */

static struct stream *accepted[CONCURRENT], *dialed[CONCURRENT];
static unsigned accepted_count, answered_count;

static void body(struct stream *s)
{
    static const char block[200];
    struct chain data;

    chain_init(&data);
    assert_int_equal(chain_append(&data, &s->loop->chunks, bytes_of(block, sizeof(block))), 0);
    stream_send_data(s, &data);
    stream_send_end(s, NULL);
}

static void on_request(void *user, struct head *h)
{
    struct stream **s = user;
    struct head answer = {.status = 200, .content_length = 200, .version = HTTP_2};

    assert_true(h->ends);
    fields_init(&answer.fields, &(*s)->arena);
    assert_int_equal(fields_add(&answer.fields, BYTES("content-type"), BYTES("text/plain")), 0);
    assert_int_equal(stream_send_head(*s, &answer, false), 0);
    body(*s);
    stream_close(*s, RESET_NONE);
}

static void on_answer(void *user, struct head *h UNUSED)
{
    struct stream **s = user;

    stream_credit(*s, 65536);
}

static void drop_data(void *user UNUSED, struct chain *bytes)
{
    chain_clear(bytes);
}

static void no_room(void *user UNUSED, size_t bytes UNUSED)
{
}

static void on_answer_end(void *user, struct fields *trailers UNUSED)
{
    struct stream **s = user;

    stream_close(*s, RESET_NONE);
    answered_count++;
}

static void unexpected(void *user UNUSED, enum reset why UNUSED, int err UNUSED)
{
    fail();
}

static const struct stream_events accepted_events = {on_request, drop_data, no_room, NULL,
                                                     unexpected};
static const struct stream_events dialed_events = {on_answer, drop_data, no_room, on_answer_end,
                                                   unexpected};

static void on_stream(void *user UNUSED, struct stream *s)
{
    accepted[accepted_count] = s;
    stream_set_user(s, &accepted_events, &accepted[accepted_count++]);
}

static void on_closed(void *user, int err UNUSED)
{
    ((struct probe *)user)->server = NULL;
}

static const struct http_server_events server_events = {on_stream, on_closed};

static void run_round(struct probe *p)
{
    const struct head h = probe_request("GET", "/some/path?with=a&query=string");

    accepted_count = answered_count = 0;
    for (unsigned i = 0; i < CONCURRENT; i++) {
        assert_int_equal(
            http_client_open(p->client, &h, true, &dialed_events, &dialed[i], &dialed[i]), 0);
    }
    PROBE_UNTIL(p, answered_count == CONCURRENT);
}

static void exchanges_share_reads_and_writes_and_use_no_heap(void **state UNUSED)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    int fds[2];

    probe_sockets(fds);
    p->server = http2_server_new(probe_io(p, fds[0]), NULL, NULL, &server_events, p);
    p->client = http2_client_new(probe_io(p, fds[1]), NULL, &probe_client_events, p);
    for (unsigned i = 0; i < WARM_UP; i++) {
        run_round(p);
    }
    reads = writes = allocations = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        run_round(p);
    }
    assert_int_equal(allocations, 0);
    assert_int_equal(writes, 2 * ROUNDS); /* one a side for twenty exchanges */
    assert_int_equal(reads, 2 * ROUNDS);
    probe_free(p);
}

/*
 * The chunk of a large body that was read is what is written, with the frame's head before its bytes. A chunk
 * without that room is written as it is, too, with the head behind the chunk before it.
 */
static void large_bodies_leave_in_the_chunks_they_came_in(void **state UNUSED)
{
    static const unsigned starts[] = {CHUNK_HEADROOM, CHUNK_HEADROOM, 9, 8, 0};
    const char *bytes[ARRAY_LEN(starts)];
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u = probe_open(p, &h, false);
    struct chain out;

    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->head != NULL);
    p->accepted[0]->auto_credit = true;
    stream_credit(p->accepted[0]->s, 65536);
    probe_settle(p);
    for (unsigned i = 0; i < ARRAY_LEN(starts); i++) {
        struct chunk *chunk = chunk_new(&p->loop.chunks);

        chunk->start = starts[i];
        chunk->end = 12000;
        for (unsigned at = chunk->start; at < chunk->end; at++) {
            chunk->data[at] = (char)body_byte(u->sent++);
        }
        bytes[i] = chunk->data + chunk->start;
        chain_init(&out);
        chain_push(&out, chunk);
        written_count = i == 0 ? 0 : written_count;
        stream_send_data(u->s, &out);
    }
    stream_send_end(u->s, NULL);
    PROBE_UNTIL(p, p->accepted[0]->ended);
    assert_int_equal(p->accepted[0]->received, u->sent);
    assert_int_equal(p->accepted[0]->sum, body_sum(u->sent));
    for (unsigned i = 0; i < ARRAY_LEN(starts); i++) {
        unsigned head_bytes = starts[i] >= 9 ? 9 : 0, found = 0;
        unsigned next_bytes = i + 1 < ARRAY_LEN(starts) && starts[i + 1] < 9 ? 9 : 0;

        for (unsigned at = 0; at < written_count; at++) {
            found += written[at].iov_base == bytes[i] - head_bytes &&
                     written[at].iov_len == 12000 - starts[i] + head_bytes + next_bytes;
        }
        assert_int_equal(found, 1);
    }
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_share_reads_and_writes_and_use_no_heap),
        cmocka_unit_test(large_bodies_leave_in_the_chunks_they_came_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
