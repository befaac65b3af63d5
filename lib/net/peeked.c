/* SPDX-License-Identifier: Apache-2.0 */
#include "net/io.h"

#include "core/alloc.h"
#include "core/err.h"
#include "net/io_private.h"

struct io_peeked {
    struct io io;
    struct chain bytes;
    struct grave grave;
};

static struct io_peeked *peeked_of(struct io *io)
{
    assert(io->ops == &io_peeked_ops);
    return CONTAINER_OF(io, struct io_peeked, io);
}

static int peeked_handshake(struct io *io)
{
    return io_handshake(io->below);
}

static int peeked_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    struct io_peeked *p = peeked_of(io);
    size_t n = MIN(chain_size(&p->bytes), bytes_max);
    int rc = 0;

    if (n > 0) {
        chain_move(to, &p->bytes, n);
        *out_bytes = n;
        io->readable = true; /* whatever follows: the layer below was not asked yet */
        io->bytes_in += n;
        return 0;
    }
    rc = io_recv(io->below, to, bytes_max, &n);
    io->readable = io->below->readable;
    if (rc == 0) {
        io->bytes_in += n;
        *out_bytes = n;
    }
    return rc;
}

static int peeked_send(struct io *io, struct chain *from)
{
    size_t before = chain_size(from);
    int rc = io_send(io->below, from);

    io->bytes_out += before - chain_size(from);
    return rc;
}

static int peeked_shut(struct io *io)
{
    return io_shut(io->below);
}

static void peeked_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct io_peeked, grave));
}

static void peeked_close(struct io *io)
{
    struct io_peeked *p = peeked_of(io);

    chain_clear(&p->bytes);
    io_close(io->below);
    loop_free_later(io->loop, &p->grave, peeked_bury);
}

static int peeked_fd(const struct io *io)
{
    return io_fd(io->below);
}

static void peeked_set_owner(struct io *io, struct task *owner)
{
    io->owner = owner;
    io_set_owner(io->below, owner);
}

const struct io_ops io_peeked_ops = {
    .name = "peeked",
    .handshake = peeked_handshake,
    .recv = peeked_recv,
    .send = peeked_send,
    .shut = peeked_shut,
    .close = peeked_close,
    .fd = peeked_fd,
    .set_owner = peeked_set_owner,
};

struct io *io_peeked_new(struct io *below, struct chain *bytes)
{
    struct io_peeked *p = mem_new(sizeof(*p));

    p->io = (struct io){.ops = &io_peeked_ops,
                        .below = below,
                        .loop = below->loop,
                        .owner = below->owner,
                        .readable = true};
    chain_init(&p->bytes);
    chain_move_all(&p->bytes, bytes);
    return &p->io;
}

struct io_tcp *io_bare_tcp(struct io *io)
{
    while (io->ops == &io_peeked_ops && chain_size(&peeked_of(io)->bytes) == 0) {
        io = io->below;
    }
    return io->ops == &io_tcp_ops ? CONTAINER_OF(io, struct io_tcp, io) : NULL;
}
