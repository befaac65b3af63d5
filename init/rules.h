/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INIT_RULES_H
#define INIT_RULES_H

/*
 * The rules that send a pod's TCP traffic through its proxy (wire 1.2), as a script for nft(8).
 *
 * One table of the `inet` family holds everything for both address families, so that a run
 * replaces whatever an earlier run left, also one with other families or ports. The script is one
 * transaction: it is applied as a whole or not at all, and applying it twice changes nothing.
 *
 * The chains are hooked a little before those that translate service addresses (-100): of two
 * chains with one priority the first to translate wins, and the proxy would be passed by.
 */
#include "core/text.h"

#define INIT_TABLE        "tulle_proxy_init"
#define INIT_SUBNETS_MAX  256
#define INIT_SCRIPT_BYTES ((size_t)1024 * 1024) /* every port on its own, three times, fits */
#define INIT_PORTS        65536

/* A set of TCP ports, one bit a port; sorts, merges and drops repetitions by its nature. */
struct port_set {
    uint64_t bits[INIT_PORTS / 64];
};

static inline void port_set_add(struct port_set *s, uint16_t port)
{
    s->bits[port / 64] |= UINT64_C(1) << (port % 64);
}

static inline bool port_set_has(const struct port_set *s, unsigned port)
{
    return (s->bits[port / 64] >> (port % 64) & 1) != 0;
}

bool port_set_is_empty(const struct port_set *s);

struct subnet {
    char text[64]; /* canonical, host bits zero: "10.0.0.0/8" */
    bool is_v6;
};

struct init_rules {
    uint16_t incoming_port, outgoing_port; /* where the proxy listens */
    uint32_t proxy_uid, proxy_gid;         /* 0: no exemption by owner */
    uint32_t proxy_mark;                   /* 0: no exemption by socket mark */
    struct port_set redirect;              /* incoming ports to redirect; empty: all */
    struct port_set skip_inbound, skip_outbound;
    struct subnet subnets[INIT_SUBNETS_MAX]; /* sources whose incoming traffic is left alone */
    size_t subnets_count;
    bool ipv6;
};

/* The whole script. `to` keeps a sticky error; check it with text_finish(). */
void rules_write(const struct init_rules *r, struct text *to);

/* The script that removes the table, whether it is there or not. */
void rules_write_removal(struct text *to);

#endif
