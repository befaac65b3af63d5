/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_METERED_H
#define PROXY_METERED_H

/*
 * An io layer that counts its connection in the tcp_* families. It goes on top of a connection
 * whose handshake is done, and closes its account when the connection is closed, whoever closes it
 * and when: a codec may keep a connection longer than the proxy knows it.
 */
#include "proxy/stats.h"

/* Takes `below`. Bytes that it moved before count, but for the skipped ones. */
struct io *io_metered_new(struct io *below, struct tcp_stats *stats, uint64_t skip_in,
                          uint64_t skip_out);
/* Take the layer off again: the io below is the caller's, and so is the meter, to be closed
 * before that io. */
struct io *io_metered_strip(struct io *io, struct tcp_meter *out_meter);

#endif
