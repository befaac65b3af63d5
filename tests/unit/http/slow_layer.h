/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_SLOW_LAYER_H
#define HTTP_SLOW_LAYER_H

/*
 * A layer that has not passed on all it took, as TLS before a client that is slow to read: its end waits as
 * long as `slow_is_behind`. The test wakes the owner when that has changed.
 */
#include "net/io.h"

static struct io slow;
static bool slow_is_behind;

static int slow_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    int rc = io_recv(io->below, to, bytes_max, out_bytes);

    io->readable = io->below->readable;
    return rc;
}

static int slow_send(struct io *io, struct chain *from)
{
    return io_send(io->below, from);
}

static int slow_shut(struct io *io)
{
    return slow_is_behind ? E_AGAIN : io_shut(io->below);
}

static void slow_close(struct io *io)
{
    io_close(io->below);
}

static void slow_set_owner(struct io *io, struct task *owner)
{
    io->owner = owner;
    io_set_owner(io->below, owner);
}

static int slow_fd(const struct io *io)
{
    return io_fd(io->below);
}

static const struct io_ops slow_ops = {
    .name = "slow",
    .recv = slow_recv,
    .send = slow_send,
    .shut = slow_shut,
    .close = slow_close,
    .fd = slow_fd,
    .set_owner = slow_set_owner,
    .has_end = true,
};

static inline struct io *slow_open(struct io *below)
{
    slow = (struct io){.ops = &slow_ops, .below = below, .loop = below->loop};
    slow_is_behind = true;
    return &slow;
}

#endif
