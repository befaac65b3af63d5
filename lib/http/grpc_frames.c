/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Length-prefixed messages: a byte of flags, four of length in network order, the message.
 */
#include "core/err.h"
#include "http/grpc_private.h"

#define PREFIX_BYTES   ((size_t)5)
#define PARTIAL_KEEP   ((size_t)65536) /* a buffer beyond this is given back after its message */
#define COPY_STACK_MAX ((size_t)2048)

void grpc_frames_init(struct grpc_frames *f, size_t message_max)
{
    text_init(&f->partial, message_max + PREFIX_BYTES + 1);
    f->message_max = message_max;
}

void grpc_frames_clear(struct grpc_frames *f)
{
    text_clear(&f->partial);
}

bool grpc_frames_is_whole(const struct grpc_frames *f)
{
    return f->partial.len == 0;
}

static int prefix_parse(const struct grpc_frames *f, const char *at, size_t *out_len)
{
    const unsigned char *p = (const unsigned char *)at;
    size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];

    if (p[0] > 1) {
        return E_GRPC_FRAME;
    }
    if (p[0] == 1) { /* we never say grpc-accept-encoding */
        return E_UNSUPPORTED;
    }
    if (len > f->message_max) {
        return E_LIMIT;
    }
    *out_len = len;
    return 0;
}

/* Move bytes behind what there is of the frame, until it has `want`. False: they do not suffice. */
static bool partial_fill(struct grpc_frames *f, struct chain *bytes, size_t want)
{
    while (f->partial.len < want && chain_size(bytes) > 0) {
        struct bytes part = chain_head(bytes);

        part.len = MIN(part.len, want - f->partial.len);
        text_add(&f->partial, part);
        chain_drop(bytes, part.len);
    }
    return f->partial.len == want;
}

/* One frame by way of the buffer. E_AGAIN: it is not complete. */
static int feed_partial(struct grpc_frames *f, struct chain *bytes,
                        void (*on_message)(void *user, struct bytes message), void *user)
{
    size_t len;

    if (f->partial.len < PREFIX_BYTES && !partial_fill(f, bytes, PREFIX_BYTES)) {
        return E_AGAIN;
    }
    TRY(prefix_parse(f, f->partial.at, &len));
    if (!partial_fill(f, bytes, PREFIX_BYTES + len)) {
        return E_AGAIN;
    }
    on_message(user, bytes_from(text_bytes(&f->partial), PREFIX_BYTES));
    if (f->partial.capacity > PARTIAL_KEEP) {
        text_clear(&f->partial);
    } else {
        text_reset(&f->partial);
    }
    return 0;
}

int grpc_frames_feed(struct grpc_frames *f, struct chain *bytes,
                     void (*on_message)(void *user, struct bytes message), void *user)
{
    int rc = 0;

    while (rc == 0 && chain_size(bytes) > 0) {
        struct bytes head = chain_head(bytes);
        size_t len;

        if (f->partial.len > 0 || head.len < PREFIX_BYTES) {
            rc = feed_partial(f, bytes, on_message, user);
            continue;
        }
        rc = prefix_parse(f, head.at, &len);
        if (rc == 0 && head.len - PREFIX_BYTES < len) {
            rc = feed_partial(f, bytes, on_message, user);
        } else if (rc == 0) { /* it lies in one piece: no copy */
            on_message(user, bytes_of(head.at + PREFIX_BYTES, len));
            chain_drop(bytes, PREFIX_BYTES + len);
        }
    }
    chain_clear(bytes);
    return rc == E_AGAIN ? 0 : rc;
}

int grpc_frame_append(struct chain *to, struct chunk_pool *pool, struct bytes message)
{
    char prefix[PREFIX_BYTES] = {0, (char)(message.len >> 24), (char)(message.len >> 16),
                                 (char)(message.len >> 8), (char)message.len};
    struct chain frame;

    if (message.len > GRPC_MESSAGE_MAX ||
        message.len + PREFIX_BYTES > GRPC_PENDING_MAX - MIN(chain_size(to), GRPC_PENDING_MAX)) {
        return E_LIMIT;
    }
    if (message.len <= COPY_STACK_MAX - PREFIX_BYTES) { /* small ones share chunks */
        char whole[COPY_STACK_MAX];

        memcpy(whole, prefix, PREFIX_BYTES);
        if (message.len > 0) {
            memcpy(whole + PREFIX_BYTES, message.at, message.len);
        }
        return chain_append(to, pool, bytes_of(whole, PREFIX_BYTES + message.len));
    }
    chain_init(&frame);
    if (chain_append(&frame, pool, bytes_of(prefix, PREFIX_BYTES)) != 0 ||
        chain_append(&frame, pool, message) != 0) {
        chain_clear(&frame);
        return E_LIMIT;
    }
    chain_move_all(to, &frame);
    return 0;
}

bool grpc_pending_send(struct stream *s, struct chain *pending)
{
    size_t bytes = MIN(s->room, chain_size(pending));
    struct chain out;

    if (bytes > 0) {
        chain_init(&out);
        chain_move(&out, pending, bytes);
        stream_send_data(s, &out);
    }
    return chain_size(pending) == 0;
}
