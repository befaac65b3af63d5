/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_PROXY_API_PROXY_API_H
#define CONTROL_PROXY_API_PROXY_API_H

/*
 * The gRPC services of the proxy API over the engines: Destination, InboundServerPolicies,
 * OutboundPolicies. A stream is a subscriber of its question's topic and forwards encoded messages.
 *
 * Limits: a stream holds at most STREAM_MESSAGES_MAX unsent messages and GRPC_PENDING_MAX unsent bytes; a
 * client that is slower is ended as Unavailable and asks again, which gives it the newest state at once.
 */
#include "control/component.h"

#define STREAM_MESSAGES_MAX 100

enum api { API_DESTINATION, API_POLICY };
struct api_server;
/* Serve this API on that port. Its engine must be in `env`. */
int api_server_open(const struct control_env *env, enum api api, uint16_t port, struct api_server **out,
                    char *problem, size_t problem_bytes) MUST_USE;
void api_server_drain(struct api_server *s); /* ends streams; the connections say that they go away */
void api_server_close(struct api_server *s); /* NULL is fine */

#endif
