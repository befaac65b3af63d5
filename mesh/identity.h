/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_IDENTITY_H
#define MESH_IDENTITY_H

/*
 * The proxy's own identity: key and CSR (kept in memory; or read from IDENTITY_DIR when that holds
 * key.p8 and csr.der), the certify loop of wire 4.2, and what it yields: credentials as snapshots.
 *
 * Failures are retried for ever, from 100 ms up to the minimal refresh interval apart; while there
 * is no valid certificate a warning with the reason comes every 15 s.
 *
 * Threads: the control thread. Creds are handed to whoever asked; workers make contexts from them.
 */
#include "mesh/control.h"

struct identity_config {
    const char *local_name; /* id and SNI of this proxy */
    const char *dir;        /* may be NULL */
    const char *anchors_pem;
    const char *token_file; /* re-read for each attempt */
    uint64_t min_refresh_ns, max_refresh_ns;
};
struct identity;
/*
 * `on_creds` is called from the loop, with each certificate; `creds` is borrowed. The channel's TLS
 * needs anchors before there is a certificate: credentials without leaf are set on it here. It must
 * be the identity service's own, and is hung up at each attempt.
 */
struct identity *identity_new(struct loop *l, struct control *channel,
                              const struct identity_config *config,
                              void (*on_creds)(void *user, struct tls_creds *creds), void *user);
void identity_free(struct identity *i); /* before the channel; NULL is fine */
bool identity_is_ready(const struct identity *i);
uint64_t identity_expires_ns(const struct identity *i); /* wall clock; 0: none yet */
uint64_t identity_refreshed_ns(const struct identity *i);
uint64_t identity_refreshes(const struct identity *i, bool ok);

#endif
