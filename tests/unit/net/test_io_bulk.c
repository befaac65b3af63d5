/* SPDX-License-Identifier: Apache-2.0 */
/* How much a read of the TCP layer offers to the kernel, and how it fills chunks. */
#include "io_probe.h"

#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "net/io_private.h"

#define BULK_CHUNK (CHUNK_BYTES - CHUNK_HEADROOM) /* what a read puts into a chunk of its own */

struct bulk {
    int peer;
    struct io *io;
    struct task owner;
    uint64_t written, got;
};

static void bulk_open(struct bulk *b)
{
    int fds[2], on = 1;

    tcp_pair(fds, 1 << 20);
    assert_int_equal(setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    *b = (struct bulk){.peer = fds[0], .io = tcp_io(&loop, fds[1]), .owner = {.run = nobody}};
    io_set_owner(b->io, &b->owner);
}

static void bulk_close(struct bulk *b)
{
    task_cancel(&b->owner);
    io_close(b->io);
    close(b->peer);
}

/* Have `bytes` of the pattern wait in the socket, and the loop know of them. */
static void bulk_fill(struct bulk *b, size_t bytes)
{
    static char block[256 * 1024];
    int waiting = (int)(b->written - b->got);

    assert_true(bytes <= sizeof(block) && (size_t)waiting <= bytes);
    bytes -= (size_t)waiting;
    for (size_t i = 0; i < bytes; i++) {
        block[i] = (char)pattern_at(b->written + i);
    }
    if (bytes > 0) {
        assert_int_equal(write(b->peer, block, bytes), bytes);
        b->written += bytes;
    }
    do {
        (void)loop_turn(&loop, 1);
        assert_int_equal(ioctl(io_fd(b->io), FIONREAD, &waiting), 0);
    } while ((uint64_t)waiting < b->written - b->got);
}

/* Read once behind what is in `c`, and look at every byte. */
static size_t bulk_read(struct bulk *b, struct chain *c, size_t bytes_max)
{
    static char all[512 * 1024];
    size_t before = chain_size(c), n = 0;

    assert_int_equal(io_recv(b->io, c, bytes_max, &n), 0);
    assert_true(n > 0 && n <= bytes_max);
    assert_int_equal(chain_size(c), before + n);
    assert_int_equal(chain_peek(c, all, sizeof(all)), before + n);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)all[before + i] != pattern_at(b->got + i)) {
            fail_msg("byte %llu differs", (unsigned long long)(b->got + i));
        }
    }
    b->got += n;
    return n;
}

static struct io_tcp *bulk_tcp(struct bulk *b)
{
    return CONTAINER_OF(b->io, struct io_tcp, io);
}

static void reads_leave_room_before_the_bytes(void **state)
{
    struct bulk b;
    struct chain c;
    struct chunk *chunk;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    bulk_fill(&b, 3 * BULK_CHUNK);
    bulk_tcp(&b)->chunks_wanted = 3;
    assert_int_equal(bulk_read(&b, &c, 65536), 3 * BULK_CHUNK);
    assert_int_equal(loop.chunks.used_count, 3);
    while ((chunk = chain_pop_whole(&c, BULK_CHUNK, CHUNK_HEADROOM)) != NULL) {
        chunk_free(chunk);
    }
    assert_int_equal(chain_size(&c), 0);
    bulk_close(&b);
}

/* What the socket still has, or half of what came last: so a body that flows keeps its share. */
static void offers_grow_at_once_and_shrink_slowly(void **state)
{
    static const struct {
        size_t waiting, got;
        unsigned next;
    } steps[] = {
        {100000, BULK_CHUNK, (100000 - BULK_CHUNK) / CHUNK_BYTES + 1}, /* one chunk to begin with */
        {100000, 6 * (size_t)BULK_CHUNK, 3},
        {100000, 3 * (size_t)BULK_CHUNK, (100000 - 3 * BULK_CHUNK) / CHUNK_BYTES + 1},
        {60000, 60000, 60000 / 2 / CHUNK_BYTES + 1},
        {20000, 20000, 1},
        {100, 100, 1},
    };
    struct bulk b;
    struct chain c;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        bulk_fill(&b, steps[i].waiting);
        assert_int_equal(bulk_read(&b, &c, 262144), steps[i].got);
        assert_int_equal(bulk_tcp(&b)->chunks_wanted, steps[i].next);
        chain_clear(&c);
    }
    bulk_close(&b);
}

/* Every limit, behind chunks with every kind of rest, with few and many chunks on offer. */
static void reads_keep_every_bound(void **state)
{
    static const size_t limits[] = {1, 2, 3, 100, 4095, 4096, 8191, 8192, 16031, 16032, 16033,
                                    16384, 20000, 24225, 65536, 262144};
    static const size_t rests[] = {0, 1, 2, 99, 4095, 4096, 8192, 16383, CHUNK_BYTES};
    static const unsigned char wanted[] = {1, 2, 16};
    static const char filler[CHUNK_BYTES];
    struct bulk b;
    struct chain c;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(limits) * ARRAY_LEN(rests) * ARRAY_LEN(wanted); i++) {
        size_t limit = limits[i % ARRAY_LEN(limits)];
        size_t rest = rests[i / ARRAY_LEN(limits) % ARRAY_LEN(rests)];
        unsigned char chunks = wanted[i / ARRAY_LEN(limits) / ARRAY_LEN(rests)];
        size_t n;

        bulk_fill(&b, 100000);
        assert_int_equal(chain_append(&c, &loop.chunks, bytes_of(filler, CHUNK_BYTES - rest)), 0);
        bulk_tcp(&b)->chunks_wanted = chunks;
        n = bulk_read(&b, &c, limit);
        assert_true(n >= MIN(limit, (size_t)4096) / 2);
        assert_true(chunks < 16 || n >= MIN(limit, (size_t)100000) / 2);
        assert_true(n <= rest % CHUNK_BYTES + (size_t)chunks * CHUNK_BYTES);
        chain_clear(&c);
        assert_int_equal(loop.chunks.used_count, 0); /* chunks that were not filled are back */
    }
    bulk_close(&b);
}

static void a_tight_pool_gives_a_read_few_chunks(void **state)
{
    struct chunk *taken[9];
    struct bulk b;
    struct chain c;

    (void)state;
    chain_init(&c);
    bulk_open(&b);
    chunk_pool_limit(&loop.chunks, 64);
    bulk_fill(&b, 200000);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 262144), 200000);
    chain_clear(&c);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        taken[i] = chunk_new(&loop.chunks);
    }
    bulk_fill(&b, 200000);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 262144), 4 * BULK_CHUNK);
    /* Two can be had, then none but the rest of the last one. */
    chunk_pool_limit(&loop.chunks, loop.chunks.used_count + 2);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 25000), 25000);
    bulk_tcp(&b)->chunks_wanted = 16;
    assert_int_equal(bulk_read(&b, &c, 262144), 2 * BULK_CHUNK - 25000);
    assert_int_equal(io_recv(b.io, &c, 262144, &(size_t){0}), E_LIMIT);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        chunk_free(taken[i]);
    }
    bulk_tcp(&b)->chunks_wanted = 16;
    (void)bulk_read(&b, &c, 262144);
    chain_clear(&c);
    bulk_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_leave_room_before_the_bytes),
        TEST(offers_grow_at_once_and_shrink_slowly),
        TEST(reads_keep_every_bound),
        TEST(a_tight_pool_gives_a_read_few_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
