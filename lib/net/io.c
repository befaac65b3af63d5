/* SPDX-License-Identifier: Apache-2.0 */
#include "net/io.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/err.h"
#include "net/io_private.h"

#define UNREAD_PARTS      64 /* 1 MiB in all: what HTTP/2 lets a client send ahead */
#define UNREAD_PART_BYTES 16384

void io_set_owner(struct io *io, struct task *owner)
{
    io->ops->set_owner(io, owner);
}

void io_close(struct io *io)
{
    if (io != NULL) {
        io->ops->close(io);
    }
}

/* With this flag TCP discards and copies nothing (tcp(7)). A local socket knows no such thing and writes the
 * same bytes over and over. */
NOINLINE void io_drop_unread(struct io *io)
{
    char nowhere[UNREAD_PART_BYTES];
    struct iovec iov[UNREAD_PARTS];
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = UNREAD_PARTS};

    for (size_t i = 0; i < UNREAD_PARTS; i++) {
        iov[i] = (struct iovec){.iov_base = nowhere, .iov_len = sizeof(nowhere)};
    }
    (void)recvmsg(io_fd(io), &message, MSG_TRUNC | MSG_DONTWAIT);
}

void io_last(struct io *io)
{
    for (; io != NULL; io = io->below) {
        io->is_last = true;
    }
}

static const struct io_tcp *bottom(const struct io *io)
{
    while (io->below != NULL) {
        io = io->below;
    }
    assert(io->ops == &io_tcp_ops);
    return CONTAINER_OF_CONST(io, struct io_tcp, io);
}

bool io_closes_clean(const struct io *io)
{
    const struct io_tcp *t = bottom(io);

    for (; io->below != NULL; io = io->below) {
        if (io->ops->has_end) {
            return false;
        }
    }
    return t->err == 0 && t->err_out == 0 && (t->watch.ready & WATCH_HUP) == 0 &&
           (t->eof || (t->watch.ready & WATCH_IN) == 0);
}

bool io_is_reset(const struct io *io)
{
    return (bottom(io)->watch.ready & WATCH_HUP) != 0;
}

size_t io_untaken(const struct io *io)
{
    int bytes = 0;

    return ioctl(io_fd(io), TIOCOUTQ, &bytes) == 0 ? (size_t)bytes : 0;
}

int io_unread(const struct io *io, size_t *out_bytes)
{
    const struct io_tcp *t = bottom(io);
    int bytes = 0;

    if (LIKELY((t->watch.ready & WATCH_FIN) == 0)) {
        return E_AGAIN;
    }
    while (io->ops->is_transparent) {
        io = io->below;
    }
    if (io->below != NULL || ioctl(t->watch.fd, FIONREAD, &bytes) != 0) {
        return E_AGAIN;
    }
    *out_bytes = (size_t)bytes;
    return 0;
}

void io_abort(struct io *io)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (io == NULL) {
        return;
    }
    /* Not fatal when it fails: then the peer sees a FIN or, as bytes are lost, a reset anyway. */
    (void)setsockopt(io_fd(io), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    for (struct io *layer = io; layer != NULL; layer = layer->below) {
        layer->aborting = true;
    }
    io_close(io);
}
