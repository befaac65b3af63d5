/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/metered.h"

#include "core/alloc.h"
#include "core/err.h"

struct io_metered {
    struct io io;
    struct tcp_meter meter;
    struct grave grave;
    int err; /* the first system error seen */
};

static const struct io_ops metered_ops;

static struct io_metered *metered_of(struct io *io)
{
    assert(io->ops == &metered_ops);
    return CONTAINER_OF(io, struct io_metered, io);
}

static int note(struct io_metered *m, int rc)
{
    if (UNLIKELY(rc < 0 && rc > -ERR_BASE && m->err == 0)) {
        m->err = rc;
    }
    return rc;
}

static int metered_handshake(struct io *io)
{
    return io_handshake(io->below);
}

static int metered_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    int rc = io_recv(io->below, to, bytes_max, out_bytes);

    io->readable = io->below->readable;
    io->bytes_in = io->below->bytes_in;
    return note(metered_of(io), rc);
}

static int metered_send(struct io *io, struct chain *from)
{
    int rc = io_send(io->below, from);

    io->bytes_out = io->below->bytes_out;
    return note(metered_of(io), rc);
}

static int metered_shut(struct io *io)
{
    return note(metered_of(io), io_shut(io->below));
}

static void metered_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct io_metered, grave));
}

static void metered_close(struct io *io)
{
    struct io_metered *m = metered_of(io);

    tcp_meter_close(&m->meter, m->err);
    io_close(io->below);
    io->below = NULL;
    loop_free_later(io->loop, &m->grave, metered_bury);
}

static int metered_fd(const struct io *io)
{
    return io_fd(io->below);
}

static void metered_set_owner(struct io *io, struct task *owner)
{
    io->owner = owner;
    io_set_owner(io->below, owner);
}

static const struct io_ops metered_ops = {
    .name = "metered",
    .handshake = metered_handshake,
    .recv = metered_recv,
    .send = metered_send,
    .shut = metered_shut,
    .close = metered_close,
    .fd = metered_fd,
    .set_owner = metered_set_owner,
    .is_transparent = true,
};

struct io *io_metered_new(struct io *below, struct tcp_stats *stats, uint64_t skip_in,
                          uint64_t skip_out)
{
    struct io_metered *m = mem_new(sizeof(*m));

    m->io = (struct io){.ops = &metered_ops,
                        .below = below,
                        .loop = below->loop,
                        .owner = below->owner,
                        .readable = below->readable,
                        .bytes_in = below->bytes_in,
                        .bytes_out = below->bytes_out};
    tcp_meter_open(&m->meter, stats, below, skip_in, skip_out);
    return &m->io;
}

struct io *io_metered_strip(struct io *io, struct tcp_meter *out_meter)
{
    struct io_metered *m = metered_of(io);
    struct io *below = io->below;

    tcp_meter_move(out_meter, &m->meter);
    io->below = NULL;
    loop_free_later(io->loop, &m->grave, metered_bury);
    return below;
}
