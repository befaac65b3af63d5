/* SPDX-License-Identifier: Apache-2.0 */
/* Large bodies through TLS: a frame stays one record and one chunk, and memory bounds what is done. */
#include "loop_probe.h"
#include "tls_probe.h"

#include <sys/ioctl.h>

#include "net/io_private.h"
#include "net/tls_io.h"

#define FRAME_BYTES  (9 + CHUNK_BYTES - CHUNK_HEADROOM) /* what a full read makes */
#define FRAMES       8
#define RECORD_EXTRA 22

static struct pki pki;
static struct tls_creds *creds;

static int group_setup(void **state)
{
    (void)state;
    pki_open(&pki, "root.linkerd.cluster.local");
    creds = pki_creds(&pki, SERVER_ID, pki.root_pem);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    tls_creds_unref(creds);
    pki_close(&pki);
    return 0;
}

static void open_pair(struct tls_pair *t, int buffers)
{
    tls_pair_open(t, &loop, creds, creds, SERVER_ID, "", "", buffers);
    TURN_UNTIL(&loop, t->client.handshake_rc == 0 && t->server.handshake_rc == 0 &&
                          t->client.recv_rc == E_AGAIN && t->server.recv_rc == E_AGAIN);
}

/* Take chunks until a connection gets no more than it needs. */
static unsigned make_pool_tight(struct chunk *taken[64])
{
    unsigned count = 0;

    chunk_pool_limit(&loop.chunks, 256);
    while (chunk_pool_is_ample(&loop.chunks)) {
        assert_true(count < 64);
        taken[count++] = chunk_new(&loop.chunks);
    }
    return count;
}

static void pending_ciphertext_is_little_when_chunks_are_few(void **state)
{
    struct chunk *taken[64];
    struct tls_pair t;
    struct tls_io *client;
    unsigned count;

    (void)state;
    open_pair(&t, 4096);
    count = make_pool_tight(taken);
    t.server.stop_reading_at = 0;
    t.client.to_send = 64 << 20;
    task_wake(&loop, &t.client.task);
    TURN_UNTIL(&loop, t.client.send_rc == E_AGAIN);
    client = CONTAINER_OF(t.client.io, struct tls_io, io);
    assert_true(chain_size(&client->out) > 65536);
    assert_true(chain_size(&client->out) <= 65536 + 16384 + 22);
    while (count > 0) {
        chunk_free(taken[--count]);
    }
    t.client.to_send = t.client.sent;
    t.server.stop_reading_at = UINT64_MAX;
    task_wake(&loop, &t.server.task);
    TURN_UNTIL(&loop, t.server.got == t.client.sent);
    tls_pair_close(&t);
}

/* Chunks as the codec gives them, and no reader: what comes is looked at by hand. */
static void send_frames(struct tls_pair *t)
{
    uint64_t before = t->client.io->below->bytes_out, last = 0;
    struct chain out;
    int waiting = 0;

    t->server.stop_reading_at = t->server.got;
    chain_init(&out);
    for (size_t i = 0; i < FRAMES; i++) {
        struct chunk *chunk = chunk_new(&loop.chunks);

        chunk->start = CHUNK_HEADROOM - 9;
        chunk->end = CHUNK_BYTES;
        memset(chunk->data + chunk->start, (int)i + 1, FRAME_BYTES);
        chain_push(&out, chunk);
    }
    assert_int_equal(io_send(t->client.io, &out), 0);
    assert_int_equal(chain_size(&out), 0);
    /* A record for each, none for a head or a rest. */
    TURN_UNTIL(&loop, t->client.io->below->bytes_out - before >= FRAMES * (FRAME_BYTES + RECORD_EXTRA));
    assert_int_equal(t->client.io->below->bytes_out - before, FRAMES * (FRAME_BYTES + RECORD_EXTRA));
    do {
        last = (uint64_t)waiting;
        (void)loop_turn(&loop, 1);
        assert_int_equal(ioctl(io_fd(t->server.io), FIONREAD, &waiting), 0);
    } while ((uint64_t)waiting > last || waiting < FRAMES * (FRAME_BYTES + RECORD_EXTRA));
}

/* `c` holds frames from the `first` on, one a chunk. Returns how many. */
static size_t count_frames(struct chain *c, size_t first)
{
    struct chunk *chunk;
    size_t count = 0;

    while ((chunk = chain_pop_whole(c, FRAME_BYTES, 0)) != NULL) {
        assert_int_equal(chunk->data[chunk->start], first + count + 1);
        assert_int_equal(chunk->data[chunk->end - 1], first + count + 1);
        chunk_free(chunk);
        count++;
    }
    assert_int_equal(chain_size(c), 0);
    return count;
}

