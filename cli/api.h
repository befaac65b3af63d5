/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_API_H
#define CLI_API_H

/*
 * Calls to the public API, over the home's socket or to --api-addr.
 */
#include "api/public.pb-c.h"
#include "cli/cli.h"

/* POST /api/v1/METHOD with `request` (NULL: an empty message); the answer as a message of `type`, freed by
 * api_answer_free(). On failure a sentence in `problem` that names the side that cannot be reached and the
 * command to check it. */
int api_call(const struct cli_target *t, const char *method, const ProtobufCMessage *request,
             const ProtobufCMessageDescriptor *type, ProtobufCMessage **out_answer, char *problem,
             size_t problem_bytes) MUST_USE;
void api_answer_free(ProtobufCMessage *answer); /* NULL is fine */
/* For a request: protobuf-c's messages hold strings that may be written to; packing does not. */
static inline char *api_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

/* 0, or E_NOT_FOUND and a sentence: there is no such namespace; or why nobody knows. */
int api_has_namespace(const struct cli_target *t, const char *ns, char *problem,
                      size_t problem_bytes) MUST_USE;

/* Pods of a namespace; all when it is "". */
int api_list_pods(const struct cli_target *t, const char *ns, Linkerd2__Public__ListPodsResponse **out,
                  char *problem, size_t problem_bytes) MUST_USE;
/* Those of one resource: kind and name as resource_parse() gives them. */
int api_list_pods_of(const struct cli_target *t, const char *ns, const char *kind, const char *name,
                     Linkerd2__Public__ListPodsResponse **out, char *problem, size_t problem_bytes) MUST_USE;

#endif
