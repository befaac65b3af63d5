/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_ASK_H
#define CLI_ASK_H

/*
 * A question to the front door of the control plane, as a proxy would ask it, over the home's socket or to an
 * address.
 */
#include "cli/cli.h"

#include <google/protobuf-c/protobuf-c.h>

struct ask_target {
    const struct cli_target *target;
    const char *service; /* "destination", "policy": the name of the home's socket, and for people */
    const char *addr;    /* --SERVICE-addr IP:PORT; NULL: of the home */
};
/* The first message that `method` answers, to be cleared by the caller (text_clear()). A sentence in
 * `problem` otherwise. E_NOT_FOUND: the service knows of no such thing; E_TIMEOUT: it took the question and
 * says nothing, as it does of a service without endpoints (wire 3.2). */
int ask_control_plane(const struct ask_target *t, const char *method, const ProtobufCMessage *request,
                      struct text *out, char *problem, size_t problem_bytes) MUST_USE;
/* The answer as a message, freed by the caller. E_PROTOBUF. */
int ask_unpack(const struct ask_target *t, const struct text *message,
               const ProtobufCMessageDescriptor *type, ProtobufCMessage **out, char *problem,
               size_t problem_bytes) MUST_USE;

#endif
