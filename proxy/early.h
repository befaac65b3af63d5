/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_EARLY_H
#define PROXY_EARLY_H

/*
 * Detection that does not stall (decision D14). A client that says nothing may be waiting for the
 * server: after a short grace the upstream is opened, where the policy lets opaque traffic of this
 * client through, and the proxy waits on both sides. A server that speaks first makes the
 * connection opaque at once, unless it speaks HTTP, where that means nothing (and must not lead past
 * the routes of a policy); when the client speaks first detection goes on, and what was opened
 * serves if the connection turns out to be opaque, or is closed. Nothing else changes: when both
 * are silent for the time of wire 5.1, the connection becomes opaque as ever.
 *
 * The grace. Who speaks first does so right behind the handshake, so 20 ms of silence tell much;
 * a wrong guess costs one connection that carries nothing. While a client in the clear is not told
 * from a mesh peer whose ClientHello was delayed, a greeting sent too soon would break that peer,
 * so it is 50 ms there. What the last connections to a destination were like is remembered: no
 * grace where the server spoke, one second (longer than a lost packet takes to come again) where
 * the client did, or where mesh peers come.
 *
 * Limits: EARLY_MAX connections a worker are open early, EARLY_TARGET_MAX to one destination; who
 * finds no room asks again. EARLY_SLOTS destinations are remembered, the newest of those that share
 * a place.
 * Threads: a worker's own.
 */
#include "proxy/conn.h"

#define EARLY_MAX        128
#define EARLY_TARGET_MAX 16
#define EARLY_SLOTS      256

enum spoke { SPOKE_NOBODY, SPOKE_CLIENT, SPOKE_SERVER };

/* When to look at a silent client again, from now; 0: an upstream is not to be opened for it. */
uint64_t early_grace_ns(const struct conn *c);
/* The grace is over and the client still silent: open the upstream. False: later, there is no room, or
 * little memory, now. */
bool early_begin(struct conn *c);
/* opaque.c: the upstream ended, or could not be reached. */
void early_failed(struct conn *c);
/* opaque.c: the server speaks HTTP, in which the client begins: what was opened is closed, and detection
 * goes on. */
void early_said_http(struct conn *c);
/* The bytes are known for what they are, or nobody said anything: remember who spoke. What was
 * opened stays for opaque_adopt(). */
void early_decided(struct conn *c, enum spoke who);
/* A mesh peer came to the application's own port: what was opened is closed, the peer may be silent
 * in its turn. */
void early_saw_mesh_tls(struct conn *c);
void early_closed(struct conn *c); /* the connection ends before that */
void early_clear(struct proxy_worker *w); /* at the worker's end; no connection is left */

#endif
