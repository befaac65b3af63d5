/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_LINK_H
#define PROXY_LINK_H

/*
 * One dialed connection (link.c), and what it reports to its upstream (upstream.c, and upstream_h2.c for
 * those that many share). Private to the three.
 */
#include "proxy/upstream.h"

/* Start to dial; `d` is the one who gets it, NULL for a shared HTTP/2 link. Never fails at once:
 * errors come from the link's task through upstream_link_failed(). */
struct link *link_dial(struct upstream *u, enum link_kind kind, struct dial *d);
void link_close(struct link *l,
                int err);       /* silent; idempotent; memory goes at the end of the turn */
void link_busy(struct link *l); /* leaves the idle list */
bool link_is_old(const struct link *l);

void upstream_link_open(struct upstream *u, struct link *l);
void upstream_link_failed(struct upstream *u, struct link *l, enum failure why, const char *detail);
void upstream_link_gone(struct upstream *u, struct link *l); /* closed, whatever it was */

/* --- upstream_h2.c ---------------------------------------------------------------------------- */

void upstream_h2_init(struct upstream *u);
struct link *upstream_h2_link(struct upstream *u); /* one with room for a stream, or NULL */
/* True: there is no link, nor is one dialed: the caller does. */
bool upstream_h2_wait(struct upstream *u, struct dial *d);
void upstream_h2_retire(struct upstream *u);     /* a link stands: the one that it replaces takes no more */
void upstream_h2_serve(struct upstream *u);      /* there may be room on a link */

void upstream_tls_labels(const struct upstream *u, struct labels *l);

#endif
