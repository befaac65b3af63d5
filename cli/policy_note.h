/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_POLICY_NOTE_H
#define CLI_POLICY_NOTE_H

/*
 * What `tulle diagnostics policy` says beside the policy of a pod's port: that nothing names the port, which
 * is most often one of the Service taken for one of its pods.
 */
#include "api/public.pb-c.h"
#include "cli/cli.h"

/* Asks the public API for the pod's ports. Without an answer there is no note: the policy is there. */
void policy_note_ask(const struct cli_target *t, const char *ns, const char *pod, uint16_t port,
                     struct text *to);
/* From its answer, which has the one pod. */
void policy_note(const Linkerd2__Public__ListPodsResponse *pods, uint16_t port, struct text *to);

#endif
