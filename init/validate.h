/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INIT_VALIDATE_H
#define INIT_VALIDATE_H

/*
 * From the words of the command line to rules. Every function names the flag and the value that is
 * wrong in `problem`, says what would be right, and returns E_CONFIG; nothing else is touched then.
 */
#include "core/opt.h"
#include "init/rules.h"

#define INIT_PROBLEM_BYTES 512

struct problem {
    char text[INIT_PROBLEM_BYTES];
};

/* The command line as it was given; strings are borrowed. NULL: not given. */
struct init_flags {
    const char *incoming_port, *outgoing_port;
    const char *proxy_uid, *proxy_gid, *proxy_mark;
    struct opt_list redirect, skip_inbound, skip_outbound, subnets;
    const char *netns, *firewall_bin;
    const char *firewall_bin_path, *firewall_save_bin_path, *iptables_mode;
    const char *close_wait, *log_format, *log_level;
    bool simulate, wait, ipv6;
};

struct init_config {
    struct init_rules rules;
    const char *netns;        /* path, NULL: the present one */
    const char *firewall_bin; /* program, "nft" by default */
    uint32_t close_wait_s;    /* 0: leave the kernel's setting */
    bool simulate;
};

int validate_port(const char *flag, const char *value, uint16_t *out_port,
                  struct problem *why) MUST_USE;
int validate_ports(const char *flag, const struct opt_list *items, struct port_set *out_ports,
                   struct problem *why) MUST_USE;
int validate_subnet(const char *flag, const char *value, struct subnet *out_subnet,
                    struct problem *why) MUST_USE;
int validate_flags(const struct init_flags *f, struct init_config *out_config,
                   struct problem *why) MUST_USE;

#endif
