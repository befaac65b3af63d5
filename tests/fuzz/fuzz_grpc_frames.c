/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc_frames_feed(): lengths from a stranger. Cut anywhere, the input gives the messages and the
 * verdict of the whole. The first byte chooses the cut.
 */
#include "core/err.h"
#include "http/grpc_private.h"

#define MESSAGE_MAX 300

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

struct seen {
    size_t count, bytes;
    uint64_t hash;
};

static void on_message(void *user, struct bytes message)
{
    struct seen *seen = user;

    assert(message.len <= MESSAGE_MAX);
    seen->count++;
    seen->bytes += message.len;
    seen->hash = seen->hash * 31 + bytes_hash(message);
}

static int feed(struct grpc_frames *f, struct chunk_pool *pool, struct bytes in, struct seen *seen)
{
    struct chain c;
    int rc;

    chain_init(&c);
    rc = chain_append(&c, pool, in);
    assert(rc == 0);
    rc = grpc_frames_feed(f, &c, on_message, seen);
    assert(chain_size(&c) == 0);
    return rc;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct seen whole = {0}, cut = {0};
    struct grpc_frames f;
    struct chunk_pool pool;
    struct bytes in;
    size_t step;
    int rc, cut_rc = 0;

    if (size < 1 || size > 65536) {
        return 0;
    }
    step = (size_t)data[0] + 1;
    in = bytes_of(data + 1, size - 1);
    chunk_pool_init(&pool, 64, 0);
    grpc_frames_init(&f, MESSAGE_MAX);
    rc = feed(&f, &pool, in, &whole);
    assert(rc == 0 || rc == E_GRPC_FRAME || rc == E_LIMIT || rc == E_UNSUPPORTED);
    assert(whole.bytes + whole.count * 5 <= in.len);
    if (rc == 0) {
        assert(grpc_frames_is_whole(&f) == (whole.bytes + whole.count * 5 == in.len));
    }
    grpc_frames_clear(&f);

    grpc_frames_init(&f, MESSAGE_MAX);
    while (in.len > 0 && cut_rc == 0) {
        size_t n = MIN(step, in.len);

        cut_rc = feed(&f, &pool, bytes_first(in, n), &cut);
        in = bytes_from(in, n);
    }
    grpc_frames_clear(&f);
    assert(cut_rc == rc && cut.count == whole.count && cut.hash == whole.hash);
    chunk_pool_clear(&pool);
    return 0;
}