static void a_frame_is_one_record_and_arrives_in_one_chunk(void **state)
{
    struct tls_pair t;
    struct chain c;
    size_t n = 0, got = 0;

    (void)state;
    open_pair(&t, 1 << 20);
    send_frames(&t);
    chain_init(&c);
    /* A record that does not fit the rest of what is asked for is not cut. */
    assert_int_equal(io_recv(t.server.io, &c, 3 * FRAME_BYTES + 5000, &n), 0);
    assert_int_equal(n, 3 * FRAME_BYTES);
    assert_true(t.server.io->readable);
    got = count_frames(&c, 0);
    assert_int_equal(got, 3);
    while (got < FRAMES) {
        assert_int_equal(io_recv(t.server.io, &c, 262144, &n), 0);
        got += count_frames(&c, got);
    }
    assert_int_equal(got, FRAMES);
    tls_pair_close(&t);
}

/* Who asks for less than a record gets that much of it all the same. */
static void a_record_is_cut_for_who_asks_for_less(void **state)
{
    struct tls_pair t;
    struct chain c;
    size_t n = 0, got = 0;

    (void)state;
    open_pair(&t, 1 << 20);
    send_frames(&t);
    chain_init(&c);
    while (got < FRAMES * FRAME_BYTES) {
        assert_int_equal(io_recv(t.server.io, &c, 1 + got % 7000, &n), 0);
        assert_true(n > 0 && n <= 1 + got % 7000);
        while (chain_size(&c) > 0) {
            assert_int_equal(*chain_head(&c).at, got / FRAME_BYTES + 1);
            chain_drop(&c, 1);
            got++;
        }
    }
    tls_pair_close(&t);
}

/* Without another chunk the rest of the last one is used, which gives chunks of ciphertext back. */
static void a_record_is_cut_when_no_chunk_is_left(void **state)
{
    static struct chunk *all[PROBE_CHUNKS];
    static const char filler[CHUNK_BYTES - 5000];
    struct tls_pair t;
    struct chain c;
    size_t n = 0, taken = 0, got;

    (void)state;
    open_pair(&t, 1 << 20);
    send_frames(&t);
    chain_init(&c);
    assert_int_equal(tls_fetch(CONTAINER_OF(t.server.io, struct tls_io, io), 65536), 0);
    assert_int_equal(tls_fetch(CONTAINER_OF(t.server.io, struct tls_io, io), 65536), 0);
    assert_int_equal(chain_append(&c, &loop.chunks, bytes_of(filler, sizeof(filler))), 0);
    while ((all[taken] = chunk_new(&loop.chunks)) != NULL) {
        taken++;
    }
    assert_int_equal(io_recv(t.server.io, &c, 262144, &n), 0);
    assert_true(n >= 5000);
    chain_drop(&c, sizeof(filler));
    got = n;
    while (taken > 0) {
        chunk_free(all[--taken]);
    }
    while (got < FRAMES * FRAME_BYTES) {
        assert_int_equal(io_recv(t.server.io, &c, 262144, &n), 0);
        got += n;
    }
    assert_int_equal(got, FRAMES * FRAME_BYTES);
    for (size_t i = 0; i < got; i++) {
        assert_int_equal(*chain_head(&c).at, i / FRAME_BYTES + 1);
        chain_drop(&c, 1);
    }
    tls_pair_close(&t);
}

static void less_is_read_at_once_when_chunks_are_few(void **state)
{
    struct chunk *taken[64];
    struct tls_pair t;
    struct chain c;
    unsigned count;
    size_t n = 0, got = 0;

    (void)state;
    open_pair(&t, 1 << 20);
    send_frames(&t);
    chain_init(&c);
    count = make_pool_tight(taken);
    while (got < FRAMES) {
        size_t before = loop.chunks.used_count;

        assert_int_equal(io_recv(t.server.io, &c, 262144, &n), 0);
        assert_true(n <= 65536);
        /* Plaintext, and ciphertext of 64 KiB at most. */
        assert_true(loop.chunks.used_count <= before + 4 + 5);
        got += count_frames(&c, got);
    }
    while (count > 0) {
        chunk_free(taken[--count]);
    }
    tls_pair_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pending_ciphertext_is_little_when_chunks_are_few, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_frame_is_one_record_and_arrives_in_one_chunk, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_record_is_cut_for_who_asks_for_less, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_record_is_cut_when_no_chunk_is_left, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(less_is_read_at_once_when_chunks_are_few, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
