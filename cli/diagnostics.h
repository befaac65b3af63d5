/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_DIAGNOSTICS_H
#define CLI_DIAGNOSTICS_H

/*
 * `tulle diagnostics`: diagnostics.c picks the command; diagnostics_metrics.c has proxy-metrics
 * (obfuscate.c), diagnostics_dst.c endpoints and profile, diagnostics_policy.c policy. The latter ask the
 * control plane as a proxy does (ask.c) and show its messages (message_json.c, endpoint_rows.c), or what a
 * proxy makes of them (explain.c).
 */
#include "api/destination.pb-c.h"
#include "cli/cli.h"

int diagnostics_proxy_metrics(int argc, char **argv);
int diagnostics_endpoints(int argc, char **argv);
int diagnostics_profile(int argc, char **argv);
int diagnostics_policy(int argc, char **argv);

struct destination_target {
    struct cli_target target;
    const char *addr;  /* --destination-addr: a destination service to ask directly */
    const char *token; /* --token: what a proxy would send as its context */
};
#define DESTINATION_OPTS(d)                                                                                \
    {"destination-addr", 0, OPT_STRING, "IP:PORT", "a destination service to ask directly", &(d)->addr},   \
    {"token", 0, OPT_STRING, "JSON", "the context that a proxy would send: ns, nodeName, pod", &(d)->token}

/* A message as protobuf's JSON has it (camelCase, durations as "1s"), but addresses as people write them
 * and 64-bit numbers as numbers. NULL: nested too deeply. */
json_t *message_json(const ProtobufCMessage *m);

/* Metrics with the values of labels that name somebody (authority, client_id, target_addr ...) replaced by
 * a short hash, so that they may be shown to others; the same value gives the same hash. */
void metrics_obfuscate(struct bytes metrics, struct text *to);

/* Rows of `endpoints`: one table over all answers. */
struct endpoint_answer {
    const Io__Linkerd__Proxy__Destination__Update *update;
};
/* Number of endpoints that were printed. */
size_t endpoints_print_table(const struct endpoint_answer *answers, size_t count, struct text *to);
size_t endpoints_print_json(const struct endpoint_answer *answers, size_t count, struct text *to);

#endif
